//! The commands: those that read ask a running master, or a store's file that no master has open, and those that change
//! something ask a running master to. They write to standard output what people and scripts make use of. Nothing here
//! writes to the store or speaks with the broker.

mod accounts;
mod changes;
mod dead_letters;
mod decode;
mod import;
mod replica;
mod source;
mod status;
mod text;
mod workers;

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
    /// Something that only a running master can do, and nobody answers.
    #[error("no master answers at {url} ({reason}): start it, or give its address with --url")]
    NoMaster {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// Arguments that do not go together, or not with how things are.
    #[error("{0}")]
    Argument(String),
    /// A file to be imported is not as it must be.
    #[error("{} cannot be imported: {reason}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// An import broke off.
    #[error(
        "the import broke off after {done} of {of} accounts ({why}): run it again, what is done is skipped"
    )]
    Broken {
        /// How many requests were answered.
        done: usize,
        /// Of how many.
        of: usize,
        /// Why.
        why: String,
    },
    /// Standard input could not be read.
    #[error("standard input cannot be read: {0}")]
    Input(io::Error),
    /// Standard output could not be written.
    #[error("standard output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// The same, where there is no file to read in place of asking a master.
    fn of_a_master(self) -> Self {
        match self {
            CliError::Unreachable { url, reason } => CliError::NoMaster { url, reason },
            error => error,
        }
    }
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
        Command::Accounts(command) => accounts::run(&command, out).await.map_err(CliError::of_a_master),
        Command::Sync(args) => accounts::sync(&args, out).await.map_err(CliError::of_a_master),
        Command::Person(command) => accounts::person(&command, out).await.map_err(CliError::of_a_master),
        Command::Workers(command) => workers::run(&command, out).await,
        Command::Replica(command) => replica::run(&command, out).await,
        // `run` is not one of them; main keeps it.
        Command::Run(_) => Ok(ExitCode::SUCCESS),
    };
    match done.and_then(|code| out.flush().map(|()| code).map_err(CliError::Output)) {
        // Whoever read our output has seen enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => done,
    }
}
