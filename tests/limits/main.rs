//! What hostile reviews and hostile objects cost: the heap at its peak, the time by their size, and what is kept.
//!
//! Needs nothing, as tests/offline does. It is a binary of its own because its allocator counts what the whole process takes.

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

/// How many more bytes were allocated at a time than before. What is returned is dropped after that.
fn peak<T>(run: impl FnOnce() -> T) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    drop(run());
    HEAP.peak_usage().saturating_sub(before)
}

/// What is still allocated of what it returns.
fn kept<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = HEAP.current_usage();
    let made = make();
    (made, HEAP.current_usage().saturating_sub(before))
}

/// How long it takes: the least of some rounds, because whatever else runs only ever adds to it.
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
