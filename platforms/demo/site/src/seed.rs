//! The data an account starts with, all of it before one moment. Uses the account's own random numbers alone.

use crate::config::Config;
use crate::model::{
    Comment, Conversation, Data, Message, MessageKind, Notice, NoticeKind, OWNER, User, Work, WorkKind,
};
use crate::text;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// The start's works were published within this many days before it.
const WORK_DAYS: i64 = 60;
/// People who comment on one account's works.
const COMMENTERS: usize = 12;
/// Most replies below one comment of the start: more than a page of them.
const REPLIES_MAX: usize = 8;

/// Makes the account `name`, number `account_number` of the site, as it is at `start_ms`.
pub(crate) fn seeded(config: &Config, name: &str, account_number: usize, start_ms: i64) -> Data {
    let mut data = Data::new(name, account_number, config.seed, start_ms);
    for _ in 0..COMMENTERS {
        let nickname = text::name(&mut data.rng);
        data.add_user(nickname);
    }
    for number in 0..config.works {
        let oldest = number + 1 == config.works && config.works > 2;
        let age_ms = WORK_DAYS * DAY_MS * (number as i64 + 1) / (config.works as i64 + 1);
        let work = add_work(&mut data, start_ms - age_ms, oldest);
        for _ in 0..config.comments {
            add_thread(&mut data, work, start_ms - age_ms, start_ms);
        }
    }
    for number in 0..config.conversations {
        add_conversation(&mut data, config, number, start_ms);
    }
    for number in 0..config.notices {
        add_notice(&mut data, start_ms - (number as i64 + 1) * 3 * 60 * 60 * 1000);
    }
    data
}

fn add_work(data: &mut Data, published_ms: i64, deleted: bool) -> u64 {
    let id = data.next_id(published_ms);
    let kind = [WorkKind::Video, WorkKind::Video, WorkKind::Image, WorkKind::Article][data.rng.usize(..4)];
    let number = data.made();
    let title = text::title(&mut data.rng, number);
    let caption = data.rng.bool().then(|| text::remark(&mut data.rng, number));
    let pictures = if kind == WorkKind::Image { data.rng.usize(1..4) } else { 0 };
    let play_count = data.rng.i64(100..5_000_000);
    let work = Work {
        id,
        kind,
        title,
        caption,
        published_ms,
        duration_ms: if kind == WorkKind::Video { data.rng.i64(3_000..600_000) } else { 0 },
        images: (0..pictures).map(|n| format!("https://p9.demo.example/img/{id}-{n}.webp")).collect(),
        play_count,
        digg_count: play_count / 20,
        comment_count: 0,
        share_count: play_count / 300,
        collect_count: play_count / 150,
        deleted,
    };
    data.works.insert(id, work);
    id
}

/// A comment below `work` and, for one in three, replies.
fn add_thread(data: &mut Data, work: u64, from_ms: i64, until_ms: i64) {
    let created_ms = data.rng.i64(from_ms + 60_000..until_ms - 60_000);
    let first = comment_at(data, work, created_ms);
    let parent = first.id;
    data.add_comment(first);
    if data.rng.u8(..3) > 0 {
        return;
    }
    let mut before: Option<u64> = None;
    for _ in 0..data.rng.usize(1..=REPLIES_MAX) {
        let replied_ms = data.rng.i64(created_ms + 1_000..until_ms);
        let mut reply = comment_at(data, work, replied_ms);
        reply.parent = Some(parent);
        reply.reply_to = before.filter(|id| *id < reply.id);
        if data.rng.u8(..4) == 0 {
            reply.user = OWNER;
        }
        before = Some(reply.id);
        data.add_comment(reply);
    }
}

/// A top-level comment of a random commenter; not yet filed.
pub(crate) fn comment_at(data: &mut Data, work: u64, created_ms: i64) -> Comment {
    let id = data.next_id(created_ms);
    let number = data.made();
    let pictures = usize::from(data.rng.u8(..10) == 0);
    let edited = data.rng.u8(..20) == 0;
    Comment {
        id,
        work,
        parent: None,
        reply_to: None,
        user: data.rng.usize(1..=COMMENTERS.min(data.users.len() - 1)),
        text: text::remark(&mut data.rng, number),
        created_ms,
        edited_ms: edited.then_some(created_ms + 90_000),
        digg_count: data.rng.i64(0..500),
        reply_count: 0,
        images: (0..pictures).map(|n| format!("https://p3.demo.example/c/{id}-{n}.webp")).collect(),
        deleted: data.rng.u8(..40) == 0,
    }
}

