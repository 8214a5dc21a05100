//! The watches, and the store that they feed.
//!
//! Every replica runs the watches: the webhook reads the store too. The changes are for the driver, which takes them while
//! its replica leads.

mod changes;
mod limits;
mod list_method;
mod optional;
mod reflector;
mod slim;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use headstart_core::store::{Change, Store};
use tokio::sync::watch;

pub(crate) use changes::ChangeQueue;
pub(crate) use reflector::Watches;

/// The store, fed by the watches.
#[derive(Debug)]
pub struct SharedStore {
    /// Never held across an await. Writers hold it for one update; the webhook for a lookup; the driver while it applies one
    /// event.
    store: RwLock<Store>,
    /// The changes since the driver's last look.
    pub(crate) changes: ChangeQueue,
    /// The number of lists that are not complete yet; `None` before the watches have started.
    lists_open: watch::Sender<Option<usize>>,
}

impl SharedStore {
    /// Returns an empty store. Nothing in headstart's `own_namespace` is prefetched.
    pub fn new(own_namespace: &str) -> Arc<Self> {
        Arc::new(Self {
            store: RwLock::new(Store::new(own_namespace)),
            changes: ChangeQueue::default(),
            lists_open: watch::Sender::new(None),
        })
    }

    /// Locks the store for reading. A panic in a critical section leaves no map half-written, so poison is no reason to
    /// stop.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies an update, and queues the changes that it causes.
    pub(crate) fn update(&self, apply: impl FnOnce(&mut Store) -> Vec<Change>) {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        let changes = apply(&mut store);
        drop(store);
        for change in changes {
            self.changes.push(change);
        }
    }

    /// Sets the number of lists that have to complete before the store is synced.
    pub(crate) fn expect_lists(&self, lists: usize) {
        self.lists_open.send_replace(Some(lists));
    }

    fn list_completed(&self) {
        self.lists_open
            .send_modify(|open| *open = open.map(|open| open.saturating_sub(1)));
    }

    /// Waits until every watch has completed its first list.
    pub(crate) async fn wait_until_synced(&self) {
        let mut open = self.lists_open.subscribe();
        // Fails only without the sender, which this store has.
        let _ = open.wait_for(|open| *open == Some(0)).await;
    }

    /// Returns whether every watch has completed its first list.
    pub(crate) fn is_synced(&self) -> bool {
        *self.lists_open.borrow() == Some(0)
    }
}
