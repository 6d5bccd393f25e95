//! What the fleet agrees on through the broker's buckets: which accounts there are, who holds which, and what is
//! asked of a holder.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::account::{InstanceId, WorkerId};
use crate::login::{LoginInput, LoginPart, LoginScene};
use crate::time::UnixMs;

/// The shortest and the longest publish interval of an account, in seconds.
pub const INTERVAL_S: std::ops::RangeInclusive<u64> = 1..=3_600;
/// The publish interval where none is given, in seconds.
pub const INTERVAL_S_DEFAULT: u64 = 30;
/// The most settings or labels of an account, and labels of a worker.
pub const PAIRS_MAX: usize = 64;
/// The longest value of a setting or label, in bytes.
pub const VALUE_BYTES_MAX: usize = 4_096;

/// What the bucket `accounts` holds for an account: JSON with the member `state`. Written by the master alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum AccountEntry {
    /// To be captured.
    Active(AccountConfig),
    /// Known, but held by nobody until it is resumed.
    Paused(AccountConfig),
    /// Not captured any more; what was stored of it stays readable. Nothing late is taken in.
    Removed(Ended),
    /// Removed, and everything that was stored of it deleted. Nothing late brings it back.
    Erased(Ended),
}

impl AccountEntry {
    /// Its settings, unless it has ended.
    #[must_use]
    pub fn config(&self) -> Option<&AccountConfig> {
        match self {
            AccountEntry::Active(config) | AccountEntry::Paused(config) => Some(config),
            AccountEntry::Removed(_) | AccountEntry::Erased(_) => None,
        }
    }

    /// Its settings, where it is to be captured.
    #[must_use]
    pub fn active(&self) -> Option<&AccountConfig> {
        match self {
            AccountEntry::Active(config) => Some(config),
            _ => None,
        }
    }

    /// When the account was last erased, whatever it is now.
    #[must_use]
    pub fn erased_at(&self) -> Option<UnixMs> {
        match self {
            AccountEntry::Active(config) | AccountEntry::Paused(config) => config.erased.map(|mark| mark.at),
            AccountEntry::Removed(ended) => ended.erased.map(|mark| mark.at),
            AccountEntry::Erased(ended) => Some(ended.at),
        }
    }
}

/// The end of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, by the master's clock; later than every earlier erasure of the account.
    pub at: UnixMs,
    /// The end of the stream of snapshots then: of a removed account what came up to there is taken in, nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upto: Option<StreamPoint>,
    /// An erasure before this end, which whoever has not carried it out yet still does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Erased>,
}

/// The mark of an erasure, which an account keeps when it is added again: everything of it up to there is to be deleted
/// wherever it still is, and is not taken in any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// When, by the master's clock. Of two erasures of an account the later has the larger one.
    pub at: UnixMs,
    /// The end of the stream of snapshots when the account was added again.
    pub upto: StreamPoint,
}

/// An account's settings.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// Time between two publishes of what changed, in seconds ([`INTERVAL_S`]); something inbound goes at once.
    #[serde(default = "default_interval_s")]
    pub interval_s: u64,
    /// Only workers that carry all of these labels hold it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the platform asks of its accounts, such as an address and a password. A value may be sealed
    /// (`snapfleet-worker seal`), so that only workers can read it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The account was erased once, and added again later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Erased>,
}

fn default_interval_s() -> u64 {
    INTERVAL_S_DEFAULT
}

impl Default for AccountConfig {
    fn default() -> Self {
        Self {
            interval_s: INTERVAL_S_DEFAULT,
            labels: BTreeMap::new(),
            settings: BTreeMap::new(),
            erased: None,
        }
    }
}

impl fmt::Debug for AccountConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values of settings may be secrets.
        let settings: Vec<&str> = self.settings.keys().map(String::as_str).collect();
        f.debug_struct("AccountConfig")
            .field("interval_s", &self.interval_s)
            .field("labels", &self.labels)
            .field("settings", &settings)
            .field("erased", &self.erased)
            .finish()
    }
}

/// Why an account's settings were refused. Each names the setting and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The interval is out of range.
    #[error("interval_s = {0} is not within 1 to 3600")]
    Interval(u64),
    /// Too many settings or labels.
    #[error("{count} {what}: at most {PAIRS_MAX} are taken")]
    TooMany {
        /// Settings or labels.
        what: &'static str,
        /// How many were given.
        count: usize,
    },
    /// The name of a setting or label is not one.
    #[error("{what} {name:?} is not valid: use 1 to 64 of the characters A-Z, a-z, 0-9, '_' and '-'")]
    Name {
        /// Setting or label.
        what: &'static str,
        /// What was given.
        name: String,
    },
    /// A value is too long or has control characters. It is not shown: it may be a secret.
    #[error("the value of {what} {name:?} is over {VALUE_BYTES_MAX} bytes or has control characters")]
    Value {
        /// Setting or label.
        what: &'static str,
        /// Of which.
        name: String,
    },
}

