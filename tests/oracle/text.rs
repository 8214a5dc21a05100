//! Strings that are nearly right: a right one, changed in a place or two.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

#[derive(Clone, Copy, Debug)]
enum Change {
    Insert(char),
    Replace(char),
    Remove,
    Double,
}

/// These strings, half of them changed, with characters of this alphabet.
pub(crate) fn nearly(
    right: impl Strategy<Value = String>,
    alphabet: &'static str,
) -> impl Strategy<Value = String> {
    let letter = select(alphabet.chars().collect::<Vec<_>>());
    let change = prop_oneof![
        letter.clone().prop_map(Change::Insert),
        letter.prop_map(Change::Replace),
        Just(Change::Remove),
        Just(Change::Double),
    ];
    let changes = prop_oneof![
        1 => Just(Vec::new()),
        1 => vec((any::<Index>(), change), 1..3),
    ];
    (right, changes).prop_map(|(right, changes)| {
        let mut text: Vec<char> = right.chars().collect();
        for (at, change) in changes {
            apply(&mut text, at, change);
        }
        text.into_iter().collect()
    })
}

fn apply(text: &mut Vec<char>, at: Index, change: Change) {
    match change {
        Change::Insert(c) => text.insert(at.index(text.len() + 1), c),
        _ if text.is_empty() => {}
        Change::Replace(c) => {
            let at = at.index(text.len());
            text[at] = c;
        }
        Change::Remove => {
            text.remove(at.index(text.len()));
        }
        Change::Double => {
            let at = at.index(text.len());
            text.insert(at, text[at]);
        }
    }
}

/// One of these.
pub(crate) fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    select(words).prop_map(str::to_owned)
}

/// A word of so many equal letters: at the edge of a limit.
pub(crate) fn long(lengths: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
    lengths.prop_map(|length| "a".repeat(length))
}
