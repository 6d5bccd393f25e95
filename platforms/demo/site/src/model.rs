//! What one account of the demo platform consists of, and how its ids are made. Pure values: no clock, no web,
//! and nothing of how they are served. Equal seeds and equal moments give equal data.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

/// The moment from which ids count, in ms since 1970 (November 2010).
const ID_EPOCH_MS: i64 = 1_288_834_974_657;
/// The account's owner in [`Data::users`].
pub(crate) const OWNER: usize = 0;

/// Somebody on the platform.
pub(crate) struct User {
    pub(crate) uid: u64,
    pub(crate) sec_uid: String,
    pub(crate) nickname: String,
}

impl User {
    pub(crate) fn avatar_url(&self) -> String {
        format!("https://p3.demo.example/aweme/100x100/{}.jpeg", self.uid % 1000)
    }
}

/// What a work is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkKind {
    Video,
    Image,
    Article,
}

/// A published work.
pub(crate) struct Work {
    pub(crate) id: u64,
    pub(crate) kind: WorkKind,
    pub(crate) title: String,
    pub(crate) caption: Option<String>,
    pub(crate) published_ms: i64,
    pub(crate) duration_ms: i64,
    pub(crate) images: Vec<String>,
    pub(crate) play_count: i64,
    pub(crate) digg_count: i64,
    pub(crate) comment_count: i64,
    pub(crate) share_count: i64,
    pub(crate) collect_count: i64,
    pub(crate) deleted: bool,
}

impl Work {
    pub(crate) fn url(&self) -> String {
        format!("https://www.demo.example/video/{}", self.id)
    }

    pub(crate) fn cover_url(&self) -> String {
        format!("https://p9.demo.example/cover/{}.jpeg?x-expires=1", self.id)
    }

    pub(crate) fn video_url(&self) -> Option<String> {
        (self.kind == WorkKind::Video).then(|| format!("https://v26.demo.example/{}/play.mp4", self.id))
    }
}

/// A comment on a work, or a reply to one.
pub(crate) struct Comment {
    pub(crate) id: u64,
    pub(crate) work: u64,
    /// The first comment of its thread, for a reply.
    pub(crate) parent: Option<u64>,
    /// The reply that it answers, below the first comment.
    pub(crate) reply_to: Option<u64>,
    pub(crate) user: usize,
    pub(crate) text: String,
    pub(crate) created_ms: i64,
    pub(crate) edited_ms: Option<i64>,
    pub(crate) digg_count: i64,
    pub(crate) reply_count: i64,
    pub(crate) images: Vec<String>,
    pub(crate) deleted: bool,
}

/// A thread of direct messages.
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) user: usize,
    /// The group's name; `None` for a counterpart.
    pub(crate) group: Option<String>,
    pub(crate) unread_count: i64,
    pub(crate) deleted: bool,
    /// Ids of its messages: ids rise with time.
    pub(crate) messages: BTreeSet<u64>,
}

/// What a direct message carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Text,
    Image,
    Card,
}

/// A direct message.
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) conversation: String,
    pub(crate) sender: usize,
    pub(crate) kind: MessageKind,
    pub(crate) text: Option<String>,
    pub(crate) media_url: Option<String>,
    pub(crate) sent_ms: i64,
    pub(crate) edited_ms: Option<i64>,
    pub(crate) quotes: Option<u64>,
    pub(crate) recalled: bool,
}

impl Message {
    /// What the list of conversations shows of it.
    pub(crate) fn digest(&self) -> String {
        match (&self.text, self.kind) {
            _ if self.recalled => "[消息已撤回]".to_owned(),
            (_, MessageKind::Image) => "[图片]".to_owned(),
            (_, MessageKind::Card) => "[商品卡片]".to_owned(),
            (text, MessageKind::Text) => text.clone().unwrap_or_default(),
        }
    }
}

/// What a notice tells of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeKind {
    Like,
    Comment,
    Follow,
    Mention,
    System,
}

