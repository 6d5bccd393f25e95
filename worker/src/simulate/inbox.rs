//! What one simulated account holds: every record is made from its number and its last change, and none is kept.
//!
//! The account begins with the records 0 to `records`. Then changes come, numbered on through all steps; each makes a
//! new record or changes one that there is. Ids, texts, sizes and the mix of kinds are like those of a real inbox,
//! so that neither encoding nor compression is flattered.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use snapfleet_protocol::{
    AccountId, Comment, Content, ContentType, Conversation, ConversationType, DirectMessage, Direction,
    MessageType, Record, RecordId, UnixMs,
};

use super::Simulation;

/// 2026-10-01T00:00:00Z: what an account begins with was written before, what comes anew after.
const BASE: UnixMs = UnixMs(1_790_812_800_000);
/// Between two records that an account begins with.
const BETWEEN_RECORDS_MS: i64 = 600_000;
/// Between two changes.
const BETWEEN_CHANGES_MS: i64 = 1_000;
/// In so many records there are one work, one conversation, and the rest what belongs to them.
const BLOCK: u64 = 20;
/// The places of comments among them; direct messages have the others.
const COMMENTS: [u64; 7] = [2, 5, 8, 11, 14, 17, 19];

const ENGLISH: [&str; 48] = [
    "order",
    "when",
    "the",
    "parcel",
    "arrives",
    "please",
    "thank",
    "you",
    "colour",
    "blue",
    "size",
    "large",
    "price",
    "delivery",
    "tomorrow",
    "still",
    "available",
    "where",
    "is",
    "my",
    "refund",
    "great",
    "video",
    "love",
    "this",
    "song",
    "how",
    "did",
    "make",
    "recipe",
    "again",
    "soon",
    "discount",
    "code",
    "broken",
    "box",
    "photo",
    "attached",
    "address",
    "changed",
    "can",
    "we",
    "meet",
    "live",
    "tonight",
    "really",
    "good",
    "quality",
];
const CHINESE: [&str; 48] = [
    "你好",
    "请问",
    "什么时候",
    "发货",
    "这个",
    "还有",
    "货吗",
    "谢谢",
    "老板",
    "价格",
    "多少",
    "可以",
    "便宜",
    "一点",
    "吗",
    "喜欢",
    "视频",
    "太好看了",
    "教程",
    "在哪里",
    "买",
    "链接",
    "发",
    "一下",
    "尺码",
    "颜色",
    "蓝色",
    "退款",
    "收到",
    "快递",
    "单号",
    "直播",
    "今晚",
    "几点",
    "开始",
    "支持",
    "加油",
    "期待",
    "下一期",
    "地址",
    "改",
    "质量",
    "很好",
    "推荐",
    "朋友",
    "明天",
    "到了",
    "哈哈",
];

/// One account's records, made when asked for.
#[derive(Debug)]
pub(super) struct Inbox {
    /// From simulation and account.
    seed: u64,
    records: u64,
    change_rate: f64,
}

impl Inbox {
    pub(super) fn new(account: &AccountId, settings: &Simulation) -> Self {
        let name = account.to_string();
        let seed = name.bytes().fold(mix(settings.seed, 0), |seed, byte| mix(seed, u64::from(byte)));
        Self { seed, records: settings.records.max(2), change_rate: settings.change_rate }
    }

    /// When within the interval the account's rounds are.
    pub(super) fn phase(&self, interval: Duration) -> Duration {
        interval.mul_f64(Rng::with_seed(self.seed).f64())
    }

    /// Every record as of a step, or the `limit` newest of them.
    pub(super) fn all(&self, step: u64, limit: usize) -> Vec<Record> {
        let mut last: BTreeMap<u64, Option<u64>> = (0..self.records).map(|number| (number, None)).collect();
        last.extend((0..self.changes(step)).map(|change| (self.changed_by(change), Some(change))));
        let left_out = last.len().saturating_sub(limit);
        last.into_iter().skip(left_out).map(|(number, change)| self.record(number, change)).collect()
    }

