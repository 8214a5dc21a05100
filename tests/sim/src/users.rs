//! Users of Deployments: they apply manifests, and do what they should not.

use std::collections::BTreeMap;
use std::sync::Arc;

use headstart_core::api::well_known::{
    DEPLOYMENT_LABEL, HELD_LABEL, HELD_SINCE, HELD_UNTIL, MANAGED_BY_LABEL, MANAGER,
    PREFETCH_LABEL, REVISION_LABEL,
};
use headstart_core::image::ImageSetId;
use headstart_core::scheduling::node::PullMethod;
use headstart_core::workload::Workload;
use serde_json::{Value, json};

use crate::actions::{ActionKind, draw_images};
use crate::api_server::{Kind, Object, ObjectKey, Preconditions, Status};
use crate::cluster::Cluster;
use crate::invariants::UserPauses;
use crate::mutation::Mutation;
use crate::random::Random;
use crate::replica::Replica;
use crate::webhook::admit;
use crate::workloads::{DeploymentId, Manifest, is_held, is_paused, is_paused_by_manifest};

/// The name under which users write.
const KUBECTL: &str = "kubectl";

/// What users have: their manifests, and the versions before.
#[derive(Debug, Default)]
pub(crate) struct Users {
    manifests: BTreeMap<usize, Manifest>,
    before: BTreeMap<usize, Vec<String>>,
}

/// The parts of the world that a user's write meets.
pub(crate) struct World<'a> {
    /// The cluster.
    pub cluster: &'a mut Cluster,
    /// The replicas, which review the write.
    pub replicas: &'a mut [Replica],
    /// The Deployments that users pause.
    pub pauses: &'a mut UserPauses,
}

impl Users {
    /// Lets a user act.
    pub(crate) fn act(&mut self, action: &ActionKind, random: &mut Random, world: &mut World<'_>) {
        if !world.cluster.is_api_up() {
            return;
        }
        match *action {
            ActionKind::NewImages(n) => self.new_images(n, random, world),
            ActionKind::Rollback(n) => {
                let before = self.before.get(&n).cloned();
                self.change(n, world, |manifest| {
                    manifest.images = before.unwrap_or_else(|| manifest.images.clone());
                });
            }
            ActionKind::ApplySame(n) => self.change(n, world, |_| {}),
            ActionKind::Scale(n, replicas) => {
                self.change(n, world, |manifest| manifest.replicas = replicas);
            }
            ActionKind::Pause(n) => self.pause(n, true, world),
            ActionKind::Resume(n) => self.pause(n, false, world),
            ActionKind::ManifestPause(n) => self.change(n, world, |manifest| {
                manifest.paused = match manifest.paused {
                    None => Some(true),
                    Some(_) => None,
                };
            }),
            ActionKind::Replace(n) => self.replace(n, world),
            ActionKind::NamespaceMode(n, mode) => set_namespace_mode(n, mode, world.cluster),
            ActionKind::DeploymentMode(n, mode) => self.change(n, world, |manifest| {
                manifest.mode = (!mode.is_empty()).then(|| mode.to_owned());
            }),
            ActionKind::Delete(n) => self.delete(n, world),
            ActionKind::Secrets(n) => {
                let secret = random
                    .per_mille(700)
                    .then(|| format!("s{}", random.below(3)));
                self.change(n, world, |manifest| manifest.secret = secret);
            }
            ActionKind::Selector(n) => {
                let pool = random
                    .per_mille(500)
                    .then(|| format!("p{}", random.below(2)));
                self.change(n, world, |manifest| manifest.pool = pool);
            }
            ActionKind::Annotate(n, which) => {
                let annotations = [
                    ("headstart.dev/hold-until", "50%"),
                    ("headstart.dev/hold-timeout", "30s"),
                    ("headstart.dev/max-nodes", "2"),
                    ("headstart.dev/refresh", "1m"),
                    ("headstart.dev/node-selector", "pool=p1"),
                ];
                let chosen = annotations.get(which);
                let chosen = chosen.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
                self.change(n, world, |manifest| {
                    manifest.annotations = chosen.into_iter().collect();
                });
            }
            ActionKind::ForgeMarks(n) => self.forge_marks(n, random, world),
            ActionKind::StripMarks(n) => self.strip_marks(n, random, world),
            ActionKind::LabelPod(n) => label_pod(n, random, world.cluster),
            ActionKind::GatedPod(n) => self.gated_pod(n, world),
            ActionKind::ForgeReview(n) => self.forge_review(n, random, world),
            ActionKind::DeletePod(n) => delete_prefetch_pod(n, world.cluster),
            _ => {}
        }
    }

