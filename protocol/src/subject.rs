//! Accounts to subjects and back. The enum [`Topic`] is the list of all message types: a type that is not in
//! it has no name to be published or received under, and one that is in it must be handled everywhere.

use std::fmt;

use crate::account::{AccountId, AccountName, IdError, PlatformName, shortened};

/// The kinds of message that carry an account in their subject, `<topic>.<platform>.<account>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// [`crate::Snapshot`], worker to master, kept by the stream `SNAPSHOTS`.
    Snapshot,
    /// A request to the worker that holds the account; not kept.
    Command,
    /// What changed in the store, master to other programs, kept by the stream `EVENTS`.
    Event,
}

/// Why a subject is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Not three tokens beginning with a topic.
    #[error("subject {0:?} is not <snapshot|command|event>.<platform>.<account>")]
    Shape(String),
    /// A token is not a valid name.
    #[error("subject {subject:?}: {error}")]
    Name {
        /// The subject, cut to 80 characters.
        subject: String,
        /// What is wrong with the token.
        error: IdError,
    },
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 3] = [Topic::Snapshot, Topic::Command, Topic::Event];

    /// The first token of the topic's subjects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::Snapshot => "snapshot",
            Topic::Command => "command",
            Topic::Event => "event",
        }
    }

    /// The subject of one account's messages.
    #[must_use]
    pub fn subject(self, account: &AccountId) -> String {
        format!("{self}.{}.{}", account.platform, account.account)
    }

    /// The filter that takes the subjects of all accounts and nothing else.
    #[must_use]
    pub fn filter(self) -> String {
        format!("{self}.*.*")
    }

    /// Reads a subject.
    ///
    /// # Errors
    /// [`SubjectError`], naming the subject, for anything that [`Topic::subject`] does not write.
    pub fn parse(subject: &str) -> Result<(Topic, AccountId), SubjectError> {
        let shape = || SubjectError::Shape(shortened(subject));
        let name = |error| SubjectError::Name { subject: shortened(subject), error };
        let (topic, rest) = subject.split_once('.').ok_or_else(shape)?;
        let topic = Topic::ALL.into_iter().find(|known| known.as_str() == topic).ok_or_else(shape)?;
        let (platform, account) = rest.split_once('.').ok_or_else(shape)?;
        let platform = PlatformName::parse(platform).map_err(name)?;
        let account = AccountName::parse(account).map_err(name)?;
        Ok((topic, AccountId::new(platform, account)))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn subjects_round_trip(id in "[A-Za-z0-9_-]{1,64}\\.[A-Za-z0-9_-]{1,64}") {
            if let Ok(account) = AccountId::parse(&id) {
                for topic in Topic::ALL {
                    prop_assert_eq!(Topic::parse(&topic.subject(&account)), Ok((topic, account.clone())));
                }
            }
        }

        #[test]
        fn no_text_panics(subject in ".*") {
            let _ = Topic::parse(&subject);
        }
    }

    #[test]
    fn foreign_subjects_are_refused_and_named() {
        for bad in ["", "snapshot", "snapshot.demo", "snapshot.demo.a.b", "snapshot.demo.*", "other.demo.a"] {
            let error = Topic::parse(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
