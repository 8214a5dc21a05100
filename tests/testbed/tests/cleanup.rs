//! Nothing is left of a cluster, whichever way its process ends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testbed::ControlPlane;
use testbed::control_plane::Options;
use tokio::sync::Mutex;

/// Set for the process that is to be ended: how it ends by itself, if it does.
const ROLE: &str = "HEADSTART_TEST_CLUSTER_HOLDER";
const PREFIX: &str = "cluster at ";
const LIMIT: Duration = Duration::from_secs(300);

/// Not a test of its own: the other tests start it in a process of its own and end it.
#[tokio::test]
async fn a_process_that_has_a_cluster() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let cluster = ControlPlane::start(Options::default()).await.unwrap();
    println!("{PREFIX}{}", cluster.dir().display());
    assert_ne!(role, "panics", "as it was told to");
    std::future::pending::<()>().await;
}

/// Starts that process; its cluster's directory.
fn holder(role: &str) -> (Child, PathBuf) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_process_that_has_a_cluster", "--nocapture"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .stderr(match role {
            "panics" => Stdio::null(),
            _ => Stdio::inherit(),
        })
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The test runner's own words come first, on the same line.
    let directory = lines
        .map_while(Result::ok)
        .find_map(|line| Some(PathBuf::from(line.split_once(PREFIX)?.1)));
    (child, directory.unwrap())
}

fn signal(signal: &str, process: u32) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {process}")])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Processes whose environment or arguments name the cluster's directory.
fn processes_of(directory: &Path) -> Vec<u32> {
    let names = directory.to_str().unwrap().as_bytes();
    let of_cluster = |id: &u32| {
        ["environ", "cmdline"].iter().any(|file| {
            let content = fs::read(format!("/proc/{id}/{file}")).unwrap_or_default();
            content.windows(names.len()).any(|window| window == names)
        })
    };
    let entries = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.filter(of_cluster).collect()
}

fn until_nothing_is_left_of(directory: &Path) {
    let started = Instant::now();
    while directory.exists() || !processes_of(directory).is_empty() {
        assert!(
            started.elapsed() < LIMIT,
            "{} is left, and {:?}",
            directory.display(),
            processes_of(directory)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns whether this process ignores Ctrl-C. A process that a shell starts in the background does, and so do all
/// processes that it starts.
fn ignores_ctrl_c() -> bool {
    const SIGINT: u64 = 2;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    ignored & (1 << (SIGINT - 1)) != 0
}

/// One at a time: a start removes the remains of the killed run of another test, which that test must see.
static TURN: Mutex<()> = Mutex::const_new(());

#[test]
fn nothing_is_left_after_a_ctrl_c_a_kill_or_a_panic() {
    let _turn = TURN.blocking_lock();
    // Either ends a process that does not handle it.
    let ctrl_c = if ignores_ctrl_c() { "TERM" } else { "INT" };
    for (role, how) in [
        ("waits", Some(ctrl_c)),
        ("waits", Some("KILL")),
        ("panics", None),
    ] {
        let (mut child, directory) = holder(role);
        if let Some(how) = how {
            assert!(
                processes_of(&directory).len() >= 5,
                "etcd, three components and the reaper"
            );
            signal(how, child.id());
        }
        assert!(!child.wait().unwrap().success());
        until_nothing_is_left_of(&directory);
    }
}

#[tokio::test]
async fn the_next_start_removes_what_a_killed_run_and_its_killed_reaper_left() {
    let _turn = TURN.lock().await;
    let (mut child, directory) = holder("waits");
    let reaper = processes_of(&directory).into_iter().find(|id| {
        fs::read(format!("/proc/{id}/cmdline"))
            .unwrap_or_default()
            .windows(6)
            .any(|window| window == b"--wait")
    });
    signal("KILL", reaper.unwrap());
    signal("KILL", child.id());
    child.wait().unwrap();
    assert!(
        directory.exists() && !processes_of(&directory).is_empty(),
        "they are left, to begin with"
    );
    drop(ControlPlane::start(Options::default()).await.unwrap());
    until_nothing_is_left_of(&directory);
}

#[test]
fn without_go_the_message_says_what_to_install() {
    let target = std::env::temp_dir().join(format!("headstart-without-go-{}", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["up", "--fake-nodes", "1"])
        .env("CARGO_TARGET_DIR", &target)
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    fs::remove_dir_all(&target).unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        message.contains("no `go` on PATH") && message.contains("https://go.dev/dl"),
        "{message}"
    );
}
