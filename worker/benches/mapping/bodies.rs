//! Bodies to map: a platform's fixture whose rows are repeated and varied until the body is as large as wanted.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use snapfleet_protocol::UnixMs;
use snapfleet_worker::platform::{AccountView, Platform, Request};

/// A fixture, and the rule and platform that it belongs to.
pub(crate) struct Case {
    pub(crate) platform: Platform,
    pub(crate) rule: usize,
    pub(crate) request: Request,
    pub(crate) account: AccountView,
    pub(crate) now: UnixMs,
    body: Value,
    vary: fn(&mut Value, usize),
}

#[derive(Deserialize)]
struct Fixture {
    rule: String,
    request: Request,
    account: AccountView,
    now_ms: i64,
    body: Value,
}

/// How large a body should be.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    Rows(usize),
    Bytes(usize),
}

/// What people write: short and long, with signs beyond the basic plane and what JSON has to escape.
const TEXTS: [&str; 6] = [
    "太好吃了[比心]👍🏽 哪里有店？",
    "尺码偏小，建议拍大一码",
    "Where can I buy this? Shipping to \"Berlin\" would be nice\nthanks",
    "质量很好，回购了三次👍👍👍 快递也很快，第二天就到了，包装没有破损，颜色跟图片上的一样，推荐给大家",
    "ok",
    "求链接",
];

impl Case {
    /// Reads `platforms/<platform>/fixtures/<fixture>.json`.
    pub(crate) fn read(platform: &str, fixture: &str, vary: fn(&mut Value, usize)) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../platforms").join(platform);
        let text =
            std::fs::read_to_string(dir.join(format!("fixtures/{fixture}.json"))).expect("the fixture");
        let fixture: Fixture = serde_json::from_str(&text).expect("a fixture with its body in it");
        let platform = Platform::load(&dir).expect("a platform that loads");
        let rule = platform.captures().iter().position(|rule| rule.name == fixture.rule);
        Self {
            platform,
            rule: rule.expect("the fixture's rule"),
            request: fixture.request,
            account: fixture.account,
            now: UnixMs(fixture.now_ms),
            body: fixture.body,
            vary,
        }
    }

    /// The fixture's envelope around as many rows as asked for, as a site sends it: without spaces.
    pub(crate) fn body(&self, size: Size) -> Vec<u8> {
        let rows = match size {
            Size::Rows(rows) => rows,
            Size::Bytes(bytes) => {
                let sample = self.with_rows(1000).len() - self.with_rows(0).len();
                (bytes - self.with_rows(0).len()) * 1000 / sample
            }
        };
        self.with_rows(rows)
    }

    fn with_rows(&self, rows: usize) -> Vec<u8> {
        let mut body = self.body.clone();
        for list in ["aweme_list", "items", "comments"] {
            if let Some(Value::Array(shapes)) = body.get_mut(list) {
                *shapes = (0..rows).map(|at| varied(shapes, at, self.vary)).collect();
            }
        }
        serde_json::to_vec(&body).expect("JSON values are written")
    }
}

/// Row `at`: mostly the fixture's first shape, which is the fullest, and each other one in every tenth row.
fn varied(shapes: &[Value], at: usize, vary: fn(&mut Value, usize)) -> Value {
    let shape = shapes.get(at % 10).unwrap_or(&shapes[0]);
    let mut row = shape.clone();
    vary(&mut row, at);
    row
}

/// An id of 19 digits, as text; the same for the same place in every list.
fn id(at: usize) -> String {
    (7_600_000_000_000_000_000 + 1_048_583 * at as u64).to_string()
}

fn set(row: &mut Value, pointer: &str, value: impl Into<Value>) {
    if let Some(place) = row.pointer_mut(pointer) {
        // An id that the fixture writes as a number stays one.
        let value = value.into();
        *place = match value.as_str().and_then(|text| text.parse::<u64>().ok()) {
            Some(number) if place.is_number() => number.into(),
            _ => value,
        };
    }
}

fn set_count(row: &mut Value, pointer: &str, count: usize) {
    let is_text = row.pointer(pointer).is_some_and(Value::is_string);
    if is_text { set(row, pointer, count.to_string()) } else { set(row, pointer, count) }
}

/// A comment of Douyin or of the demo platform.
pub(crate) fn comment(row: &mut Value, at: usize) {
    let writer = at % 997;
    set(row, "/cid", id(at));
    set(row, "/text", format!("{} ({at})", TEXTS[at % TEXTS.len()]));
    set(row, "/digg_count", at * 7 % 1500);
    set(row, "/reply_comment_total", at % 11);
    set(row, "/user/uid", (2_000_300_040_005_000 + writer as u64).to_string());
    set(row, "/user/nickname", format!("用户{writer}🌙"));
    set(row, "/user/sec_uid", format!("MS4wLjABAAAA{writer:043}"));
    set(row, "/user/avatar_thumb/url_list/0", format!("https://img.example.invalid/u{writer}_100.jpeg"));
    let created = row["create_time"].as_u64().expect("a fixture's comment has its time");
    set(row, "/create_time", created - at as u64);
}

/// A work of Douyin's creator centre, or the figures beside it.
pub(crate) fn work(row: &mut Value, at: usize) {
    for pointer in ["/aweme_id", "/id", "/statistics/aweme_id", "/status/aweme_id"] {
        set(row, pointer, id(at));
    }
    let text = TEXTS[at % TEXTS.len()];
    set(
        row,
        "/desc",
        if at.is_multiple_of(4) { text.to_owned() } else { format!("{text} #测试话题 #虚构{at}") },
    );
    set(row, "/share_url", format!("https://www.iesdouyin.com/share/video/{}/?from={at}", id(at)));
    set(row, "/duration", 5_000 + at * 13 % 90_000);
    for (place, name) in
        ["play_count", "digg_count", "comment_count", "share_count", "collect_count"].iter().enumerate()
    {
        set_count(row, &format!("/statistics/{name}"), at * (place + 3) % 9000);
    }
    for (place, name) in ["view_count", "like_count", "comment_count", "cover_show"].iter().enumerate() {
        set_count(row, &format!("/metrics/{name}"), at * (place + 5) % 9000);
    }
    set(row, "/metrics/completion_rate", format!("0.{:04}", at * 37 % 10_000));
}
