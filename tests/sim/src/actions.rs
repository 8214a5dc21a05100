//! What happens to the cluster from outside: users, operators and faults. All is drawn before the simulation begins, so that a failure
//! can be repeated with fewer actions.

use crate::api_server::Kind;
use crate::options::{Fault, Options};
use crate::random::Random;
use crate::registry::Answer;

/// Something that happens at a time. `number` makes its random choices its own, whichever other actions there are.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// When, in milliseconds.
    pub at: u64,
    /// The number of the action.
    pub number: u64,
    /// What.
    pub kind: ActionKind,
}

/// What happens. Objects are named by numbers modulo what there is.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionKind {
    /// A user applies a manifest with new images, or for the first time.
    NewImages(usize),
    /// A user applies the images that were there before.
    Rollback(usize),
    /// A user applies the same manifest.
    ApplySame(usize),
    /// A user changes the number of replicas.
    Scale(usize, u64),
    /// `kubectl rollout pause`.
    Pause(usize),
    /// `kubectl rollout resume`.
    Resume(usize),
    /// A manifest with `paused: true`, or without it again.
    ManifestPause(usize),
    /// `kubectl replace`, without `paused` and without the marks of a hold.
    Replace(usize),
    /// The label of a namespace.
    NamespaceMode(usize, &'static str),
    /// The label of a Deployment.
    DeploymentMode(usize, &'static str),
    /// A Deployment is deleted.
    Delete(usize),
    /// A Deployment names other pull secrets.
    Secrets(usize),
    /// A Deployment wants other nodes.
    Selector(usize),
    /// A Deployment has other annotations.
    Annotate(usize, usize),
    /// Marks of a hold that headstart did not set.
    ForgeMarks(usize),
    /// Some of the marks of a hold are removed: of this Deployment, or of another one that is held.
    StripMarks(usize),
    /// A pod of a user has the labels of a prefetch pod.
    LabelPod(usize),
    /// A prefetch pod that no kubelet starts.
    GatedPod(usize),
    /// A review of an object that is never stored.
    ForgeReview(usize),
    /// A user deletes a prefetch pod.
    DeletePod(usize),
    /// Quota on the pods of a namespace, or none.
    Quota(usize, Option<usize>),
    /// A node joins.
    AddNode,
    /// A node is deleted, and another joins by its name.
    DeleteNode(usize),
    /// A node is not ready for so many milliseconds.
    NotReady(usize, u64),
    /// A node is cordoned.
    Cordon(usize, u64),
    /// A node is tainted.
    Taint(usize, u64),
    /// A kubelet does nothing.
    Freeze(usize, u64),
    /// Pods of others leave so many slots of a node free for so many milliseconds.
    Full(usize, u64, u64),
    /// A kubelet throws a pod out.
    Evict(usize),
    /// A kubelet removes images.
    CollectImages(usize),
    /// A node is short of disk for so many milliseconds.
    DiskPressure(usize, u64),
    /// The registry answers otherwise for an image.
    Registry(usize, Answer),
    /// A process ends. True if its requests in flight are still done.
    Crash(usize, bool),
    /// A process stops for so many milliseconds.
    Stop(usize, u64),
    /// A wall clock jumps by so many milliseconds.
    Clock(usize, i64),
    /// A watch is cut.
    CutWatch(usize, usize),
    /// Writes fail for so many milliseconds, in so many of 1,000 cases.
    WriteErrors(u64, u64),
    /// The API server is away for so many milliseconds.
    ApiServerDown(u64),
}

/// Draws the actions of a seed.
pub fn draw(seed: u64, options: &Options) -> Vec<Action> {
    let mut random = Random::new(seed ^ 0xac71_0250);
    let mut actions = Vec::new();
    // Each Deployment is there early.
    for deployment in 0..options.deployments {
        actions.push(Action {
            at: random.within(1000..=20_000),
            number: 0,
            kind: ActionKind::NewImages(deployment),
        });
    }
    for _ in 0..options.actions {
        let at = random.within(1000..=options.duration);
        let kind = draw_kind(&mut random, options);
        actions.push(Action {
            at,
            number: 0,
            kind,
        });
    }
    actions.sort_by_key(|action| action.at);
    for (number, action) in actions.iter_mut().enumerate() {
        action.number = number as u64;
    }
    actions
}

fn draw_kind(random: &mut Random, options: &Options) -> ActionKind {
    let faults: Vec<Fault> = options.faults.iter().copied().collect();
    if !faults.is_empty() && random.per_mille(450) {
        let fault = random.pick(&faults);
        if let Some(kind) = fault_action(fault, random, options) {
            return kind;
        }
    }
    user_action(random, options)
}

fn user_action(random: &mut Random, options: &Options) -> ActionKind {
    let deployment = random.below(options.deployments);
    match random.below(20) {
        0..=5 => ActionKind::NewImages(deployment),
        6 => ActionKind::Rollback(deployment),
        7 => ActionKind::ApplySame(deployment),
        8 => ActionKind::Scale(deployment, random.within(0..=6)),
        9 => ActionKind::Pause(deployment),
        10 => ActionKind::Resume(deployment),
        11 => ActionKind::ManifestPause(deployment),
        12 => ActionKind::Replace(deployment),
        13 => {
            let modes = ["hold", "enabled", "allowed", "disabled", ""];
            ActionKind::NamespaceMode(random.below(options.namespaces), random.pick(&modes))
        }
        14 => {
            let modes = ["hold", "enabled", "disabled", ""];
            ActionKind::DeploymentMode(deployment, random.pick(&modes))
        }
        15 => ActionKind::Delete(deployment),
        16 => ActionKind::Secrets(deployment),
        17 => ActionKind::Selector(deployment),
        18 => ActionKind::Annotate(deployment, random.below(6)),
        _ => ActionKind::AddNode,
    }
}

fn fault_action(fault: Fault, random: &mut Random, options: &Options) -> Option<ActionKind> {
    let deployment = random.below(options.deployments);
    let node = random.below(options.nodes);
    let replica = random.below(options.replicas);
    let long = random.within(1000..=120_000);
    Some(match fault {
        Fault::Crash => ActionKind::Crash(replica, random.per_mille(500)),
        Fault::Stop => ActionKind::Stop(replica, random.within(1000..=60_000)),
        Fault::Clock => {
            let ahead = i64::try_from(random.within(0..=7_200_000)).unwrap_or(0);
            ActionKind::Clock(replica, ahead - 3_600_000)
        }
        Fault::WatchCut => ActionKind::CutWatch(replica, random.below(Kind::WATCHED.len())),
        Fault::WriteErrors => ActionKind::WriteErrors(long, random.pick(&[300, 1000])),
        Fault::ApiServerDown => ActionKind::ApiServerDown(random.within(500..=40_000)),
        Fault::Nodes => match random.below(4) {
            0 => ActionKind::NotReady(node, long),
            1 => ActionKind::Cordon(node, long),
            2 => ActionKind::Taint(node, long),
            _ => ActionKind::Freeze(node, long),
        },
        Fault::NodeChurn => ActionKind::DeleteNode(node),
        Fault::Rejections => match random.below(2) {
            // Long enough, now and then, that a node refuses its pod five times.
            0 => ActionKind::Full(node, random.within(0..=5), random.within(1000..=400_000)),
            _ => ActionKind::Evict(node),
        },
        Fault::ImageGc => match random.below(2) {
            0 => ActionKind::CollectImages(node),
            _ => ActionKind::DiskPressure(node, random.within(1000..=400_000)),
        },
        Fault::Registry => ActionKind::Registry(
            random.below(IMAGES.len() * options.deployments),
            random.pick(&[&[Answer::Image][..], &Answer::FAILURES].concat()),
        ),
        Fault::Quota => {
            let most = random.per_mille(700).then(|| random.below(8));
            ActionKind::Quota(random.below(options.namespaces), most)
        }
        Fault::Forgery => match random.below(6) {
            0 => ActionKind::ForgeMarks(deployment),
            1 => ActionKind::StripMarks(deployment),
            2 => ActionKind::LabelPod(deployment),
            3 => ActionKind::GatedPod(deployment),
            _ => ActionKind::ForgeReview(deployment),
        },
        Fault::PodDeletes => ActionKind::DeletePod(random.below(16)),
        Fault::WatchLag | Fault::LostAnswers | Fault::WebhookSkipped => return None,
    })
}

/// Names of images. Deployments share some.
const IMAGES: [&str; 3] = ["app", "proxy", "init"];

/// Returns images for a Deployment.
pub fn draw_images(random: &mut Random, deployment: usize) -> Vec<String> {
    let count = random.within(1..=3);
    let mut images: Vec<String> = Vec::new();
    for _ in 0..count {
        let image = image(
            random.below(IMAGES.len() * (deployment + 1)),
            random.within(1..=3),
        );
        if !images.contains(&image) {
            images.push(image);
        }
    }
    images
}

/// Returns an image by its number and version.
pub fn image(number: usize, version: u64) -> String {
    let name = IMAGES[number % IMAGES.len()];
    let registry = ["", "ghcr.io/acme/"][number % 2];
    format!("{registry}{name}{}:{version}", number / IMAGES.len())
}