impl AccountConfig {
    /// Whether the settings can be used.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that can not.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !INTERVAL_S.contains(&self.interval_s) {
            return Err(ConfigError::Interval(self.interval_s));
        }
        check_pairs("label", &self.labels)?;
        check_pairs("setting", &self.settings)
    }
}

/// Whether names and values of settings or labels can be used; `what` is the word for one of them.
///
/// # Errors
/// [`ConfigError`] for the first that can not.
pub fn check_pairs(what: &'static str, pairs: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    if pairs.len() > PAIRS_MAX {
        let what = if what == "label" { "labels" } else { "settings" };
        return Err(ConfigError::TooMany { what, count: pairs.len() });
    }
    for (name, value) in pairs {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err(ConfigError::Name { what, name: name.chars().take(80).collect() });
        }
        if value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
            return Err(ConfigError::Value { what, name: name.clone() });
        }
    }
    Ok(())
}

/// A place in one life of the stream of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPoint {
    /// The stream's creation time in nanoseconds since 1970, which tells its lives apart.
    pub incarnation: u64,
    /// The sequence of the last message.
    pub seq: u64,
}

/// What the bucket `leases` holds for an account: who holds it. Free when no heartbeat of its instance exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The holder.
    pub instance: InstanceId,
    /// The worker whose start the instance is: after a restart it has the first claim.
    pub worker: WorkerId,
    /// When it was taken, by the holder's clock; for people.
    pub at: UnixMs,
}

/// What is asked of the holder of an account, as JSON on `command.<platform>.<account>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Load the pages anew, and publish what they show.
    Sync {},
    /// Show the login page as it is now. From then on the login is pending: for three minutes nothing reloads the page.
    LoginView {
        /// Which part.
        #[serde(default)]
        part: LoginPart,
    },
    /// Do this on the login page, and show what came of it.
    LoginInput {
        /// What.
        input: LoginInput,
    },
    /// The login is no longer pending: go on as usual.
    LoginEnd {},
}

/// What the holder answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum CommandAnswer {
    /// It was captured, and what was new is in the stream.
    Synced {
        /// The holder.
        instance: InstanceId,
        /// Records that were published for it; 0 where the pages showed nothing new.
        records: u64,
        /// The stream sequence of the account's last message.
        stream_seq: u64,
        /// Bodies and frames that were captured for it.
        captured: u64,
    },
    /// How the login stands.
    Login(LoginScene),
    /// It was not done.
    Refused {
        /// Why, and what helps.
        reason: String,
    },
}

/// How far a reader of the snapshots has come, as JSON in the bucket `readers` under the reader's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderPosition {
    /// Where it runs.
    pub host: String,
    /// What is applied.
    pub position: Option<StreamPoint>,
    /// When this was written, by the reader's clock.
    pub at: UnixMs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_as_they_are_written() {
        let config =
            AccountConfig { settings: [("a".into(), "b".into())].into(), ..AccountConfig::default() };
        let json = serde_json::to_value(AccountEntry::Paused(config.clone())).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "state": "paused", "interval_s": 30, "settings": { "a": "b" } })
        );
        let upto = StreamPoint { incarnation: 1, seq: 2 };
        let erased = Some(Erased { at: UnixMs(4), upto });
        for (entry, erased_at) in [
            (AccountEntry::Active(config.clone()), None),
            (AccountEntry::Paused(AccountConfig { erased, ..config }), Some(UnixMs(4))),
            (AccountEntry::Removed(Ended { at: UnixMs(5), upto: Some(upto), erased }), Some(UnixMs(4))),
            (AccountEntry::Removed(Ended { at: UnixMs(5), upto: None, erased: None }), None),
            (AccountEntry::Erased(Ended { at: UnixMs(6), upto: None, erased }), Some(UnixMs(6))),
        ] {
            assert_eq!(entry.erased_at(), erased_at);
            let json = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<AccountEntry>(&json).unwrap(), entry);
        }
        assert_eq!(serde_json::to_string(&Command::Sync {}).unwrap(), r#"{"command":"sync"}"#);
        assert!(serde_json::from_str::<AccountEntry>(r#"{"state":"unheard-of"}"#).is_err());
    }

    #[test]
    fn settings_that_cannot_be_are_named_and_their_values_are_not() {
        let with = |name: &str, value: &str| AccountConfig {
            settings: [(name.to_owned(), value.to_owned())].into(),
            ..AccountConfig::default()
        };
        assert!(with("pass word", "x").check().unwrap_err().to_string().contains("pass word"));
        let error = with("password", "se\ncret").check().unwrap_err().to_string();
        assert!(error.contains("password") && !error.contains("cret"), "{error}");
        assert!(AccountConfig { interval_s: 0, ..AccountConfig::default() }.check().is_err());
        assert!(with("password", "x").check().is_ok());
        assert!(!format!("{:?}", with("password", "hunter2")).contains("hunter2"));
    }
}
