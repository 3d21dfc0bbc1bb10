//! The journal: every request to a WeChat endpoint, and what was decided about it.
//!
//! Entries hold the parameters as they came, codes and secrets too: they are for assertions, not for logs. `decision`
//! and `path` alone are fit for a page or a terminal.

use std::collections::VecDeque;

use serde::Serialize;

use crate::clock::Moment;

/// Entries kept; a test that makes more than this many requests reads the last ones.
const ROOM: usize = 10_000;

#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Counts up from 1, also over entries that were dropped.
    pub number: u64,
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// When the request arrived, by the simulator's clock.
    pub time: Moment,
    /// What was answered, in a sentence without secret values; `arrived` until that is known.
    pub decision: String,
}

#[derive(Debug, Default)]
pub struct Journal {
    entries: VecDeque<Entry>,
    written: u64,
}

impl Journal {
    /// Notes that a request came; its number is for [`Journal::decide`].
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
