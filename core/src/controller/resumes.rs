//! Resumes in flight, and the holds that wait for a place. Places go round robin over namespaces: one whose admission is slow
//! does not use all of them.

use std::collections::BTreeMap;

use super::command::CommandId;
use super::hold_reports::Resume;
use crate::workload::DeploymentKey;

/// The most rollouts that are resumed at once: writes of users' objects, of which there are few.
pub(super) const MAX_RESUMES: usize = 16;
/// The most of them in one namespace.
pub(super) const MAX_RESUMES_PER_NAMESPACE: usize = 4;

/// The resumes in flight, and the holds that wait for a place.
#[derive(Debug, Default)]
pub(super) struct Resumes {
    in_flight: BTreeMap<CommandId, Resume>,
    /// Holds that wait, with their number in the queue of their namespace.
    waiting: BTreeMap<DeploymentKey, u64>,
    namespaces: BTreeMap<String, Namespace>,
    /// Namespaces that have both a hold that waits and a free place, in the order of their turns.
    turns: BTreeMap<u64, String>,
    next_number: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Namespace {
    in_flight: usize,
    waiting: BTreeMap<u64, DeploymentKey>,
    turn: Option<u64>,
}

impl Resumes {
    /// Returns whether a resume of a Deployment may be sent now. `is_next` says that [`Self::pop`] returned it; otherwise the
    /// holds that wait come first.
    pub(super) fn may_start(&self, key: &DeploymentKey, is_next: bool) -> bool {
        let in_namespace = self.namespaces.get(&key.namespace);
        self.in_flight.len() < MAX_RESUMES
            && in_namespace.is_none_or(|namespace| namespace.in_flight < MAX_RESUMES_PER_NAMESPACE)
            && (is_next || self.turns.is_empty())
    }

    /// Records that a resume was sent.
    pub(super) fn start(&mut self, id: CommandId, resume: Resume) {
        let namespace = resume.workload.key.namespace.clone();
        self.namespaces
            .entry(namespace.clone())
            .or_default()
            .in_flight += 1;
        self.in_flight.insert(id, resume);
        self.update(&namespace);
    }

    /// Removes and returns a resume that was answered.
    pub(super) fn finish(&mut self, id: CommandId) -> Option<Resume> {
        let resume = self.in_flight.remove(&id)?;
        let name = &resume.workload.key.namespace;
        if let Some(namespace) = self.namespaces.get_mut(name) {
            namespace.in_flight = namespace.in_flight.saturating_sub(1);
        }
        self.update(name);
        Some(resume)
    }

    /// Queues a hold, unless it is in the queue.
    pub(super) fn push(&mut self, key: &DeploymentKey) {
        if self.waiting.contains_key(key) {
            return;
        }
        let number = self.number();
        self.waiting.insert(key.clone(), number);
        let namespace = self.namespaces.entry(key.namespace.clone()).or_default();
        namespace.waiting.insert(number, key.clone());
        self.update(&key.namespace);
    }

    /// Removes a hold from the queue.
    pub(super) fn remove(&mut self, key: &DeploymentKey) {
        let Some(number) = self.waiting.remove(key) else {
            return;
        };
        if let Some(namespace) = self.namespaces.get_mut(&key.namespace) {
            namespace.waiting.remove(&number);
        }
        self.update(&key.namespace);
    }

    /// Removes and returns the next hold that a place is free for. Its namespace has its next turn after all others.
    pub(super) fn pop(&mut self) -> Option<DeploymentKey> {
        if self.in_flight.len() >= MAX_RESUMES {
            return None;
        }
        let (_, name) = self.turns.pop_first()?;
        let namespace = self.namespaces.get_mut(&name)?;
        namespace.turn = None;
        let popped = namespace.waiting.pop_first();
        if let Some((_, key)) = &popped {
            self.waiting.remove(key);
        }
        self.update(&name);
        popped.map(|(_, key)| key)
    }

    /// Returns whether a hold waits for a place.
    pub(super) fn is_waiting(&self, key: &DeploymentKey) -> bool {
        self.waiting.contains_key(key)
    }

    /// Returns whether a resume is in flight.
    pub(super) fn is_in_flight(&self, id: CommandId) -> bool {
        self.in_flight.contains_key(&id)
    }

    /// Returns the holds that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &DeploymentKey> {
        self.waiting.keys()
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Gives a namespace a turn, or takes it away, and forgets one that nothing is left of.
    fn update(&mut self, name: &str) {
        let Some(namespace) = self.namespaces.get(name) else {
            return;
        };
        let has_room = namespace.in_flight < MAX_RESUMES_PER_NAMESPACE;
        let is_due = has_room && !namespace.waiting.is_empty();
        let turn = match (namespace.turn, is_due) {
            (None, true) => {
                let number = self.number();
                self.turns.insert(number, name.to_owned());
                Some(number)
            }
            (Some(number), false) => {
                self.turns.remove(&number);
                None
            }
            (turn, _) => turn,
        };
        if let Some(namespace) = self.namespaces.get_mut(name) {
            namespace.turn = turn;
            if namespace.in_flight == 0 && namespace.waiting.is_empty() {
                self.namespaces.remove(name);
            }
        }
    }

