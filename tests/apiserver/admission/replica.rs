//! A process of headstart, with its log, its metrics and its probes.

use std::fs;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use testbed::headstart::Local;
use testbed::process::Wait;
use tokio::process::Command;

use crate::admission::client;
use crate::admission::installation::PATIENCE;

/// A replica of headstart. Dropping it kills it.
pub(crate) struct Replica {
    process: Local,
    pub(crate) port: u16,
    pub(crate) probes: u16,
}

impl Replica {
    pub(crate) fn new(process: Local) -> Self {
        Self {
            port: process.port(),
            probes: process.probe_port(),
            process,
        }
    }

    pub(crate) async fn is_ready(&self) -> bool {
        is_ready(self.probes).await
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&self) {
        let wait = Wait::new("readiness", PATIENCE);
        while !self.is_ready().await {
            if let Some(status) = self.process.process().exited().unwrap() {
                panic!("{status}: {}", self.log());
            }
            if let Err(error) = wait.pause().await {
                panic!("{error}: {}", self.log());
            }
        }
    }

    /// One that does not answer does not lead.
    pub(crate) async fn leads(&self) -> bool {
        self.scrape("headstart_leader").await == Some(1.0)
    }

    /// Waits until its log says this, after what it said `before`; returns how long that took.
    pub(crate) async fn says(&self, before: &str, words: &str) -> Duration {
        let started = Instant::now();
        let wait = Wait::new(format!("{words:?} in the log"), PATIENCE);
        while !self.log()[before.len()..].contains(words) {
            if let Err(error) = wait.pause().await {
                panic!("{error}: {}", self.log());
            }
        }
        started.elapsed()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.process.process().log()).unwrap()
    }

    /// The value of one of its metrics, the sum over its labels; 0 if it has none.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let scraped = self.scrape(name).await;
        scraped.unwrap_or_else(|| panic!("no metrics: {}", self.log()))
    }

    /// The same, if it answers.
    async fn scrape(&self, name: &str) -> Option<f64> {
        let answer = client::plain_get(self.probes, "/metrics").await;
        let (_, metrics) = answer.ok()?;
        let value = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
        let lines = metrics
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name));
        Some(lines.filter_map(value).sum())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.process().id().unwrap()
    }

    /// Its memory, in MiB: `VmRSS`, or `VmHWM` for the most that it ever was.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes / 1024
    }

    /// Sends the process a signal, as `kill` does.
    pub(crate) async fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.pid().to_string()])
            .status()
            .await
            .unwrap();
        assert!(status.success());
    }

    pub(crate) fn runs(&self) -> bool {
        self.process.process().exited().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> ExitStatus {
        let wait = Wait::new("its end", PATIENCE);
        loop {
            if let Some(status) = self.process.process().exited().unwrap() {
                return status;
            }
            wait.pause().await.unwrap();
        }
    }
}

pub(crate) async fn is_ready(probes: u16) -> bool {
    let answer = client::plain_get(probes, "/readyz").await;
    answer.is_ok_and(|(status, _)| status == 200)
}
