//! The cost of hostile reviews and hostile objects: the heap at its peak, the time by their size, and the memory that
//! is kept.
//!
//! Needs nothing, as tests/offline does. It is a binary of its own because its allocator counts the memory of the whole
//! process.

mod plans;
mod reviews;
mod stored;

#[path = "../offline/review/contract.rs"]
mod contract;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The heap is one for all tests of this program.
static MEASURING: Mutex<()> = Mutex::new(());

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Until it is dropped, no other test of this program runs: each takes its turn first of all.
fn turn() -> MutexGuard<'static, ()> {
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the number of bytes that were allocated at the peak beyond those before. The result of `run` counts, and is
/// dropped.
fn peak<T>(run: impl FnOnce() -> T) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    drop(run());
    HEAP.peak_usage().saturating_sub(before)
}

/// Returns the value that `make` makes, and the number of bytes that stay allocated for it.
fn kept<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = HEAP.current_usage();
    let made = make();
    (made, HEAP.current_usage().saturating_sub(before))
}

/// Returns the time that `run` takes: the least of some rounds, because other processes only ever add to it.
fn time<T>(run: impl Fn() -> T) -> Duration {
    let round = |_| {
        let begun = Instant::now();
        drop(run());
        begun.elapsed()
    };
    (0..3).map(round).min().unwrap_or_default()
}

/// So much text as was asked for, separated by commas.
fn list(bytes: usize, mut item: impl FnMut(usize) -> String) -> String {
    let mut text = String::with_capacity(bytes + KIB);
    let mut number = 0;
    while text.len() < bytes {
        if number > 0 {
            text.push(',');
        }
        text.push_str(&item(number));
        number += 1;
    }
    text
}
