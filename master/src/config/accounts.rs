//! The arguments of the commands that change accounts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use snapfleet_protocol::fleet::INTERVAL_S_DEFAULT;
use snapfleet_protocol::{AccountId, RecordId};

use super::MasterArgs;

/// `accounts`: all of it needs a running master.
#[derive(Debug, Args, Clone)]
pub struct AccountsCommand {
    /// The running master.
    #[command(flatten)]
    pub at: MasterArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: AccountsAction,
}

/// What can be done with accounts.
#[derive(Debug, Subcommand, Clone)]
pub enum AccountsAction {
    /// Adds one, or adds one again that was removed or erased.
    Add(AddArgs),
    /// Prints how each fares.
    List {
        /// Also those that were removed or erased.
        #[arg(long)]
        removed: bool,
        /// Prints the API's JSON, one account a line.
        #[arg(long)]
        json: bool,
    },
    /// Prints one with its settings, secrets hidden.
    Show {
        /// Which one, `<platform>.<account>`.
        account: AccountId,
        /// Prints the API's JSON.
        #[arg(long)]
        json: bool,
    },
    /// Changes settings of one; what is not named stays.
    Set(SetArgs),
    /// Has one given back by its worker and held by nobody.
    Pause(OneAccount),
    /// Has a paused one captured again.
    Resume(OneAccount),
    /// Ends one: it is captured no more, nothing late is taken in, and what is stored of it stays readable.
    Remove(OneAccount),
    /// Ends one and deletes everything that was stored of it. It cannot be undone.
    Erase {
        /// Which one.
        account: AccountId,
        /// The account's name once more.
        #[arg(long, value_name = "ACCOUNT")]
        yes_erase: Option<String>,
    },
    /// Adds many from a CSV file: columns id, interval_s, paused, `label.<name>`, `setting.<name>`.
    Import(ImportArgs),
}

/// One account, by name.
#[derive(Debug, Args, Clone)]
pub struct OneAccount {
    /// Which one, `<platform>.<account>`.
    pub account: AccountId,
}

/// What `accounts add` takes.
#[derive(Args, Clone)]
pub struct AddArgs {
    /// Its name, `<platform>.<account>`.
    pub account: AccountId,
    /// Time between two publishes of what changed, in seconds, 1 to 3600.
    #[arg(long, default_value_t = INTERVAL_S_DEFAULT)]
    pub interval_s: u64,
    /// Only workers that carry this label hold it; repeatable.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// What the platform asks of its accounts; secrets as snapfleet-worker seal prints them; repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub settings: Vec<(String, String)>,
    /// Adds it paused.
    #[arg(long)]
    pub paused: bool,
    /// Allows secrets that are not sealed: broker, store of the broker and backups then hold them readable.
    #[arg(long)]
    pub plain_secrets: bool,
}

/// What `accounts set` takes.
#[derive(Args, Clone)]
pub struct SetArgs {
    /// Which one, `<platform>.<account>`.
    pub account: AccountId,
    /// Time between two publishes of what changed, in seconds, 1 to 3600.
    #[arg(long)]
    pub interval_s: Option<u64>,
    /// Only workers that carry this label hold it; repeatable.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// Takes a label away; repeatable.
    #[arg(long = "unlabel", value_name = "NAME")]
    pub unlabel: Vec<String>,
    /// A setting's new value; repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub settings: Vec<(String, String)>,
    /// Takes a setting away; repeatable.
    #[arg(long = "unset", value_name = "NAME")]
    pub unset: Vec<String>,
    /// Only if this is its last write, as accounts show prints it.
    #[arg(long)]
    pub revision: Option<u64>,
    /// Allows secrets that are not sealed.
    #[arg(long)]
    pub plain_secrets: bool,
}

/// What `accounts import` takes.
#[derive(Debug, Args, Clone)]
pub struct ImportArgs {
    /// The file.
    pub file: PathBuf,
    /// Checks all of it and says what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Imports the good lines where some are bad; otherwise nothing is imported then.
    #[arg(long)]
    pub skip_bad: bool,
    /// Changes accounts that exist already; otherwise they are skipped.
    #[arg(long)]
    pub update: bool,
    /// Allows secrets that are not sealed.
    #[arg(long)]
    pub plain_secrets: bool,
    /// Prints what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `sync`: needs a running master.
#[derive(Debug, Args, Clone)]
pub struct SyncArgs {
    /// The running master.
    #[command(flatten)]
    pub at: MasterArgs,
    /// Which account, `<platform>.<account>`.
    pub account: AccountId,
    /// Prints the API's JSON.
    #[arg(long)]
    pub json: bool,
}

/// `person`: needs a running master.
#[derive(Debug, Args, Clone)]
pub struct PersonCommand {
    /// The running master.
    #[command(flatten)]
    pub at: MasterArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: PersonAction,
}

/// What can be done with what is stored of a person.
#[derive(Debug, Subcommand, Clone)]
pub enum PersonAction {
    /// Deletes one person's records up to now of one account. It cannot be undone.
    Erase {
        /// Of which account, `<platform>.<account>`.
        account: AccountId,
        /// The platform's id of the person.
        #[arg(value_parser = RecordId::parse)]
        person: RecordId,
        /// The person's id once more.
        #[arg(long, value_name = "PERSON")]
        yes_erase: Option<String>,
    },
}

/// What stands before and behind the first `=`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The names alone: the values may be secrets.
fn names(pairs: &[(String, String)]) -> Vec<&str> {
    pairs.iter().map(|(name, _)| name.as_str()).collect()
}

impl std::fmt::Debug for AddArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("AddArgs");
        shown
            .field("account", &self.account)
            .field("settings", &names(&self.settings))
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for SetArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("SetArgs");
        shown
            .field("account", &self.account)
            .field("settings", &names(&self.settings))
            .finish_non_exhaustive()
    }
}
