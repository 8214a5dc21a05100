//! The times for which each test waited for its cluster and used it: a line a test in `target/test-times`, which
//! `.ci/run` sorts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use crate::assets::target_dir;

/// Writes a line: seconds used, seconds waited, suite and test, and `failed` if the test panics. A thread of libtest has
/// its test's name.
///
/// The line goes to a file because libtest captures the output of a test. A test is not failed by an error here.
pub(super) fn record(test: &str, waited: Duration, used: Duration) {
    let outcome = if std::thread::panicking() {
        "\tfailed"
    } else {
        ""
    };
    let (used, waited) = (used.as_secs_f64(), waited.as_secs_f64());
    let line = format!("{used:.1}\t{waited:.1}\t{}::{test}{outcome}\n", suite());
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true);
    // One write, so that lines of several tests do not mix.
    let written = file
        .open(target_dir().join("test-times"))
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("cannot write target/test-times: {error}");
    }
}

/// The name of this test binary, without the hash that cargo adds.
fn suite() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let name = program.file_stem().unwrap_or_default().to_string_lossy();
    let suite = name.rsplit_once('-').map_or(&*name, |(suite, _)| suite);
    suite.to_owned()
}
