//! Where the programs are that a launch needs.

use std::path::{Path, PathBuf};

use super::BrowserError;

/// Debian's real binary: the one on PATH is a shell script around it.
const DEBIAN_BINARY: &str = "/usr/lib/chromium/chromium";
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Looked in besides PATH, which a service may have cut short.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/bin", "/bin"];

/// The Chromium binary of this machine: Debian's, or the first of `chromium`, `chromium-browser`,
/// `google-chrome` and `google-chrome-stable` on PATH.
///
/// # Errors
/// [`BrowserError::NotFound`], with the command that installs it.
pub fn find_chromium() -> Result<PathBuf, BrowserError> {
    let debian = PathBuf::from(DEBIAN_BINARY);
    if is_executable(&debian) {
        return Ok(debian);
    }
    NAMES.iter().find_map(|name| on_path(name)).ok_or_else(|| BrowserError::NotFound {
        looked: format!("looked for {DEBIAN_BINARY} and, on PATH, {}", NAMES.join(", ")),
    })
}

/// The program that ties a child's life to its parent's.
pub(crate) fn find_setpriv() -> Result<PathBuf, BrowserError> {
    on_path("setpriv").ok_or(BrowserError::SetprivNotFound)
}

/// Refuses a path that is no executable file.
pub(crate) fn check_executable(path: &Path) -> Result<(), BrowserError> {
    if is_executable(path) {
        return Ok(());
    }
    Err(BrowserError::NotFound { looked: format!("{} is not an executable file", path.display()) })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
