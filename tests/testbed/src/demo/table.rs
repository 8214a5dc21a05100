//! The table at the end.

use super::rollout::Rollout;

/// A column per rollout, a line per figure.
pub(super) fn comparison(rollouts: &[Rollout], nodes: &[String]) -> String {
    let figures = |name: String, figure: &dyn Fn(&Rollout) -> String| {
        (name, rollouts.iter().map(figure).collect::<Vec<_>>())
    };
    let mut lines = vec![
        figures(String::new(), &|rollout| rollout.title.to_owned()),
        figures("time to complete".into(), &|rollout| {
            format!("{:.1} s", rollout.complete.as_secs_f64())
        }),
    ];
    for node in nodes {
        lines.push(figures(
            format!("{node} begins to pull after"),
            &|rollout| {
                rollout
                    .pull_starts
                    .get(node)
                    .map_or("-".into(), |after| format!("{after:.1} s"))
            },
        ));
    }
    lines.push(figures("pods that waited for a pull".into(), &|rollout| {
        format!("{} of {}", rollout.waited, rollout.pods)
    }));
    let mut table = String::new();
    for (name, values) in lines {
        table += &format!("{name:<30}");
        for value in values {
            table += &format!("{value:>20}");
        }
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_rollout_has_a_column_and_a_node_that_never_pulled_a_dash() {
        let rollout = |title, seconds, node: &str| Rollout {
            title,
            complete: Duration::from_secs(seconds),
            pull_starts: [(node.to_owned(), 0.25)].into(),
            pods: 3,
            waited: 1,
        };
        let rollouts = [
            rollout("without", 30, "node-1"),
            rollout("with", 10, "node-2"),
        ];
        let table = comparison(&rollouts, &["node-1".into(), "node-2".into()]);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            ["time", "to", "complete", "30.0", "s", "10.0", "s"]
        );
        assert!(
            lines[2].ends_with(&["0.2", "s", "-"]) || lines[2].ends_with(&["0.3", "s", "-"]),
            "{table}"
        );
        assert!(lines[4].ends_with(&["1", "of", "3"]), "{table}");
    }
}
