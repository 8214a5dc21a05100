//! `headstart certs`: a CA and a server certificate for development, as files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::clock::Clock;
use crate::tls::Ca;

/// Long, because nothing rotates the certificates of a development setup.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The longest lifetime that all clients accept.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// The options of `headstart certs`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Directory to write ca.pem, ca.key, tls.pem and tls.key to; an existing CA there is used again
    #[arg(long, default_value = "certs", value_name = "DIRECTORY")]
    dir: PathBuf,

    /// DNS names and IP addresses to make the server certificate out to (comma-separated)
    #[arg(
        long = "name",
        value_delimiter = ',',
        default_value = "headstart.headstart.svc,localhost,127.0.0.1",
        value_name = "NAME"
    )]
    names: Vec<String>,
}

/// Writes the files.
pub fn run(options: Options) -> Result<()> {
    let Options { dir, names } = options;
    fs::create_dir_all(&dir)
        .with_context(|| format!("cannot make the directory {}", dir.display()))?;
    let clock = Clock::system();
    let ca = ca(&dir, &clock)?;
    let leaf = ca
        .issue(&names, clock.now(), LEAF_LIFETIME)
        .context("--name takes DNS names and IP addresses")?;
    write(&dir.join("tls.pem"), &leaf.cert, 0o644)?;
    write(&dir.join("tls.key"), &leaf.key, 0o600)?;
    println!(
        "{}: server certificate for {}, until {}",
        dir.join("tls.pem").display(),
        names.join(", "),
        leaf.validity.until
    );
    println!("{}: its CA, for caBundle", dir.join("ca.pem").display());
    Ok(())
}

fn ca(dir: &Path, clock: &Clock) -> Result<Ca> {
    let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    match (cert.exists(), key.exists()) {
        (true, true) => {
            let read = |path: &Path| {
                fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
            };
            Ca::from_pem(read(&cert)?, read(&key)?).with_context(|| {
                format!(
                    "{} and {} are no CA; remove both",
                    cert.display(),
                    key.display()
                )
            })
        }
        (false, false) => {
            let ca = Ca::generate(clock.now(), CA_LIFETIME)?;
            write(&cert, ca.cert(), 0o644)?;
            write(&key, ca.key(), 0o600)?;
            Ok(ca)
        }
        _ => bail!(
            "{} has only one of ca.pem and ca.key; restore the other or remove it",
            dir.display()
        ),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_readme_tells_the_lifetimes() {
        let readme = include_str!("../../certs/README.md");
        let days = |lifetime: Duration| format!("{} days", lifetime.as_secs() / 86_400);
        for (file, lifetime) in [("`ca.pem`", CA_LIFETIME), ("`tls.pem`", LEAF_LIFETIME)] {
            let row = readme.lines().find(|line| line.contains(file)).unwrap();
            assert!(row.contains(&days(lifetime)), "{row}");
        }
    }

    #[test]
    fn the_ca_is_kept_and_keys_are_private() {
        let dir = std::env::temp_dir().join(format!("headstart-certs-{}", std::process::id()));
        let options = Options {
            dir: dir.clone(),
            names: vec!["localhost".into()],
        };
        run(options.clone()).unwrap();
        let first = fs::read_to_string(dir.join("ca.pem")).unwrap();
        run(options.clone()).unwrap();
        assert_eq!(fs::read_to_string(dir.join("ca.pem")).unwrap(), first);
        for key in ["ca.key", "tls.key"] {
            assert_eq!(
                fs::metadata(dir.join(key)).unwrap().permissions().mode() & 0o777,
                0o600,
                "{key}"
            );
        }
        fs::remove_file(dir.join("ca.key")).unwrap();
        let half = run(options).unwrap_err().to_string();
        fs::remove_dir_all(&dir).unwrap();
        assert!(half.contains("only one of"), "{half}");
    }
}
