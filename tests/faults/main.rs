//! Fault injection under a steady load, with a pass line in figures for each fault.
//!
//! `tests/faults/run` starts this program; `tests/faults/README.md` describes each fault and its pass line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a panic fails the test

mod faults;
mod fleet;
mod load;
mod proxy;
mod servers;
mod trial;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};
use trial::Row;

const USAGE: &str = "\
tests/faults/run [--all]        all faults
tests/faults/run --short        those that take a few seconds each
tests/faults/run NAME...        these
tests/faults/run --list         their names";

/// Faults that run at the same time, each in its own deployment: they mostly wait. Among other tests only one at a
/// time, because figures from an overloaded machine mean nothing.
fn at_once(among_others: bool) -> usize {
    if among_others { 1 } else { 2 }
}

async fn all(chosen: &[&faults::Fault], at_once: usize) -> Vec<Row> {
    let places = Arc::new(tokio::sync::Semaphore::new(at_once));
    let mut under_way = tokio::task::JoinSet::new();
    for fault in chosen {
        let (name, run, places) = (fault.name, fault.run, Arc::clone(&places));
        under_way.spawn(async move {
            let _place = places.acquire_owned().await;
            // In its own task, so that a panic becomes a failed row.
            let trial = async || {
                let trial = tokio::spawn(async move { run().await }).await;
                trial.unwrap_or_else(|error| Row::broken(name, format!("the trial broke off: {error}")))
            };
            let row = trial().await;
            if row.holds || row.wrongly_allowed > 0 || row.sessions_lost > 0 {
                return row;
            }
            // On a busy machine a check may be late without an error of ours, so other failures get a second run. A
            // real error fails twice.
            row.print();
            println!("    once more");
            trial().await
        });
    }
    let mut rows = Vec::new();
    while let Some(row) = under_way.join_next().await {
        let row = row.expect("the task catches panics");
        row.print();
        rows.push(row);
    }
    rows
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flags: BTreeSet<&str> = arguments.iter().map(String::as_str).filter(|word| word.starts_with("--")).collect();
    let names: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    if flags.contains("--list") {
        for fault in faults::ALL {
            println!("{:<24} {}", fault.name, if fault.short { "short" } else { "" });
        }
        return ExitCode::SUCCESS;
    }
    let unknown: Vec<&&str> =
        names.iter().filter(|name| faults::ALL.iter().all(|fault| fault.name != **name)).collect();
    if !unknown.is_empty() || flags.iter().any(|flag| !matches!(*flag, "--all" | "--short" | "--quiet" | "--nocapture"))
    {
        eprintln!("{USAGE}\n\nunknown: {unknown:?}");
        return ExitCode::from(2);
    }
    // As a target of `cargo test` this runs only the short faults; the others run by name.
    let among_others = std::env::var_os("FAULTS").is_none();
    let short = flags.contains("--short") || among_others;
    let chosen: Vec<&faults::Fault> = faults::ALL
        .iter()
        .filter(|fault| if names.is_empty() { fault.short || !short } else { names.contains(&fault.name) })
        .collect();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begun = Instant::now();
    trial::head();
    let rows = runtime.block_on(async {
        let mut term = signal(SignalKind::terminate()).unwrap();
        tokio::select! {
            rows = all(&chosen, at_once(among_others)) => Some(rows),
            _ = tokio::signal::ctrl_c() => None,
            _ = term.recv() => None,
        }
    });
    // The end of the runtime ends its tasks and every process that they started.
    drop(runtime);
    let Some(mut rows) = rows else { return ExitCode::FAILURE };
    rows.sort_by_key(|row| faults::ALL.iter().position(|fault| fault.name == row.fault));
    trial::foot(begun.elapsed());
    trial::write(&rows);
    if rows.iter().all(|row| row.holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
