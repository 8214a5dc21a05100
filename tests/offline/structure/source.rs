//! One source file.

use std::fs;
use std::path::Path;

pub(super) struct Source {
    /// Its path, from the root of the sources.
    pub(super) path: String,
    pub(super) text: String,
}

/// Reads a file of the repository.
pub(super) fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns all Rust files below a directory of the repository.
pub(super) fn sources(root: &str) -> Vec<Source> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut found = Vec::new();
    collect(&directory, &mut found);
    let relative = |path: &str| {
        let path = Path::new(path).strip_prefix(env!("CARGO_MANIFEST_DIR"));
        path.expect("below the manifest").display().to_string()
    };
    found.sort();
    let sources = found.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("a source file");
        Source::new(relative(&path), text)
    });
    sources.collect()
}

fn collect(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.display().to_string());
        }
    }
}

impl Source {
    pub(super) fn new(path: String, text: String) -> Self {
        Self { path, text }
    }

    /// Returns whether the file holds nothing but tests, or what only tests use.
    pub(super) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| ["tests", "tests.rs", "testing.rs"].contains(&part))
    }

    pub(super) fn lines(&self) -> usize {
        self.text.lines().count()
    }

    /// Returns the text before the tests.
    pub(super) fn code(&self) -> &str {
        let tests = self.text.find("#[cfg(test)]\nmod tests {");
        &self.text[..tests.unwrap_or(self.text.len())]
    }

    pub(super) fn lines_without_tests(&self) -> usize {
        self.code().lines().count()
    }

    /// Returns the lines of the code without comments, with their numbers.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code().lines().enumerate();
        lines.map(|(index, line)| {
            let comment = line.find("//");
            (index + 1, &line[..comment.unwrap_or(line.len())])
        })
    }

    /// Returns the structs with more than so many fields that other files see.
    pub(super) fn wide_structs(&self, most: usize) -> Vec<String> {
        let mut found = Vec::new();
        let (mut name, mut fields) = (None, 0);
        for (number, line) in self.code_lines() {
            if let Some((_, rest)) = line.split_once("struct ")
                && line.trim_end().ends_with('{')
            {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                name = Some((number, rest[..end.unwrap_or(rest.len())].to_owned()));
                fields = 0;
            } else if line.starts_with('}') {
                if let Some((number, name)) = name.take().filter(|_| fields > most) {
                    found.push(format!("{}:{number}: {name} has {fields}", self.path));
                }
            } else if line.starts_with("    pub") && line.contains(": ") && !line.contains("fn ") {
                fields += 1;
            }
        }
        found
    }
}