fn add_conversation(data: &mut Data, config: &Config, number: usize, start_ms: i64) {
    let last_ms = start_ms - (number as i64 + 1) * 7 * 60 * 60 * 1000;
    let deleted = number + 1 == config.conversations && config.conversations > 2;
    let conversation = new_conversation(data, number % 5 == 4, last_ms, deleted);
    for back in (0..config.messages).rev() {
        let sent_ms = last_ms - back as i64 * 11 * 60 * 1000 - data.rng.i64(0..60_000);
        let message = message_at(data, &conversation, sent_ms);
        data.add_message(message);
    }
}

/// Files a conversation without messages, with a counterpart of its own, and returns its id.
pub(crate) fn new_conversation(data: &mut Data, group: bool, at_ms: i64, deleted: bool) -> String {
    let nickname = text::name(&mut data.rng);
    let user = data.add_user(nickname);
    let group_id = data.next_id(at_ms);
    let number = data.made();
    let id = if group { group_id.to_string() } else { data.users[user].sec_uid.clone() };
    let conversation = Conversation {
        id: id.clone(),
        user,
        group: group.then(|| format!("老客户群 {number}")),
        unread_count: 0,
        deleted,
        messages: std::collections::BTreeSet::new(),
    };
    data.conversations.insert(id.clone(), conversation);
    id
}

/// A message of the conversation's counterpart (in a group: of anybody; one in three: of the owner); not yet filed.
pub(crate) fn message_at(data: &mut Data, conversation: &str, sent_ms: i64) -> Message {
    let id = data.next_id(sent_ms);
    let number = data.made();
    let (user, group, before) = data
        .conversations
        .get(conversation)
        .map_or((OWNER, false, None), |it| (it.user, it.group.is_some(), it.messages.last().copied()));
    let others = data.users.len() - 1;
    let sender = match data.rng.u8(..3) {
        0 => OWNER,
        _ if group => data.rng.usize(1..=COMMENTERS.min(others)),
        _ => user,
    };
    let kind = match data.rng.u8(..12) {
        0 => MessageKind::Image,
        1 => MessageKind::Card,
        _ => MessageKind::Text,
    };
    let edited = kind == MessageKind::Text && data.rng.u8(..20) == 0;
    Message {
        id,
        conversation: conversation.to_owned(),
        sender,
        kind,
        text: (kind != MessageKind::Image).then(|| text::remark(&mut data.rng, number)),
        media_url: (kind == MessageKind::Image).then(|| format!("https://p26.demo.example/im/{id}.jpeg")),
        sent_ms,
        edited_ms: edited.then_some(sent_ms + 40_123),
        quotes: before.filter(|_| data.rng.u8(..8) == 0),
        recalled: data.rng.u8(..30) == 0,
    }
}

fn add_notice(data: &mut Data, at_ms: i64) {
    let kind =
        [NoticeKind::Like, NoticeKind::Follow, NoticeKind::Mention, NoticeKind::System][data.rng.usize(..4)];
    let work_place = data.rng.usize(..data.works.len());
    let work = data.works.keys().nth(work_place).copied();
    let user = data.rng.usize(1..=COMMENTERS);
    let nickname = data.users.get(user).map_or("", |user: &User| user.nickname.as_str());
    let text = match kind {
        NoticeKind::Like => format!("{nickname} 赞了你的作品"),
        NoticeKind::Follow => format!("{nickname} 关注了你"),
        NoticeKind::Mention => format!("{nickname} 在作品中提到了你"),
        NoticeKind::Comment | NoticeKind::System => "创作者周报已生成，快来看看吧！".to_owned(),
    };
    let id = data.next_id(at_ms);
    let about_work = matches!(kind, NoticeKind::Like | NoticeKind::Mention);
    data.notices.insert(
        id,
        Notice {
            id,
            kind,
            user: (kind != NoticeKind::System).then_some(user),
            work: work.filter(|_| about_work),
            comment: None,
            text,
            at_ms,
        },
    );
}
