//! Erased persons: which records are a person's, and from when on they are taken in again. Master and workers drop
//! by the same rule, so that nothing late, replayed or captured again brings back what was erased.
//!
//! A person is kept as a hash: what was erased is not named by the record of its erasure.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::account::AccountId;
use crate::records::{ConversationType, Record, RecordId};
use crate::time::UnixMs;

/// Digits of a hash as text.
const HEX_DIGITS: usize = 32;

/// A person as one account sees it: a 128-bit hash of the account and the platform's id of the person. It tells
/// persons apart and does not name them; whoever can guess the id can check the guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersonHash(u128);

/// The text is not 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a person's hash is not valid: it has 32 hex digits, 0-9 and a-f")]
pub struct PersonHashError;

impl PersonHash {
    /// Of the person whose id on the account's platform is `person`.
    #[must_use]
    pub fn of(account: &AccountId, person: &RecordId) -> Self {
        // No id holds a zero byte, so no two pairs make the same text.
        Self(xxhash_rust::xxh3::xxh3_128(format!("{account}\0{person}").as_bytes()))
    }

    /// As a number, for keys.
    #[must_use]
    pub fn to_number(self) -> u128 {
        self.0
    }

    /// From [`PersonHash::to_number`].
    #[must_use]
    pub fn from_number(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for PersonHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for PersonHash {
    type Err = PersonHashError;

    fn from_str(text: &str) -> Result<Self, PersonHashError> {
        let digits = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != HEX_DIGITS || !digits(text) {
            return Err(PersonHashError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| PersonHashError)
    }
}

impl TryFrom<String> for PersonHash {
    type Error = PersonHashError;

    fn try_from(text: String) -> Result<Self, PersonHashError> {
        text.parse()
    }
}

impl From<PersonHash> for String {
    fn from(person: PersonHash) -> Self {
        person.to_string()
    }
}

/// What the bucket `erasures` holds for a person, as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// Who.
    pub person: PersonHash,
    /// The person's records of this time or before, by the platform's clock, are dropped; those after it are not.
    pub at: UnixMs,
}

impl Erasure {
    /// The bucket's key: `<platform>.<account>.<32 hex digits>`.
    #[must_use]
    pub fn key(&self, account: &AccountId) -> String {
        format!("{account}.{}", self.person)
    }

    /// Reads a key of the bucket; `None` for one that is none.
    #[must_use]
    pub fn parse_key(key: &str) -> Option<(AccountId, PersonHash)> {
        let (account, person) = key.rsplit_once('.')?;
        Some((AccountId::parse(account).ok()?, person.parse().ok()?))
    }

    /// Whether `record` of `account` is this person's (the author of a comment, the counterpart of a conversation,
    /// the sender of a message or the one it was sent to, the causer of a notice), and as old as the erasure or of
    /// an unknown time.
    #[must_use]
    pub fn covers(&self, account: &AccountId, record: &Record) -> bool {
        is_by(self.at, record)
            && persons(record).into_iter().flatten().any(|id| PersonHash::of(account, id) == self.person)
    }
}

/// The erased persons of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasures {
    account: AccountId,
    persons: HashMap<PersonHash, UnixMs>,
}

impl Erasures {
    /// None yet.
    #[must_use]
    pub fn new(account: AccountId) -> Self {
        Self { account, persons: HashMap::new() }
    }

    /// Adds a person; of two erasures of one the later counts. True if that changed anything.
    pub fn insert(&mut self, erasure: Erasure) -> bool {
        let known = self.persons.get(&erasure.person);
        if known.is_some_and(|at| *at >= erasure.at) {
            return false;
        }
        self.persons.insert(erasure.person, erasure.at);
        true
    }

    /// Whether nobody was erased.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.persons.is_empty()
    }

    /// The erasure that covers `record`, if one does ([`Erasure::covers`]).
    #[must_use]
    pub fn covering(&self, record: &Record) -> Option<Erasure> {
        self.of(record).into_iter().flatten().find(|erasure| is_by(erasure.at, record))
    }

    /// What follows from a conversation with an erased person where its id is another than the person's: its messages
    /// name only the conversation, which is therefore to be inserted like a person. `None` where that is done, and for
    /// any other record.
    #[must_use]
    pub fn implied(&self, record: &Record) -> Option<Erasure> {
        let Record::Conversation(conversation) = record else { return None };
        let at = self.of(record).into_iter().flatten().map(|erasure| erasure.at).max()?;
        let person = PersonHash::of(&self.account, &conversation.id);
        let known = self.persons.get(&person);
        known.is_none_or(|known| *known < at).then_some(Erasure { person, at })
    }

    /// The erasures of a record's persons, whatever its time.
    fn of(&self, record: &Record) -> [Option<Erasure>; 2] {
        if self.persons.is_empty() {
            return [None, None];
        }
        persons(record).map(|id| {
            let person = PersonHash::of(&self.account, id?);
            self.persons.get(&person).map(|at| Erasure { person, at: *at })
        })
    }
}

fn is_by(at: UnixMs, record: &Record) -> bool {
    record.time().is_none_or(|time| time <= at)
}

