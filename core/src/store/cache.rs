//! One kind of object by its key, with the updates of a watch applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The part of the cluster that one watch covers: a namespace, or all of it.
pub type Scope = Option<Arc<str>>;

/// Returns whether a watch of this scope covers the namespace.
pub(super) fn in_scope(scope: &Scope, namespace: &str) -> bool {
    scope.as_deref().is_none_or(|scope| scope == namespace)
}

/// An update that a watch brings.
#[derive(Clone, Debug)]
pub enum Update<K, V> {
    /// A list begins; it names all objects that are there.
    ListStarted,
    /// An object is there, or has changed.
    Applied(K, V),
    /// An object is gone.
    Deleted(K),
    /// The list is complete: the objects that it did not name are gone.
    ListFinished,
}

/// One kind of object by its key.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    /// Shared with readers that work on a snapshot. A write copies the map only while such a reader exists.
    current: Arc<BTreeMap<K, V>>,
    /// The keys that the lists in progress have named so far, by the scope of each.
    listed: BTreeMap<Scope, BTreeSet<K>>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self {
            current: Arc::default(),
            listed: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Ord, V: Clone> Cache<K, V> {
    pub(super) fn current(&self) -> &BTreeMap<K, V> {
        &self.current
    }

    pub(super) fn snapshot(&self) -> Arc<BTreeMap<K, V>> {
        self.current.clone()
    }

    pub(super) fn begin_relist(&mut self, scope: &Scope) {
        self.listed.insert(scope.clone(), BTreeSet::new());
    }

    /// Inserts or replaces an object. Returns the one it replaces.
    pub(super) fn upsert(&mut self, scope: &Scope, key: K, value: V) -> Option<V> {
        if let Some(listed) = self.listed.get_mut(scope) {
            listed.insert(key.clone());
        }
        Arc::make_mut(&mut self.current).insert(key, value)
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        Arc::make_mut(&mut self.current).remove(key)
    }

    /// Removes the objects that the list covers and did not name.
    pub(super) fn finish_relist(
        &mut self,
        scope: &Scope,
        covers: impl Fn(&K) -> bool,
    ) -> Vec<(K, V)> {
        let Some(listed) = self.listed.remove(scope) else {
            return Vec::new();
        };
        let missing = |key: &&K| covers(key) && !listed.contains(*key);
        let missing: Vec<K> = self.current.keys().filter(missing).cloned().collect();
        let removed = missing.into_iter().filter_map(|key| {
            let value = self.remove(&key)?;
            Some((key, value))
        });
        removed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_drops_only_what_it_covers_and_did_not_name() {
        let mut cache = Cache::default();
        let (a, b): (Scope, Scope) = (Some("a".into()), Some("b".into()));
        for (scope, key) in [(&a, "a1"), (&a, "a2"), (&b, "b1")] {
            cache.upsert(scope, key, ());
        }
        cache.begin_relist(&a);
        cache.begin_relist(&b);
        cache.upsert(&a, "a2", ());
        let dropped = cache.finish_relist(&a, |key| key.starts_with('a'));
        assert_eq!(dropped, [("a1", ())]);
        assert!(cache.current().contains_key("a2") && cache.current().contains_key("b1"));
        assert!(
            cache.finish_relist(&a, |_| true).is_empty(),
            "no list is in progress"
        );
    }

    #[test]
    fn a_snapshot_does_not_change() {
        let mut cache = Cache::default();
        cache.upsert(&None, 1, "a");
        let before = cache.snapshot();
        cache.upsert(&None, 1, "b");
        assert_eq!(before[&1], "a");
        assert_eq!(cache.current()[&1], "b");
    }
}
