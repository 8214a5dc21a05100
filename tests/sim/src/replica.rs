//! A replica of headstart: its process, its watches, its clock, and whether it leads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use headstart_core::controller::command::{Event, Reviewed};
use headstart_core::hold::{GateClosed, GateView, ResumeHealth, closed_gate};
use headstart_core::image::ImageSetId;
use headstart_core::store::{Change, Store, Update};
use headstart_core::workload::{DeploymentKey, Workload};

use crate::api_server::Kind;
use crate::cluster::Cluster;
use crate::invariants::{Monitor, Violation};
use crate::mutation::Mutation;
use crate::options::Fault;
use crate::queue::{Life, Step, TermId};
use crate::term::{Surroundings, Term, instant};
use crate::watches::Watch;

/// The lease, in milliseconds: how long it lasts, how long a leader tries to renew it, how often.
const LEASE: (u64, u64, u64) = (15_000, 10_000, 2000);

/// What a replica's process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// It runs.
    Running,
    /// The process is stopped, and goes on later.
    Stopped,
    /// There is none.
    Down,
}

/// The lease that all replicas share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lease {
    holder: Option<Life>,
    version: u64,
    terms: u64,
    /// The leader's word on whether it can resume rollouts.
    resumes: ResumeHealth,
}

/// A replica.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Its process.
    pub life: Life,
    /// What the process does.
    pub process: Process,
    /// How far its wall clock is ahead, in milliseconds.
    pub clock_ahead: i64,
    /// Its cache.
    pub store: Store,
    watches: [Watch; Kind::WATCHED.len()],
    changes: VecDeque<Change>,
    queued: BTreeSet<Change>,
    turn_scheduled: bool,
    /// Reviews that it answered and whose objects it has not seen.
    pub reviews: BTreeMap<DeploymentKey, (ImageSetId, u64)>,
    /// The term, while it leads.
    pub term: Option<Term>,
    /// The version of the lease that it saw last, and when it saw that first.
    observed: (u64, u64),
    /// When it saw the lease being renewed, and what the lease says of resumes.
    seen_renewal: Option<(u64, ResumeHealth)>,
    renewed: u64,
    /// Steps that came while the process was stopped.
    pub held_back: Vec<Step>,
}

impl Replica {
    /// Returns a replica that has not started.
    pub(crate) fn new(index: usize) -> Self {
        Self {
            life: Life {
                replica: index,
                boot: 0,
            },
            process: Process::Down,
            clock_ahead: 0,
            store: Store::new("headstart"),
            watches: Default::default(),
            changes: VecDeque::new(),
            queued: BTreeSet::new(),
            turn_scheduled: false,
            reviews: BTreeMap::new(),
            term: None,
            observed: (0, 0),
            seen_renewal: None,
            renewed: 0,
            held_back: Vec::new(),
        }
    }

    /// Returns whether the process has all objects.
    pub(crate) fn is_synced(&self) -> bool {
        self.watches.iter().all(|watch| watch.synced)
    }

    /// Returns whether the replica leads and works.
    pub(crate) fn is_active(&self, now: u64) -> bool {
        let leads = self
            .term
            .as_ref()
            .is_some_and(|term| term.valid_until > now);
        leads && self.process == Process::Running && self.watches.iter().all(|watch| watch.synced)
    }

    /// Starts the process. It lists all objects, now and then as they were a while ago.
    pub(crate) fn boot(&mut self, cluster: &mut Cluster) {
        let clock_ahead = self.clock_ahead;
        *self = Self {
            life: Life {
                boot: self.life.boot + 1,
                ..self.life
            },
            process: Process::Running,
            clock_ahead,
            ..Self::new(self.life.replica)
        };
        let life = self.life;
        cluster.note(|| format!("{life:?} starts"));
        for kind in Kind::WATCHED {
            let mut random = cluster.draw(&["list", &life.replica.to_string(), kind.resource()]);
            cluster
                .queue
                .after(random.within(50..=2000), Step::Relist(life, kind));
        }
        let delay = cluster
            .draw(&["elect", &life.replica.to_string()])
            .within(10..=2000);
        cluster.queue.after(delay, Step::Elect(life));
    }

