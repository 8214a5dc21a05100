//! The decisions: what a Deployment needs, which nodes it could land on, the pods that pull for it, and
//! what their status means.
//!
//! Everything here is a pure function over Kubernetes' own types. Nothing waits, nothing talks to a
//! cluster; a test fails when this room names the client or the runtime.

pub mod affinity;
pub mod annotation;
pub mod contract;
pub mod hold;
pub mod image;
pub mod labels;
pub mod limits;
pub mod node;
pub mod outcome;
pub mod placement;
pub mod plan;
pub mod pod;
mod quantity;
pub mod selector;
pub mod toleration;
pub mod workload;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn sources(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap();
        let (directories, files): (Vec<_>, Vec<_>) = entries
            .map(|entry| entry.unwrap().path())
            .partition(|path| path.is_dir());
        let below = directories.iter().flat_map(|directory| sources(directory));
        files.into_iter().chain(below).collect()
    }

    #[test]
    fn nothing_here_names_the_client_or_the_runtime() {
        let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain"));
        assert!(files.len() > 10, "{files:?}");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in ["kube", "tokio"] {
                // Split, or this test would find itself.
                for way in [format!("{name}{}", "::"), format!("use {name}{}", ";")] {
                    let mut lines = text.lines().enumerate();
                    let found = lines.find(|(_, line)| names(line, &way));
                    assert_eq!(found, None, "{} names {name}", file.display());
                }
            }
        }
    }

    /// As a path of its own, not as the end of another name.
    fn names(line: &str, way: &str) -> bool {
        line.match_indices(way).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
        })
    }
}
