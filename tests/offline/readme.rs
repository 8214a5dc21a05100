//! The README agrees with the program.

use std::fmt::Write as _;

use clap::{Args as _, Command};
use headstart::Config;

/// The options of `headstart serve` as one table for each purpose, in the order of `--help`.
fn options() -> String {
    let command = Config::augment_args(Command::new("serve"));
    let mut tables = String::new();
    let mut heading = None;
    for argument in command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some())
    {
        if argument.get_help_heading() != heading {
            heading = argument.get_help_heading();
            let gap = if tables.is_empty() { "" } else { "\n" };
            let heading = heading.expect("each option has a purpose");
            let _ = writeln!(
                tables,
                "{gap}### {heading}\n\n| option | default | |\n|---|---|---|"
            );
        }
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let default = if defaults.iter().all(|value| value.is_empty()) {
            String::new()
        } else {
            format!("`{}`", defaults.join(","))
        };
        let flag = argument.get_long().unwrap_or_default();
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let help = help.replace('|', "\\|");
        let _ = writeln!(tables, "| `--{flag}` | {default} | {help} |");
    }
    tables
}

#[test]
fn the_readme_lists_the_options_of_serve_as_help_does() {
    let readme = include_str!("../../README.md");
    let expected = options();
    assert!(expected.lines().count() > 10, "{expected}");
    assert!(
        readme.contains(&expected),
        "put these tables into README.md, under \"Options\":\n\n{expected}"
    );
}

#[test]
fn every_option_can_be_set_by_the_environment_as_the_readme_says() {
    let command = Config::augment_args(Command::new("serve"));
    // What Kubernetes or the field has a name for already.
    let known = ["POD_NAMESPACE", "POD_NAME", "KUBECONFIG"];
    for argument in command
        .get_arguments()
        .filter(|argument| argument.get_long().is_some())
    {
        let flag = argument.get_long().unwrap_or_default();
        let own = format!("HEADSTART_{}", flag.to_uppercase().replace('-', "_"));
        let variable = argument
            .get_env()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        assert!(
            variable == own || known.contains(&variable.as_str()),
            "--{flag} is set by {variable:?}"
        );
    }
}
