//! What can happen to an account: a message comes, a comment is edited, a counter moves. Changes the data and says
//! what has to be pushed; knows neither who listens nor what the pushed bodies look like.

use serde::Deserialize;

use crate::model::{Conversation, Data, Message, MessageKind, Notice, NoticeKind, OWNER, User};
use crate::seed::{comment_at, message_at, new_conversation};
use crate::text;

/// Among how many of the newest an edit, a recall or a deletion chooses: people correct what they just wrote.
const RECENT: usize = 12;

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A direct message comes in, in a known conversation.
    Message,
    /// Somebody comments on a work or answers a comment; a notice comes with it.
    Comment,
    /// The text of a recent message or comment changes.
    Edit,
    /// A recent message is taken back.
    Recall,
    /// Counters of a work and of a comment move. Not pushed: the next fetch shows it.
    Counter,
    /// A recent comment is deleted.
    Delete,
    /// A message comes in from somebody new. The push does not describe the conversation: the page has to fetch it.
    NewConversation,
    /// The owner writes, from another device: a message or an answer to a comment.
    ReplyOutbound,
}

/// What happened, for whoever pushes it.
pub(crate) struct Happened {
    /// The record's kind as the record types call it.
    pub(crate) kind: &'static str,
    pub(crate) id: u64,
    pub(crate) pushes: Vec<Push>,
}

/// One thing to push.
pub(crate) enum Push {
    /// A message; `described` adds its conversation as it now stands.
    Message {
        id: u64,
        new: bool,
        described: bool,
    },
    Comment {
        id: u64,
        new: bool,
    },
    Notice(u64),
}

impl EventKind {
    /// What happens next by itself: mostly messages and comments.
    pub(crate) fn chosen(data: &mut Data) -> Self {
        match data.rng.u8(..20) {
            0..=5 => Self::Message,
            6..=10 => Self::Comment,
            11..=13 => Self::Counter,
            14 | 15 => Self::Edit,
            16 => Self::Recall,
            17 => Self::Delete,
            18 => Self::NewConversation,
            _ => Self::ReplyOutbound,
        }
    }
}

/// Makes `kind` happen at `now_ms`. `None` when there is nothing that it could happen to.
pub(crate) fn happen(data: &mut Data, kind: EventKind, now_ms: i64) -> Option<Happened> {
    match kind {
        EventKind::Message => {
            let conversation = some_conversation(data)?;
            Some(new_message(data, &conversation, None, now_ms, true))
        }
        EventKind::NewConversation => {
            let conversation = new_conversation(data, false, now_ms, false);
            Some(new_message(data, &conversation, None, now_ms, false))
        }
        EventKind::Comment => new_comment(data, false, now_ms),
        EventKind::ReplyOutbound if data.rng.bool() => {
            let conversation = some_conversation(data)?;
            Some(new_message(data, &conversation, Some(OWNER), now_ms, true))
        }
        EventKind::ReplyOutbound => new_comment(data, true, now_ms),
        EventKind::Edit if data.rng.bool() => {
            edit_message(data, now_ms).or_else(|| edit_comment(data, now_ms))
        }
        EventKind::Edit => edit_comment(data, now_ms).or_else(|| edit_message(data, now_ms)),
        EventKind::Recall => {
            let id = recent(data, |message: &Message| !message.recalled)?;
            data.messages.get_mut(&id)?.recalled = true;
            Some(changed_message(id))
        }
        EventKind::Delete => {
            let id = recent_comment(data)?;
            data.comments.get_mut(&id)?.deleted = true;
            Some(changed_comment(id))
        }
        EventKind::Counter => count(data),
    }
}

fn some_conversation(data: &mut Data) -> Option<String> {
    let live: Vec<&Conversation> = data.conversations.values().filter(|it| !it.deleted).collect();
    if live.is_empty() {
        return None;
    }
    let place = data.rng.usize(..live.len());
    live.get(place).map(|it| it.id.clone())
}

fn new_message(
    data: &mut Data,
    conversation: &str,
    sender: Option<usize>,
    now_ms: i64,
    described: bool,
) -> Happened {
    let mut message = message_at(data, conversation, now_ms);
    message.recalled = false;
    message.edited_ms = None;
    match sender {
        Some(sender) => message.sender = sender,
        None if message.sender == OWNER => {
            message.sender = data.conversations.get(conversation).map_or(OWNER, |it| it.user);
        }
        None => {}
    }
    let id = message.id;
    data.add_message(message);
    Happened { kind: "direct_message", id, pushes: vec![Push::Message { id, new: true, described }] }
}

