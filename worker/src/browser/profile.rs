//! Temporary profile folders: a fresh one for each launch, removed at its end; what killed workers left is swept.
//!
//! Beside each folder lies a lock file, locked for as long as its worker lives: the operating system lets go of
//! it at any death, so a folder whose lock is free has no owner, whatever became of process ids meanwhile.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const PREFIX: &str = "chromium-";
const LOCK_EXTENSION: &str = "lock";
/// Chromium's last processes may still write while the folder is removed: so often, with this pause between.
const REMOVE_TRIES: u32 = 10;
const REMOVE_PAUSE: Duration = Duration::from_millis(100);
const CREATE_TRIES: u32 = 8;

/// A profile folder and the lock that says that it is in use.
#[derive(Debug)]
pub(crate) struct Profile {
    folder: PathBuf,
    lock_path: PathBuf,
    socket_folder: Option<PathBuf>,
    _lock: File,
}

impl Profile {
    /// A new, empty folder below `parent`, which is made if it is missing.
    pub(crate) fn create(parent: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(parent)?;
        let parent = parent.canonicalize()?;
        let mut refused = io::Error::other("every lock file was taken");
        for _ in 0..CREATE_TRIES {
            let name = format!("{PREFIX}{}-{:08x}", std::process::id(), fastrand::u32(..));
            let folder = parent.join(&name);
            let lock_path = parent.join(format!("{name}.{LOCK_EXTENSION}"));
            let lock = File::create_new(&lock_path)?;
            // A sweep that came in between holds the lock or has removed the file: another name, then.
            match lock.try_lock() {
                Ok(()) if lock_path.exists() => {
                    std::fs::create_dir(&folder)?;
                    return Ok(Self { folder, lock_path, socket_folder: None, _lock: lock });
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => refused = error,
            }
        }
        Err(refused)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// To be called once the browser runs: an orderly end takes away the link to what else is to be removed.
    pub(crate) fn note_socket_folder(&mut self) {
        self.socket_folder = socket_folder(&self.folder);
    }

    /// Removes the folder, then the lock; to be called once no process uses it.
    pub(crate) async fn remove(mut self) {
        self.socket_folder = self.socket_folder.take().or_else(|| socket_folder(&self.folder));
        remove_folder(&self.folder).await;
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // Little is left to do here but after a failed launch. What cannot be removed now keeps its lock file,
        // by which the next worker's sweep finds it.
        remove_socket_folder(self.socket_folder.take().or_else(|| socket_folder(&self.folder)).as_deref());
        let removed = std::fs::remove_dir_all(&self.folder);
        if removed.is_ok() || !self.folder.exists() {
            let _ = std::fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes every profile below `parent` that no living worker owns, and kills what still runs in it.
pub(crate) async fn sweep(parent: &Path) {
    let Ok(parent) = parent.canonicalize() else { return };
    let Ok(entries) = std::fs::read_dir(&parent) else { return };
    for entry in entries.flatten() {
        let lock_path = entry.path();
        let is_lock = lock_path.extension().is_some_and(|extension| extension == LOCK_EXTENSION)
            && entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !is_lock {
            continue;
        }
        let Ok(lock) = File::open(&lock_path) else { continue };
        if lock.try_lock().is_err() {
            continue;
        }
        let folder = lock_path.with_extension("");
        let killed = kill_users_of(&folder);
        remove_socket_folder(socket_folder(&folder).as_deref());
        remove_folder(&folder).await;
        if let Err(error) = std::fs::remove_file(&lock_path) {
            tracing::warn!(path = %lock_path.display(), %error, "profile lock not removed");
        }
        tracing::info!(path = %folder.display(), killed, "removed the profile of a worker that is gone");
    }
}

/// The folder with a socket that Chromium makes in the system's temporary folder and never removes. The profile links
/// to it while the browser runs, and still does after a kill.
fn socket_folder(profile: &Path) -> Option<PathBuf> {
    let socket = std::fs::read_link(profile.join("SingletonSocket")).ok()?;
    let folder = socket.parent()?;
    // Only what is named as Chromium and Chrome name it.
    let name = folder.file_name()?.to_str()?.trim_start_matches('.');
    let is_theirs = name.starts_with("org.chromium.") || name.starts_with("com.google.Chrome.");
    is_theirs.then(|| folder.to_owned())
}

fn remove_socket_folder(folder: Option<&Path>) {
    let Some(folder) = folder else { return };
    match std::fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %folder.display(), %error, "socket folder not removed"),
    }
}

async fn remove_folder(folder: &Path) {
    for attempt in 1..=REMOVE_TRIES {
        match tokio::fs::remove_dir_all(folder).await {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) if attempt == REMOVE_TRIES => {
                tracing::warn!(path = %folder.display(), %error, "profile not removed");
            }
            Err(_) => tokio::time::sleep(REMOVE_PAUSE).await,
        }
    }
}

/// A browser outlives its worker only if that was killed in the instant before the tie to its life was set.
fn kill_users_of(folder: &Path) -> usize {
    let wanted = format!("--user-data-dir={}", folder.display());
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let mut killed = 0;
    for process in processes.flatten() {
        let Some(pid) =
            process.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw)
        else {
            continue;
        };
        let Ok(line) = std::fs::read(process.path().join("cmdline")) else { continue };
        if line.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes())
            && kill_process(pid, Signal::KILL).is_ok()
        {
            killed += 1;
        }
    }
    killed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sweep_removes_what_has_no_owner_and_leaves_what_is_in_use() {
        let parent = tempfile::tempdir().unwrap();
        let mine = Profile::create(parent.path()).unwrap();
        let left = parent.path().join("chromium-1-abcd");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("Cookies"), b"x").unwrap();
        let sockets = parent.path().join("org.chromium.Chromium.x");
        std::fs::create_dir(&sockets).unwrap();
        std::os::unix::fs::symlink(sockets.join("SingletonSocket"), left.join("SingletonSocket")).unwrap();
        std::fs::write(parent.path().join("chromium-1-abcd.lock"), b"").unwrap();
        std::fs::write(parent.path().join("other.lock"), b"").unwrap();

        sweep(parent.path()).await;

        assert!(mine.folder().is_dir());
        assert!(!left.exists() && !sockets.exists());
        assert!(!parent.path().join("chromium-1-abcd.lock").exists());
        assert!(parent.path().join("other.lock").exists());
        let folder = mine.folder().to_owned();
        mine.remove().await;
        assert!(!folder.exists());
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
