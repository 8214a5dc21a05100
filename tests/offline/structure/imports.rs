//! The imports between the files of a crate. A file imports the file that defines what it uses; a parent that only passes
//! on what its children define (`pub use`) imports nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// One file as a module.
struct Module<'a> {
    path: &'a str,
    /// The text without comments and tests.
    code: String,
    /// The modules that it declares.
    children: Vec<String>,
    /// Its imports: path, name here, and whether it is passed on.
    uses: Vec<(String, String, bool)>,
}

type Modules<'a> = BTreeMap<String, Module<'a>>;

/// Returns the circles of files, each as the paths of its files.
pub(super) fn circles(sources: &[Source]) -> Vec<String> {
    let modules: Modules<'_> = sources
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (module_of(&source.path), Module::new(source)))
        .collect();
    let edges: BTreeMap<&str, BTreeSet<String>> = modules
        .iter()
        .map(|(name, module)| (name.as_str(), imports(&modules, name, module)))
        .collect();
    let reaches: BTreeMap<&str, BTreeSet<&str>> = edges
        .keys()
        .map(|name| (*name, reachable(&edges, name)))
        .collect();
    let mut circles = BTreeSet::new();
    for (name, reached) in &reaches {
        let back = |other: &&&str| reaches[**other].contains(name);
        let mut circle: Vec<&str> = reached
            .iter()
            .filter(back)
            .map(|n| modules[*n].path)
            .collect();
        circle.sort_unstable();
        if !circle.is_empty() {
            circles.insert(circle.join(", "));
        }
    }
    circles.into_iter().collect()
}

/// Returns the name of the module of a file: `a::b` of `src/a/b.rs`.
fn module_of(path: &str) -> String {
    let path = path.strip_prefix("core/src/").or(path.strip_prefix("src/"));
    let path = path.map_or_else(String::new, str::to_owned);
    let path = path.strip_suffix(".rs").unwrap_or(&path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" => String::new(),
        path => path.replace('/', "::"),
    }
}

impl<'a> Module<'a> {
    fn new(source: &'a Source) -> Self {
        let mut module = Self {
            path: &source.path,
            code: String::new(),
            children: Vec::new(),
            uses: Vec::new(),
        };
        let mut lines = source.code_lines().map(|(_, line)| line);
        while let Some(line) = lines.next() {
            let (public, words) = without_visibility(line.trim());
            if let Some(child) = words.strip_prefix("mod ").and_then(|w| w.strip_suffix(';')) {
                module.children.push(child.to_owned());
            } else if let Some(begin) = words.strip_prefix("use ") {
                let mut statement = begin.to_owned();
                while !statement.ends_with(';') {
                    statement += lines.next().expect("a semicolon").trim();
                }
                let imported = leaves(statement.trim_end_matches(';'));
                module.uses.extend(imported.into_iter().map(|leaf| {
                    let (path, name) = match leaf.split_once(" as ") {
                        Some((path, name)) => (path.to_owned(), name.to_owned()),
                        None => {
                            let name = leaf.rsplit("::").next().unwrap_or_default().to_owned();
                            (leaf, name)
                        }
                    };
                    (path, name, public)
                }));
            } else {
                module.code += line;
                module.code.push('\n');
            }
        }
        module
    }

    fn defines(&self, item: &str) -> bool {
        let kinds = ["struct", "enum", "fn", "const", "static", "type", "trait"];
        kinds
            .iter()
            .any(|kind| !words_after(&self.code, &format!("{kind} ")).all(|word| word != item))
    }
}

fn without_visibility(line: &str) -> (bool, &str) {
    let Some(rest) = line.strip_prefix("pub") else {
        return (false, line);
    };
    let rest = match rest.strip_prefix('(') {
        Some(inner) => inner.split_once(')').map_or(rest, |(_, rest)| rest),
        None => rest,
    };
    (true, rest.trim_start())
}

