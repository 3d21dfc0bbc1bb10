//! The journal: every request to a WeChat endpoint, and the simulator's decision about it.
//!
//! Entries contain the parameters unchanged, with codes and secrets: they are for assertions, not for logs. Only
//! `decision` and `path` are safe for a page or a terminal.

use std::collections::VecDeque;

use serde::Serialize;

use crate::clock::Moment;

/// Maximum entries; a test with more requests than this reads the last ones.
const ROOM: usize = 10_000;

#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// A number that starts at 1 and also counts dropped entries.
    pub number: u64,
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// When the request arrived, by the simulator's clock.
    pub time: Moment,
    /// The answer, in a sentence without secret values; `arrived` until it is decided.
    pub decision: String,
}

#[derive(Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    written: u64,
}

impl Journal {
    /// Records a request; returns its number for [`Journal::decide`].
    pub fn note(&mut self, mut entry: Entry) -> u64 {
        if self.entries.len() >= ROOM {
            self.entries.pop_front();
        }
        self.written += 1;
        entry.number = self.written;
        self.entries.push_back(entry);
        self.written
    }

    pub fn decide(&mut self, number: u64, decision: &str) {
        // Answered requests are near the end.
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.number == number) {
            decision.clone_into(&mut entry.decision);
        }
    }

    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
