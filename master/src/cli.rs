//! The commands that read: each asks a running master, or a store's file that no master has open, and writes to
//! standard output what people and scripts make use of. Nothing here writes to the store.

mod changes;
mod dead_letters;
mod decode;
mod source;
mod status;
mod text;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::config::Command;
use crate::store::StoreError;

pub use status::sentence;

/// Why a command could not do what it was asked; one line.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Something answers there, but not as a master does.
    #[error("{url} answers, but not as a master ({reason}): give the master's address with --url")]
    NotAMaster {
        /// Where.
        url: String,
        /// How.
        reason: String,
    },
    /// Nobody answers in time.
    #[error(
        "no master can be asked at {url} ({reason}): start it, give its address with --url, or --store FILE"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// The master refuses, in its own words.
    #[error("the master at {url} says: {detail}")]
    Refused {
        /// Where.
        url: String,
        /// Its words.
        detail: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is open in a master that was not found.
    #[error("{store}; no master answers at {url}: give its address with --url")]
    Locked {
        /// What the store said.
        store: StoreError,
        /// Where a master was looked for.
        url: String,
    },
    /// A cursor that the file at rest does not know.
    #[error("{0}")]
    Cursor(String),
    /// Something that only a running master can do.
    #[error("--follow needs a running master: start it, or give its address with --url")]
    FollowAtRest,
    /// Standard input could not be read.
    #[error("standard input cannot be read: {0}")]
    Input(io::Error),
    /// Standard output could not be written.
    #[error("standard output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Runs one of the commands that read, and says with which code to exit.
///
/// # Errors
/// [`CliError`], to be printed as one line.
pub async fn run(command: Command, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let done = match command {
        Command::Status(args) => status::run(&args, out).await,
        Command::Changes(args) => changes::run(&args, out).await,
        Command::DeadLetters(args) => dead_letters::run(&args, out).await,
        Command::Decode => decode::run(io::stdin().lock(), out),
        // `run` is not one of them; main keeps it.
        Command::Run(_) => Ok(ExitCode::SUCCESS),
    };
    match done.and_then(|code| out.flush().map(|()| code).map_err(CliError::Output)) {
        // Whoever read our output has seen enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => done,
    }
}
