//! The simulated cluster: it takes the steps one by one, and lets the parts see what each has changed.

use std::collections::BTreeMap;

use serde_json::json;

use crate::actions::{Action, ActionKind};
use crate::api_server::{Kind, ObjectKey, Preconditions, Quota};
use crate::cluster::Cluster;
use crate::controllers::{self, Controllers};
use crate::executor::execute;
use crate::invariants::{Monitor, Violation, liveness};
use crate::kubelets::Kubelets;
use crate::mutation::Mutation;
use crate::nodes;
use crate::options::{Fault, Options};
use crate::queue::{Life, Step};
use crate::random::Random;
use crate::replica::{Lease, Process, Replica};
use crate::scheduler;
use crate::users::{self, Users};

/// How long after the end of all faults everything must be done, in milliseconds.
const SETTLE: u64 = 15 * 60_000;
/// How often the invariants of holds are checked, in milliseconds.
const MONITOR: u64 = 2000;

/// A simulated cluster.
#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    /// What the parts share.
    pub cluster: Cluster,
    kubelets: Kubelets,
    controllers: Controllers,
    replicas: Vec<Replica>,
    users: Users,
    lease: Lease,
    monitor: Monitor,
    actions: Vec<Action>,
    /// How much of each log the kubelets and controllers have seen.
    seen: [usize; 4],
    /// A hash over all that the controllers did.
    pub hash: u64,
}

impl World {
    /// Returns the cluster of a seed, with these actions to come.
    pub(crate) fn new(
        seed: u64,
        options: Options,
        actions: Vec<Action>,
        mutation: Option<Mutation>,
    ) -> Self {
        let replicas = (0..options.replicas).map(Replica::new).collect();
        Self {
            seed,
            cluster: Cluster::new(seed, options, mutation),
            kubelets: Kubelets::default(),
            controllers: Controllers::default(),
            replicas,
            users: Users::default(),
            lease: Lease::default(),
            monitor: Monitor::default(),
            actions,
            seen: [0; 4],
            hash: 0,
        }
    }

