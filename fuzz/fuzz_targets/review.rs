//! Checks that the webhook answers any body by the contract, or refuses it as no review. The property test in
//! `tests/offline/review.rs` checks the same on stable, with the corpus of this target as its seeds.
#![no_main]

#[path = "../../tests/offline/review/contract.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    contract::check(body);
});
