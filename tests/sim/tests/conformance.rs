//! The simulator's API server answers as a real one has answered. `tests/apiserver` asks a real one.

use headstart_sim::conformance::{differences, expected, lines_of_the_fake};

#[test]
fn fake_api_server_answers_as_a_real_one() {
    let found = lines_of_the_fake();
    let different = differences(&expected(), &found);
    assert!(
        different.is_empty(),
        "the lines of a real API server (-), and of the simulator's (+):\n{}",
        different.join("\n")
    );
    assert!(found.len() > 50, "{} steps", found.len());
}
