//! A map of fixed capacity that drops the oldest items first.

use std::collections::{HashMap, VecDeque};

/// Keyed items in insertion order, at most `room` of them.
#[derive(Debug)]
pub struct Shelf<T> {
    room: usize,
    things: HashMap<String, T>,
    order: VecDeque<String>,
}

impl<T> Shelf<T> {
    #[must_use]
    pub fn with_room_for(room: usize) -> Self {
        Self { room, things: HashMap::new(), order: VecDeque::new() }
    }

    /// Adds `thing`; keys are random, so each occurs once.
    pub fn put(&mut self, key: String, thing: T) {
        if self.order.len() >= self.room
            && let Some(oldest) = self.order.pop_front()
        {
            self.things.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.things.insert(key, thing);
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&T> {
        self.things.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut T> {
        self.things.get_mut(key)
    }

    /// Newest first.
    pub fn newest(&self) -> impl Iterator<Item = (&str, &T)> {
        self.order.iter().rev().filter_map(|key| Some((key.as_str(), self.things.get(key)?)))
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_falls_off() {
        let mut shelf = Shelf::with_room_for(2);
        for key in ["a", "b", "c"] {
            shelf.put(key.into(), key.len());
        }
        assert!(shelf.get("a").is_none() && shelf.get("b").is_some());
        assert_eq!(shelf.newest().map(|(key, _)| key).collect::<Vec<_>>(), ["c", "b"]);
    }
}
