//! The rules for the sources: imports go one way, files and structs stay small, core depends on no I/O, and texts are plain.

mod imports;
mod source;
mod texts;

use source::{Source, sources};

/// Longest file, and longest without its tests.
const MAX_LINES: (usize, usize) = (400, 300);
/// The most fields of a struct that are visible outside of its file.
const MAX_FIELDS: usize = 12;
/// The crates that core may depend on: Kubernetes' types, and data.
const CORE_DEPENDENCIES: [&str; 6] = [
    "k8s-openapi",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    // Only of the feature `testing`.
    "json-patch",
];

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn no_two_files_import_each_other() {
    for root in ["core/src", "src"] {
        let circles = imports::circles(&sources(root));
        assert_none("files that import each other in a circle", &circles);
    }
}

#[test]
fn imports_that_go_in_a_circle_are_found() {
    let file = |path: &str, text: &str| Source::new(path.into(), text.into());
    let circle = [
        file("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;\n"),
        file("src/a/b.rs", "use super::c::C;\npub struct B(C);\n"),
        file("src/a/c.rs", "use crate::a::B;\npub struct C(Box<B>);\n"),
    ];
    assert_eq!(imports::circles(&circle), ["src/a/b.rs, src/a/c.rs"]);
    let straight = [
        file("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;\n"),
        file(
            "a/b.rs",
            "use super::c::{C, D as E};\npub struct B(C, E);\n",
        ),
        file("src/a/c.rs", "pub struct C;\npub struct D;\n"),
    ];
    assert!(imports::circles(&straight).is_empty());
}

#[test]
fn no_file_is_long() {
    let too_long = |source: &Source| {
        let (all, code) = (source.lines(), source.lines_without_tests());
        let limit = if source.is_test() {
            MAX_LINES.0
        } else {
            MAX_LINES.1
        };
        let found = all > MAX_LINES.0 || code > limit;
        found.then(|| format!("{}: {all} lines, {code} without tests", source.path))
    };
    let all: Vec<Source> = ["core/src", "src"].into_iter().flat_map(sources).collect();
    let found: Vec<String> = all.iter().filter_map(too_long).collect();
    assert_none("files that are too long", &found);
}

#[test]
fn no_struct_shares_many_fields() {
    let all = ["core/src", "src"].into_iter().flat_map(sources);
    let found: Vec<String> = all
        .flat_map(|source| source.wide_structs(MAX_FIELDS))
        .collect();
    assert_none("structs with too many fields that other files see", &found);
}

#[test]
fn core_depends_on_no_io() {
    let manifest = source::read("core/Cargo.toml");
    let dependencies = manifest.split("[dependencies]\n").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let names = dependencies.lines().filter_map(|line| {
        let (name, _) = line.split_once(['.', ' ', '='])?;
        (!name.is_empty() && !name.starts_with('#')).then_some(name)
    });
    let names: Vec<&str> = names.collect();
    assert!(names.contains(&"k8s-openapi"), "{names:?}");
    let other: Vec<String> = names
        .into_iter()
        .filter(|name| !CORE_DEPENDENCIES.contains(name))
        .map(str::to_owned)
        .collect();
    assert_none(
        "dependencies of core that are not known to be free of I/O",
        &other,
    );
}

#[test]
fn retired_names_do_not_come_back() {
    let all = ["core/src", "src", "benches"].into_iter().flat_map(sources);
    let found: Vec<String> = all
        .flat_map(|source| texts::retired_names(&source))
        .collect();
    assert_none("retired names", &found);
}

#[test]
fn comments_are_plain() {
    let all = ["core/src", "src", "benches", "tests"]
        .into_iter()
        .flat_map(sources);
    let found: Vec<String> = all.flat_map(|source| texts::banned(&source)).collect();
    assert_none("comments that begin or speak in a banned way", &found);
}
