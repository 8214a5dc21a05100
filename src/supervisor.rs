//! Essential tasks: each has a name. The process ends with an error that names the first task that ends.
//!
//! A task without which a replica is useless must not end unnoticed: its replica would stay ready, and lead, with old caches.
//! The kubelet restarts the container, and a standby leads meanwhile.

use std::any::Any;
use std::borrow::Cow;
use std::fmt::Display;
use std::future::pending;
use std::io;
use std::panic::AssertUnwindSafe;
use std::thread;

use futures::FutureExt;
use thiserror::Error;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The variable with the name of the task that panics at SIGUSR2. Only builds with debug assertions read it.
const PANIC_TASK: &str = "HEADSTART_PANIC_TASK";

/// An essential task ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum TaskError {
    /// It returned. An essential task returns only once the process is told to stop.
    #[error("the {0} ended")]
    Ended(Cow<'static, str>),
    /// It cannot go on.
    #[error("the {0} failed: {1}")]
    Failed(Cow<'static, str>, String),
    /// It panicked.
    #[error("the {0} panicked: {1}")]
    Panicked(Cow<'static, str>, String),
}

/// Starts essential tasks, and reports the first that ends. The runtime of a task owns it, and ends it.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    /// Has room for one error: later ends may be consequences of the first.
    first: mpsc::Sender<TaskError>,
}

/// The first essential task that ended.
#[derive(Debug)]
pub(crate) struct FirstEnd(mpsc::Receiver<TaskError>);

impl FirstEnd {
    /// Waits for the first end.
    pub(crate) async fn wait(&mut self) -> TaskError {
        match self.0.recv().await {
            Some(error) => error,
            // Without a supervisor there are no tasks.
            None => pending().await,
        }
    }
}

impl Supervisor {
    /// Returns a supervisor without tasks.
    pub(crate) fn new() -> (Self, FirstEnd) {
        let (first, ended) = mpsc::channel(1);
        (Self { first }, FirstEnd(ended))
    }

    /// Starts a task on the current runtime. The handle only shows the end of the task.
    pub(crate) fn spawn(
        &self,
        name: impl Into<Cow<'static, str>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        self.spawn_on(&Handle::current(), name, task)
    }

    /// Starts a task on this runtime.
    pub(crate) fn spawn_on(
        &self,
        runtime: &Handle,
        name: impl Into<Cow<'static, str>>,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        runtime.spawn(self.clone().run(name.into(), task))
    }

    /// Starts a task on its own thread. `start` is called within the runtime of that thread, before the thread starts.
    ///
    /// # Errors
    /// When `start` fails, or the thread cannot be created.
    pub(crate) fn spawn_thread<T: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        start: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let task = {
            let _entered = runtime.enter();
            start()
        };
        let task = match task {
            Ok(task) => self.clone().run(name.into(), task),
            Err(error) => {
                // A drop would wait for the runtime's tasks, and this may be a task itself.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(move || runtime.block_on(task)).map(drop)
    }

    /// Reports that a task cannot go on.
    pub(crate) fn fail(&self, name: &'static str, error: &impl Display) {
        self.end(TaskError::Failed(name.into(), error.to_string()));
    }

    /// Runs a task to its end, and reports the end.
    async fn run(self, name: Cow<'static, str>, task: impl Future<Output = ()>) {
        let task = async {
            tokio::select! {
                biased;
                () = panic_if_told(&name) => {}
                () = task => {}
            }
        };
        let end = match AssertUnwindSafe(task).catch_unwind().await {
            Ok(()) => TaskError::Ended(name),
            Err(panic) => TaskError::Panicked(name, message(&*panic).to_owned()),
        };
        self.end(end);
    }

    fn end(&self, end: TaskError) {
        // Fails if another task ended first.
        let _ = self.first.try_send(end);
    }
}

/// Panics at SIGUSR2 if the environment names this task. A test uses it to end a task.
async fn panic_if_told(name: &str) {
    let told = || std::env::var(PANIC_TASK).is_ok_and(|told| told == name);
    if cfg!(debug_assertions)
        && told()
        && let Ok(mut asked) = signal(SignalKind::user_defined2())
    {
        asked.recv().await;
        panic!("{PANIC_TASK} says so");
    }
    pending().await
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_task_that_ends_is_named() {
        let (supervisor, mut first) = Supervisor::new();
        let second = Duration::from_secs(1);
        for (name, lives) in [("watch of Pods", 3), ("event recorder", 2)] {
            supervisor.spawn(name, sleep(lives * second));
        }
        supervisor.spawn("self-test", pending());
        let started = Instant::now();
        let error = first.wait().await;
        assert_eq!(error.to_string(), "the event recorder ended");
        assert_eq!(started.elapsed(), 2 * second);
        assert!(first.wait().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_task_says_why_it_cannot_go_on() {
        let (supervisor, mut first) = Supervisor::new();
        let failing = supervisor.clone();
        supervisor.spawn("leader election", async move {
            failing.fail("leader election", &"etcd was restored");
        });
        let error = first.wait().await;
        let expected = "the leader election failed: etcd was restored";
        assert_eq!(error.to_string(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_reported_with_its_message() {
        for (ask, message) in [(0, "zero"), (1, "number 1")] {
            let (supervisor, mut first) = Supervisor::new();
            supervisor.spawn(format!("task {ask}"), async move {
                sleep(Duration::from_secs(5)).await;
                match ask {
                    0 => panic!("zero"),
                    number => panic!("number {number}"),
                }
            });
            let expected = TaskError::Panicked(format!("task {ask}").into(), message.into());
            assert_eq!(first.wait().await, expected);
        }
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_reported() {
        let (supervisor, mut first) = Supervisor::new();
        let started = supervisor.spawn_thread("probes", || Ok(async { panic!("here") }));
        started.unwrap();
        let error = first.wait().await;
        assert_eq!(error.to_string(), "the probes panicked: here");
        let failed = supervisor.spawn_thread("probes", || {
            Err::<std::future::Pending<()>, _>(io::Error::other("no listener"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no listener");
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_run_report_nothing() {
        let (supervisor, mut first) = Supervisor::new();
        supervisor.spawn("controller", pending());
        tokio::select! {
            error = first.wait() => panic!("{error}"),
            () = sleep(Duration::from_secs(3600)) => {}
        }
    }
}
