//! Who a record belongs to: a platform and an account on it, each parsed once and valid ever after.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::records::RECORD_ID_BYTES_MAX;

/// The longest platform, account or instance name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a name was refused. The message names the input and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not one to 64 of the characters that are safe as a token of a subject and as a key.
    #[error(
        "{what} {input:?} is not valid: use 1 to {NAME_BYTES_MAX} of the characters A-Z, a-z, 0-9, '_' and '-'"
    )]
    Name {
        /// Which name it was meant to be.
        what: &'static str,
        /// What was given, cut to 80 characters.
        input: String,
    },
    /// No id of a record: empty, too long, or with control characters.
    #[error(
        "record id {input:?} is not valid: use 1 to {RECORD_ID_BYTES_MAX} bytes without control characters"
    )]
    Record {
        /// What was given, cut to 80 characters.
        input: String,
    },
    /// A word that a program writes where a value is missing.
    #[error("{what} {input:?} is the text of a missing value: give the real one")]
    Missing {
        /// Which name it was meant to be.
        what: &'static str,
        /// What was given.
        input: String,
    },
    /// Not of the form `<platform>.<account>`.
    #[error("account {input:?} is not valid: write it as <platform>.<account>, for example demo.shop-a")]
    Account {
        /// What was given, cut to 80 characters.
        input: String,
    },
}

/// What scripts print where they had no value; as an identifier it merges unrelated things into one.
const MISSING_WORDS: [&str; 5] = ["undefined", "null", "NaN", "None", "nil"];

pub(crate) fn is_missing_word(text: &str) -> bool {
    MISSING_WORDS.contains(&text)
}

pub(crate) fn shortened(input: &str) -> String {
    input.chars().take(80).collect()
}

fn check_name(what: &'static str, input: &str) -> Result<(), IdError> {
    let well_formed = (1..=NAME_BYTES_MAX).contains(&input.len())
        && input.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if !well_formed {
        return Err(IdError::Name { what, input: shortened(input) });
    }
    if is_missing_word(input) {
        return Err(IdError::Missing { what, input: input.to_owned() });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `input`, which must be 1 to 64 of the characters `[A-Za-z0-9_-]`.
            ///
            /// # Errors
            /// [`IdError`], naming the input, for anything else and for the text of a missing value.
            pub fn parse(input: &str) -> Result<Self, IdError> {
                check_name($what, input)?;
                Ok(Self(input.to_owned()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(input: &str) -> Result<Self, IdError> {
                Self::parse(input)
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(input: String) -> Result<Self, IdError> {
                check_name($what, &input)?;
                Ok(Self(input))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name! {
    /// A platform: the name of its folder below `platforms/` and the second token of its subjects.
    PlatformName, "platform"
}
name! {
    /// An account's name within its platform: the third token of its subjects.
    AccountName, "account name"
}
name! {
    /// One start of one worker process. Random, so that a restarted worker is never taken for its forerunner.
    InstanceId, "instance"
}
name! {
    /// A worker through all its starts: the same as long as its state_dir is.
    WorkerId, "worker id"
}
name! {
    /// A reader of the snapshots beside the writing master, such as a replica: its key in the bucket of readers.
    ReaderName, "replica name"
}

/// An account of a platform, written `<platform>.<account>`: the key of everything in the system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId {
    /// The platform that the account is on.
    pub platform: PlatformName,
    /// Its name there, chosen by the operator.
    pub account: AccountName,
}

impl AccountId {
    /// Joins two names that are valid already.
    #[must_use]
    pub fn new(platform: PlatformName, account: AccountName) -> Self {
        Self { platform, account }
    }

    /// Reads `<platform>.<account>`.
    ///
    /// # Errors
    /// [`IdError`], naming the input, where a part is missing, is not a valid name, or there are more than two.
    pub fn parse(input: &str) -> Result<Self, IdError> {
        match input.split_once('.') {
            Some((platform, account)) if !account.contains('.') => {
                Ok(Self::new(PlatformName::parse(platform)?, AccountName::parse(account)?))
            }
            _ => Err(IdError::Account { input: shortened(input) }),
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.platform, self.account)
    }
}

impl FromStr for AccountId {
    type Err = IdError;
    fn from_str(input: &str) -> Result<Self, IdError> {
        Self::parse(input)
    }
}

impl TryFrom<String> for AccountId {
    type Error = IdError;
    fn try_from(input: String) -> Result<Self, IdError> {
        Self::parse(&input)
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_names_are_refused_and_named() {
        let too_long = "x".repeat(65);
        for bad in ["", "a b", "a*", ">", "a.b", "undefined", "null", "é", "a\n", too_long.as_str()] {
            let error = AccountName::parse(bad).unwrap_err().to_string();
            let shown = format!("{:?}", shortened(bad));
            assert!(error.contains(&shown), "{error} does not name {shown}");
        }
        assert!(AccountName::parse(&"x".repeat(64)).is_ok());
    }

    #[test]
    fn an_account_needs_exactly_two_parts() {
        for bad in ["demo", "demo.", ".a", "a.b.c", "demo.undefined", ""] {
            assert!(AccountId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn account_ids_round_trip(id in "[A-Za-z0-9_-]{1,64}\\.[A-Za-z0-9_-]{1,64}") {
            if let Ok(parsed) = AccountId::parse(&id) {
                prop_assert_eq!(parsed.to_string(), id);
            }
        }
    }
}