/// A notice of the platform.
pub(crate) struct Notice {
    pub(crate) id: u64,
    pub(crate) kind: NoticeKind,
    pub(crate) user: Option<usize>,
    pub(crate) work: Option<u64>,
    pub(crate) comment: Option<u64>,
    pub(crate) text: String,
    pub(crate) at_ms: i64,
}

/// Everything that one account has on the platform.
pub(crate) struct Data {
    pub(crate) rng: Rng,
    pub(crate) users: Vec<User>,
    pub(crate) works: BTreeMap<u64, Work>,
    pub(crate) comments: BTreeMap<u64, Comment>,
    /// What stands directly below a work or a comment.
    pub(crate) children: BTreeMap<u64, BTreeSet<u64>>,
    pub(crate) conversations: BTreeMap<String, Conversation>,
    pub(crate) messages: BTreeMap<u64, Message>,
    pub(crate) notices: BTreeMap<u64, Notice>,
    /// What is older was there at the start; what is not has happened since.
    pub(crate) start_ms: i64,
    account_number: u64,
    made: u64,
}

impl Data {
    /// An account with only its owner. `account_number` is its place in the site's list.
    pub(crate) fn new(name: &str, account_number: usize, seed: u64, start_ms: i64) -> Self {
        // FNV-1a: each account its own random numbers, whatever the others are called.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut data = Self {
            rng: Rng::with_seed(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            users: Vec::new(),
            works: BTreeMap::new(),
            comments: BTreeMap::new(),
            children: BTreeMap::new(),
            conversations: BTreeMap::new(),
            messages: BTreeMap::new(),
            notices: BTreeMap::new(),
            start_ms,
            account_number: account_number as u64,
            made: 0,
        };
        data.add_user(format!("{name} 官方店"));
        data
    }

    /// A new id of 19 digits for something that happened at `at_ms`; ids rise with time. Counts what was made.
    pub(crate) fn next_id(&mut self, at_ms: i64) -> u64 {
        self.made += 1;
        let elapsed_ms = u64::try_from(at_ms - ID_EPOCH_MS).unwrap_or(0);
        (elapsed_ms << 22) | ((self.account_number & 0x3ff) << 12) | (self.made & 0xfff)
    }

    /// How many ids were made: tells texts apart.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Adds somebody of this name and returns the place in `users`.
    pub(crate) fn add_user(&mut self, nickname: String) -> usize {
        let uid = self.rng.u64(3_000_000_000_000_000_000..4_000_000_000_000_000_000);
        let tail: String = (0..43).map(|_| self.rng.alphanumeric()).collect();
        self.users.push(User { uid, sec_uid: format!("MS4wLjABAAAA{tail}"), nickname });
        self.users.len() - 1
    }

    /// Files `comment` below its work or its parent and counts it there.
    pub(crate) fn add_comment(&mut self, comment: Comment) {
        let above = comment.parent.unwrap_or(comment.work);
        self.children.entry(above).or_default().insert(comment.id);
        if let Some(work) = self.works.get_mut(&comment.work) {
            work.comment_count += 1;
        }
        if let Some(parent) = comment.parent.and_then(|id| self.comments.get_mut(&id)) {
            parent.reply_count += 1;
        }
        self.comments.insert(comment.id, comment);
    }

    /// Files `message` in its conversation; what others write is unread, and writing reads all.
    pub(crate) fn add_message(&mut self, message: Message) {
        if let Some(conversation) = self.conversations.get_mut(&message.conversation) {
            conversation.messages.insert(message.id);
            conversation.unread_count =
                if message.sender == OWNER { 0 } else { conversation.unread_count + 1 };
        }
        self.messages.insert(message.id, message);
    }

    /// The newest message of a conversation.
    pub(crate) fn last_message(&self, conversation: &Conversation) -> Option<&Message> {
        conversation.messages.last().and_then(|id| self.messages.get(id))
    }
}
