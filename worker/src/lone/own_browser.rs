//! A browser for one command: its profiles lie in a folder that only this user can read, and go with it.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::browser::{Browser, BrowserConfig, SharedBrowser, find_chromium};
use crate::config::LoneArgs;

/// The browser.
pub(crate) struct OwnBrowser {
    shared: SharedBrowser,
    /// The only one that is ever launched: another would not be the one that the person looks at.
    pub(crate) browser: Arc<Browser>,
}

impl OwnBrowser {
    /// Launches it.
    ///
    /// # Errors
    /// One line that names what is missing.
    pub(crate) async fn launch(args: &LoneArgs, headless: bool) -> anyhow::Result<Self> {
        let executable = match &args.chrome {
            Some(path) => path.clone(),
            None => find_chromium()?,
        };
        let user = rustix::process::geteuid();
        let folder = std::env::temp_dir().join(format!("snapfleet-browser-{}", user.as_raw()));
        make_private(&folder, user.as_raw())?;
        let mut config = BrowserConfig::new(executable, folder);
        config.headless = headless;
        // Chromium's sandbox does not work as root.
        config.sandbox = !user.is_root();
        let shared = SharedBrowser::new(config);
        let browser = shared.acquire().await?;
        Ok(Self { shared, browser })
    }

    /// Closes it and removes its profile.
    pub(crate) async fn close(self) {
        self.shared.close().await;
    }
}

/// Makes the folder, or takes one that is ours alone: in a folder for all, somebody else may have been first.
fn make_private(folder: &PathBuf, user: u32) -> anyhow::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(folder);
    if let Err(error) = made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error).with_context(|| format!("folder {} cannot be made", folder.display()));
    }
    let is_ours = |path: &Path| {
        let found = std::fs::symlink_metadata(path)?;
        std::io::Result::Ok(found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0)
    };
    anyhow::ensure!(
        is_ours(folder).with_context(|| format!("folder {} cannot be looked at", folder.display()))?,
        "folder {} is not this user's alone: remove it, or set TMPDIR to another folder",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_others_can_use_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let (folder, user) = (root.path().join("x"), rustix::process::geteuid().as_raw());
        make_private(&folder, user).unwrap();
        make_private(&folder, user).unwrap();
        assert!(make_private(&folder, user + 1).is_err());
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
        let error = make_private(&folder, user).unwrap_err().to_string();
        assert!(error.contains("TMPDIR"), "{error}");
    }
}
