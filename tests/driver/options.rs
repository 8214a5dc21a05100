//! The options that a seed draws: the cluster, the faults, and the actions of users and processes.

use headstart_sim::api_server::Kind;
use headstart_sim::random::Random;

/// In how many of 1,000 cases a request or a watch meets a fault.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The request or its answer gets lost.
    pub(crate) lost: u64,
    /// The API server refuses the request, for now.
    pub(crate) refused: u64,
    /// The request or its answer takes up to 40 s.
    pub(crate) late: u64,
    /// A watch ends within a minute.
    pub(crate) watches: u64,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A user creates a Deployment, or deletes it and creates it again.
    Create(usize),
    /// A user changes the images of a Deployment.
    Update(usize),
    /// A user deletes a Deployment.
    Delete(usize),
    /// A node joins.
    AddNode,
    /// A node goes.
    DeleteNode(usize),
    /// A process ends at once. Another comes so many milliseconds later.
    Crash(usize, u64),
    /// A process is told to stop. Another comes at once.
    Replace(usize),
    /// Nothing gets from a process to the API server for so many milliseconds.
    Cut(usize, u64),
    /// The API server is away for so many milliseconds.
    ApiServerDown(u64),
    /// All watches of a kind are cut, and must list anew if `true`.
    CutWatches(Kind, bool),
}

/// The options of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    /// The mode of each namespace.
    pub(crate) namespaces: Vec<&'static str>,
    pub(crate) nodes: usize,
    pub(crate) replicas: usize,
    pub(crate) faults: Faults,
    /// In how many of 1,000 cases a kubelet throws a prefetch pod out.
    pub(crate) evictions: u64,
    /// The API server streams lists.
    pub(crate) streams_lists: bool,
    /// Rollouts come to their end once the images are there, and prefetch pods are deleted then.
    pub(crate) rollouts: bool,
    /// The flags of headstart.
    pub(crate) flags: Vec<String>,
    /// The actions, each with its time in milliseconds.
    pub(crate) actions: Vec<(u64, Action)>,
    /// The end of all faults, in milliseconds.
    pub(crate) faults_end: u64,
}

impl Options {
    /// Draws the options of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xd41_7e57);
        let random = &mut random;
        let number =
            |most: u64, random: &mut Random| usize::try_from(random.within(1..=most)).unwrap_or(1);
        let namespaces = (0..number(2, random))
            .map(|_| random.pick(&["hold", "hold", "enabled", "allowed"]))
            .collect();
        let (nodes, deployments) = (number(5, random), number(4, random));
        let replicas = number(2, random);
        let mut rate = |rates: &[u64]| random.pick(rates);
        let faults = Faults {
            lost: rate(&[0, 0, 20, 100]),
            refused: rate(&[0, 0, 50, 200]),
            late: rate(&[0, 0, 20, 50]),
            watches: rate(&[0, 200, 500, 900]),
        };
        let evictions = rate(&[0, 0, 100]);
        let rollouts = random.per_mille(300);
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let flags = vec![
            flag("noop-image", "headstart:v1"),
            flag("lease-duration", random.pick(&["15s", "30s", "30s"])),
            flag("retain", if rollouts { "30s" } else { "1h" }),
            flag("max-writes", random.pick(&["1", "2", "64"])),
            flag("max-pulling-nodes", random.pick(&["0", "0", "2"])),
            flag("pods-per-node", random.pick(&["1", "2"])),
            flag("hold-timeout", random.pick(&["2m", "5m"])),
            flag("trust-node-images", "false"),
            flag("drain", "2s"),
        ];
        let faults_end = random.within(40..=90) * 1000;
        let mut actions: Vec<(u64, Action)> = (0..deployments)
            .map(|n| (random.within(0..=10_000), Action::Create(n)))
            .collect();
        for _ in 0..random.within(0..=12) {
            let at = random.within(1000..=faults_end - 5000);
            actions.push((at, draw_action(random, (nodes, deployments, replicas))));
        }
        actions.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            namespaces,
            nodes,
            replicas,
            faults,
            evictions,
            streams_lists: random.per_mille(700),
            rollouts,
            flags,
            actions,
            faults_end,
        }
    }
}

fn draw_action(
    random: &mut Random,
    (nodes, deployments, replicas): (usize, usize, usize),
) -> Action {
    let (deployment, replica) = (random.below(deployments), random.below(replicas));
    match random.below(12) {
        0 => Action::Create(deployment),
        1..=3 => Action::Update(deployment),
        4 => Action::Delete(deployment),
        5 => Action::AddNode,
        6 => Action::DeleteNode(random.below(nodes)),
        7 => Action::Crash(replica, random.within(100..=20_000)),
        8 => Action::Replace(replica),
        9 => Action::Cut(replica, random.within(1000..=40_000)),
        10 => Action::ApiServerDown(random.within(1000..=20_000)),
        _ => {
            let kinds = [
                Kind::Namespace,
                Kind::Node,
                Kind::Deployment,
                Kind::Pod,
                Kind::Lease,
            ];
            Action::CutWatches(random.pick(&kinds), random.per_mille(500))
        }
    }
}