/// Returns the words that follow a prefix.
fn words_after<'t>(text: &'t str, prefix: &str) -> impl Iterator<Item = &'t str> {
    let found = text
        .match_indices(prefix)
        .map(|(at, prefix)| at + prefix.len());
    let starts: Vec<usize> = found.collect();
    starts.into_iter().map(|start| word(&text[start..]))
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// Returns the paths of `a::{b, c::{d, e}}`.
fn leaves(path: &str) -> Vec<String> {
    let Some((prefix, list)) = path.split_once('{') else {
        return vec![path.trim().to_owned()];
    };
    let list = list.trim_end().strip_suffix('}').unwrap_or(list);
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&list[start..]);
    let items = items.into_iter().filter(|item| !item.trim().is_empty());
    items
        .flat_map(leaves)
        .map(|leaf| match leaf.as_str() {
            "self" => prefix.trim_end_matches("::").to_owned(),
            leaf => format!("{prefix}{leaf}"),
        })
        .collect()
}

/// Returns the modules that a module imports.
fn imports(modules: &Modules<'_>, name: &str, module: &Module<'_>) -> BTreeSet<String> {
    let mut imported = BTreeSet::new();
    let mut add = |path: &str| {
        let target = resolve(modules, name, path, 0);
        imported.extend(target.filter(|target| target != name && !target.is_empty()));
    };
    for (path, used_as, public) in &module.uses {
        if !public || contains_word(&module.code, used_as) {
            add(path);
        }
    }
    for child in &module.children {
        for item in words_after(&module.code, &format!("{child}::")) {
            add(&format!("{child}::{item}"));
        }
    }
    for root in ["super", "crate"] {
        let path = format!("{root}::");
        for (start, _) in module.code.match_indices(&path) {
            let before = &module.code[..start];
            let part_of_name =
                before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            // `pub(in crate::a)` says who may import.
            if !part_of_name && !before.ends_with("in ") {
                let rest = &module.code[start..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
                add(rest[..end.unwrap_or(rest.len())].trim_end_matches(':'));
            }
        }
    }
    imported
}

fn contains_word(text: &str, wanted: &str) -> bool {
    text.match_indices(wanted).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let starts = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        starts && word(&text[at..]) == wanted
    })
}

/// Returns the module that defines the item of a path; `None` for another crate.
fn resolve(modules: &Modules<'_>, from: &str, path: &str, depth: usize) -> Option<String> {
    let mut here: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
    let mut parts: Vec<&str> = path.split("::").collect();
    match parts[0] {
        "crate" => {
            here.clear();
            parts.remove(0);
        }
        "self" => {
            parts.remove(0);
        }
        "super" => {
            while parts.first() == Some(&"super") {
                here.pop();
                parts.remove(0);
            }
        }
        first => {
            let child = here.iter().copied().chain([first]).collect::<Vec<_>>();
            if !modules.contains_key(&child.join("::")) {
                return None;
            }
        }
    }
    here.extend(parts);
    if modules.contains_key(&here.join("::")) {
        return Some(here.join("::"));
    }
    for length in (0..here.len()).rev() {
        let owner = here[..length].join("::");
        let Some(module) = modules.get(&owner) else {
            continue;
        };
        let item = here[length];
        let passed_on = module
            .uses
            .iter()
            .find(|(_, name, public)| *public && name == item);
        return match passed_on {
            Some((path, ..)) if !module.defines(item) && depth < 8 => {
                resolve(modules, &owner, path, depth + 1)
            }
            _ => Some(owner),
        };
    }
    None
}

/// Returns the modules that imports lead to.
fn reachable<'e>(edges: &'e BTreeMap<&str, BTreeSet<String>>, start: &str) -> BTreeSet<&'e str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(name) = next.pop() {
        for target in edges.get(name).into_iter().flatten() {
            if reached.insert(target.as_str()) {
                next.push(target);
            }
        }
    }
    reached
}