fn new_comment(data: &mut Data, by_owner: bool, now_ms: i64) -> Option<Happened> {
    let works: Vec<u64> = data.works.values().filter(|work| !work.deleted).map(|work| work.id).collect();
    let work = *works.get(data.rng.usize(..works.len().max(1)))?;
    let mut comment = comment_at(data, work, now_ms);
    comment.deleted = false;
    comment.edited_ms = None;
    comment.digg_count = 0;
    if by_owner || data.rng.u8(..3) == 0 {
        let above: Vec<u64> = data.children.get(&work).into_iter().flatten().copied().collect();
        comment.parent = above.get(data.rng.usize(..above.len().max(1))).copied();
    }
    if by_owner {
        comment.user = OWNER;
    }
    let id = comment.id;
    let nickname = data.users.get(comment.user).map_or("", |user: &User| user.nickname.as_str());
    let text = format!("{nickname} 评论了你的作品");
    let user = comment.user;
    data.add_comment(comment);
    let mut pushes = vec![Push::Comment { id, new: true }];
    if !by_owner {
        let notice = data.next_id(now_ms);
        data.notices.insert(
            notice,
            Notice {
                id: notice,
                kind: NoticeKind::Comment,
                user: Some(user),
                work: Some(work),
                comment: Some(id),
                text,
                at_ms: now_ms,
            },
        );
        pushes.push(Push::Notice(notice));
    }
    Some(Happened { kind: "comment", id, pushes })
}

/// One of the newest messages that `fits`.
fn recent(data: &mut Data, fits: impl Fn(&Message) -> bool) -> Option<u64> {
    let newest = data.messages.values().rev().filter(|it| fits(it)).take(RECENT);
    let ids = newest.map(|message| (message.id, message.sent_ms)).collect();
    one_of(data, ids)
}

/// One of the newest comments that are not deleted.
fn recent_comment(data: &mut Data) -> Option<u64> {
    let newest = data.comments.values().rev().filter(|it| !it.deleted).take(RECENT);
    let ids = newest.map(|comment| (comment.id, comment.created_ms)).collect();
    one_of(data, ids)
}

/// One of `ids`, of those that came since the start if there are any: what was there at the start then is the
/// same again after a restart, and a recall need not be taken back.
fn one_of(data: &mut Data, mut ids: Vec<(u64, i64)>) -> Option<u64> {
    let start_ms = data.start_ms;
    if ids.iter().any(|(_, at_ms)| *at_ms >= start_ms) {
        ids.retain(|(_, at_ms)| *at_ms >= start_ms);
    }
    ids.get(data.rng.usize(..ids.len().max(1))).map(|(id, _)| *id)
}

fn edit_message(data: &mut Data, now_ms: i64) -> Option<Happened> {
    let id = recent(data, |message| message.kind == MessageKind::Text && !message.recalled)?;
    let number = data.made().wrapping_add(id & 0xff);
    let text = text::remark(&mut data.rng, number);
    let message = data.messages.get_mut(&id)?;
    message.text = Some(format!("{text} ✏️{now_ms}"));
    message.edited_ms = Some(now_ms);
    Some(changed_message(id))
}

fn edit_comment(data: &mut Data, now_ms: i64) -> Option<Happened> {
    let id = recent_comment(data)?;
    let number = data.made().wrapping_add(id & 0xff);
    let text = text::remark(&mut data.rng, number);
    let comment = data.comments.get_mut(&id)?;
    comment.text = format!("{text} ✏️{now_ms}");
    comment.edited_ms = Some(now_ms);
    Some(changed_comment(id))
}

fn changed_message(id: u64) -> Happened {
    Happened { kind: "direct_message", id, pushes: vec![Push::Message { id, new: false, described: true }] }
}

fn changed_comment(id: u64) -> Happened {
    Happened { kind: "comment", id, pushes: vec![Push::Comment { id, new: false }] }
}

fn count(data: &mut Data) -> Option<Happened> {
    let place = data.rng.usize(..data.works.len().max(1));
    let step = data.rng.i64(1..500);
    let work = data.works.values_mut().nth(place)?;
    work.play_count += step;
    work.digg_count += step / 10;
    work.share_count += step / 100;
    work.collect_count += step / 50;
    let id = work.id;
    let place = data.rng.usize(..data.comments.len().max(1));
    if let Some(comment) = data.comments.values_mut().nth(place) {
        comment.digg_count += 1 + step / 100;
    }
    Some(Happened { kind: "content", id, pushes: Vec::new() })
}