    /// The records that changed or came anew after step `from`, up to step `to`.
    pub(super) fn changed(&self, from: u64, to: u64) -> Vec<Record> {
        let changes = self.changes(from)..self.changes(to);
        let last: BTreeMap<u64, u64> = changes.map(|change| (self.changed_by(change), change)).collect();
        last.into_iter().map(|(number, change)| self.record(number, Some(change))).collect()
    }

    /// How many changes there were up to a step.
    fn changes(&self, step: u64) -> u64 {
        // Accounts of which less than a record changes in a step do so at different ones.
        let begun = Rng::with_seed(mix(self.seed, 1)).f64();
        (self.records as f64 * self.change_rate * step as f64 + begun) as u64
    }

    /// Which record a change makes or changes.
    fn changed_by(&self, mut change: u64) -> u64 {
        loop {
            let mut chance = self.chance(self.records + change, change);
            if chance.bool() {
                return self.records + change;
            }
            let number = chance.u64(..self.records + change);
            if number < self.records {
                return number;
            }
            // Of a record that another change has made, or had changed itself.
            change = number - self.records;
        }
    }

    fn chance(&self, number: u64, salt: u64) -> Rng {
        Rng::with_seed(mix(mix(self.seed, number), salt))
    }

    fn record(&self, number: u64, change: Option<u64>) -> Record {
        let made = Made {
            id: self.id(number),
            // Its last change, unless that made it.
            change: change.filter(|change| self.records + change != number),
            at: self.time(number),
            fixed: self.chance(number, u64::MAX),
            varied: self.chance(number, change.map_or(u64::MAX - 1, |change| change)),
        };
        match number % BLOCK {
            0 => Record::Content(self.content(made)),
            1 => Record::Conversation(self.conversation(number, made)),
            place if COMMENTS.contains(&place) => Record::Comment(self.comment(made)),
            _ => Record::DirectMessage(self.direct_message(made)),
        }
    }

    fn time(&self, number: u64) -> UnixMs {
        let (number, records) = (number as i64, self.records as i64);
        let after = number - records;
        UnixMs(BASE.0 + after * if after < 0 { BETWEEN_RECORDS_MS } else { BETWEEN_CHANGES_MS })
    }

    fn content(&self, mut made: Made) -> Content {
        let views = made.fixed.i64(100..100_000) + made.changes() * 17;
        Content {
            content_type: Some(
                made.fixed.choice([ContentType::Video, ContentType::Image]).unwrap_or(ContentType::Video),
            ),
            title: Some(text(&mut made.fixed, 3..12)),
            description: Some(text(&mut made.fixed, 8..60)),
            url: Some(format!("https://www.sim.invalid/video/{}", made.id)),
            cover_url: Some(picture(&mut made.fixed)),
            duration_ms: Some(made.fixed.i64(5_000..300_000)),
            author_id: Some(self.id(u64::MAX)),
            author_name: Some("店主 Owner".to_owned()),
            published_at: Some(made.at),
            view_count: Some(views),
            like_count: Some(views / 20),
            comment_count: Some(views / 200),
            share_count: Some(views / 400),
            ..Content::new(made.id)
        }
    }

    fn conversation(&self, number: u64, mut made: Made) -> Conversation {
        let (counterpart_id, name, avatar_url) = self.person(number / BLOCK);
        Conversation {
            conversation_type: Some(ConversationType::Private),
            counterpart_id: Some(counterpart_id),
            name: Some(name),
            avatar_url: Some(avatar_url),
            unread_count: Some(made.varied.i64(0..9)),
            last_message_text: Some(text(&mut made.varied, 2..16)),
            last_message_at: Some(made.changed_at().unwrap_or(made.at)),
            ..Conversation::new(made.id)
        }
    }

