//! What can go wrong with the store, each with the remedy where there is one. The database's own error types
//! end here.

use std::path::PathBuf;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another handle of this one, has the file open.
    #[error(
        "store {} is in use by another process: stop the master that runs on it, or ask that one instead",
        .path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// Nothing is there to be read.
    #[error("store {} does not exist: give the path of a master's store, or start the master once", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a redb database at all.
    #[error("{} is not a redb database: give another path, or move the file away", .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// A redb database of another program. It is left as it was.
    #[error("{} is a redb database of another program: give another path", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer master.
    #[error(
        "store {} has format {found}, and this master knows formats up to {known}: use the newer master",
        .path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The format stated in the file.
        found: u64,
        /// The newest that this build reads.
        known: u64,
    },
    /// The file cannot be opened or created.
    #[error("store {} cannot be opened: {reason}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The batch does not start where the store stands. Nothing was written.
    #[error("batch starts after sequence {found}, but the store stands at {expected}: read on from there")]
    OutOfOrder {
        /// The stored position.
        expected: u64,
        /// Where the batch starts.
        found: u64,
    },
    /// The batch is of another incarnation of the stream and does not start at its beginning. Nothing was written.
    #[error(
        "batch starts after sequence {found} of a stream created at {incarnation}, of which the store has nothing: \
         read it from its beginning"
    )]
    UnknownIncarnation {
        /// The batch's incarnation.
        incarnation: u64,
        /// Where the batch starts.
        found: u64,
    },
    /// The batch contradicts itself. Nothing was written.
    #[error("batch is not valid: {0}")]
    BadBatch(&'static str),
    /// The writer stopped for good; nothing more is applied until the master is started again.
    #[error("the store's writer stopped ({0}): see the log, mend the cause and restart the master")]
    WriterFailed(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Not a page cursor that this list gave out.
    #[error("page cursor {0:?} is not one that this list gave out: start again without it")]
    BadCursor(String),
    /// A row cannot be read as what it must be.
    #[error("row of table {table} cannot be read ({reason}): restore the store from a backup or rebuild it")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing the file failed.
    #[error("the store's file failed: {0}")]
    Database(String),
}

macro_rules! from_redb {
    ($($error:ident),+) => {
        $(impl From<redb::$error> for StoreError {
            fn from(error: redb::$error) -> Self {
                StoreError::Database(error.to_string())
            }
        })+
    };
}
from_redb!(TransactionError, TableError, StorageError, CommitError);
