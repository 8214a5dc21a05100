//! Generates, asks both, compares, shrinks.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Deserialize;
use serde_json::Value;
use testbed::assets::Assets;

/// Questions of each kind.
const CASES: usize = 100_000;
/// Questions on the way at a time: one after another, most of the time would go into waiting.
const BATCH: usize = 500;
/// Questions that tell whether the generator is any good: of a hundred, at least so many of either answer.
const LEAST_SHARE: usize = 5;

/// An answer, of headstart or of Kubernetes' libraries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Answer {
    /// The question is not taken at all. The two give different reasons.
    #[serde(deserialize_with = "is_text")]
    pub(crate) refused: bool,
    pub(crate) image: String,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) matches: bool,
    /// The taint that is not tolerated, as its position.
    pub(crate) taint: Option<usize>,
    /// The objects of a file, or the resources that a node lacks.
    pub(crate) readings: Vec<String>,
    /// The first of that which headstart reads otherwise.
    pub(crate) difference: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Requirement {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
}

fn is_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    String::deserialize(deserializer).map(|text| !text.is_empty())
}

/// One kind of question.
pub(crate) struct Kind<T> {
    pub(crate) name: &'static str,
    /// The question as the oracle reads it.
    pub(crate) question: fn(&T) -> Value,
    /// headstart's answer.
    pub(crate) ours: fn(&T) -> Answer,
    /// Divides the answers in two, both of which must be common.
    pub(crate) is_yes: fn(&Answer) -> bool,
}

impl<T: Debug> Kind<T> {
    /// Asks all questions.
    pub(crate) fn compare<S: Strategy<Value = T>>(&self, questions: &S) {
        self.compare_some(CASES, questions);
    }

    /// Asks so many questions, where they are large.
    pub(crate) fn compare_some<S: Strategy<Value = T>>(&self, cases: usize, questions: &S) {
        let cases = match std::env::var("HEADSTART_CASES") {
            Ok(cases) => cases.parse().expect("HEADSTART_CASES is a number"),
            Err(_) => cases,
        };
        let seed = seed();
        println!(
            "{}: {cases} cases of HEADSTART_SEED={}",
            self.name,
            hex(&seed)
        );
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        // Filters may throw away as many as they like, however many are asked.
        let config = Config {
            max_local_rejects: u32::MAX,
            ..Config::default()
        };
        let mut runner = TestRunner::new_with_rng(config, rng);
        let mut oracle = Oracle::start();
        let (mut asked, mut yes) = (0, 0);
        while asked < cases {
            let batch: Vec<S::Tree> = (0..BATCH.min(cases - asked))
                .map(|_| questions.new_tree(&mut runner).expect("a question"))
                .collect();
            let values: Vec<T> = batch.iter().map(ValueTree::current).collect();
            let answers = oracle.ask(values.iter().map(self.question).collect());
            for ((value, answer), tree) in values.iter().zip(&answers).zip(batch) {
                if (self.ours)(value) != *answer {
                    self.fail(tree, &mut oracle, &seed);
                }
                yes += usize::from((self.is_yes)(answer));
            }
            asked += values.len();
        }
        println!("{}: {yes} of {asked} answered yes", self.name);
        let share = yes * 100 / asked;
        assert!(
            (LEAST_SHARE..=100 - LEAST_SHARE).contains(&share),
            "{share} % of the answers are yes: the questions are too easy"
        );
    }

    /// Makes the question as small as it can be while the answers differ.
    fn fail(&self, mut tree: impl ValueTree<Value = T>, oracle: &mut Oracle, seed: &[u8; 32]) -> ! {
        let mut smallest = None;
        loop {
            let value = tree.current();
            let answer = oracle.ask(vec![(self.question)(&value)]).remove(0);
            let ours = (self.ours)(&value);
            let differ = ours != answer;
            if differ {
                smallest = Some((value, ours, answer));
            }
            let moved = if differ {
                tree.simplify()
            } else {
                tree.complicate()
            };
            if !moved {
                break;
            }
        }
        let (value, ours, theirs) = smallest.expect("the answers to this very question differed");
        panic!(
            "{}: the answers to {value:?} differ (HEADSTART_SEED={})\n  headstart:  {ours:?}\n  Kubernetes: {theirs:?}",
            self.name,
            hex(seed),
        );
    }
}

/// The Go program.
pub(crate) struct Oracle {
    process: Child,
    questions: Option<BufWriter<ChildStdin>>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    pub(crate) fn start() -> Self {
        let assets = Assets::oracle().expect("the oracle builds");
        let mut process = Command::new(assets.program("oracle"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        Self {
            questions: process.stdin.take().map(BufWriter::new),
            answers: BufReader::new(process.stdout.take().expect("piped")),
            process,
        }
    }

    /// Its answers, in the order of the questions.
    pub(crate) fn ask(&mut self, questions: Vec<Value>) -> Vec<Answer> {
        let count = questions.len();
        let writer = self.questions.as_mut().expect("open until dropped");
        std::thread::scope(|scope| {
            // Beside the reading: either pipe can be full while the other waits.
            scope.spawn(move || {
                for question in &questions {
                    writeln!(writer, "{question}").expect("the oracle listens");
                }
                writer.flush().expect("the oracle listens");
            });
            let mut line = String::new();
            let mut answer = || {
                line.clear();
                self.answers.read_line(&mut line).expect("an answer");
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
            };
            (0..count).map(|_| answer()).collect()
        })
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends at the end of its questions.
        self.questions = None;
        let _ = self.process.wait();
    }
}

fn seed() -> [u8; 32] {
    let Ok(text) = std::env::var("HEADSTART_SEED") else {
        return random();
    };
    let mut seed = [0; 32];
    assert_eq!(text.len(), 64, "HEADSTART_SEED has 64 hexadecimal digits");
    for (at, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal digits");
    }
    seed
}

/// std seeds each of these from the system.
fn random() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let mut random = [0; 32];
    for chunk in random.chunks_exact_mut(8) {
        chunk.copy_from_slice(&RandomState::new().hash_one(0).to_ne_bytes());
    }
    random
}

fn hex(seed: &[u8; 32]) -> String {
    seed.iter().map(|byte| format!("{byte:02x}")).collect()
}
