//! The bucket `accounts`, of which the master is the one writer: which accounts there are, and what they are to be
//! captured with. Every change names the write that it replaces, so that none is lost; workers, store and replicas
//! follow the bucket by themselves. It knows neither HTTP nor the store.

mod check;
mod clean;
mod directory;
mod eligible;
mod follow;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use snapfleet_broker::{Broker, PublishError, last_at_leader, put_key, replace_key};
use snapfleet_protocol::stream::{ACCOUNTS_PREFIX, ACCOUNTS_STREAM, ERASURES_PREFIX, SNAPSHOTS};
use snapfleet_protocol::{
    AccountConfig, AccountEntry, AccountId, Command, CommandAnswer, Ended, Erased, Erasure, PersonHash,
    RecordId, StreamPoint, Topic, UnixMs,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::now;
use crate::fleet::Fleet;

pub use check::{SettingsError, check, check_platform, is_secret_name, masked, unmask};
pub use directory::{Configured, Directory, Known};
pub use eligible::{could_take, why_unassigned};

/// How often a change that does not depend on what it replaces is tried, where others write at the same time.
const TRIES_MAX: u32 = 3;
/// How long the holder of an account may take to do what it is asked, loading pages included.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to do something on a login page and picture it: somebody sits and waits.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Why an account was not changed. Each names the account and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is one of this name.
    #[error(
        "account {id} exists already (revision {revision}): change it with accounts set, or give another name"
    )]
    Exists {
        /// Which.
        id: AccountId,
        /// Its last write.
        revision: u64,
    },
    /// There is none of this name.
    #[error("account {0} is not configured: add it with snapfleet-master accounts add {0}")]
    Unknown(AccountId),
    /// It was removed or erased.
    #[error("account {id} was {how}: add it again to have it captured")]
    Ended {
        /// Which.
        id: AccountId,
        /// Removed or erased.
        how: &'static str,
    },
    /// Somebody has changed it since it was read.
    #[error(
        "account {id} was changed by somebody else: it is at revision {revision} now; read it and change it anew"
    )]
    Stale {
        /// Which.
        id: AccountId,
        /// Its last write.
        revision: u64,
    },
    /// The settings cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What the bucket holds of it cannot be read.
    #[error(
        "the entry of account {id} cannot be read ({reason}): it was written by another program or version"
    )]
    Unreadable {
        /// Which.
        id: AccountId,
        /// Why.
        reason: String,
    },
    /// There is no connection to the broker, which keeps the accounts.
    #[error("accounts are kept by the broker, and {0}: try again once it is reached")]
    NotReached(&'static str),
    /// The broker refused or did not answer; after the latter the change may be stored all the same.
    #[error("the accounts' bucket cannot be used: {0}")]
    Broker(#[from] PublishError),
    /// The stream's end, from which an account that is added again goes on, cannot be told.
    #[error("the end of stream {SNAPSHOTS} cannot be told ({0}): try again")]
    StreamEnd(String),
}

/// Why the holder of an account did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens for it.
    #[error("no worker holds it")]
    NoHolder,
    /// No answer in time.
    #[error("its worker has not answered within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// There is no connection to the broker.
    #[error("it is asked for through the broker, and {0}")]
    NotReached(&'static str),
    /// The request failed, or the answer makes no sense.
    #[error("asking its worker failed: {0}")]
    Failed(String),
}

/// The accounts. Clones share them. Until [`Accounts::reached`] nothing can be written.
#[derive(Clone, Default)]
pub struct Accounts {
    broker: Arc<OnceLock<Broker>>,
    directory: Directory,
}

impl Accounts {
    /// With a view that others share.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self { broker: Arc::default(), directory }
    }

    /// Tells that the broker is reached and its buckets stand; the first one stays.
    pub fn reached(&self, broker: Broker) {
        let _ = self.broker.set(broker);
    }

    /// What the buckets held at the last look, and this master's own writes since.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Follows the buckets until `shutdown`, once a second. With `cleans` it deletes what ended accounts leave there.
    pub async fn follow(
        self,
        broker: Broker,
        fleet: watch::Receiver<Fleet>,
        cleans: bool,
        shutdown: CancellationToken,
    ) {
        follow::run(&self.directory, broker, fleet, cleans, shutdown).await;
    }

    /// An account's entry as the broker has it now, ended or not.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] where there is none; [`AccountError::Unreadable`] and those of the broker.
    pub async fn get(&self, id: &AccountId) -> Result<Configured, AccountError> {
        let (revision, entry) = self.read(id).await?;
        let entry = entry.ok_or_else(|| AccountError::Unknown(id.clone()))?;
        let changed_at = self.directory.read().accounts().get(id).and_then(|known| known.changed_at);
        Ok(Configured { revision, changed_at, entry })
    }

    /// Adds an account, or adds one again that has ended. One that was erased keeps the mark of it, so that nothing of
    /// what the stream holds by now is taken in, by whoever; one that was removed goes on with what it had.
    ///
    /// # Errors
    /// [`AccountError::Exists`], [`AccountError::Settings`], and those of the broker.
    pub async fn add(
        &self,
        id: &AccountId,
        config: AccountConfig,
        paused: bool,
        plain_secrets: bool,
    ) -> Result<Configured, AccountError> {
        check(&config, None, plain_secrets)?;
        for _ in 0..TRIES_MAX {
            let (revision, before) = self.read(id).await?;
            let erased = match before {
                None => None,
                Some(AccountEntry::Active(_) | AccountEntry::Paused(_)) => {
                    return Err(AccountError::Exists { id: id.clone(), revision });
                }
                Some(AccountEntry::Removed(ended)) => ended.erased,
                Some(AccountEntry::Erased(ended)) => {
                    Some(Erased { at: ended.at, upto: self.stream_end().await? })
                }
            };
            let config = AccountConfig { erased, ..config.clone() };
            let entry = if paused { AccountEntry::Paused(config) } else { AccountEntry::Active(config) };
            if let Some(written) = self.write(id, entry, revision, false).await? {
                tracing::info!(account.id = %id, account.revision = written.revision, paused, "account added");
                return Ok(written);
            }
        }
        Err(self.stale(id).await)
    }

    /// Replaces an account's settings, where `revision` is its last write. Marks of hidden values stand for what is
    /// stored. Writes nothing where nothing differs.
    ///
    /// # Errors
    /// [`AccountError::Stale`] where another has written since, and as for [`Accounts::add`].
    pub async fn set(
        &self,
        id: &AccountId,
        revision: u64,
        mut config: AccountConfig,
        plain_secrets: bool,
    ) -> Result<Configured, AccountError> {
        let now = self.get(id).await?;
        let before = now.entry.config().ok_or_else(|| ended(id, &now.entry))?;
        if now.revision != revision {
            return Err(AccountError::Stale { id: id.clone(), revision: now.revision });
        }
        unmask(&mut config, before);
        check(&config, Some(before), plain_secrets)?;
        config.erased = before.erased;
        if config == *before {
            return Ok(now);
        }
        let drops_secret = has_secrets_that_go(before, &config);
        let paused = matches!(now.entry, AccountEntry::Paused(_));
        let entry = if paused { AccountEntry::Paused(config) } else { AccountEntry::Active(config) };
        match self.write(id, entry, revision, drops_secret).await? {
            Some(written) => {
                tracing::info!(account.id = %id, account.revision = written.revision, "account changed");
                Ok(written)
            }
            None => Err(self.stale(id).await),
        }
    }

    /// Has an account given back by its holder and held by nobody; one that is paused stays so.
    ///
    /// # Errors
    /// [`AccountError::Unknown`], [`AccountError::Ended`] and those of the broker.
    pub async fn pause(&self, id: &AccountId) -> Result<Configured, AccountError> {
        self.turn(id, "account paused", AccountEntry::Paused).await
    }

    /// Has a paused account captured again; one that is not paused stays as it is.
    ///
    /// # Errors
    /// As for [`Accounts::pause`].
    pub async fn resume(&self, id: &AccountId) -> Result<Configured, AccountError> {
        self.turn(id, "account resumed", AccountEntry::Active).await
    }

    async fn turn(
        &self,
        id: &AccountId,
        done: &'static str,
        into: impl Fn(AccountConfig) -> AccountEntry,
    ) -> Result<Configured, AccountError> {
        for _ in 0..TRIES_MAX {
            let now = self.get(id).await?;
            let entry = into(now.entry.config().ok_or_else(|| ended(id, &now.entry))?.clone());
            if entry == now.entry {
                return Ok(now);
            }
            if let Some(written) = self.write(id, entry, now.revision, false).await? {
                tracing::info!(account.id = %id, account.revision = written.revision, "{done}");
                return Ok(written);
            }
        }
        Err(self.stale(id).await)
    }

    /// Ends an account: it is captured no more, nothing late of it is taken in, what is stored stays. With
    /// `unconfigured` also one that has no entry, but of which something is stored.
    ///
    /// # Errors
    /// As for [`Accounts::pause`]; [`AccountError::Ended`] for one that was erased.
    pub async fn remove(&self, id: &AccountId, unconfigured: bool) -> Result<Configured, AccountError> {
        self.end(id, unconfigured, false).await
    }

    /// Ends an account, and has everything that was stored of it deleted. It cannot be undone.
    ///
    /// # Errors
    /// [`AccountError::Unknown`] and those of the broker.
    pub async fn erase(&self, id: &AccountId, unconfigured: bool) -> Result<Configured, AccountError> {
        self.end(id, unconfigured, true).await
    }

    async fn end(&self, id: &AccountId, unconfigured: bool, erase: bool) -> Result<Configured, AccountError> {
        for _ in 0..TRIES_MAX {
            let (revision, before) = self.read(id).await?;
            match &before {
                None if !unconfigured => return Err(AccountError::Unknown(id.clone())),
                Some(entry @ AccountEntry::Erased(_)) if !erase => return Err(ended(id, entry)),
                Some(entry @ AccountEntry::Erased(_)) => {
                    return Ok(Configured { revision, changed_at: None, entry: entry.clone() });
                }
                Some(entry @ AccountEntry::Removed(_)) if !erase => {
                    return Ok(Configured { revision, changed_at: None, entry: entry.clone() });
                }
                _ => {}
            }
            let earlier = before.as_ref().and_then(AccountEntry::erased_at);
            // The last erasure is the one with the largest time, whatever became of this host's clock.
            let at = earlier.map_or(now(), |earlier| now().max(UnixMs(earlier.0.saturating_add(1))));
            let erased = match &before {
                Some(AccountEntry::Active(config) | AccountEntry::Paused(config)) => config.erased,
                Some(AccountEntry::Removed(ended)) => ended.erased,
                Some(AccountEntry::Erased(_)) | None => None,
            };
            let end = Ended { at, upto: Some(self.stream_end().await?), erased };
            let entry = if erase { AccountEntry::Erased(end) } else { AccountEntry::Removed(end) };
            if let Some(written) = self.write(id, entry, revision, true).await? {
                tracing::info!(account.id = %id, account.revision = written.revision, erase, "account ended");
                return Ok(written);
            }
        }
        Err(self.stale(id).await)
    }

    /// Has a person's records up to now deleted, and kept from coming back; newer ones are taken in. `newest` is the
    /// time of the newest one that is stored: a platform's clock may be ahead of ours.
    ///
    /// # Errors
    /// [`AccountError::NotReached`] and those of the broker.
    pub async fn erase_person(
        &self,
        id: &AccountId,
        person: &RecordId,
        newest: Option<UnixMs>,
    ) -> Result<Erasure, AccountError> {
        let broker = self.broker().map_err(AccountError::NotReached)?;
        let erasure =
            Erasure { person: PersonHash::of(id, person), at: newest.max(Some(now())).unwrap_or_else(now) };
        let json = serde_json::to_vec(&erasure).map_err(|error| PublishError::Failed(error.to_string()))?;
        put_key(broker, format!("{ERASURES_PREFIX}{}", erasure.key(id)), Bytes::from(json), None).await?;
        tracing::info!(account.id = %id, "a person is erased");
        Ok(erasure)
    }

    /// Asks the holder of an account, and waits for its answer for up to [`COMMAND_TIMEOUT`], about a login up to
    /// [`LOGIN_TIMEOUT`].
    ///
    /// # Errors
    /// [`AskError`]; after [`AskError::NoAnswer`] it may be done all the same.
    pub async fn ask(&self, id: &AccountId, command: &Command) -> Result<CommandAnswer, AskError> {
        let broker = self.broker().map_err(AskError::NotReached)?;
        let payload = serde_json::to_vec(command).map_err(|error| AskError::Failed(error.to_string()))?;
        let timeout = match command {
            Command::Sync {} => COMMAND_TIMEOUT,
            Command::LoginView { .. } | Command::LoginInput { .. } | Command::LoginEnd {} => LOGIN_TIMEOUT,
        };
        let request = async_nats::Request::new().payload(payload.into()).timeout(Some(timeout));
        let answer = broker.client().send_request(Topic::Command.subject(id), request);
        // The client queues while it is disconnected; the outer limit bounds that as well.
        let answer = tokio::time::timeout(timeout, answer).await.map_err(|_| AskError::NoAnswer(timeout))?;
        let answer = answer.map_err(|error| match error.kind() {
            async_nats::RequestErrorKind::NoResponders => AskError::NoHolder,
            async_nats::RequestErrorKind::TimedOut => AskError::NoAnswer(timeout),
            _ => AskError::Failed(error.to_string()),
        })?;
        let unread = |error| AskError::Failed(format!("its answer cannot be read: {error}"));
        serde_json::from_slice(&answer.payload).map_err(unread)
    }

    /// The broker, where it is connected; otherwise why not.
    fn broker(&self) -> Result<&Broker, &'static str> {
        let broker = self.broker.get().ok_or("this master has not reached it yet")?;
        if broker.is_connected() { Ok(broker) } else { Err("the connection to it is lost") }
    }

    /// What is written last under the account's key: its sequence, 0 where there is none, and the entry.
    async fn read(&self, id: &AccountId) -> Result<(u64, Option<AccountEntry>), AccountError> {
        let broker = self.broker().map_err(AccountError::NotReached)?;
        let subject = format!("{ACCOUNTS_PREFIX}{id}");
        let Some(stored) = last_at_leader(broker, ACCOUNTS_STREAM, &subject).await? else {
            return Ok((0, None));
        };
        if stored.is_gone() {
            return Ok((stored.seq, None));
        }
        let entry = serde_json::from_slice(&stored.payload);
        let unreadable = |error: serde_json::Error| AccountError::Unreadable {
            id: id.clone(),
            reason: follow::said(&error),
        };
        Ok((stored.seq, Some(entry.map_err(unreadable)?)))
    }

    /// Writes an entry, if the key's last write is still `expected`; `None` if it is not. With `forgets` the bucket keeps
    /// nothing of what it held before.
    async fn write(
        &self,
        id: &AccountId,
        entry: AccountEntry,
        expected: u64,
        forgets: bool,
    ) -> Result<Option<Configured>, AccountError> {
        let broker = self.broker().map_err(AccountError::NotReached)?;
        let json = serde_json::to_vec(&entry).map_err(|error| PublishError::Failed(error.to_string()))?;
        let (subject, value) = (format!("{ACCOUNTS_PREFIX}{id}"), Bytes::from(json));
        let written = match forgets {
            true => replace_key(broker, subject, value, Some(expected)).await,
            false => put_key(broker, subject, value, Some(expected)).await,
        };
        match written {
            Ok(ack) => {
                let written = Configured { revision: ack.seq, changed_at: Some(now()), entry };
                self.directory.note(id.clone(), written.clone());
                Ok(Some(written))
            }
            Err(PublishError::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn stale(&self, id: &AccountId) -> AccountError {
        match self.read(id).await {
            Ok((revision, _)) => AccountError::Stale { id: id.clone(), revision },
            Err(error) => error,
        }
    }

    /// The last message of the stream of snapshots.
    async fn stream_end(&self) -> Result<StreamPoint, AccountError> {
        let broker = self.broker().map_err(AccountError::NotReached)?;
        let stream = broker.jetstream().get_stream(SNAPSHOTS).await;
        let stream = stream.map_err(|error| AccountError::StreamEnd(error.to_string()))?;
        let info = stream.cached_info();
        let created = u64::try_from(info.created.unix_timestamp_nanos());
        let incarnation =
            created.map_err(|_| AccountError::StreamEnd("it was created at no valid time".to_owned()))?;
        Ok(StreamPoint { incarnation, seq: info.state.last_sequence })
    }
}

/// Whether a secret in plain text is replaced or dropped: it is not to stay in the bucket's history.
fn has_secrets_that_go(before: &AccountConfig, after: &AccountConfig) -> bool {
    let shown = masked(&before.settings);
    let secret = |name: &str, value: &str| {
        shown.get(name).is_none_or(|shown| shown != value) && !value.starts_with(check::SEALED_PREFIX)
    };
    before.settings.iter().any(|(name, value)| secret(name, value) && after.settings.get(name) != Some(value))
}

fn ended(id: &AccountId, entry: &AccountEntry) -> AccountError {
    let how = if matches!(entry, AccountEntry::Erased(_)) { "erased" } else { "removed" };
    AccountError::Ended { id: id.clone(), how }
}
