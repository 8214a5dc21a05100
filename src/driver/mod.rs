//! Runs the controller while this replica leads. One task owns the controller, gives it events and the time, and carries out
//! its commands.

mod clock;
mod count_pods;
mod execute;
pub(crate) mod list_pods;
mod output;
pub(crate) mod resume;
mod write_error;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headstart_core::controller::command::{CommandId, Reviewed};
use headstart_core::controller::{CommandResult, Controller, ControllerConfig, Event, Output};
use headstart_core::store::Change;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub(crate) use clock::DriverClock;
pub(crate) use execute::Executor;

use crate::event_recorder::EventRecorder;
use crate::heartbeat::{CONTROLLER, Heartbeats};
use crate::hold_gate::HoldGate;
use crate::leader_election::ControllerReport;
use crate::metrics::Metrics;
use crate::self_test::Permit;
use crate::watch::SharedStore;
use crate::webhook::PendingReviews;

/// The interval at which gauges are set and reviews without an object are dropped.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// The longest sleep where no timer is set.
const NO_TIMER: Duration = Duration::from_secs(3600);

/// The resources that a controller uses.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) store: Arc<SharedStore>,
    /// Reviews whose objects are not stored yet.
    pub(crate) reviews: Arc<PendingReviews>,
    pub(crate) executor: Executor,
    pub(crate) recorder: EventRecorder,
    pub(crate) metrics: Arc<Metrics>,
    /// The permission to create pods.
    pub(crate) permit: Permit,
    pub(crate) config: ControllerConfig,
    pub(crate) clock: DriverClock,
    /// Records that the loop turns.
    pub(crate) heartbeats: Heartbeats,
    /// Gets the state of the holds each second, for the Lease.
    pub(crate) report: ControllerReport,
    /// Reports the deletion of the webhook configuration.
    pub(crate) gate: HoldGate,
}

/// One leadership term.
struct Term {
    driver: Driver,
    controller: Controller,
    /// Events that the controller asked for at the start of the term.
    backlog: VecDeque<Event>,
    running: JoinSet<CommandResult>,
    /// The command of each task, and the result if the task ends without one.
    commands: HashMap<Id, (CommandId, CommandResult)>,
}

impl Driver {
    /// Runs a controller until the term is cancelled. Requests in flight are dropped then: the next leader finds their
    /// effects.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut permit = self.permit.clone();
        let mut unregistered = self.gate.unregistered();
        let heartbeat = self.heartbeats.begin(CONTROLLER);
        let mut term = Term::start(self);
        term.apply(Event::PermissionChanged(permit.permission()));
        let registered = !*unregistered.borrow_and_update();
        term.apply(Event::RegistrationChanged(registered));
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !cancel.is_cancelled() {
            heartbeat.beat();
            if let Some(event) = term.backlog.pop_front() {
                match event {
                    // Handled as a change, because this replica may have answered the review.
                    Event::DeploymentChanged { key, .. } => term.on_change(Change::Deployment(key)),
                    event => term.apply(event),
                }
                tokio::task::consume_budget().await;
                continue;
            }
            let timeout = term.next_timeout();
            let store = term.driver.store.clone();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                // Results first: they free what others wait for.
                Some(done) = term.running.join_next_with_id() => term.on_task_ended(done),
                permission = permit.changed() => term.apply(Event::PermissionChanged(permission)),
                // Fails only if the gate is gone, and the driver has the gate.
                Ok(()) = unregistered.changed() => {
                    let registered = !*unregistered.borrow_and_update();
                    term.apply(Event::RegistrationChanged(registered));
                }
                change = store.changes.take() => term.on_change(change),
                () = sleep_until(timeout) => term.apply(Event::Timeout),
                _ = housekeeping.tick() => term.keep_house(),
            }
        }
        drop(heartbeat);
        term.driver.report.clear();
        term.running.shutdown().await;
    }
}

impl Term {
    fn start(driver: Driver) -> Self {
        // The store contains the changes that were made while no replica led.
        driver.store.changes.clear();
        // A standby takes no reviews out, so an expired one does not mean that its object was never stored.
        driver.reviews.expire(Instant::now());
        let mut controller = Controller::new(driver.config.clone());
        let mut out = Output::default();
        let now = driver.clock.now();
        let events = controller.start(&driver.store.read(), now, &mut out);
        let mut term = Self {
            driver,
            controller,
            backlog: events.into(),
            running: JoinSet::new(),
            commands: HashMap::new(),
        };
        term.carry_out(out);
        term
    }

    fn next_timeout(&self) -> Instant {
        match self.controller.next_timeout() {
            Some(at) => self.driver.clock.to_tokio(at),
            None => Instant::now() + NO_TIMER,
        }
    }

    /// Applies an event, and carries out the controller's commands.
    fn apply(&mut self, event: Event) {
        let mut out = Output::default();
        let now = self.driver.clock.now();
        {
            let store = self.driver.store.read();
            self.controller.apply(event, &store, now, &mut out);
        }
        self.carry_out(out);
    }

    fn on_change(&mut self, change: Change) {
        let event = match change {
            Change::Deployment(key) => {
                let stored = self.driver.store.read().enabled(&key).cloned();
                let review = stored.and_then(|stored| {
                    let reviews = &self.driver.reviews;
                    reviews.take_confirmed(&key, &stored.image_set)
                });
                let reviewed = review.map(|review| Reviewed {
                    images: review.images,
                    at: self.driver.clock.to_core(review.admitted),
                });
                Event::DeploymentChanged { key, reviewed }
            }
            change => change.into(),
        };
        self.apply(event);
    }

    /// Passes the result of a command to the controller. Each command has one result, even if its task panics.
    fn on_task_ended(&mut self, done: Result<(Id, CommandResult), JoinError>) {
        let (task, result) = match done {
            Ok((task, result)) => (task, Some(result)),
            Err(failed) => {
                error!(error = %failed, "a command ended without a result");
                (failed.id(), None)
            }
        };
        let Some((id, unknown)) = self.commands.remove(&task) else {
            return;
        };
        let result = result.unwrap_or(unknown);
        self.apply(Event::CommandFinished { id, result });
    }

    fn carry_out(&mut self, out: Output) {
        let Output {
            commands,
            events,
            observations,
            logs,
        } = out;
        for command in commands {
            let unknown = command.unknown_result("the request failed within headstart");
            let id = command.id();
            let execute = self.driver.executor.clone().execute(command);
            let task = self.running.spawn(execute);
            self.commands.insert(task.id(), (id, unknown));
        }
        let Driver {
            metrics, recorder, ..
        } = &self.driver;
        for observation in observations {
            output::observe(metrics, &observation);
        }
        for line in &logs {
            output::log(line);
        }
        for event in events {
            recorder.publish(&event.workload, event.reason, &event.subject, event.note);
        }
    }

    /// Sets the gauges, and drops reviews without an object.
    fn keep_house(&mut self) {
        let now = Instant::now();
        let Driver {
            metrics,
            reviews,
            store,
            clock,
            report,
            ..
        } = &self.driver;
        let expired = reviews.expire(now);
        if expired > 0 {
            metrics.reviews_expired(expired);
            info!(reviews = expired, "reviews whose object was never stored");
        }
        let mut stats = self.controller.stats(clock.to_core(now));
        let (waiting, oldest) = store.changes.deployments(now);
        stats.deployments += waiting;
        stats.oldest = stats.oldest.max(oldest);
        report.set(stats.held, stats.resumes);
        metrics.set_queue_stats(stats);
    }
}