    fn new_images(&mut self, n: usize, random: &mut Random, world: &mut World<'_>) {
        let images = draw_images(random, n);
        if let Some(manifest) = self.manifests.get(&n) {
            self.before.insert(n, manifest.images.clone());
            return self.change(n, world, |manifest| manifest.images = images);
        }
        let namespaces = world.cluster.options.namespaces;
        let manifest = Manifest {
            id: DeploymentId(n),
            namespace: format!("ns{}", random.below(namespaces)),
            images,
            replicas: random.within(0..=4),
            mode: None,
            paused: None,
            secret: None,
            // No node is in the last one.
            pool: random
                .per_mille(150)
                .then(|| format!("p{}", random.below(3))),
            annotations: Vec::new(),
        };
        self.create(n, manifest, world);
    }

    fn create(&mut self, n: usize, manifest: Manifest, world: &mut World<'_>) {
        let sent = manifest.object();
        let object = admit(sent.clone(), None, world.replicas, world.cluster);
        let api = &mut world.cluster.api;
        if let Ok(stored) = api.create_admitted(Kind::Deployment, (sent, object), KUBECTL) {
            world
                .cluster
                .note(|| format!("user creates {}", manifest.name()));
            world
                .pauses
                .set(stored.uid(), manifest.paused == Some(true));
            self.manifests.insert(n, manifest);
        }
    }

    /// Applies a changed manifest, as client-side apply does.
    fn change(&mut self, n: usize, world: &mut World<'_>, change: impl FnOnce(&mut Manifest)) {
        let Some(last) = self.manifests.get_mut(&n) else {
            return;
        };
        // Another user of the same manifest may have paused it.
        if let Ok(stored) = world.cluster.api.get(&last.key())
            && is_paused_by_manifest(&stored.value)
        {
            last.paused = Some(true);
        }
        let last = last.clone();
        let mut manifest = last.clone();
        change(&mut manifest);
        let key = manifest.key();
        let Ok(before) = world.cluster.api.get(&key) else {
            self.create(n, manifest, world);
            return;
        };
        let mut sent = before.value.clone();
        json_patch::merge(&mut sent, &manifest.apply_patch(&last));
        if let Ok(stored) = update_admitted(&key, &before, sent, world) {
            world.cluster.note(|| format!("user applies {manifest:?}"));
            // A manifest that says nothing of it leaves the pause as it is.
            if manifest.mode != last.mode {
                let changed = &mut world.cluster.mode_changed;
                changed.insert(manifest.namespace.clone(), world.cluster.queue.now);
            }
            if manifest.paused.is_some() || last.paused.is_some() {
                let uid = stored.uid();
                world.pauses.set(uid, manifest.paused == Some(true));
            }
            self.manifests.insert(n, manifest);
        }
    }

    /// `kubectl rollout pause` and `resume`, which refuse what is so already.
    fn pause(&mut self, n: usize, paused: bool, world: &mut World<'_>) {
        let Some(key) = self.manifests.get(&n).map(Manifest::key) else {
            return;
        };
        let Ok(before) = world.cluster.api.get(&key) else {
            return;
        };
        if is_paused(&before.value) == paused {
            return;
        }
        let value = if paused { json!(true) } else { Value::Null };
        let patch = json!({"spec": {"paused": value}});
        if let Ok(stored) = world.cluster.api.patch(&key, &patch, KUBECTL) {
            let held = is_held(&before.value) || is_held(&stored.value);
            world
                .cluster
                .note(|| format!("user sets paused={paused} of {} (held: {held})", key.name));
            world.pauses.set(stored.uid(), paused);
        }
    }

