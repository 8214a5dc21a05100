//! A leadership term: the controller, as the driver runs it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use headstart_core::controller::Controller;
use headstart_core::controller::command::{
    Command, CommandId, CommandResult, CreatePermission, Event, Output, WriteError,
};
use headstart_core::store::Store;
use headstart_core::time::{Instant, Now};

use crate::cluster::Cluster;
use crate::invariants::{Monitor, Violation, commands};
use crate::mutation::Mutation;
use crate::queue::{Step, TermId};
use crate::random::hash;

/// A leadership term.
#[derive(Debug)]
pub(crate) struct Term {
    /// Its name.
    pub id: TermId,
    /// The controller.
    pub controller: Controller,
    /// When it began.
    pub began: u64,
    /// When the lease ends, unless it is renewed.
    pub valid_until: u64,
    /// Commands without an answer.
    pub running: BTreeMap<CommandId, Rc<Command>>,
    /// The pods on each node, as the answers to the last counts say.
    counts: BTreeMap<String, PodCount>,
    /// Events that the controller asked for at the start of the term.
    pub backlog: VecDeque<Event>,
    timer: Option<u64>,
    /// A hash of all events and commands.
    pub hash: u64,
}

/// How many pods a node had at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodCount {
    /// How many.
    pub pods: u32,
    /// When.
    pub at: u64,
}

/// What a term's turn needs of its replica and of the cluster.
pub(crate) struct Surroundings<'a> {
    /// The store of the replica.
    pub store: &'a Store,
    /// How far its wall clock is ahead, in milliseconds.
    pub clock_ahead: i64,
    /// The cluster.
    pub cluster: &'a mut Cluster,
    /// The invariants.
    pub monitor: &'a mut Monitor,
}

impl Surroundings<'_> {
    fn now(&self) -> Now {
        Now {
            monotonic: instant(self.cluster.now()),
            wall: self.cluster.wall(self.clock_ahead),
        }
    }
}

/// Returns a time of the monotonic clock. It begins long before the simulation.
pub(crate) fn instant(milliseconds: u64) -> Instant {
    Instant::after_start(Duration::from_millis(milliseconds))
}

impl Term {
    /// Begins a term.
    pub(crate) fn start(
        id: TermId,
        valid_until: u64,
        around: &mut Surroundings<'_>,
    ) -> Result<Self, Violation> {
        let mut controller = Controller::new(around.cluster.options.config.clone());
        let mut out = Output::default();
        let now = around.now();
        let backlog = controller.start(around.store, now, &mut out);
        let mut term = Self {
            id,
            controller,
            began: around.cluster.now(),
            valid_until,
            running: BTreeMap::new(),
            counts: BTreeMap::new(),
            backlog: backlog.into(),
            timer: None,
            hash: 0,
        };
        term.carry_out(out, around)?;
        term.apply(Event::PermissionChanged(CreatePermission::Granted), around)?;
        Ok(term)
    }

    /// Applies an event, sends the commands, and checks the invariants.
    pub(crate) fn apply(
        &mut self,
        event: Event,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        let mut out = Output::default();
        let now = around.now();
        let event_kind = std::mem::discriminant(&event);
        self.hash = hash(&[&self.hash.to_string(), &format!("{event_kind:?}")]);
        around
            .cluster
            .note(|| format!("{:?} takes {event:?}", self.id.life));
        let timers = matches!(event, Event::Timeout);
        self.controller.apply(event, around.store, now, &mut out);
        self.carry_out(out, around)?;
        let check = self.controller.check();
        check.map_err(|why| Violation::new("S10 consistency", "controller", &why.to_string()))?;
        let next = self.controller.next_timeout();
        if timers && next.is_some_and(|at| at <= now.monotonic) {
            let detail = "a timer is due after all that are due were called";
            return Err(Violation::new("S11 timers", "controller", detail));
        }
        self.set_timer(around.cluster);
        Ok(())
    }

