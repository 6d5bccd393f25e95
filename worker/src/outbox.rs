//! What the broker has not acked yet, kept on disk: records that were seen survive a restart of the worker.
//!
//! One append-only file for each account: a length and the MessagePack of a few records, over and over. It is
//! emptied when the broker has acked all of it. A torn tail (the worker was killed while writing) is cut off.
//! It is not synced to the disk: it outlives the process, not a power cut.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use snapfleet_protocol::{AccountId, Erasures, LeftBehind, Record, UnixMs};

/// The largest file of one account, in bytes. Beyond it records are kept in memory alone, and that is told.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Records of one entry of a file that is written anew.
const ENTRY_RECORDS: usize = 2_000;
/// The largest entry that is read back, in bytes; a larger length is a torn or foreign file.
const ENTRY_BYTES_MAX: u32 = 48 * 1024 * 1024;

/// Records that were seen at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The term in which they were seen.
    pub epoch: u64,
    /// When they were seen.
    pub at: UnixMs,
    /// What was seen.
    pub records: Vec<Record>,
}

/// Why the outbox does not work.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file cannot be opened, read or written.
    #[error("outbox {path}: {error}; check the disk and the rights of state_dir")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is as large as it may grow.
    #[error("outbox {path} is full at {FILE_BYTES_MAX} bytes: the broker has not acked anything for long")]
    Full {
        /// Which file.
        path: PathBuf,
    },
    /// A write failed and could not be undone: what follows it would not be found again.
    #[error("outbox {path} is broken since a write failed: free the disk and restart the worker")]
    Broken {
        /// Which file.
        path: PathBuf,
    },
    /// Another worker has it open.
    #[error("outbox {path} is in use: another worker runs with the same state_dir; give each its own")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The records cannot be written as MessagePack.
    #[error("outbox {path}: {error}")]
    Encode {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: rmp_serde::encode::Error,
    },
}

/// One account's file.
#[derive(Debug)]
pub struct Outbox {
    file: File,
    path: PathBuf,
    bytes: u64,
    broken: bool,
}

impl Outbox {
    /// Opens the account's file below `dir`, and reads what an earlier start left there.
    ///
    /// # Errors
    /// [`OutboxError::File`].
    pub fn open(dir: &Path, account: &AccountId) -> Result<(Self, Vec<Entry>), OutboxError> {
        let path = dir.join(format!("{account}.outbox"));
        let failed = |error| OutboxError::File { path: path.clone(), error };
        // It holds what people wrote: nobody else's to read.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OutboxError::InUse { path }),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let (entries, bytes) = read_entries(&mut file).map_err(failed)?;
        file.set_len(bytes).map_err(failed)?;
        file.seek(SeekFrom::Start(bytes)).map_err(failed)?;
        Ok((Self { file, path, bytes, broken: false }, entries))
    }

    /// How large the file is, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds records that are about to be published.
    ///
    /// # Errors
    /// [`OutboxError`]; the records are not lost, only not on disk.
    pub fn append(&mut self, entry: &Entry) -> Result<(), OutboxError> {
        if self.broken {
            return Err(OutboxError::Broken { path: self.path.clone() });
        }
        let encoded = rmp_serde::to_vec_named(entry)
            .map_err(|error| OutboxError::Encode { path: self.path.clone(), error })?;
        let length = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        let size = 4 + encoded.len() as u64;
        if length > ENTRY_BYTES_MAX || self.bytes + size > FILE_BYTES_MAX {
            return Err(OutboxError::Full { path: self.path.clone() });
        }
        let mut framed = length.to_le_bytes().to_vec();
        framed.extend_from_slice(&encoded);
        if let Err(error) = self.file.write_all(&framed) {
            // A part of it may be there: what is appended behind a part would never be found again.
            self.broken = self.cut_to(self.bytes).is_err();
            return Err(OutboxError::File { path: self.path.clone(), error });
        }
        self.bytes += size;
        Ok(())
    }

    /// Puts these entries in the place of all that the file holds, in one step: a kill leaves the old file or the new.
    ///
    /// # Errors
    /// [`OutboxError`]; the file is then as it was.
    pub fn rewrite(&mut self, entries: &[Entry]) -> Result<(), OutboxError> {
        let fresh_path = self.path.with_extension("outbox.new");
        let failed = |error| OutboxError::File { path: fresh_path.clone(), error };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh_path);
        let file = file.map_err(failed)?;
        file.try_lock().map_err(|error| failed(error.into()))?;
        let mut fresh = Self { file, path: fresh_path.clone(), bytes: 0, broken: false };
        for entry in entries {
            for records in entry.records.chunks(ENTRY_RECORDS) {
                fresh.append(&Entry { records: records.to_vec(), ..*entry })?;
            }
        }
        std::fs::rename(&fresh_path, &self.path).map_err(failed)?;
        (self.file, self.bytes, self.broken) = (fresh.file, fresh.bytes, false);
        Ok(())
    }

    /// Empties the file: the broker has acked all that it held.
    ///
    /// # Errors
    /// [`OutboxError::File`].
    pub fn clear(&mut self) -> Result<(), OutboxError> {
        if self.bytes == 0 && !self.broken {
            return Ok(());
        }
        self.cut_to(0).map_err(|error| OutboxError::File { path: self.path.clone(), error })?;
        (self.bytes, self.broken) = (0, false);
        Ok(())
    }

    fn cut_to(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)?;
        self.file.seek(SeekFrom::Start(bytes)).map(|_| ())
    }
}