    /// Runs the simulation: the faults, the time to settle, and the end of all Deployments.
    ///
    /// # Errors
    /// Names the invariant that does not hold.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.begin();
        let faults_end = self.cluster.options.duration + 5000;
        self.cluster.queue.at(faults_end, Step::Heal);
        self.run_until(faults_end + SETTLE)?;
        liveness::check(&self.replicas, &self.monitor, &self.cluster)?;
        let deployments = self.cluster.api.list(Kind::Deployment);
        let deployments: Vec<ObjectKey> = deployments.map(|(key, _)| key.clone()).collect();
        for key in deployments {
            let _ = self.cluster.api.delete(&key, &Preconditions::default());
        }
        self.after_step();
        let end = self.cluster.now() + SETTLE;
        self.run_until(end)?;
        liveness::check_empty(&self.replicas, &self.cluster)
    }

    fn begin(&mut self) {
        let mut random = self.cluster.draw(&["begin"]);
        for n in 0..self.cluster.options.namespaces {
            let mode = random.pick(&["hold", "hold", "enabled", "allowed"]);
            let object = json!({"metadata": {
                "name": format!("ns{n}"), "labels": {"headstart.dev/prefetch": mode},
            }});
            let _ = self.cluster.api.create(Kind::Namespace, object, "");
        }
        for n in 0..self.cluster.options.nodes {
            nodes::join(&format!("n{n}"), &mut self.kubelets, &mut self.cluster);
        }
        self.controllers.start(&mut self.cluster);
        for replica in 0..self.replicas.len() {
            let at = self.cluster.draw(&["boot"]).within(0..=3000);
            self.cluster.queue.at(at, Step::Boot(replica));
        }
        for (index, action) in self.actions.iter().enumerate() {
            self.cluster.queue.at(action.at, Step::Act(index));
        }
        self.cluster.queue.after(MONITOR, Step::Monitor);
        self.after_step();
    }

    fn run_until(&mut self, end: u64) -> Result<(), Violation> {
        while let Some(step) = self.cluster.next_step(end) {
            self.take(step)?;
            self.after_step();
        }
        Ok(())
    }

    /// Shows the parts what a step has changed.
    fn after_step(&mut self) {
        for kind in [Kind::Deployment, Kind::Pod] {
            let seen = &mut self.seen[kind.index()];
            while let Some(change) = self.cluster.api.log[kind.index()].get(*seen).cloned() {
                *seen += 1;
                match kind {
                    Kind::Pod => {
                        scheduler::on_change(&change, &mut self.cluster);
                        self.kubelets.on_change(&change, &mut self.cluster);
                        controllers::count_for_quota(&change.key.namespace, &mut self.cluster);
                    }
                    _ => self.controllers.on_change(&change, &mut self.cluster),
                }
            }
        }
        for replica in &mut self.replicas {
            replica.schedule_watches(&mut self.cluster);
        }
    }

    fn take(&mut self, step: Step) -> Result<(), Violation> {
        let cluster = &mut self.cluster;
        if let Some(life) = life_of(&step) {
            let replica = &mut self.replicas[life.replica];
            if replica.life != life || replica.process == Process::Down {
                return Ok(());
            }
            if replica.process == Process::Stopped && !matches!(step, Step::Continue(_)) {
                replica.held_back.push(step);
                return Ok(());
            }
        }
        match step {
            Step::Act(index) => {
                let action = self.actions[index].clone();
                self.act(&action);
            }
            Step::Boot(replica) => {
                let replica = &mut self.replicas[replica];
                if replica.process == Process::Down {
                    replica.boot(cluster);
                }
            }
            Step::Continue(life) => {
                let replica = &mut self.replicas[life.replica];
                replica.process = Process::Running;
                for step in std::mem::take(&mut replica.held_back) {
                    cluster.queue.after(0, step);
                }
            }
            Step::Deliver(life, kind) => self.replicas[life.replica].deliver(kind, cluster),
            Step::Relist(life, kind) => self.replicas[life.replica].relist(kind, cluster),
            Step::Turn(life) => {
                self.replicas[life.replica].turn(cluster, &mut self.monitor)?;
            }
            Step::Timeout(term) => {
                let replica = &mut self.replicas[term.life.replica];
                replica.with_term(term, cluster, &mut self.monitor, |term, around| {
                    term.on_timeout(around)
                })?;
            }
            Step::Elect(life) => {
                let replica = &mut self.replicas[life.replica];
                if let Some(term) = &replica.term {
                    self.hash ^= term.hash;
                }
                replica.elect(&mut self.lease, cluster, &mut self.monitor)?;
            }
            Step::Execute(term, command) => {
                let result = execute(&command, &self.controllers, cluster, &mut self.monitor)?;
                let name = crate::term::name_of(&command);
                let slow = cluster.options.has(Fault::LostAnswers) && !cluster.healed;
                let most = if slow { 20_000 } else { 200 };
                let delay = cluster.draw(&["answer", &name]).within(1..=most);
                cluster.note(|| format!("{name}: {result:?}"));
                let answer = Step::Answer(term, command.id(), Box::new(result));
                cluster.queue.after(delay, answer);
            }
            Step::Answer(term, id, result) => {
                let replica = &mut self.replicas[term.life.replica];
                replica.with_term(term, cluster, &mut self.monitor, |term, around| {
                    term.on_answer(id, *result, around)
                })?;
            }
            Step::SyncPod {
                node,
                node_uid,
                pod,
            } => self.kubelets.sync_pod(&node, &node_uid, &pod, cluster),
            Step::BindPod(key, uid) => scheduler::bind(&key, &uid, cluster),
            Step::ReportImages { node, node_uid } => {
                self.kubelets.report_images(&node, &node_uid, cluster);
            }
            Step::Join(node) => nodes::join(&node, &mut self.kubelets, cluster),
            Step::Recover(node) => nodes::recover(&node, cluster),
            Step::SyncDeployment(id) => self.controllers.sync_deployment(id, cluster),
            Step::StartPod {
                deployment,
                images,
                node,
            } => self
                .controllers
                .start_pod(deployment, &images, &node, cluster),
            Step::CollectOwned { namespace, uid } => {
                self.controllers.collect_owned(&namespace, &uid, cluster);
            }
            Step::CountForQuota(namespace) => {
                if cluster.is_api_up() {
                    cluster.api.report_quota(&namespace, 0);
                } else {
                    let back = cluster.api_down_until;
                    cluster.queue.at(back + 500, Step::CountForQuota(namespace));
                }
            }
            Step::CollectPods => self.controllers.collect_pods(cluster),
            Step::Monitor => {
                cluster.queue.after(MONITOR, Step::Monitor);
                self.monitor.check_holds(&self.replicas, cluster, MONITOR)?;
                self.monitor
                    .check_pods_in_the_way(&self.replicas, cluster, MONITOR)?;
                let refused = self.controllers.refused();
                self.monitor
                    .check_quotas(&refused, &self.replicas, cluster, MONITOR)?;
            }
            Step::Heal => self.heal(),
        }
        Ok(())
    }

    fn act(&mut self, action: &Action) {
        let mut random = Random::new(self.seed ^ action.number.wrapping_mul(0x9e37_79b9));
        let cluster = &mut self.cluster;
        cluster.note(|| format!("action {}: {:?}", action.number, action.kind));
        match action.kind {
            ActionKind::Crash(n, done) => self.crash(n, done),
            ActionKind::Stop(n, duration) => {
                let replica = &mut self.replicas[n];
                if replica.process == Process::Running {
                    cluster.count("fault: stop");
                    replica.process = Process::Stopped;
                    let life = replica.life;
                    cluster.queue.after(duration, Step::Continue(life));
                }
            }
            ActionKind::Clock(n, ahead) => {
                cluster.count("fault: clock");
                self.replicas[n].clock_ahead = ahead;
            }
            ActionKind::CutWatch(n, kind) => {
                if self.replicas[n].process == Process::Running {
                    cluster.count("fault: watch cut");
                    self.replicas[n].cut(Kind::WATCHED[kind], cluster);
                }
            }
            ActionKind::WriteErrors(duration, cases) => {
                cluster.write_errors = (cluster.now() + duration, cases);
            }
            ActionKind::ApiServerDown(duration) => {
                cluster.count("fault: API server down");
                cluster.api_down_until = cluster.now() + duration;
            }
            ActionKind::Registry(number, answer) => {
                cluster.count("fault: registry");
                for version in 1..=3 {
                    let image = crate::actions::image(number, version);
                    cluster.registry.set(&image, answer);
                }
            }
            ActionKind::Quota(n, most) => {
                cluster.count("fault: quota");
                let quota = most.map(|most| Quota {
                    most,
                    counts_finished: n % 2 == 0,
                });
                cluster.api.set_quota(&format!("ns{n}"), quota);
            }
            ref kind if nodes::act(kind, &mut self.kubelets, cluster) => {}
            ref kind => {
                let mut world = users::World {
                    cluster,
                    replicas: &mut self.replicas,
                    pauses: &mut self.monitor.pauses,
                };
                self.users.act(kind, &mut random, &mut world);
            }
        }
    }

    /// Ends a process. Its requests in flight are done, or not.
    fn crash(&mut self, n: usize, done: bool) {
        let replica = &mut self.replicas[n];
        if replica.process == Process::Down {
            return;
        }
        let cluster = &mut self.cluster;
        cluster.count("fault: crash");
        let life = replica.life;
        cluster.note(|| format!("{life:?} crashes"));
        replica.process = Process::Down;
        replica.term = None;
        if done {
            // They are below the process: the API server has them.
            let requests = cluster.queue.take_requests(life);
            for command in requests {
                let executed = execute(&command, &self.controllers, cluster, &mut self.monitor);
                // What they do is checked as any other.
                if executed.is_err() {
                    cluster.count("crash: violation");
                }
            }
        } else {
            cluster.queue.take_requests(life);
        }
        let delay = cluster.draw(&["restart"]).within(500..=60_000);
        cluster.queue.after(delay, Step::Boot(n));
    }

    /// Ends all faults.
    fn heal(&mut self) {
        let cluster = &mut self.cluster;
        cluster.note(|| "all faults end".to_owned());
        cluster.healed = true;
        cluster.registry.heal();
        cluster.others_on.clear();
        cluster.api_down_until = 0;
        cluster.write_errors = (0, 0);
        for n in 0..cluster.options.namespaces {
            cluster.api.set_quota(&format!("ns{n}"), None);
        }
        self.kubelets.heal(cluster.now());
        let nodes = cluster.api.list(Kind::Node);
        let nodes: Vec<String> = nodes.map(|(key, _)| key.name.clone()).collect();
        for node in nodes {
            nodes::recover(&node, cluster);
        }
        for replica in &mut self.replicas {
            replica.clock_ahead = 0;
            match replica.process {
                Process::Running => {}
                Process::Stopped => {
                    let life = replica.life;
                    cluster.queue.after(0, Step::Continue(life));
                }
                Process::Down => {
                    let index = replica.life.replica;
                    cluster.queue.after(1000, Step::Boot(index));
                }
            }
        }
    }

    /// Returns how often each kind of thing has happened.
    pub(crate) fn coverage(&self) -> &BTreeMap<String, u64> {
        &self.cluster.coverage
    }
}

/// Returns the process that a step is for.
fn life_of(step: &Step) -> Option<Life> {
    match step {
        Step::Continue(life)
        | Step::Deliver(life, _)
        | Step::Relist(life, _)
        | Step::Turn(life)
        | Step::Elect(life) => Some(*life),
        Step::Timeout(term) | Step::Answer(term, ..) => Some(term.life),
        _ => None,
    }
}
