use super::*;
use clap::Parser;
use std::time::Duration;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

fn parse(flags: &[&str]) -> Result<Config, clap::Error> {
    Cli::try_parse_from(std::iter::once(&"serve").chain(flags)).map(|cli| cli.config)
}

#[test]
fn the_defaults_parse() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.pods.retain, Duration::from_secs(600));
    assert_eq!(config.pods.form.pull_method.forced(), None);
}

#[test]
fn the_default_image_is_the_one_that_the_manifests_install() {
    let manifest = include_str!("../../manifests/kustomization.yaml");
    let (name, tag) = DEFAULT_NOOP_IMAGE.rsplit_once(':').unwrap();
    assert!(manifest.contains(&format!("newName: {name}\n")), "{name}");
    assert!(manifest.contains(&format!("newTag: {tag}\n")), "{tag}");
}

#[test]
fn lifetimes_that_could_not_be_kept_are_refused() {
    let lifetimes = |ca: &str, leaf: &str| {
        parse(&["--ca-lifetime", ca, "--leaf-lifetime", leaf])
            .unwrap()
            .tls
            .lifetimes()
    };
    assert!(parse(&[]).unwrap().tls.lifetimes().is_ok());
    assert!(lifetimes("16s", "4s").is_ok());
    assert!(lifetimes("15s", "4s").unwrap_err().contains("4 times"));
    assert!(lifetimes("1h", "1s").unwrap_err().contains("at least 4s"));
    assert!(lifetimes("2000000h", "1h").unwrap_err().contains("at most"));
}

#[test]
fn bad_values_say_what_is_wanted() {
    for (flags, phrase) in [
        (["--retain", "10 bananas"], "want a duration such as"),
        (
            ["--retain=-5m", "--max-writes=1"],
            "want a duration such as",
        ),
        (["--lease-duration", "500ms"], "from 2s to 60s"),
        (["--lease-duration", "61s"], "from 2s to 60s"),
        (["--pod-deadline", "3h"], "at most 2h"),
        (["--max-writes", "0"], "1..=1000"),
        (["--pull-method", "magic"], "image-volume"),
        (["--pin", "hope"], "affinity"),
        (["--startup-taints", "a:NoSchedule"], "no key of a taint"),
        (["--max-image-size", "1k"], "no size; want one"),
        (["--pod-labels", "team"], "want such pairs"),
        (
            ["--pod-labels", "headstart.dev/deployment=web"],
            "headstart sets headstart.dev/deployment itself",
        ),
        (["--pod-annotations", "a/b/c=d"], "\"a/b/c\" is no key"),
        (["--run-as-user", "0"], "0 is root"),
        (["--pods-per-node", "0"], "1..=255"),
        (["--refresh", "5s"], "at least 1m"),
        (["--trust-node-images", "maybe"], "true, false"),
        (["--tls-cert", "a.pem"], "--tls-key"),
    ] {
        let error = parse(&flags).err();
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains(phrase), "{flags:?}: {message}");
    }
}
