//! Finding out what a file is before anything is written to it, and making a new one.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase};

use super::error::StoreError;
use super::tables::{FORMAT, MAGIC, META, META_FEED, META_FORMAT, META_MAGIC, meta};

/// What a redb file begins with (redb's design.md).
const REDB_MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Opens the store at `path` for writing, or creates it.
pub(crate) fn open(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    if is_absent(path)? {
        create(path)?;
    }
    check_head(path)?;
    // Opening for writing writes; so somebody else's file is found out by reading. A file that needs a repair
    // cannot be read that way, and is checked after it.
    match ReadOnlyDatabase::open(path) {
        Ok(file) => {
            check_ours(path, &file.begin_read()?)?;
        }
        Err(DatabaseError::RepairAborted) => {
            tracing::info!(store.path = %path.display(), "repairing the store")
        }
        Err(error) => return Err(refused(path, error)),
    }
    let opened = Builder::new().set_cache_size(cache_bytes).open(path);
    let database = opened.map_err(|error| refused(path, error))?;
    let format = check_ours(path, &database.begin_read()?)?;
    if format < FORMAT {
        upgrade(&database, path, format)?;
    }
    Ok(database)
}

/// What is new in later formats is tables and fields that an older store lacks, which reads as empty.
fn upgrade(database: &Database, path: &Path, from: u64) -> Result<(), StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    txn.open_table(META)?.insert(META_FORMAT, FORMAT.to_string().as_str())?;
    txn.commit()?;
    tracing::info!(store.path = %path.display(), from, to = FORMAT, "store has a newer format now");
    Ok(())
}

/// Opens the store at `path` for reading, which a running master does not allow.
///
/// A master that was killed leaves a file that redb reads only once it was opened for writing; quick repair
/// makes that a matter of its header.
pub(crate) fn open_at_rest(path: &Path) -> Result<ReadOnlyDatabase, StoreError> {
    if is_absent(path)? {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    check_head(path)?;
    let file = match ReadOnlyDatabase::open(path) {
        Err(DatabaseError::RepairAborted) => {
            let repaired = Database::open(path).and_then(Database::close);
            repaired.and_then(|()| ReadOnlyDatabase::open(path))
        }
        opened => opened,
    };
    let file = file.map_err(|error| refused(path, error))?;
    check_ours(path, &file.begin_read()?)?;
    Ok(file)
}

fn is_absent(path: &Path) -> Result<bool, StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file() && metadata.len() == 0),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed(path, &error)),
    }
}

/// Makes the file under another name and gives it its own when it is whole: a master killed meanwhile leaves
/// no half-made store behind.
fn create(path: &Path) -> Result<(), StoreError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| failed(path, &error))?;
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&unfinished, &error)),
        _ => {}
    }
    let database = Database::create(&unfinished).map_err(|error| refused(&unfinished, error))?;
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    {
        let mut table = txn.open_table(META)?;
        table.insert(META_MAGIC, MAGIC)?;
        table.insert(META_FORMAT, FORMAT.to_string().as_str())?;
        table.insert(META_FEED, new_feed().as_str())?;
    }
    txn.commit()?;
    database.close().map_err(|error| refused(&unfinished, error))?;
    std::fs::rename(&unfinished, path).map_err(|error| failed(path, &error))?;
    // The name is durable only with its folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(path, &error))?;
    tracing::info!(store.path = %path.display(), "created a new store");
    Ok(())
}

/// Sixteen hex digits from the seed that the system gives each hasher: unlike any other, and no secret.
fn new_feed() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

fn check_head(path: &Path) -> Result<(), StoreError> {
    let mut head = [0; REDB_MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    match read {
        Ok(()) if head == REDB_MAGIC => Ok(()),
        Ok(()) => Err(StoreError::NotADatabase { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(StoreError::NotADatabase { path: path.to_owned() })
        }
        Err(error) => Err(failed(path, &error)),
    }
}

/// The file's format, if it is a store of ours that this build reads.
fn check_ours(path: &Path, txn: &ReadTransaction) -> Result<u64, StoreError> {
    if meta(txn, META_MAGIC)?.as_deref() != Some(MAGIC) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let format = meta(txn, META_FORMAT)?.and_then(|text| text.parse().ok());
    match format {
        Some(found) if found > FORMAT => {
            Err(StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT })
        }
        Some(found) => Ok(found),
        None => Err(StoreError::Foreign { path: path.to_owned() }),
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Open { path: path.to_owned(), reason: error.to_string() }
}

fn refused(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::Locked { path }
        }
        other => StoreError::Open { path, reason: other.to_string() },
    }
}