    /// Checks the counts against a recount, and that no hold waits for a place that is free.
    ///
    /// # Errors
    /// Names the inconsistency.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut recount: BTreeMap<String, Namespace> = BTreeMap::new();
        for resume in self.in_flight.values() {
            let namespace = resume.workload.key.namespace.clone();
            recount.entry(namespace).or_default().in_flight += 1;
        }
        for (key, number) in &self.waiting {
            let namespace = recount.entry(key.namespace.clone()).or_default();
            namespace.waiting.insert(*number, key.clone());
        }
        for (number, name) in &self.turns {
            recount.entry(name.clone()).or_default().turn = Some(*number);
        }
        if recount != self.namespaces {
            return Err(format!(
                "places for resumes are {:?}, and are {recount:?} by a recount",
                self.namespaces
            ));
        }
        for (name, namespace) in &self.namespaces {
            let has_room = namespace.in_flight < MAX_RESUMES_PER_NAMESPACE;
            let is_due = has_room && !namespace.waiting.is_empty();
            if namespace.in_flight > MAX_RESUMES_PER_NAMESPACE || namespace.turn.is_some() != is_due
            {
                return Err(format!("{name} has the wrong turn: {namespace:?}"));
            }
        }
        match self.in_flight.len() {
            count if count > MAX_RESUMES => Err(format!("{count} resumes are in flight")),
            count if count < MAX_RESUMES && !self.turns.is_empty() => Err(format!(
                "{count} resumes are in flight, and {} namespaces wait for a place",
                self.turns.len()
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::HoldEndReason;
    use crate::testing::wants;
    use std::sync::Arc;

    fn key(namespace: &str, name: usize) -> DeploymentKey {
        DeploymentKey {
            namespace: namespace.into(),
            name: name.to_string(),
        }
    }

    fn resume(key: DeploymentKey) -> Resume {
        let mut workload = wants(&["a:1"]);
        workload.key = key;
        Resume {
            workload: Arc::new(workload),
            mark: crate::api::hold_mark::HoldMark {
                since: None,
                until: None,
                paused: true,
            },
            reason: HoldEndReason::Warm,
            detail: String::new(),
            conflicts: 0,
        }
    }

    /// Sends what may be sent. Returns the namespaces in their order.
    fn send(resumes: &mut Resumes, next: &mut u64) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(key) = resumes.pop() {
            assert!(resumes.may_start(&key, true));
            sent.push(key.namespace.clone());
            *next += 1;
            resumes.start(CommandId(*next), resume(key));
            resumes.check_counts();
        }
        sent
    }

    impl Resumes {
        fn check_counts(&self) {
            // While places are given away, one may be free.
            let error = self.check().err();
            let by_recount = error
                .as_ref()
                .is_none_or(|e| e.contains("wait for a place"));
            assert!(by_recount, "{error:?}");
        }
    }

    #[test]
    fn a_namespace_has_four_places_and_all_have_sixteen() {
        let (mut resumes, mut next) = (Resumes::default(), 0);
        for index in 0..10 {
            resumes.push(&key("a", index));
        }
        assert_eq!(send(&mut resumes, &mut next).len(), 4);
        assert!(!resumes.may_start(&key("a", 99), false));
        assert!(resumes.may_start(&key("b", 0), false));
        for name in ["b", "c", "d", "e"] {
            (0..4).for_each(|index| resumes.push(&key(name, index)));
        }
        let sent = send(&mut resumes, &mut next);
        assert_eq!(sent.len(), 12);
        assert_eq!(sent[..4], ["b", "c", "d", "e"], "round robin");
        resumes.check().unwrap();
        // The place of `a` is free, and another waits longer than it.
        resumes.finish(CommandId(1)).unwrap();
        assert_eq!(send(&mut resumes, &mut next), ["b"]);
    }

    #[test]
    fn holds_that_wait_come_before_others() {
        let (mut resumes, mut next) = (Resumes::default(), 0);
        resumes.push(&key("a", 1));
        assert!(!resumes.may_start(&key("b", 1), false));
        resumes.remove(&key("a", 1));
        assert!(resumes.may_start(&key("b", 1), false));
        assert!(send(&mut resumes, &mut next).is_empty());
        assert!(resumes.namespaces.is_empty() && resumes.turns.is_empty());
    }
}
