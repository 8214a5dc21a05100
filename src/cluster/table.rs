//! One kind of object by its key, and what the events of a watch do to it.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use kube::runtime::watcher::Event;

/// What one watch covers: a namespace, or everything.
pub(super) type Scope = Option<Arc<str>>;

/// One kind of object by its key. A list that is read again replaces what it does not mention.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    pub(super) current: HashMap<K, V>,
    /// Keys that the lists under way have mentioned so far, by what each covers.
    listed: HashMap<Scope, HashSet<K>>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            current: HashMap::new(),
            listed: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V> Table<K, V> {
    pub(super) fn begin_list(&mut self, scope: &Scope) {
        self.listed.insert(scope.clone(), HashSet::new());
    }

    /// Puts a value in; the one it replaces.
    pub(super) fn put(&mut self, scope: &Scope, key: K, value: V) -> Option<V> {
        if let Some(listed) = self.listed.get_mut(scope) {
            listed.insert(key.clone());
        }
        self.current.insert(key, value)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.current.remove(key)
    }

    /// Takes out what the list covers and did not mention.
    pub(super) fn end_list(&mut self, scope: &Scope, covers: impl Fn(&K) -> bool) -> Vec<(K, V)> {
        let Some(listed) = self.listed.remove(scope) else {
            return Vec::new();
        };
        let gone = |key: &K, _: &mut V| covers(key) && !listed.contains(key);
        self.current.extract_if(gone).collect()
    }
}

/// An event reduced to what every cache does with it.
pub(super) enum Change<T> {
    Begin,
    Put(T),
    Remove(T),
    End,
}

impl<T> From<Event<T>> for Change<T> {
    fn from(event: Event<T>) -> Self {
        match event {
            Event::Init => Self::Begin,
            Event::InitApply(object) | Event::Apply(object) => Self::Put(object),
            Event::Delete(object) => Self::Remove(object),
            Event::InitDone => Self::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_drops_only_what_it_covers_and_did_not_mention() {
        let mut table = Table::default();
        let (a, b): (Scope, Scope) = (Some("a".into()), Some("b".into()));
        for (scope, key) in [(&a, "a1"), (&a, "a2"), (&b, "b1")] {
            table.put(scope, key, ());
        }
        table.begin_list(&a);
        table.begin_list(&b);
        table.put(&a, "a2", ());
        assert_eq!(table.end_list(&a, |key| key.starts_with('a')), [("a1", ())]);
        assert!(table.current.contains_key("a2") && table.current.contains_key("b1"));
        assert!(
            table.end_list(&a, |_| true).is_empty(),
            "no list is under way"
        );
    }
}
