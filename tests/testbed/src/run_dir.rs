//! A run's directory, and the reaper that removes everything of a run.
//!
//! Every process of a run carries the run's directory in its environment, and every change of the machine is written
//! down in the directory before it is made. The reaper is a process of its own. It waits for the end of a pipe that
//! this process holds, and the kernel closes the pipe when this process ends in any way. A run whose reaper was killed
//! too is found at the next start by its lock, which no process holds any more.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::assets::Assets;
use crate::process::random_hex;

/// The environment variable by which the reaper knows the processes of a run.
pub(crate) const MARKER: &str = "HEADSTART_TESTBED_RUN";
/// The file that says that a run is meant to outlive its starter.
pub(crate) const PERSISTENT_FILE: &str = "kept";
/// The file that says that a run has real nodes, of which a machine can have one set at a time.
pub(crate) const REAL_NODES_FILE: &str = "real-nodes";
/// The longest time that the reaper may take before a drop goes on without it.
const REAP_LIMIT: Duration = Duration::from_secs(180);

/// The directory of one run. Dropping it ends the run's processes and gives back all they took.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    lock: Option<File>,
    reaper: Mutex<Option<(Child, ChildStdin)>>,
}

impl RunDir {
    /// Creates a directory with a reaper, after removing what abandoned runs left.
    ///
    /// # Errors
    /// Fails if the directory for temporary files cannot be written.
    pub fn create(assets: &Assets) -> Result<Self> {
        let parent = parent()?;
        reap_abandoned(assets)?;
        let creation = creation_lock(&parent)?;
        // Short, because the path of a Unix socket has no more than 107 bytes.
        let path = parent.join(&random_hex()?[..8]);
        private_directory(&path)?;
        let lock = File::create(path.join("lock"))?;
        lock.lock()?;
        drop(creation);

        let mut reaper = Command::new(assets.tools())
            .args(["reap", "--wait"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("start the reaper")?;
        let stdin = reaper
            .stdin
            .take()
            .context("the reaper has no standard input")?;
        private_directory(&path.join("log"))?;
        Ok(Self {
            path,
            lock: Some(lock),
            reaper: Mutex::new(Some((reaper, stdin))),
        })
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down how to undo a change of the machine, before the change is made.
    pub(crate) fn before_changing(&self, undo: &str) -> Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path.join("undo"))?;
        writeln!(file, "{undo}")?;
        Ok(file.sync_all()?)
    }

    /// Lets the run outlive this process.
    pub(crate) fn keep(&self, record: &str) -> Result<()> {
        fs::write(self.path.join(PERSISTENT_FILE), record)?;
        if let Some((mut reaper, mut stdin)) = self.take_reaper() {
            stdin.write_all(b"keep\n")?;
            drop(stdin);
            reaper.wait()?;
        }
        Ok(())
    }

    fn take_reaper(&self) -> Option<(Child, ChildStdin)> {
        self.reaper.lock().ok()?.take()
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // The reaper takes the lock: a free lock tells it that no process works in the directory any more.
        self.lock = None;
        let Some((mut reaper, stdin)) = self.take_reaper() else {
            return;
        };
        drop(stdin);
        let started = Instant::now();
        while started.elapsed() < REAP_LIMIT {
            match reaper.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(status)) if !status.success() => {
                    return eprintln!(
                        "testbed: {} was not cleaned up: see above",
                        self.path.display()
                    );
                }
                _ => return,
            }
        }
        eprintln!("testbed: {} is still being cleaned up", self.path.display());
    }
}

/// Returns the directory of the runs of this user.
pub(crate) fn parent() -> Result<PathBuf> {
    let mut name = String::from("headstart-testbed");
    // Root's runs are found under one name; no other user can write those of a user.
    let user = user_id()?;
    if user != 0 {
        name = format!("{name}-{user}");
    }
    let parent = std::env::temp_dir().join(name);
    private_directory(&parent)?;
    Ok(parent)
}

/// The effective user.
pub(crate) fn user_id() -> Result<u32> {
    // A directory that belongs to the current user; where there is none, that of the user's own files.
    let own = ["/proc/self"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists());
    let own = own
        .or_else(std::env::home_dir)
        .context("set HOME to the user's own directory")?;
    Ok(fs::metadata(&own)
        .with_context(|| format!("read {}", own.display()))?
        .uid())
}

fn private_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("create {}", path.display()))
}

/// Held while a run is created, so that none is seen between its creation and its own lock.
fn creation_lock(parent: &Path) -> Result<File> {
    let lock = File::create(parent.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Removes the remains of runs whose owner is gone.
pub(crate) fn reap_abandoned(assets: &Assets) -> Result<()> {
    let parent = parent()?;
    drop(creation_lock(&parent)?);
    reap(assets, &["--stale"], &parent)
}

/// Removes a kept run.
pub(crate) fn reap_persistent(assets: &Assets, path: &Path) -> Result<()> {
    reap(assets, &[], path)
}

fn reap(assets: &Assets, options: &[&str], path: &Path) -> Result<()> {
    let status = Command::new(assets.tools())
        .arg("reap")
        .args(options)
        .arg(path)
        .status()
        .context("run the reaper")?;
    if !status.success() {
        bail!(
            "what an earlier run left in {} could not be removed: see above",
            path.display()
        );
    }
    Ok(())
}

/// The directories of all runs there are.
pub(crate) fn all() -> Result<Vec<PathBuf>> {
    let parent = parent()?;
    let mut runs = Vec::new();
    for entry in fs::read_dir(&parent)? {
        let path = entry?.path();
        if path.is_dir() {
            runs.push(path);
        }
    }
    Ok(runs)
}