    fn set_timer(&mut self, cluster: &mut Cluster) {
        let Some(next) = self.controller.next_timeout() else {
            return;
        };
        // The driver sleeps until the millisecond after.
        let next = u64::try_from(next.since_start().as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        if self
            .timer
            .is_none_or(|timer| next < timer || timer < cluster.now())
        {
            self.timer = Some(next);
            cluster.queue.at(next, Step::Timeout(self.id));
        }
    }

    /// Calls the timers that are due.
    pub(crate) fn on_timeout(&mut self, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        let now = around.cluster.now();
        if self.timer.is_none_or(|timer| timer > now) {
            return Ok(());
        }
        self.timer = None;
        let due = self.controller.next_timeout();
        if due.is_none_or(|due| due > instant(now)) {
            self.set_timer(around.cluster);
            return Ok(());
        }
        if self.is_mutated(Mutation::TimersDropped, around.cluster) {
            // It looks again in an hour.
            self.timer = Some(now + 3_600_000);
            around
                .cluster
                .queue
                .at(now + 3_600_000, Step::Timeout(self.id));
            return Ok(());
        }
        self.apply(Event::Timeout, around)
    }

    fn is_mutated(&self, mutation: Mutation, cluster: &mut Cluster) -> bool {
        cluster.mutation == Some(mutation) && cluster.draw(&["mutation"]).per_mille(125)
    }

    /// Hands back the answer to a command.
    pub(crate) fn on_answer(
        &mut self,
        id: CommandId,
        mut result: CommandResult,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Violation> {
        let Some(command) = self.running.remove(&id) else {
            let detail = format!("{id:?} is answered twice");
            return Err(Violation::new("S11 results", "driver", &detail));
        };
        if self.is_mutated(Mutation::ResultsDropped, around.cluster) {
            return Ok(());
        }
        if let (Command::CountPods { node, .. }, CommandResult::PodsCounted(Ok(pods))) =
            (&*command, &mut result)
        {
            let (pods_now, at) = (*pods, around.cluster.now());
            if self.is_mutated(Mutation::CountsIgnored, around.cluster) {
                *pods = 0;
            }
            let count = PodCount { pods: pods_now, at };
            self.counts.insert(node.to_string(), count);
        }
        around.monitor.on_answer(around.cluster, &result);
        self.apply(Event::CommandFinished { id, result }, around)
    }

    fn carry_out(&mut self, out: Output, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        around.monitor.on_output(self.id, &out, around.cluster)?;
        for command in out.commands {
            self.hash = hash(&[&self.hash.to_string(), &name_of(&command)]);
            around
                .cluster
                .note(|| format!("{:?} sends {}", self.id.life, name_of(&command)));
            let command = mutate(command, around.cluster);
            let counts = |node: &str| self.counts.get(node).copied();
            commands::on_command(&command, self.running.values(), counts, around)?;
            let command = Rc::new(command);
            self.running.insert(command.id(), command.clone());
            self.send(command, around)?;
        }
        Ok(())
    }

    /// Sends a command, unless the lease has ended.
    fn send(&self, command: Rc<Command>, around: &mut Surroundings<'_>) -> Result<(), Violation> {
        let cluster = &mut *around.cluster;
        let now = cluster.now();
        let name = name_of(&command);
        let writes = !matches!(
            *command,
            Command::ListPods { .. } | Command::ReadPullSecrets { .. } | Command::CountPods { .. }
        );
        if writes && now >= self.valid_until {
            cluster.count("fault: fence closed");
            if cluster.mutation != Some(Mutation::FenceSkipped) {
                let result = match &*command {
                    Command::CreatePod { .. } => {
                        CommandResult::PodCreated(Err(WriteError::NotLeader))
                    }
                    Command::DeletePod { .. } => {
                        CommandResult::PodDeleted(Err(WriteError::NotLeader))
                    }
                    _ => CommandResult::Resumed(Err(WriteError::NotLeader)),
                };
                let answer = Step::Answer(self.id, command.id(), Box::new(result));
                cluster.queue.after(1, answer);
                return Ok(());
            }
            let detail = "a write is sent after the lease has ended";
            return Err(Violation::new("S13 fence", &name, detail));
        }
        let delay = cluster.draw(&["send", &name]).within(1..=100);
        cluster.queue.after(delay, Step::Execute(self.id, command));
        Ok(())
    }
}

/// Returns the name of a command that stays the same when others come before it.
pub(crate) fn name_of(command: &Command) -> String {
    match command {
        Command::CreatePod { pod, .. } => {
            format!(
                "create {}",
                pod.metadata.name.as_deref().unwrap_or_default()
            )
        }
        Command::DeletePod { name, uid, .. } => format!("delete {name} {uid}"),
        Command::ResumeRollout { key, only_if, .. } => match only_if {
            Some(images) => format!("resume {key} {images}"),
            None => format!("resume {key}"),
        },
        Command::ListPods {
            workload, filter, ..
        } => format!("list {filter:?} {}", workload.key),
        Command::ReadPullSecrets { key, account, .. } => format!("read {account} of {key}"),
        Command::CountPods { node, .. } => format!("count the pods on {node}"),
    }
}

/// Changes a command where the mutation says so.
fn mutate(command: Command, cluster: &mut Cluster) -> Command {
    let mutation = cluster.mutation;
    match command {
        Command::CreatePod { id, pod }
            if matches!(mutation, Some(Mutation::WrongNode | Mutation::WrongImage))
                && cluster.draw(&["mutation"]).per_mille(125) =>
        {
            let mut pod = (*pod).clone();
            let spec = pod.spec.get_or_insert_default();
            if mutation == Some(Mutation::WrongNode) {
                spec.node_name = Some("n0".to_owned());
            } else if let Some(volume) = spec.volumes.iter_mut().flatten().next()
                && let Some(image) = &mut volume.image
            {
                image.reference = Some("other:1".to_owned());
            } else if let Some(container) = spec.containers.first_mut() {
                container.image = Some("other:1".to_owned());
            }
            Command::CreatePod {
                id,
                pod: pod.into(),
            }
        }
        command => command,
    }
}