/// Records in outboxes below `dir` of accounts that are not `held`, by account. The files of `erased` accounts are
/// deleted. One that another worker has open, or that cannot be read, is left out, and the latter is logged.
pub fn left_behind(
    dir: &Path,
    held: &BTreeSet<AccountId>,
    erased: impl Fn(&AccountId) -> bool,
    erasures: impl Fn(&AccountId) -> Arc<Erasures>,
) -> Vec<LeftBehind> {
    let mut left = Vec::new();
    for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = file.file_name();
        let account = name.to_str().and_then(|name| name.strip_suffix(".outbox"));
        let Some(account) = account.and_then(|account| AccountId::parse(account).ok()) else { continue };
        if held.contains(&account) {
            continue;
        }
        if erased(&account) {
            match std::fs::remove_file(file.path()) {
                Ok(()) => tracing::info!(account.id = %account, "the outbox of an erased account is deleted"),
                Err(error) => {
                    tracing::error!(account.id = %account, %error, "the outbox of an erased account cannot be deleted");
                }
            }
            continue;
        }
        match Outbox::open(dir, &account) {
            Ok((mut outbox, mut entries)) => {
                if forget(&mut entries, &erasures(&account))
                    && let Err(error) = outbox.rewrite(&entries)
                {
                    tracing::error!(account.id = %account, %error, "an erased person's records stay in an outbox");
                }
                let records = entries.iter().map(|entry| entry.records.len() as u64).sum();
                if records > 0 {
                    left.push(LeftBehind { account, records });
                }
            }
            Err(OutboxError::InUse { .. }) => {}
            Err(error) => {
                tracing::warn!(account.id = %account, %error, "what an outbox holds cannot be told")
            }
        }
    }
    left.sort_by(|a, b| a.account.cmp(&b.account));
    left
}

/// Leaves out what was erased; whether that was anything.
fn forget(entries: &mut [Entry], erasures: &Erasures) -> bool {
    let before: usize = entries.iter().map(|entry| entry.records.len()).sum();
    for entry in &mut *entries {
        entry.records.retain(|record| erasures.covering(record).is_none());
    }
    before > entries.iter().map(|entry| entry.records.len()).sum()
}

/// Reads the whole entries, and where the last of them ends.
fn read_entries(file: &mut File) -> io::Result<(Vec<Entry>, u64)> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let (mut entries, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        let Some((encoded, after)) = after.split_at_checked(length as usize) else { break };
        let Ok(entry) = rmp_serde::from_slice(encoded) else { break };
        entries.push(entry);
        rest = after;
    }
    if !rest.is_empty() {
        tracing::warn!(bytes = rest.len(), "the outbox ends in a torn entry, which is cut off");
    }
    Ok((entries, (bytes.len() - rest.len()) as u64))
}

#[cfg(test)]
mod tests {
    use snapfleet_testkit::sample;

    use super::*;

    fn entry(number: u64) -> Entry {
        let record = Record::Comment(sample::comment(1, number, "text"));
        Entry { epoch: 3, at: sample::BASE, records: vec![record] }
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_and_a_torn_tail_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let account = sample::account("demo.a");
        let (mut outbox, entries) = Outbox::open(dir.path(), &account).unwrap();
        assert!(entries.is_empty());
        outbox.append(&entry(1)).unwrap();
        outbox.append(&entry(2)).unwrap();
        outbox.file.write_all(&[9, 0, 0, 0, 1, 2]).unwrap();
        drop(outbox);
        let (mut outbox, entries) = Outbox::open(dir.path(), &account).unwrap();
        assert_eq!(entries, [entry(1), entry(2)]);
        outbox.append(&entry(3)).unwrap();
        drop(outbox);
        let (mut outbox, entries) = Outbox::open(dir.path(), &account).unwrap();
        assert_eq!(entries, [entry(1), entry(2), entry(3)]);
        outbox.rewrite(&[entry(4)]).unwrap();
        outbox.append(&entry(5)).unwrap();
        drop(outbox);
        let (mut outbox, entries) = Outbox::open(dir.path(), &account).unwrap();
        assert_eq!(entries, [entry(4), entry(5)]);
        outbox.clear().unwrap();
        drop(outbox);
        assert!(Outbox::open(dir.path(), &account).unwrap().1.is_empty());
    }

    #[test]
    fn what_follows_a_failed_write_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let account = sample::account("demo.a");
        let (mut outbox, _) = Outbox::open(dir.path(), &account).unwrap();
        outbox.append(&entry(1)).unwrap();
        // A handle that cannot write stands in for a full disk.
        let writable = std::mem::replace(&mut outbox.file, File::open(&outbox.path).unwrap());
        assert!(outbox.append(&entry(2)).is_err());
        assert!(
            matches!(outbox.append(&entry(2)), Err(OutboxError::Broken { .. })),
            "it fails until it is mended"
        );
        outbox.file = writable;
        outbox.clear().unwrap();
        outbox.append(&entry(3)).unwrap();
        drop(outbox);
        assert_eq!(Outbox::open(dir.path(), &account).unwrap().1, [entry(3)]);
    }

    #[test]
    fn two_workers_cannot_share_an_outbox() {
        let dir = tempfile::tempdir().unwrap();
        let account = sample::account("demo.a");
        let _held = Outbox::open(dir.path(), &account).unwrap();
        assert!(matches!(Outbox::open(dir.path(), &account), Err(OutboxError::InUse { .. })));
    }

    #[test]
    fn rubbish_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let account = sample::account("demo.a");
        std::fs::write(dir.path().join("demo.a.outbox"), b"not an outbox at all").unwrap();
        assert!(Outbox::open(dir.path(), &account).unwrap().1.is_empty());
    }
}