/// Whose a record is. A work is the account's own; a group is no single person's.
fn persons(record: &Record) -> [Option<&RecordId>; 2] {
    match record {
        Record::Content(_) => [None, None],
        Record::Comment(comment) => [comment.author_id.as_ref(), None],
        Record::Conversation(conversation) => {
            let group = conversation.conversation_type == Some(ConversationType::Group);
            [Some(&conversation.id), conversation.counterpart_id.as_ref().filter(|_| !group)]
        }
        Record::DirectMessage(message) => [message.sender_id.as_ref(), Some(&message.conversation_id)],
        Record::Notification(notice) => [notice.actor_id.as_ref(), None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Comment, Content, Conversation, DirectMessage, Direction, Notification};

    fn id(text: &str) -> RecordId {
        RecordId::parse(text).unwrap()
    }

    fn account() -> AccountId {
        AccountId::parse("demo.a").unwrap()
    }

    fn ann() -> Erasure {
        Erasure { person: PersonHash::of(&account(), &id("ann")), at: UnixMs(100) }
    }

    fn comment(author: &str, time: Option<i64>) -> Record {
        let new = Comment::new(id("c1"), id("w1"), Direction::Inbound);
        Record::Comment(Comment { author_id: Some(id(author)), created_at: time.map(UnixMs), ..new })
    }

    fn covered(record: &Record) -> bool {
        let covers = ann().covers(&account(), record);
        let mut all = Erasures::new(account());
        assert!(all.covering(record).is_none());
        all.insert(ann());
        assert_eq!(all.covering(record), covers.then(ann));
        covers
    }

    #[test]
    fn a_persons_records_are_covered_up_to_the_time_and_without_one() {
        assert!(covered(&comment("ann", Some(100))) && covered(&comment("ann", None)));
        assert!(!covered(&comment("ann", Some(101))));
        assert!(!covered(&comment("bob", Some(1))) && !covered(&comment("bob", None)));
        assert!(!ann().covers(&AccountId::parse("demo.b").unwrap(), &comment("ann", None)));
        let nameless = Comment::new(id("ann"), id("ann"), Direction::Inbound);
        assert!(!covered(&Record::Comment(nameless)));
    }

    #[test]
    fn each_kind_has_its_own_persons() {
        let own = Content { author_id: Some(id("ann")), ..Content::new(id("ann")) };
        assert!(!covered(&Record::Content(own)));
        let with = |conversation, counterpart: Option<&str>, group: bool| {
            Record::Conversation(Conversation {
                counterpart_id: counterpart.map(id),
                conversation_type: group.then_some(ConversationType::Group),
                ..Conversation::new(id(conversation))
            })
        };
        assert!(covered(&with("ann", None, false)) && covered(&with("v1", Some("ann"), false)));
        assert!(!covered(&with("v1", Some("ann"), true)) && !covered(&with("v1", None, false)));
        let message = |conversation, sender: &str, direction| {
            let new = DirectMessage::new(id("m1"), id(conversation), direction);
            Record::DirectMessage(DirectMessage { sender_id: Some(id(sender)), ..new })
        };
        assert!(covered(&message("v1", "ann", Direction::Inbound)));
        assert!(covered(&message("ann", "owner", Direction::Outbound)));
        assert!(!covered(&message("v1", "owner", Direction::Outbound)));
        let notice = |actor| {
            let new = Notification::new(id("n1"));
            Record::Notification(Notification { actor_id: Some(id(actor)), ..new })
        };
        assert!(covered(&notice("ann")) && !covered(&notice("bob")));
    }

    #[test]
    fn a_conversation_with_the_person_stands_for_the_person_in_its_messages() {
        let mut all = Erasures::new(account());
        all.insert(ann());
        let conversation = Conversation {
            counterpart_id: Some(id("ann")),
            last_message_at: Some(UnixMs(500)),
            ..Conversation::new(id("v1"))
        };
        let newer = Record::Conversation(conversation);
        assert!(all.covering(&newer).is_none());
        let implied = all.implied(&newer).unwrap();
        assert!(all.insert(implied) && all.implied(&newer).is_none());
        let sent = Record::DirectMessage(DirectMessage {
            sent_at: Some(UnixMs(50)),
            ..DirectMessage::new(id("m1"), id("v1"), Direction::Outbound)
        });
        assert_eq!(all.covering(&sent), Some(implied));
        assert!(all.implied(&sent).is_none() && all.implied(&comment("ann", None)).is_none());
    }

    #[test]
    fn keys_and_json_round_trip_and_nothing_else_is_read() {
        let key = ann().key(&account());
        assert_eq!(Erasure::parse_key(&key), Some((account(), ann().person)));
        let json = serde_json::to_string(&ann()).unwrap();
        assert_eq!(json, format!(r#"{{"person":"{}","at":100}}"#, ann().person));
        assert_eq!(serde_json::from_str::<Erasure>(&json).unwrap(), ann());
        // Pinned: what was erased once must be covered for ever.
        assert_eq!(ann().person.to_string(), "bb9e09995a2af80589f51f25b64701b6");
        for bad in ["demo.a", "demo.a.12", "demo.a.x", &key.to_uppercase(), &format!("{key}0"), ""] {
            assert_eq!(Erasure::parse_key(bad), None, "{bad}");
        }
        assert!(PersonHash::from_str(&format!("+{}", &ann().person.to_string()[1..])).is_err());
        let older = Erasure { at: UnixMs(1), ..ann() };
        let mut all = Erasures::new(account());
        assert!(all.insert(older) && all.insert(ann()) && !all.insert(older));
    }
}