    fn replace(&mut self, n: usize, world: &mut World<'_>) {
        let Some(mut manifest) = self.manifests.get(&n).cloned() else {
            return;
        };
        manifest.paused = None;
        let key = manifest.key();
        let Ok(before) = world.cluster.api.get(&key) else {
            return;
        };
        let sent = manifest.object();
        if let Ok(stored) = update_admitted(&key, &before, sent, world) {
            world.cluster.note(|| format!("user replaces {}", key.name));
            world.pauses.set(stored.uid(), false);
            self.manifests.insert(n, manifest);
        }
    }

    fn delete(&mut self, n: usize, world: &mut World<'_>) {
        let Some(key) = self.manifests.get(&n).map(Manifest::key) else {
            return;
        };
        world.cluster.note(|| format!("user deletes {}", key.name));
        let _ = world.cluster.api.delete(&key, &Preconditions::default());
        self.manifests.remove(&n);
    }

    /// Marks that headstart did not set: of a past or future time, with or without the pause.
    fn forge_marks(&mut self, n: usize, random: &mut Random, world: &mut World<'_>) {
        let Some(manifest) = self.manifests.get(&n) else {
            return;
        };
        let key = manifest.key();
        let Ok(before) = world.cluster.api.get(&key) else {
            return;
        };
        let since = random.pick(&["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "soon"]);
        let patch = json!({
            "metadata": {
                "labels": {HELD_LABEL: "true"},
                "annotations": {HELD_SINCE: since, HELD_UNTIL: "2099-01-01T00:00:00Z"},
            },
            "spec": {"paused": true},
        });
        world.cluster.count("fault: forged marks");
        // A pause that is marked as headstart's is headstart's, unless a manifest asks for it.
        world
            .pauses
            .set(before.uid(), is_paused_by_manifest(&before.value));
        world
            .cluster
            .note(|| format!("user forges marks of {}", key.name));
        let _ = world.cluster.api.patch(&key, &patch, KUBECTL);
    }

    fn strip_marks(&mut self, n: usize, random: &mut Random, world: &mut World<'_>) {
        let held = |n: &usize| {
            let key = self.manifests.get(n)?.key();
            let before = world.cluster.api.get(&key).ok()?;
            is_held(&before.value).then_some((key, before))
        };
        let found = held(&n).or_else(|| self.manifests.keys().find_map(held));
        let Some((key, before)) = found else {
            return;
        };
        world.cluster.count("fault: marks removed");
        let patch = match random.below(3) {
            0 => json!({"metadata": {"annotations": {HELD_SINCE: null}}}),
            1 => json!({"metadata": {"annotations": {HELD_UNTIL: null}}}),
            _ => {
                // Without the label it is a pause like any other.
                world.pauses.set(before.uid(), true);
                json!({"metadata": {"labels": {HELD_LABEL: null}}})
            }
        };
        world
            .cluster
            .note(|| format!("user removes marks of {}: {patch}", key.name));
        let _ = world.cluster.api.patch(&key, &patch, KUBECTL);
    }

    /// A prefetch pod of a user's making, which a scheduling gate keeps from starting.
    fn gated_pod(&mut self, n: usize, world: &mut World<'_>) {
        let Some(key) = self.manifests.get(&n).map(Manifest::key) else {
            return;
        };
        let Ok(object) = world.cluster.api.get(&key) else {
            return;
        };
        let Some(workload) = Workload::from_deployment(object.deployment()) else {
            return;
        };
        if workload.images.is_empty() {
            return;
        }
        let settings = world.cluster.options.config.pods.clone();
        let pod =
            headstart_core::pod::prefetch_pod(&workload, "n0", PullMethod::ImageVolume, &settings);
        let mut pod = serde_json::to_value(pod).unwrap_or_default();
        pod["metadata"]["name"] = json!(format!("prefetch-gated-{n}"));
        // A pod that is bound may not have a gate. The annotation names its node.
        pod["spec"]["nodeName"] = Value::Null;
        pod["spec"]["schedulingGates"] = json!([{"name": "forged"}]);
        world.cluster.count("fault: gated pod");
        let _ = world.cluster.api.create(Kind::Pod, pod, KUBECTL);
    }

    /// A review that nothing follows: the images are not stored.
    fn forge_review(&mut self, n: usize, random: &mut Random, world: &mut World<'_>) {
        let Some(manifest) = self.manifests.get(&n) else {
            return;
        };
        world.cluster.count("fault: forged review");
        let mut forged = manifest.clone();
        forged.images = vec![format!("evil:{}", random.below(100))];
        let mut object = forged.object();
        object["metadata"]["uid"] = json!("forged");
        let deployment = serde_json::from_value(object).unwrap_or_default();
        let Some(workload) = Workload::from_deployment(&deployment) else {
            return;
        };
        let replica = random.below(world.replicas.len());
        let replica = &mut world.replicas[replica];
        let images: ImageSetId = workload.image_set.clone();
        let review = (images, world.cluster.now());
        replica.reviews.insert(workload.key.clone(), review);
        if world.cluster.mutation == Some(Mutation::ReviewsTrusted) {
            replica.trust_review(workload, world.cluster);
        }
    }
}

/// Replaces an object as a user sends it, after the webhook has seen it.
fn update_admitted(
    key: &ObjectKey,
    before: &Object,
    sent: Value,
    world: &mut World<'_>,
) -> Result<Arc<Object>, Status> {
    let before = Some(&before.value);
    let object = admit(sent.clone(), before, world.replicas, world.cluster);
    let api = &mut world.cluster.api;
    api.update_admitted(key, (sent, object), KUBECTL)
}

fn set_namespace_mode(n: usize, mode: &str, cluster: &mut Cluster) {
    let key = ObjectKey::new(Kind::Namespace, "", &format!("ns{n}"));
    let value = if mode.is_empty() {
        Value::Null
    } else {
        json!(mode)
    };
    cluster.note(|| format!("namespace ns{n} is {mode:?}"));
    cluster
        .mode_changed
        .insert(key.name.clone(), cluster.queue.now);
    let _ = cluster.api.patch(
        &key,
        &json!({"metadata": {"labels": {PREFETCH_LABEL: value}}}),
        KUBECTL,
    );
}

/// A pod of a user that has the labels of a prefetch pod, and its name.
fn label_pod(n: usize, random: &mut Random, cluster: &mut Cluster) {
    cluster.count("fault: labelled pod");
    let namespace = format!("ns{}", random.below(cluster.options.namespaces));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace, "name": format!("prefetch-own-{n}"),
            "labels": {MANAGED_BY_LABEL: MANAGER, DEPLOYMENT_LABEL: format!("web{n}"), REVISION_LABEL: "0"},
        },
        "spec": {"nodeName": "n0", "containers": [{"name": "image-0", "image": "db:1", "command": ["/db"]}]},
    });
    let _ = cluster.api.create(Kind::Pod, pod, KUBECTL);
}

fn delete_prefetch_pod(n: usize, cluster: &mut Cluster) {
    let pods = cluster.api.list(Kind::Pod);
    let pods = pods.filter(|(_, pod)| pod.label(MANAGED_BY_LABEL).is_some());
    let pods: Vec<ObjectKey> = pods.map(|(key, _)| key.clone()).collect();
    if let Some(key) = (!pods.is_empty()).then(|| &pods[n % pods.len()]) {
        cluster.count("fault: deleted pod");
        cluster.note(|| format!("user deletes pod {}", key.name));
        let _ = cluster.api.delete(key, &Preconditions::default());
    }
}
