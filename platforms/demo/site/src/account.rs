//! One account behind its lock: its data, what of it was served, and who listens. Every body is built and marked as
//! served in one call, so that the truth never runs ahead of or behind what goes out. Knows nothing of HTTP.

use serde_json::{Value, json};

use crate::events::{EventKind, Happened, Push, happen};
use crate::model::{Comment, Conversation, Data};
use crate::push::{Channel, Frame, Listeners};
use crate::truth::Served;
use crate::{body, truth};

/// Rows of a page when the request names no number.
const PAGE_LEN: usize = 10;
/// Most rows of a page.
const PAGE_LEN_MAX: usize = 50;

/// Where a list goes on and how far.
pub(crate) struct Span {
    /// The last row's mark of the page before; empty or "0" for the first page.
    pub(crate) cursor: String,
    pub(crate) count: Option<usize>,
}

impl Span {
    fn is_first(&self) -> bool {
        self.cursor.is_empty() || self.cursor == "0"
    }

    /// Ids of one page, newest first, with the next cursor and whether there is more.
    fn of_ids(&self, ids: impl DoubleEndedIterator<Item = u64>) -> (Vec<u64>, String, bool) {
        let below = if self.is_first() { u64::MAX } else { self.cursor.parse().unwrap_or(0) };
        self.cut(ids.rev().filter(|id| *id < below), u64::to_string)
    }

    fn cut<T>(&self, rows: impl Iterator<Item = T>, mark: impl Fn(&T) -> String) -> (Vec<T>, String, bool) {
        let len = self.count.unwrap_or(PAGE_LEN).clamp(1, PAGE_LEN_MAX);
        let mut page: Vec<T> = rows.take(len + 1).collect();
        let more = page.len() > len;
        page.truncate(len);
        let cursor = page.last().map_or_else(|| self.cursor.clone(), mark);
        (page, cursor, more)
    }
}

/// What a push did.
pub(crate) struct Pushed {
    pub(crate) kind: &'static str,
    pub(crate) id: u64,
    /// Listeners that were handed the frame.
    pub(crate) reached: usize,
}

/// An account of the site.
pub(crate) struct Account {
    pub(crate) data: Data,
    pub(crate) served: Served,
    pub(crate) listeners: Listeners,
}

impl Account {
    pub(crate) fn new(data: Data) -> Self {
        Self { data, served: Served::default(), listeners: Listeners::default() }
    }

    pub(crate) fn works(&mut self, span: &Span) -> Value {
        let (data, served) = (&self.data, &mut self.served);
        let (ids, cursor, more) = span.of_ids(data.works.keys().copied());
        let rows: Vec<Value> = ids
            .iter()
            .filter_map(|id| data.works.get(id))
            .map(|work| {
                served.mark(truth::content(data, work));
                body::work(data, work)
            })
            .collect();
        json!({ "item_list": rows, "cursor": cursor, "has_more": more, "total_count": data.works.len() })
    }

    /// What stands directly below a work (comments) or a comment (its replies).
    pub(crate) fn comments(&mut self, below: u64, span: &Span) -> Value {
        let (data, served) = (&self.data, &mut self.served);
        let ids = data.children.get(&below);
        let (page, cursor, more) = span.of_ids(ids.into_iter().flatten().copied());
        let rows: Vec<Value> = page
            .iter()
            .filter_map(|id| data.comments.get(id))
            .map(|comment: &Comment| {
                served.mark(truth::comment(data, comment));
                body::comment(data, comment)
            })
            .collect();
        let total = ids.map_or(0, std::collections::BTreeSet::len);
        json!({ "comments": rows, "cursor": cursor, "has_more": i32::from(more), "total": total })
    }

    pub(crate) fn conversations(&mut self, span: &Span) -> Value {
        let (data, served) = (&self.data, &mut self.served);
        // A conversation moves up when something is said in it, so the mark is its last moment with its id.
        let mark = |it: &Conversation| {
            let last_ms = data.last_message(it).map_or(0, |message| message.sent_ms);
            format!("{last_ms:013}.{}", it.id)
        };
        let mut sorted: Vec<(String, &Conversation)> =
            data.conversations.values().map(|it| (mark(it), it)).collect();
        sorted.sort_by(|a, b| b.0.cmp(&a.0));
        let after = sorted.into_iter().filter(|(mark, _)| span.is_first() || *mark < span.cursor);
        let (page, cursor, more) = span.cut(after, |(mark, _)| mark.clone());
        let rows: Vec<Value> = page
            .iter()
            .map(|(_, conversation)| {
                served.mark(truth::conversation(data, conversation));
                body::conversation(data, conversation)
            })
            .collect();
        json!({ "data": { "conversations": rows, "next_cursor": cursor, "has_more": more } })
    }

