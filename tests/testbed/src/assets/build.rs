//! Runs the compilers: under a lock, only where something changed, with progress to see.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

use super::recipes::{Recipe, Source};
use crate::progress::Progress;

/// The number of lines of a compiler's output that an error shows.
const SHOWN_LINES: usize = 20;

/// Builds the programs that are missing or outdated.
pub(super) fn ensure(bin: &Path, recipes: Vec<&Recipe>) -> Result<()> {
    // Tests of one process would otherwise tell each other that they wait for another process.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    fs::create_dir_all(bin).with_context(|| format!("create {}", bin.display()))?;
    let _lock = lock(
        &bin.join(".lock"),
        "another process that builds the testbed's programs",
    )?;
    let mut outdated = Vec::new();
    for recipe in recipes {
        let stamp = stamp(recipe)?;
        if fs::read_to_string(stamp_file(bin, recipe)).ok().as_deref() != Some(&*stamp) {
            outdated.push((recipe, stamp));
        }
    }
    if outdated.is_empty() {
        return Ok(());
    }
    require_compilers(outdated.iter().any(|(recipe, _)| recipe.cgo))?;
    let count = outdated.len();
    for (index, (recipe, stamp)) in outdated.into_iter().enumerate() {
        let takes = recipe
            .takes
            .map(|takes| format!(", {takes} the first time"))
            .unwrap_or_default();
        let progress = Progress::start(format!(
            "building {} ({} of {count}{takes})",
            recipe.name,
            index + 1
        ));
        build(bin, recipe, progress).with_context(|| format!("build {}", recipe.name))?;
        fs::write(stamp_file(bin, recipe), stamp)?;
    }
    let kubectl = bin.join("kubectl");
    if fs::symlink_metadata(&kubectl).is_err() {
        std::os::unix::fs::symlink("kubernetes", &kubectl)?;
    }
    Ok(())
}

/// Waits for a lock, and says so.
pub(crate) fn lock(path: &Path, holder: &str) -> Result<File> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    let progress = Progress::start(format!("waiting for {holder}"));
    file.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    progress.done();
    Ok(file)
}

fn stamp_file(bin: &Path, recipe: &Recipe) -> PathBuf {
    bin.join(format!(".{}.stamp", recipe.name))
}

/// Returns a hash of the sources of a program: it is built again when this changes.
fn stamp(recipe: &Recipe) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut hasher = DefaultHasher::new();
    recipe.hash(&mut hasher);
    match recipe.source {
        Source::Module(..) => {}
        Source::C(path) => fs::read(root.join(path))?.hash(&mut hasher),
        Source::Own(package) => {
            // go.mod and go.sum, and the package: ours import none of each other.
            for directory in [root.join("go"), root.join("go").join(package)] {
                hash_files(&directory, &mut hasher)
                    .with_context(|| format!("read {}", directory.display()))?;
            }
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn hash_files(directory: &Path, hasher: &mut DefaultHasher) -> std::io::Result<()> {
    let mut files = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files.iter().filter(|file| file.path().is_file()) {
        file.file_name().hash(hasher);
        fs::read(file.path())?.hash(hasher);
    }
    Ok(())
}

fn require_compilers(c: bool) -> Result<()> {
    let found = |program: &str, argument: &str| {
        Command::new(program)
            .arg(argument)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !found("go", "version") {
        bail!(
            "the testbed's clusters are built from Go modules, and there is no `go` on PATH: \
             install Go 1.26 or newer (https://go.dev/dl)"
        );
    }
    if c && !found("gcc", "--version") {
        bail!(
            "real nodes need `gcc` and a static C library: install them (Debian: gcc libc6-dev; Fedora: gcc glibc-static)"
        );
    }
    Ok(())
}

fn build(bin: &Path, recipe: &Recipe, progress: Progress) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Linked beside and then renamed: a running program's file cannot be written.
    let fresh = bin.join(".fresh");
    fs::create_dir_all(&fresh)?;
    let output = fresh.join(recipe.name);
    let mut command = match recipe.source {
        Source::C(path) => {
            let mut gcc = Command::new("gcc");
            gcc.args(["-Os", "-static", "-s", "-o"])
                .arg(&output)
                .arg(root.join(path));
            gcc
        }
        Source::Own(package) => {
            let mut go = go("build", recipe);
            go.current_dir(root.join("go"))
                .arg("-o")
                .arg(&output)
                .arg(package);
            go
        }
        Source::Module(package, version) => {
            let mut go = go("install", recipe);
            go.env("GOBIN", &fresh).arg(format!("{package}@{version}"));
            go
        }
    };
    run(&mut command, progress)?;
    fs::rename(&output, bin.join(recipe.name)).with_context(|| {
        format!(
            "{} was built but is not at {}",
            recipe.name,
            output.display()
        )
    })
}

fn go(verb: &str, recipe: &Recipe) -> Command {
    let mut go = Command::new("go");
    // The machine's own toolchain, and no workspace of the user's; -v names each package that is compiled.
    go.env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" });
    go.args([
        verb,
        "-v",
        "-trimpath",
        "-buildvcs=false",
        "-tags",
        recipe.tags,
        "-ldflags",
        recipe.ldflags,
    ]);
    go
}

/// Runs a compiler to its end; its last lines are the error.
pub(crate) fn run(command: &mut Command, mut progress: Progress) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    let mut last = VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        for (count, line) in BufReader::new(stderr).lines().enumerate() {
            let line = line?;
            progress.detail(&format!("{}: {}", count + 1, line.trim()));
            if last.len() == SHOWN_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!(
            "{program} failed ({status}):\n{}",
            Vec::from(last).join("\n")
        );
    }
    progress.done();
    Ok(())
}