    /// Schedules what the watches have to bring.
    pub(crate) fn schedule_watches(&mut self, cluster: &mut Cluster) {
        if self.process == Process::Down {
            return;
        }
        for kind in Kind::WATCHED {
            self.watches[kind.index()].schedule(self.life, kind, cluster);
        }
    }

    /// Takes the next change of a watch.
    pub(crate) fn deliver(&mut self, kind: Kind, cluster: &mut Cluster) {
        let watch = &mut self.watches[kind.index()];
        let changes = watch.deliver(kind, &mut self.store, cluster);
        self.watches[kind.index()].schedule(self.life, kind, cluster);
        self.enqueue(changes, cluster);
    }

    /// Cuts a watch.
    pub(crate) fn cut(&mut self, kind: Kind, cluster: &mut Cluster) {
        self.watches[kind.index()].cut(self.life, kind, cluster);
    }

    /// Lists all objects of a kind.
    pub(crate) fn relist(&mut self, kind: Kind, cluster: &mut Cluster) {
        if !cluster.is_api_up() {
            let back = cluster.api_down_until;
            cluster.queue.at(back + 500, Step::Relist(self.life, kind));
            return;
        }
        let first = !self.watches[kind.index()].synced;
        let mut random = cluster.draw(&["stale", &self.life.replica.to_string(), kind.resource()]);
        let stale = first
            && cluster.options.has(Fault::WatchCut)
            && !cluster.healed
            && random.per_mille(300);
        let stale = if stale {
            cluster.count("fault: old list");
            random.below(20)
        } else {
            0
        };
        let watch = &mut self.watches[kind.index()];
        let changes = watch.relist(kind, &mut self.store, cluster, stale);
        watch.schedule(self.life, kind, cluster);
        self.enqueue(changes, cluster);
    }

    fn enqueue(&mut self, changes: Vec<Change>, cluster: &mut Cluster) {
        for change in changes {
            if cluster.mutation == Some(Mutation::ChangesDropped)
                && cluster.draw(&["mutation"]).per_mille(125)
            {
                continue;
            }
            if self.queued.insert(change.clone()) {
                self.changes.push_back(change);
            }
        }
        if !self.changes.is_empty() && !self.turn_scheduled {
            self.turn_scheduled = true;
            let delay = cluster
                .draw(&["turn", &self.life.replica.to_string()])
                .within(0..=20);
            cluster.queue.after(delay, Step::Turn(self.life));
        }
    }

    /// Takes a review for a stored object: a mutation.
    pub(crate) fn trust_review(&mut self, workload: Workload, cluster: &mut Cluster) {
        let Some((stored, _)) = self.store.get(&workload.key) else {
            return;
        };
        let trusted = Workload {
            images: workload.images,
            image_set: workload.image_set,
            ..Workload::clone(stored)
        };
        let update = Update::Applied(trusted.key.clone(), trusted);
        let changes = self.store.apply_deployment(&None, update);
        self.enqueue(changes, cluster);
    }

    /// Hands what has come in to the controller.
    pub(crate) fn turn(
        &mut self,
        cluster: &mut Cluster,
        monitor: &mut Monitor,
    ) -> Result<(), Violation> {
        self.turn_scheduled = false;
        let Some(mut term) = self.term.take() else {
            self.changes.clear();
            self.queued.clear();
            return Ok(());
        };
        let result = self.work_off(&mut term, cluster, monitor);
        self.term = Some(term);
        result
    }

    fn work_off(
        &mut self,
        term: &mut Term,
        cluster: &mut Cluster,
        monitor: &mut Monitor,
    ) -> Result<(), Violation> {
        while let Some(event) = term.backlog.pop_front() {
            let event = self.reviewed(event);
            term.apply(event, &mut self.around(cluster, monitor))?;
        }
        while let Some(change) = self.changes.pop_front() {
            self.queued.remove(&change);
            let event = self.reviewed(change.into());
            term.apply(event, &mut self.around(cluster, monitor))?;
        }
        Ok(())
    }

