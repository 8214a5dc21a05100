//! An object's labels, in one piece of memory.
//!
//! A node has some twenty labels. As a map of strings they cost it about four kilobytes, most of it overhead; a
//! cluster of 5,000 nodes would spend a third of headstart's memory on them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Labels by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// All keys and values, one after another, in the order of the keys.
    text: Box<str>,
    /// The end of each key and of each value, in turn.
    ends: Box<[u32]>,
}

impl Labels {
    /// The value of a label, `None` if there is none by this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.ends.len() / 2);
        while low < high {
            let middle = low + (high - low) / 2;
            let (found, value) = self.at(middle)?;
            match found.cmp(key) {
                Ordering::Equal => return Some(value),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn at(&self, index: usize) -> Option<(&str, &str)> {
        let end = |at: usize| self.ends.get(at).and_then(|end| usize::try_from(*end).ok());
        let start = match index {
            0 => 0,
            index => end(2 * index - 1)?,
        };
        let (middle, end) = (end(2 * index)?, end(2 * index + 1)?);
        Some((self.text.get(start..middle)?, self.text.get(middle..end)?))
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(map: &BTreeMap<String, String>) -> Self {
        let mut text = String::with_capacity(map.iter().map(|(k, v)| k.len() + v.len()).sum());
        let mut ends = Vec::with_capacity(2 * map.len());
        for part in map.iter().flat_map(|(key, value)| [key, value]) {
            text.push_str(part);
            // The API server stores no object of 4 GiB.
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        Self {
            text: text.into(),
            ends: ends.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_found_and_no_other() {
        let map: BTreeMap<String, String> = ["", "a", "ab", "b", "zone", "é"]
            .into_iter()
            .map(|key| (key.to_owned(), key.repeat(2)))
            .collect();
        let labels = Labels::from(&map);
        for (key, value) in &map {
            assert_eq!(labels.get(key), Some(value.as_str()), "{key:?}");
        }
        for other in ["aa", "abb", "c", "zonea", "zon"] {
            assert_eq!(labels.get(other), None, "{other:?}");
        }
        assert_eq!(Labels::default().get(""), None);
    }
}
