//! The no-op program of prefetch pods: it exits at once. It also copies the binary to where images without a no-op can run it.

use std::path::Path;

use anyhow::{Context, Result};

/// Copies this binary to `target`, executable by everyone.
pub fn copy_self(target: &Path) -> Result<()> {
    let own = std::env::current_exe().context("cannot find our own binary")?;
    std::fs::copy(&own, target)
        .with_context(|| format!("cannot copy {} to {}", own.display(), target.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_the_binary_and_can_be_executed() {
        use std::os::unix::fs::PermissionsExt;
        let target = std::env::temp_dir().join(format!("headstart-copy-{}", std::process::id()));
        copy_self(&target).unwrap();
        let copy = std::fs::metadata(&target).unwrap();
        let own = std::fs::metadata(std::env::current_exe().unwrap()).unwrap();
        std::fs::remove_file(&target).unwrap();
        assert_eq!(copy.len(), own.len());
        assert_eq!(copy.permissions().mode() & 0o111, 0o111);
    }

    #[test]
    fn a_target_that_cannot_be_written_is_named() {
        let error = copy_self(Path::new("/nonexistent/headstart")).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/headstart"),
            "{error}"
        );
    }
}
