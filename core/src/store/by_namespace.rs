//! Objects that set limits for their namespace.

use std::collections::BTreeSet;

use super::cache::{Cache, Scope, Update, in_scope};

/// Names an object in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// The objects of one kind, by their namespace.
#[derive(Debug)]
pub(super) struct ByNamespace<V>(Cache<ObjectKey, V>);

impl<V> Default for ByNamespace<V> {
    fn default() -> Self {
        Self(Cache::default())
    }
}

impl<V: Clone + PartialEq> ByNamespace<V> {
    /// Returns the objects of a namespace.
    pub(super) fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a str, &'a V)> {
        let first = ObjectKey {
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        let from_there = self.0.current().range(first..);
        from_there
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(key, value)| (key.name.as_str(), value))
    }

    /// Applies an update. Returns the namespaces whose limits changed.
    pub(super) fn apply(
        &mut self,
        scope: &Scope,
        update: Update<ObjectKey, V>,
    ) -> BTreeSet<String> {
        match update {
            Update::ListStarted => {
                self.0.begin_relist(scope);
                BTreeSet::new()
            }
            Update::Applied(key, value) => {
                let changed = self.0.current().get(&key) != Some(&value);
                let namespace = key.namespace.clone();
                self.0.upsert(scope, key, value);
                changed.then_some(namespace).into_iter().collect()
            }
            Update::Deleted(key) => {
                let removed = self.0.remove(&key);
                removed.map(|_| key.namespace).into_iter().collect()
            }
            Update::ListFinished => {
                let covered = |key: &ObjectKey| in_scope(scope, &key.namespace);
                let gone = self.0.finish_relist(scope, covered).into_iter();
                gone.map(|(key, _)| key.namespace).collect()
            }
        }
    }
}
