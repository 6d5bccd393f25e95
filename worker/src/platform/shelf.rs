//! The platforms of one folder while a worker runs: who uses one is told of its new versions, and a broken edit leaves
//! the last good one in use and says so.
//!
//! [`follow`] looks for changes; nothing here knows what is done with a platform.

mod look;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use snapfleet_protocol::{PlatformName, UnixMs};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::look::{Look, look};
use super::{Platform, PlatformError};
use crate::roster::now;

/// The time between two looks at the files. A change is taken up by the second look that sees it.
pub const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// The platforms of one folder. Clones share them.
#[derive(Clone)]
pub struct Shelf(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the folder's name.
    books: BTreeMap<String, Book>,
    /// What is wrong with the folder as a whole.
    problem: Option<String>,
}

/// One platform's folder.
#[derive(Default)]
struct Book {
    /// The last good version; `None` where there was none yet.
    loaded: Option<Loaded>,
    /// What its files were when they were last read, well or not.
    fingerprint: Option<u64>,
    problem: Option<String>,
}

struct Loaded {
    versions: watch::Sender<Arc<Platform>>,
    at: UnixMs,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

impl Shelf {
    /// Loads every platform below `dir`. Blocks: to be called at start.
    ///
    /// # Errors
    /// One line, for the first thing that is wrong: a platform that does not load would leave its accounts without a
    /// worker in silence.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let looked = look(dir).map_err(anyhow::Error::msg).with_context(|| {
            format!("folder of platforms {} is not usable: give it with --platforms", dir.display())
        })?;
        let shelf = Self(Arc::new(Inner { dir: dir.to_owned(), state: Mutex::new(State::default()) }));
        for (folder, fingerprint) in looked {
            let platform =
                shelf.read(&folder).with_context(|| format!("folder {}", dir.join(&folder).display()))?;
            shelf.publish(&folder, platform, fingerprint.ok());
        }
        anyhow::ensure!(
            !shelf.state().books.is_empty(),
            "there is no platform in {}: give the folder that holds them with --platforms",
            dir.display()
        );
        Ok(shelf)
    }

    /// The platform's present version and those to come; `None` where none was ever loaded.
    #[must_use]
    pub fn watch(&self, name: &PlatformName) -> Option<watch::Receiver<Arc<Platform>>> {
        Some(self.state().books.get(name.as_str())?.loaded.as_ref()?.versions.subscribe())
    }

    /// The platforms that are loaded, in order.
    #[must_use]
    pub fn names(&self) -> Vec<PlatformName> {
        let state = self.state();
        let loaded = state.books.values().filter_map(|book| book.loaded.as_ref());
        loaded.map(|loaded| loaded.versions.borrow().name().clone()).collect()
    }

    /// What is wrong at this moment, a line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let state = self.state();
        let mut problems: Vec<String> = state.problem.iter().cloned().collect();
        for (folder, book) in &state.books {
            let Some(problem) = &book.problem else { continue };
            problems.push(match &book.loaded {
                Some(loaded) => {
                    let at = hour(loaded.at);
                    format!("platform {folder}: {problem}; the version loaded at {at} stays in use")
                }
                None => format!("platform {folder}: {problem}; it is not in use"),
            });
        }
        problems
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, folder: &str) -> Result<Platform, PlatformError> {
        let path = self.0.dir.join(folder);
        let platform = Platform::load(&path)?;
        if platform.name().as_str() != folder {
            let message =
                format!("is the platform {}: a link must have the name of its folder", platform.name());
            return Err(PlatformError::File { path, line: 1, message });
        }
        Ok(platform)
    }

    fn publish(&self, folder: &str, platform: Platform, fingerprint: Option<u64>) {
        let (platform, at) = (Arc::new(platform), now());
        let mut state = self.state();
        let book = state.books.entry(folder.to_owned()).or_default();
        (book.fingerprint, book.problem) = (fingerprint, None);
        match &mut book.loaded {
            Some(loaded) => {
                loaded.versions.send_replace(platform);
                loaded.at = at;
            }
            None => book.loaded = Some(Loaded { versions: watch::Sender::new(platform), at }),
        }
    }

    /// Keeps what is wrong with a platform, and logs it where that is news.
    fn note(&self, folder: &str, fingerprint: Option<u64>, problem: String) {
        let mut state = self.state();
        let book = state.books.entry(folder.to_owned()).or_default();
        book.fingerprint = fingerprint;
        if book.problem.as_ref() != Some(&problem) {
            let loaded = book.loaded.as_ref().map(|loaded| hour(loaded.at));
            tracing::warn!(
                platform.name = folder,
                platform.loaded_at = loaded,
                error = problem,
                "platform is not loaded anew; a version that was loaded before stays in use"
            );
            book.problem = Some(problem);
        }
    }

    /// Looks once, and takes up what this look and the one before agree on. Returns the look and the platforms that
    /// have a new version. Blocks.
    fn turn(&self, before: &Look) -> (Look, Vec<PlatformName>) {
        let looked = look(&self.0.dir);
        let looked = match looked {
            Ok(looked) => looked,
            Err(problem) => {
                let mut state = self.state();
                if state.problem.as_ref() != Some(&problem) {
                    tracing::warn!(
                        error = problem,
                        "folder of platforms is not readable; what was loaded stays in use"
                    );
                    state.problem = Some(problem);
                }
                return (Look::new(), Vec::new());
            }
        };
        self.state().problem = None;
        self.miss(&looked, before);
        let agreed = looked.iter().filter(|(folder, fingerprint)| before.get(*folder) == Some(fingerprint));
        let changed = agreed.filter_map(|(folder, fingerprint)| self.settle(folder, fingerprint)).collect();
        (looked, changed)
    }

    /// Notes the platforms whose folder is in neither look. One that was never in use is forgotten.
    fn miss(&self, looked: &Look, before: &Look) {
        let mut gone = Vec::new();
        self.state().books.retain(|folder, book| {
            let missing = !looked.contains_key(folder) && !before.contains_key(folder);
            if missing && book.loaded.is_some() {
                gone.push(folder.clone());
            }
            !missing || book.loaded.is_some()
        });
        for folder in gone {
            let path = self.0.dir.join(&folder);
            self.note(&folder, None, format!("folder {} has no platform any more", path.display()));
        }
    }

    /// Loads a folder whose files have come to rest, if they are others than those that were read last.
    fn settle(&self, folder: &str, fingerprint: &Result<u64, String>) -> Option<PlatformName> {
        let fingerprint = match fingerprint {
            Ok(fingerprint) => *fingerprint,
            Err(problem) => {
                self.note(folder, None, problem.clone());
                return None;
            }
        };
        if self.state().books.get(folder).is_some_and(|book| book.fingerprint == Some(fingerprint)) {
            return None;
        }
        match self.read(folder) {
            Ok(platform) => {
                let name = platform.name().clone();
                self.publish(folder, platform, Some(fingerprint));
                tracing::info!(platform.name = folder, "platform is loaded anew");
                Some(name)
            }
            Err(error) => {
                // A file that cannot be read may be so for other reasons than its content: tried again.
                let tried = (!matches!(error, PlatformError::Read { .. })).then_some(fingerprint);
                self.note(folder, tried, error.to_string());
                None
            }
        }
    }
}

/// Keeps the shelf as its folder is until `stop`: looks every [`LOOK_PAUSE`] and loads what changed, away from the
/// runtime's threads. `on_change` is told each platform that has a new version, which its watchers have by then, or
/// that is new.
pub async fn follow(shelf: Shelf, on_change: impl Fn(&PlatformName), stop: CancellationToken) {
    let mut before = Look::new();
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_PAUSE)).await.is_some() {
        let (here, last) = (shelf.clone(), std::mem::take(&mut before));
        match tokio::task::spawn_blocking(move || here.turn(&last)).await {
            Ok((looked, changed)) => {
                before = looked;
                changed.iter().for_each(&on_change);
            }
            Err(error) => tracing::error!(%error, "looking for changes of platforms panicked; trying again"),
        }
    }
}

/// A time as people read it.
fn hour(at: UnixMs) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .map_or_else(|_| "an unknown time".into(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
