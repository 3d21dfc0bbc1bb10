//! `completions SHELL` and `man DIR`: generated from the definition of the command line.

use super::Arguments;
use super::check_config::OUTPUT_ERROR;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// Prints the completion script for `shell`.
pub(crate) fn completions(shell: Shell) -> ExitCode {
    // `generate` panics if a write fails, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "wechat-authz", &mut script);
    exit_code(io::stdout().lock().write_all(&script))
}

/// Writes a manual page for each command to `directory`.
pub(crate) fn man(directory: &Path) -> ExitCode {
    exit_code(clap_mangen::generate_to(Arguments::command(), directory))
}

fn exit_code(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write: {error}");
            ExitCode::from(OUTPUT_ERROR)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_and_manual_pages_have_every_command() {
        let mut script = Vec::new();
        clap_complete::generate(Shell::Bash, &mut Arguments::command(), "wechat-authz", &mut script);
        let (script, directory) = (String::from_utf8(script).unwrap(), tempfile::tempdir().unwrap());
        clap_mangen::generate_to(Arguments::command(), directory.path()).unwrap();
        for command in Arguments::command().get_subcommands() {
            let name = command.get_name();
            assert!(script.contains(name), "{name}");
            assert!(directory.path().join(format!("wechat-authz-{name}.1")).exists(), "{name}");
        }
    }
}