    fn comment(&self, mut made: Made) -> Comment {
        // Below a work that the account began with: that one is there for certain.
        let content_id = self.id(BLOCK * made.fixed.u64(..self.records.div_ceil(BLOCK)));
        let direction = made.direction(0.1);
        let people = (self.records / 4).max(8);
        let (author_id, name, avatar_url) = self.person(made.fixed.u64(..people));
        let owner = direction == Direction::Outbound;
        Comment {
            author_id: Some(if owner { self.id(u64::MAX) } else { author_id }),
            author_name: Some(if owner { "店主 Owner".to_owned() } else { name }),
            author_avatar_url: Some(avatar_url),
            text: Some(text(&mut made.fixed, 2..40)),
            created_at: Some(made.at),
            like_count: Some(made.fixed.i64(0..50) + made.changes()),
            reply_count: Some(made.fixed.i64(0..4)),
            ..Comment::new(made.id, content_id, direction)
        }
    }

    fn direct_message(&self, mut made: Made) -> DirectMessage {
        let block = made.fixed.u64(..(self.records - 1).div_ceil(BLOCK));
        let conversation_id = self.id(BLOCK * block + 1);
        let direction = made.direction(0.3);
        let (sender_id, name, _) = self.person(block);
        let owner = direction == Direction::Outbound;
        let is_picture = made.fixed.u8(..12) == 0;
        DirectMessage {
            sender_id: Some(if owner { self.id(u64::MAX) } else { sender_id }),
            sender_name: Some(if owner { "店主 Owner".to_owned() } else { name }),
            message_type: Some(if is_picture { MessageType::Image } else { MessageType::Text }),
            text: Some(text(&mut made.varied, 1..30)),
            media_url: is_picture.then(|| picture(&mut made.fixed)),
            sent_at: Some(made.at),
            edited_at: made.changed_at(),
            ..DirectMessage::new(made.id, conversation_id, direction)
        }
    }

    /// Id, name and picture of somebody who writes to the account.
    fn person(&self, number: u64) -> (RecordId, String, String) {
        let mut chance = self.chance(number, u64::MAX - 2);
        let id = format!("MS4wLjABAAAA{:016x}{:016x}", chance.u64(..), chance.u64(..));
        let name = format!("{}_{}", text(&mut chance, 1..3), chance.u16(..));
        (parsed(&id), name, picture(&mut chance))
    }

    /// 19 digits, as platforms give them; no two of an account are alike.
    fn id(&self, number: u64) -> RecordId {
        let number = number % 1_000_000_000;
        let tail = self.chance(number, u64::MAX - 3).u64(..1_000_000_000);
        parsed(&format!("7{number:09}{tail:09}"))
    }
}

/// A record that is being made.
struct Made {
    id: RecordId,
    change: Option<u64>,
    at: UnixMs,
    /// What stays.
    fixed: Rng,
    /// What another change makes another.
    varied: Rng,
}

impl Made {
    /// Rises with each change of the record.
    fn changes(&self) -> i64 {
        self.change.map_or(0, |change| change as i64 + 1)
    }

    fn changed_at(&self) -> Option<UnixMs> {
        self.change.map(|change| UnixMs(BASE.0 + change as i64 * BETWEEN_CHANGES_MS))
    }

    fn direction(&mut self, outbound: f64) -> Direction {
        if self.fixed.f64() < outbound { Direction::Outbound } else { Direction::Inbound }
    }
}

fn parsed(id: &str) -> RecordId {
    RecordId::parse(id).expect("digits and letters are an id")
}

fn text(chance: &mut Rng, words: std::ops::Range<usize>) -> String {
    let (words, chinese) = (chance.usize(words), chance.bool());
    let mut text = String::new();
    for number in 0..words {
        let list = if chinese { &CHINESE } else { &ENGLISH };
        if number > 0 && !chinese {
            text.push(' ');
        } else if number > 0 && chance.u8(..6) == 0 {
            text.push('，');
        }
        text += list[chance.usize(..list.len())];
    }
    if chance.u8(..3) == 0 {
        text += &format!(" {}", chance.u32(..100_000));
    }
    text
}

fn picture(chance: &mut Rng) -> String {
    let (high, low) = (chance.u64(..), chance.u64(..));
    format!("https://p{}.sim.invalid/img/tos-cn-i/{high:016x}{low:016x}~c5_300x300.jpeg", chance.u8(1..10))
}

/// Mixes two numbers into one (the finaliser of SplitMix64).
fn mix(a: u64, b: u64) -> u64 {
    let mut mixed = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
