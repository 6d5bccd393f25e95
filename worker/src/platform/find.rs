//! Where the folder of platforms is, when a process starts.

use std::path::{Path, PathBuf};

/// The folder's name, wherever it is.
const FOLDER: &str = "platforms";

/// There is no folder of platforms anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no folder of platforms was found: give it with --platforms; looked for {}", shown(.0))]
pub struct FoldersError(Vec<PathBuf>);

/// The folder that holds one folder for each platform: the given one, whether it is there or not; else the first that
/// is there of `./platforms`, `platforms` beside the executable, `snapfleet/platforms` in the user's configuration
/// (`XDG_CONFIG_HOME`, or `~/.config`) and `/etc/snapfleet/platforms`. Reads the environment: to be called at start.
///
/// # Errors
/// [`FoldersError`], naming every place that was looked at.
pub fn find_folder(given: Option<&Path>) -> Result<PathBuf, FoldersError> {
    let given_in = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let executable = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let config = given_in("XDG_CONFIG_HOME").or_else(|| Some(given_in("HOME")?.join(".config")));
    match given {
        Some(given) => Ok(given.to_owned()),
        None => first_there(places(executable, config)),
    }
}

fn places(executable: Option<PathBuf>, config: Option<PathBuf>) -> Vec<PathBuf> {
    let mut places = vec![Path::new(".").join(FOLDER)];
    places.extend(executable.map(|folder| folder.join(FOLDER)));
    places.extend(config.map(|folder| folder.join("snapfleet").join(FOLDER)));
    places.push(Path::new("/etc/snapfleet").join(FOLDER));
    places
}

fn first_there(places: Vec<PathBuf>) -> Result<PathBuf, FoldersError> {
    places.iter().find(|place| place.is_dir()).cloned().ok_or(FoldersError(places))
}

fn shown(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_there_is_taken_and_an_error_names_all() {
        let root = tempfile::tempdir().unwrap();
        let (bin, config) = (root.path().join("bin"), root.path().join("config"));
        let all = places(Some(bin.clone()), Some(config.clone()));
        let own = all[1..3].to_vec();
        assert_eq!(own, [bin.join("platforms"), config.join("snapfleet/platforms")]);
        assert_eq!(all[0], Path::new("./platforms"));
        assert_eq!(all[3], Path::new("/etc/snapfleet/platforms"));
        let error = first_there(own.clone()).unwrap_err().to_string();
        assert!(own.iter().all(|place| error.contains(place.to_str().unwrap())), "{error}");
        assert!(error.contains("--platforms"), "{error}");
        std::fs::create_dir_all(&own[1]).unwrap();
        assert_eq!(first_there(own.clone()).as_ref(), Ok(&own[1]));
        std::fs::create_dir_all(&own[0]).unwrap();
        assert_eq!(first_there(own.clone()).as_ref(), Ok(&own[0]));
    }

    #[test]
    fn a_given_folder_is_taken_as_it_is() {
        let given = Path::new("nowhere/at/all");
        assert_eq!(find_folder(Some(given)).as_deref(), Ok(given));
    }
}
