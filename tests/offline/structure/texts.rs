//! Names that are gone, and the way comments speak.

use super::source::Source;

/// Names of earlier versions: metaphors, or words that mean something else in Kubernetes. The field's word is in use now.
const RETIRED: [&str; 44] = [
    "Desk",
    "Ledger",
    "ledger",
    "Lane",
    "Spot",
    "Spots",
    "Verdict",
    "Standards",
    "Machine",
    "Lean",
    "Keeper",
    "keeper",
    "Trusted",
    "Shell",
    "Retired",
    "Reporter",
    "CountCalls",
    "Counting",
    "Candidate",
    "Registration",
    "Surroundings",
    "Outcome",
    "PodOutcome",
    "Malformed",
    "Unfit",
    "Ineligible",
    "Situation",
    "Placement",
    "Stock",
    "Admission",
    "Ending",
    "Revision",
    "Received",
    "Watched",
    "Stage",
    "Wake",
    "Swept",
    "Feed",
    "Whereabouts",
    "whereabouts",
    "Puller",
    "puller",
    "Hints",
    "Hint",
];

/// The words with which a comment may not begin. A comment says what the code does: "Returns whether", not "Whether".
const OPENINGS: [&str; 4] = ["Whether ", "Whoever ", "Who ", "It is "];

/// Words that hide the subject. Code and components have names.
const SUBJECTS: [&str; 5] = ["Whoever", "whoever", "somebody", "whomever", "Somebody"];

/// Returns the places where a retired name stands as a word.
pub(super) fn retired_names(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            if RETIRED.contains(&word) {
                found.push(format!("{}:{}: {word}", source.path, index + 1));
            }
        }
    }
    found
}

/// Returns the comments that begin or speak in a banned way.
pub(super) fn banned(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_paragraph = false;
    for (index, line) in source.text.lines().enumerate() {
        let line = line.trim_start();
        let documentation = ["///", "//!"]
            .iter()
            .find_map(|mark| line.strip_prefix(mark));
        let Some(text) = documentation
            .or(line.strip_prefix("//"))
            .map(str::trim_start)
        else {
            in_paragraph = false;
            continue;
        };
        let opens = documentation.is_some()
            && !in_paragraph
            && OPENINGS.iter().any(|opening| text.starts_with(opening));
        in_paragraph = documentation.is_some() && !text.is_empty();
        let mut words = text.split(|c: char| !c.is_alphabetic());
        let hides = words.any(|word| SUBJECTS.contains(&word));
        if opens || hides {
            found.push(format!("{}:{}: {text}", source.path, index + 1));
        }
    }
    found
}
