//! A component's process: its log, whether it lives, and its end.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::run_dir::{MARKER, RunDir};

/// The most bytes of a log that an error shows.
const SHOWN_BYTES: u64 = 4096;
const SHOWN_LINES: usize = 15;
/// The time between two looks at a condition.
const POLL: Duration = Duration::from_millis(50);

/// One running component. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    /// A std lock: held for system calls that return at once. None once it is left to itself.
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Starts a component; its output goes to its log in the run's directory.
    pub(crate) fn spawn(run: &RunDir, name: &str, mut command: Command) -> Result<Self> {
        let log = run.path().join("log").join(format!("{name}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        let child = command
            .env(MARKER, run.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A group of its own, so that a ctrl-c in the terminal reaches it only through the reaper.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name} ({})", command.get_program().display()))?;
        Ok(Self {
            name: name.to_owned(),
            log,
            child: Mutex::new(Some(child)),
        })
    }

    /// Returns the path of its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id, if it has not been left to itself.
    pub fn id(&self) -> Option<u32> {
        self.with_child(|child| child.id())
    }

    /// Returns its exit status, if it has ended.
    ///
    /// # Errors
    /// Fails if the operating system does not say.
    pub fn exited(&self) -> Result<Option<ExitStatus>> {
        Ok(self.with_child(Child::try_wait).transpose()?.flatten())
    }

    /// An error with the end of its log, if it is not running any more.
    pub(crate) fn check_alive(&self) -> Result<()> {
        match self.exited()? {
            Some(status) => bail!(
                "{} ended ({status}); the end of its log:\n{}",
                self.name,
                self.log_tail()
            ),
            None => Ok(()),
        }
    }

    /// Returns whether its log holds this text.
    pub(crate) fn log_contains(&self, text: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_else(|error| format!("({}: {error})", self.log.display()))
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(&self) {
        self.with_child(|child| {
            // Both fail only for a process that has ended already.
            let _ = child.kill();
            let _ = child.wait();
        });
    }

    /// Leaves it running when this is dropped.
    pub fn leave(&self) {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn with_child<T>(&self, use_it: impl FnOnce(&mut Child) -> T) -> Option<T> {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .map(use_it)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tail(log: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SHOWN_BYTES)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end).into_owned();
    let lines: Vec<&str> = end.lines().collect();
    Ok(lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"))
}

/// The longest time for anything that is started to be ready, on a busy machine. A process that ends by itself is
/// noticed at once.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(300);

/// Waiting for a condition, with a limit.
#[derive(Debug)]
pub struct Wait {
    what: String,
    started: Instant,
    limit: Duration,
}

impl Wait {
    /// Begins to wait for something that can be named: "the API server to be ready".
    pub fn new(what: impl Into<String>, limit: Duration) -> Self {
        Self {
            what: what.into(),
            started: Instant::now(),
            limit,
        }
    }

    /// Waits until it is so.
    ///
    /// # Errors
    /// Fails if the limit is over.
    pub async fn until(&self, condition: impl AsyncFn() -> bool) -> Result<()> {
        while !condition().await {
            self.pause().await?;
        }
        Ok(())
    }

    /// A short pause before the condition is looked at again.
    ///
    /// # Errors
    /// Fails if the limit is over.
    pub async fn pause(&self) -> Result<()> {
        if self.started.elapsed() >= self.limit {
            bail!(
                "waited {} s in vain for {}",
                self.limit.as_secs(),
                self.what
            );
        }
        // A longer wait needs no shorter answer.
        tokio::time::sleep(POLL.max(self.started.elapsed() / 20)).await;
        Ok(())
    }
}

/// Runs a program to its end, with this on its standard input; returns its output.
///
/// # Errors
/// Fails if the program fails; its standard error is the message.
pub async fn output(mut command: tokio::process::Command, input: &[u8]) -> Result<String> {
    use tokio::io::AsyncWriteExt as _;
    let name = command.as_std().get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("run {name}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    let write = async move {
        // A program that ends before it has read all says why by itself.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    let output = output?;
    if !output.status.success() {
        let arguments: Vec<_> = command
            .as_std()
            .get_args()
            .map(|argument| argument.display().to_string())
            .collect();
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{name} {}: {}", arguments.join(" "), stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command that ignores the machine's proxies: all that a cluster talks to is on this machine.
pub(crate) fn without_proxies(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    ignore_proxies(&mut command);
    command
}

/// As [`without_proxies`], of a command that is there.
pub(crate) fn ignore_proxies(command: &mut Command) {
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command
            .env_remove(variable)
            .env_remove(variable.to_lowercase());
    }
}

/// 32 random hexadecimal digits.
pub(crate) fn random_hex() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