    pub(crate) fn messages(&mut self, conversation: &str, span: &Span) -> Value {
        let (data, served) = (&self.data, &mut self.served);
        let ids = data.conversations.get(conversation).map(|it| &it.messages);
        let (page, cursor, more) = span.of_ids(ids.into_iter().flatten().copied());
        let rows: Vec<Value> = page
            .iter()
            .filter_map(|id| data.messages.get(id))
            .map(|message| {
                served.mark(truth::direct_message(data, message));
                body::message(data, message)
            })
            .collect();
        json!({ "data": { "messages": rows, "next_cursor": cursor, "has_more": more } })
    }

    pub(crate) fn notices(&mut self, span: &Span) -> Value {
        let (data, served) = (&self.data, &mut self.served);
        let (page, cursor, more) = span.of_ids(data.notices.keys().copied());
        let rows: Vec<Value> = page
            .iter()
            .filter_map(|id| data.notices.get(id))
            .map(|notice| {
                served.mark(truth::notification(data, notice));
                body::notice(data, notice)
            })
            .collect();
        json!({ "notice_list": rows, "max_cursor": cursor, "has_more": i32::from(more) })
    }

    /// Makes something happen and pushes it to whoever listens. `None` when nothing fits.
    pub(crate) fn push(&mut self, kind: EventKind, now_ms: i64) -> Option<Pushed> {
        let Happened { kind, id, pushes } = happen(&mut self.data, kind, now_ms)?;
        let mut pushed = Pushed { kind, id, reached: 0 };
        for (place, push) in pushes.iter().enumerate() {
            let reached = match push {
                Push::Message { id, new, described } => self.push_message(*id, *new, *described, now_ms),
                Push::Comment { id, new } => self.push_comment(*id, *new, now_ms),
                Push::Notice(id) => self.push_notice(*id, now_ms),
            };
            if place == 0 {
                pushed.reached = reached;
            }
        }
        Some(pushed)
    }

    fn push_message(&mut self, id: u64, new: bool, described: bool, now_ms: i64) -> usize {
        let data = &self.data;
        let Some(message) = data.messages.get(&id) else { return 0 };
        let about = data.conversations.get(&message.conversation).filter(|_| described);
        let event = if new { "im_message" } else { "im_update" };
        let frame = Frame {
            event,
            data: json!({
                "cmd": event, "server_time": now_ms, "message": body::message(data, message),
                "conversation": about.map(|it| body::conversation(data, it)),
            })
            .to_string(),
        };
        let reached = self.listeners.send(Channel::Events, &frame);
        if reached > 0 {
            self.served.mark(truth::direct_message(data, message));
            if let Some(conversation) = about {
                self.served.mark(truth::conversation(data, conversation));
            }
        }
        reached
    }

    fn push_comment(&mut self, id: u64, new: bool, now_ms: i64) -> usize {
        let data = &self.data;
        let Some(comment) = data.comments.get(&id) else { return 0 };
        let kind = if new { "comment.new" } else { "comment.update" };
        let body = json!({ "type": kind, "ts": now_ms, "comment": body::comment(data, comment) });
        let frame = Frame { event: "", data: body.to_string() };
        let reached = self.listeners.send(Channel::Socket, &frame);
        if reached > 0 {
            self.served.mark(truth::comment(data, comment));
        }
        reached
    }

    fn push_notice(&mut self, id: u64, now_ms: i64) -> usize {
        let data = &self.data;
        let Some(notice) = data.notices.get(&id) else { return 0 };
        let body = json!({ "cmd": "notice", "server_time": now_ms, "notice": body::notice(data, notice) });
        let frame = Frame { event: "notice", data: body.to_string() };
        let reached = self.listeners.send(Channel::Events, &frame);
        if reached > 0 {
            self.served.mark(truth::notification(data, notice));
        }
        reached
    }
}
