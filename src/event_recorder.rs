//! Events on the Deployment about its images, which `kubectl describe` shows.
//!
//! They are `events.k8s.io/v1` objects with names made from their content. So after a restart or a change of leader the same
//! event exists once. kube's `Recorder` would count it again, and drop a differing note.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::metrics::Metrics;
use headstart_core::controller::namespace_is_going;
use headstart_core::event::EventReason;
use headstart_core::hash::short_hash;
use headstart_core::limits::{NOTE_BYTES, SHOWN_BYTES, printed, shown};
use headstart_core::workload::Workload;
use queue::EventQueue;

mod queue;

/// The reporting controller, in the form that Kubernetes wants.
const CONTROLLER: &str = "headstart.dev/headstart";
/// The number of events of different namespaces that are written at once. It is small, because pods are more urgent.
const WRITERS: usize = 8;
/// The limit for one write of an event.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of attempts to write an event while the API server is busy. The pause doubles after each.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The interval at which dropped events are logged.
const DROPS_LOGGED: Duration = Duration::from_secs(60);

/// Queues events, which are written in the background.
#[derive(Clone, Debug)]
pub(crate) struct EventRecorder {
    inlet: Arc<Inlet>,
    instance: Arc<str>,
}

/// The queue's entrance. The queue closes when this is dropped.
#[derive(Debug)]
struct Inlet {
    queue: Arc<EventQueue<Event>>,
    metrics: Arc<Metrics>,
    /// The time at which dropped events were last logged, and the number dropped since.
    drops: Mutex<(Option<Instant>, u64)>,
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl EventRecorder {
    /// Returns a recorder, and the task that writes its events. The task ends when the last recorder is dropped.
    pub(crate) fn new(
        client: Client,
        instance: &str,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let queue = Arc::new(EventQueue::default());
        let inlet = Inlet {
            queue: queue.clone(),
            metrics,
            drops: Mutex::default(),
        };
        let recorder = Self {
            inlet: inlet.into(),
            instance: instance.into(),
        };
        (recorder, write(client, queue))
    }

    /// Reports about a Deployment. An event with the same Deployment, images, reason and `subject` is written once.
    pub(crate) fn publish(
        &self,
        workload: &Workload,
        reason: EventReason,
        subject: &str,
        note: String,
    ) {
        let event = event(workload, reason, subject, note, &self.instance);
        if !self.inlet.queue.push(&workload.key.namespace, event) {
            self.inlet.dropped(workload, reason);
        }
    }
}

impl Inlet {
    /// Counts a dropped event. Logs at most one line a minute, as one namespace may cause thousands of events.
    fn dropped(&self, workload: &Workload, reason: EventReason) {
        self.metrics.event_dropped();
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let (logged, count) = &mut *drops;
        *count += 1;
        if logged.is_none_or(|logged| logged.elapsed() >= DROPS_LOGGED) {
            warn!(
                deployment = %workload.key, reason = reason.as_str(), dropped = *count,
                "too many events of a namespace wait to be written; this one is dropped, as were others",
            );
            *logged = Some(Instant::now());
            *count = 0;
        }
    }
}

fn event(
    workload: &Workload,
    reason: EventReason,
    subject: &str,
    note: String,
    instance: &str,
) -> Event {
    let revision = workload.image_set.to_string();
    let hash = short_hash([workload.uid.as_str(), &revision, reason.as_str(), subject]);
    // Names of Deployments are at most 253 bytes, as names of events are.
    let prefix = workload
        .key
        .name
        .get(..200)
        .unwrap_or(&workload.key.name)
        .trim_end_matches(['-', '.']);
    Event {
        metadata: ObjectMeta {
            namespace: Some(workload.key.namespace.clone()),
            name: Some(format!("{prefix}.{hash}")),
            ..ObjectMeta::default()
        },
        action: Some(reason.action().into()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(shown(&note, NOTE_BYTES).into_owned()),
        reason: Some(reason.as_str().into()),
        regarding: Some(ObjectReference {
            api_version: Some("apps/v1".into()),
            kind: Some("Deployment".into()),
            namespace: Some(workload.key.namespace.clone()),
            name: Some(workload.key.name.clone()),
            uid: Some(workload.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(instance.get(..128).unwrap_or(instance).into()),
        type_: Some(reason.kind().into()),
        ..Event::default()
    }
}

async fn write(client: Client, queue: Arc<EventQueue<Event>>) {
    let next = |queue: Arc<EventQueue<Event>>| async {
        let next = queue.next().await?;
        Some((next, queue))
    };
    futures::stream::unfold(queue.clone(), next)
        .for_each_concurrent(WRITERS, |(namespace, event)| {
            let (client, queue) = (client.clone(), &queue);
            async move {
                write_one(client, event).await;
                queue.done(&namespace);
            }
        })
        .await;
}

async fn write_one(client: Client, event: Event) {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client, namespace);
    let note = shown(event.note.as_deref().unwrap_or_default(), SHOWN_BYTES);
    let note = &*note;
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let answer = timeout(WRITE_TIMEOUT, api.create(&PostParams::default(), &event)).await;
        let error = match answer {
            Ok(Ok(_)) => return,
            // This replica wrote it before a restart, or the previous leader did.
            Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => return,
            Ok(Err(kube::Error::Api(status))) if namespace_is_going(&status.message) => {
                debug!(
                    reason = event.reason,
                    "no event in a namespace that is being deleted"
                );
                return;
            }
            Ok(Err(error)) => error,
            Err(_) => {
                warn!(reason = event.reason, note, "writing an event timed out");
                return;
            }
        };
        if attempt == ATTEMPTS || !may_pass(&error) {
            let error = printed(error, SHOWN_BYTES);
            warn!(error, reason = event.reason, note, "cannot write an event");
            return;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Returns whether a retry may succeed: the API server is busy, or was not reached.
fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headstart_core::testing::workload;
    use serde_json::json;
    use tokio::sync::mpsc;

    #[test]
    fn event_name_is_unique_per_reason_and_subject() {
        let web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
        let name = |reason, subject: &str, note: &str| {
            event(&web, reason, subject, note.into(), "pod-1")
                .metadata
                .name
        };
        assert_eq!(
            name(EventReason::PrefetchFailed, "app:1", "on n1"),
            name(EventReason::PrefetchFailed, "app:1", "on n2"),
        );
        assert_ne!(
            name(EventReason::PrefetchFailed, "app:1", ""),
            name(EventReason::PrefetchFailed, "app:2", "")
        );
        assert_ne!(
            name(EventReason::Prefetched, "", ""),
            name(EventReason::PrefetchStarted, "", "")
        );
    }

    #[test]
    fn notes_fit() {
        let web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
        let note = |note: String| {
            let event = event(&web, EventReason::Prefetched, "", note, "pod-1");
            event.note.unwrap()
        };
        let long = note("é".repeat(1000));
        assert!(long.len() <= NOTE_BYTES && long.ends_with('…'));
        assert_eq!(note("short".into()), "short");
    }

    /// Tells of the namespaces that are written to, and never finishes writing to `noisy`.
    fn slow_for_noisy() -> (Client, mpsc::UnboundedReceiver<String>) {
        let (written, namespaces) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let written = written.clone();
            async move {
                let path = request.uri().path().to_owned();
                let namespace = path.split('/').nth(5).unwrap_or_default().to_owned();
                let noisy = namespace == "noisy";
                let _ = written.send(namespace);
                if noisy {
                    std::future::pending::<()>().await;
                }
                let body = kube::client::Body::from(b"{}".to_vec());
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            }
        });
        (Client::new(service, "default"), namespaces)
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_says_much_or_writes_slowly_silences_no_other() {
        let (client, mut written) = slow_for_noisy();
        let metrics = Arc::new(Metrics::default());
        let (recorder, writer) = EventRecorder::new(client, "pod-1", metrics.clone());
        let writer = tokio::spawn(writer);
        let in_namespace = |namespace: &str| {
            let mut web = workload(json!({"containers": [{"name": "a", "image": "app:1"}]}));
            web.key.namespace = namespace.to_owned();
            web
        };
        let noisy = in_namespace("noisy");
        for number in 0..20_000 {
            let subject = number.to_string();
            recorder.publish(
                &noisy,
                EventReason::ImageNotPrefetched,
                &subject,
                subject.clone(),
            );
        }
        assert_eq!(written.recv().await.as_deref(), Some("noisy"));
        let before = tokio::time::Instant::now();
        for namespace in ["a", "b", "c", "d", "e", "f"] {
            recorder.publish(
                &in_namespace(namespace),
                EventReason::RolloutHeld,
                "",
                String::new(),
            );
            assert_eq!(written.recv().await.as_deref(), Some(namespace));
        }
        assert_eq!(
            before.elapsed(),
            Duration::ZERO,
            "nobody waits for the slow one"
        );
        let dropped = format!("headstart_events_dropped_total {}\n", 20_000 - 1024);
        assert!(metrics.encode().contains(&dropped), "{}", metrics.encode());
        drop(recorder);
        writer.await.unwrap();
    }
}