    /// Adds the review of the stored images to an event, as the driver does.
    fn reviewed(&mut self, event: Event) -> Event {
        let Event::DeploymentChanged { key, .. } = event else {
            return event;
        };
        let stored = self
            .store
            .enabled(&key)
            .map(|stored| stored.image_set.clone());
        let known = self.reviews.get(&key);
        let confirmed = known
            .filter(|(images, _)| stored.as_ref() == Some(images))
            .cloned();
        if confirmed.is_some() {
            self.reviews.remove(&key);
        }
        let reviewed = confirmed.map(|(images, at)| Reviewed {
            images,
            at: instant(at),
        });
        Event::DeploymentChanged { key, reviewed }
    }

    /// Returns what a term's turn needs.
    fn around<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        monitor: &'a mut Monitor,
    ) -> Surroundings<'a> {
        Surroundings {
            store: &self.store,
            clock_ahead: self.clock_ahead,
            cluster,
            monitor,
        }
    }

    /// Does something with the term, if it is still the one that the step is for.
    pub(crate) fn with_term(
        &mut self,
        id: TermId,
        cluster: &mut Cluster,
        monitor: &mut Monitor,
        act: impl FnOnce(&mut Term, &mut Surroundings<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let Some(mut term) = self.term.take() else {
            return Ok(());
        };
        let result = if term.id == id {
            act(&mut term, &mut self.around(cluster, monitor))
        } else {
            Ok(())
        };
        self.term = Some(term);
        result
    }

    fn resume_health(&self, now: u64) -> ResumeHealth {
        let term = self.term.as_ref();
        term.map_or(ResumeHealth::Ok, |term| {
            term.controller.stats(instant(now)).resumes
        })
    }

    /// Returns why nothing may be held now.
    pub(crate) fn closed_gate(&self, now: u64) -> Option<GateClosed> {
        closed_gate(GateView {
            stopping: false,
            unregistered: false,
            permitted: true,
            since_renewal: self
                .seen_renewal
                .map(|(at, _)| Duration::from_millis(now - at)),
            lease_duration: Duration::from_millis(LEASE.0),
            resumes: self.seen_renewal.unwrap_or_default().1,
        })
    }

    /// Tries to get or renew the lease.
    pub(crate) fn elect(
        &mut self,
        lease: &mut Lease,
        cluster: &mut Cluster,
        monitor: &mut Monitor,
    ) -> Result<(), Violation> {
        let (duration, deadline, retry) = LEASE;
        let now = cluster.now();
        cluster.queue.after(retry, Step::Elect(self.life));
        let leads = self.term.is_some();
        if leads && (now >= self.renewed + deadline || lease.holder != Some(self.life)) {
            cluster.count("term: lost");
            let life = self.life;
            cluster.note(|| format!("{life:?} leads no more"));
            self.term = None;
            return Ok(());
        }
        if !cluster.is_api_up() || !self.is_synced() {
            return Ok(());
        }
        if self.observed.0 != lease.version {
            // The first sight tells nothing: the holder may be gone for long.
            if self.observed.0 != 0 {
                self.seen_renewal = Some((now, lease.resumes));
            }
            self.observed = (lease.version, now);
        }
        let free = lease.holder.is_none() || lease.holder == Some(self.life);
        if !leads && !free && now < self.observed.1 + duration {
            return Ok(());
        }
        lease.version += 1;
        lease.holder = Some(self.life);
        cluster.lease_renewed = now;
        lease.resumes = self.resume_health(now);
        self.observed = (lease.version, now);
        self.seen_renewal = Some((now, lease.resumes));
        self.renewed = now;
        if let Some(term) = &mut self.term {
            term.valid_until = now + duration;
            return Ok(());
        }
        lease.terms += 1;
        cluster.count("term: begun");
        let id = TermId {
            life: self.life,
            number: lease.terms,
        };
        let life = self.life;
        cluster.note(|| format!("{life:?} leads"));
        self.changes.clear();
        self.queued.clear();
        let term = Term::start(id, now + duration, &mut self.around(cluster, monitor))?;
        self.term = Some(term);
        self.turn_scheduled = true;
        cluster.queue.after(1, Step::Turn(life));
        Ok(())
    }
}
