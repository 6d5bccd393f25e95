//! What the folders of platforms hold at one moment, as fingerprints: two that differ mean that a file changed which a
//! platform is made of. Reads files, keeps nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{DirEntry, File};
use std::io::Read;
use std::path::Path;
use std::time::UNIX_EPOCH;

use xxhash_rust::xxh3::Xxh3;

use crate::platform::library_of;
use crate::platform::manifest::FILE_NAME;

/// The most entries of one folder that are looked at.
const ENTRIES_MAX: usize = 1000;
/// A larger file is told apart by its size and time alone, in bytes.
const CONTENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The endings of what a platform is made of; fixtures and all else change nothing for a running worker.
const ENDINGS: [&str; 3] = ["toml", "jq", "js"];

/// The fingerprint of each platform's folder by the folder's name, or why there is none.
pub(super) type Look = BTreeMap<String, Result<u64, String>>;

/// Looks at every platform below `dir`.
///
/// # Errors
/// Why `dir` itself cannot be read.
pub(super) fn look(dir: &Path) -> Result<Look, String> {
    let mut look = Look::new();
    for entry in entries(dir)? {
        let path = entry.path();
        if path.join(FILE_NAME).is_file() {
            look.insert(entry.file_name().to_string_lossy().into_owned(), fingerprint(&path));
        }
    }
    Ok(look)
}

/// Of a platform's files and of the modules that it could include.
fn fingerprint(folder: &Path) -> Result<u64, String> {
    let folder = folder.canonicalize().map_err(|error| unreadable(folder, &error))?;
    let mut hash = Xxh3::new();
    hash.update(folder.as_os_str().as_encoded_bytes());
    add(&folder, &mut hash)?;
    let library = library_of(&folder);
    if library.is_dir() {
        add(&library, &mut hash)?;
    }
    Ok(hash.digest())
}

fn add(folder: &Path, hash: &mut Xxh3) -> Result<(), String> {
    let mut names: Vec<OsString> = entries(folder)?.iter().map(DirEntry::file_name).collect();
    names.sort();
    for name in names {
        let path = folder.join(&name);
        let made_of = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if !made_of || !path.is_file() {
            continue;
        }
        let file = |error: &std::io::Error| unreadable(&path, error);
        let about = std::fs::metadata(&path).map_err(|error| file(&error))?;
        hash.update(name.as_encoded_bytes());
        hash.update(&about.len().to_le_bytes());
        if about.len() > CONTENT_BYTES_MAX {
            let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            hash.update(&since.unwrap_or_default().as_nanos().to_le_bytes());
            continue;
        }
        let mut content = Vec::new();
        let opened = File::open(&path).map_err(|error| file(&error))?;
        opened.take(CONTENT_BYTES_MAX).read_to_end(&mut content).map_err(|error| file(&error))?;
        hash.update(&content);
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>, String> {
    let failed = |error| unreadable(dir, &error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        if entries.len() == ENTRIES_MAX {
            return Err(format!(
                "{} has more than {ENTRIES_MAX} entries, so changes in it are not seen: keep other files elsewhere",
                dir.display()
            ));
        }
        entries.push(entry.map_err(failed)?);
    }
    Ok(entries)
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
