//! A client of the demo site for its tests: logs in, pages through everything, and makes records of what it was
//! served. Its mapping is written from the bodies alone and shares nothing with the site's truth.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use snapfleet_demo_site::{Config, Site, serve_site};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a test waits for something that is due at once.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

pub(crate) type Records = BTreeMap<(String, String), Value>;

/// A site on a free port; it stops when dropped.
pub(crate) struct Running {
    pub(crate) site: Site,
    pub(crate) base: String,
    _stop: DropGuard,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let site = Site::new(config).unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_site(site.clone(), listener, shutdown.clone()));
        Self { site, base, _stop: shutdown.drop_guard() }
    }

    pub(crate) async fn try_log_in(&self, name: &str, password: &str) -> Option<Client> {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let form = format!("username={name}&password={password}");
        let request = http.post(format!("{}/creator/login", self.base)).body(form);
        let answer =
            request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap();
        assert_eq!(answer.status(), 303);
        let cookie = answer.headers().get("set-cookie")?.to_str().unwrap();
        assert!(cookie.contains("HttpOnly"));
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Some(Client { base: self.base.clone(), cookie })
    }

    pub(crate) async fn log_in(&self, name: &str) -> Client {
        self.try_log_in(name, "demo").await.expect("login refused")
    }

    pub(crate) async fn truth(&self, account: &str) -> Value {
        reqwest::get(format!("{}/truth/{account}", self.base)).await.unwrap().json().await.unwrap()
    }
}

/// Somebody with a session.
pub(crate) struct Client {
    pub(crate) base: String,
    pub(crate) cookie: String,
}

impl Client {
    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let request = reqwest::Client::new().get(format!("{}{path}", self.base));
        timeout(WAIT, request.header("cookie", &self.cookie).send())
            .await
            .expect("no answer in time")
            .unwrap()
    }

    pub(crate) async fn page(&self) -> String {
        self.get("/creator/inbox").await.text().await.unwrap()
    }

    pub(crate) async fn list(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str) -> Value {
        let answer = reqwest::Client::new().post(format!("{}{path}", self.base)).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    pub(crate) async fn post_status(&self, path: &str) -> u16 {
        reqwest::Client::new().post(format!("{}{path}", self.base)).send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn events(&self) -> Events {
        Events { answer: self.get("/api/push").await, bytes: Vec::new() }
    }

    /// Every page of one list. A row that comes twice is a fault of the paging.
    async fn all(&self, path: &str) -> Records {
        let (mut seen, mut cursor) = (Records::new(), "0".to_owned());
        loop {
            let body = self.list(&format!("{path}&cursor={cursor}")).await;
            assert_eq!(body["status_code"], 0, "{path}");
            for (key, row) in records(&body) {
                assert!(seen.insert(key, row).is_none(), "{path} gave a row twice");
            }
            let end = if body["data"].is_object() { &body["data"] } else { &body };
            if end["has_more"] != true && end["has_more"] != 1 {
                return seen;
            }
            let next = ["cursor", "next_cursor", "max_cursor"].iter().find_map(|name| end[*name].as_str());
            cursor = next.expect("more without a cursor").to_owned();
        }
    }

    /// Everything that the account's lists show.
    pub(crate) async fn crawl(&self) -> Records {
        let mut seen = self.all("/api/v1/creator/item/list/?count=3").await;
        seen.extend(self.all("/api/v1/im/conversation/list/?count=3").await);
        for (kind, id) in seen.clone().into_keys() {
            let path = match kind.as_str() {
                "contents" => format!("/api/v1/comment/list/?count=5&item_id={id}"),
                _ => format!("/api/v1/im/message/list/?count=10&conversation_id={id}"),
            };
            let below = self.all(&path).await;
            for (_, comment) in below.keys().filter(|_| kind == "contents") {
                seen.extend(
                    self.all(&format!("/api/v1/comment/list/reply/?count=3&comment_id={comment}")).await,
                );
            }
            seen.extend(below);
        }
        seen.extend(self.all("/api/v1/notice/list/?").await);
        seen
    }
}

/// The push channel's events.
pub(crate) struct Events {
    answer: reqwest::Response,
    bytes: Vec<u8>,
}

impl Events {
    /// The next event's name and data, pings passed over.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        loop {
            while let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n") {
                let event = String::from_utf8(self.bytes.drain(..end + 2).collect()).unwrap();
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
                if field("event:") != "ping" {
                    return (field("event:").to_owned(), serde_json::from_str(field("data:")).unwrap());
                }
            }
            let chunk = timeout(WAIT, self.answer.chunk()).await.expect("no event in time").unwrap();
            self.bytes.extend_from_slice(&chunk.expect("the events ended"));
        }
    }
}

/// Makes a record of a row.
type Make = fn(&Value) -> Value;

/// The records in a body, an event or a frame.
pub(crate) fn records(body: &Value) -> Records {
    let inner = if body["data"].is_object() { &body["data"] } else { body };
    let mut found = Records::new();
    let makers: [(&str, &str, &str, Make); 5] = [
        ("contents", "item_list", "item", content),
        ("comments", "comments", "comment", comment),
        ("conversations", "conversations", "conversation", conversation),
        ("direct_messages", "messages", "message", message),
        ("notifications", "notice_list", "notice", notice),
    ];
    for (kind, list, single, make) in makers {
        let one = std::iter::once(&inner[single]).filter(|it| it.is_object());
        for row in inner[list].as_array().into_iter().flatten().chain(one) {
            let record = make(row);
            found.insert((kind.to_owned(), record["id"].as_str().unwrap().to_owned()), record);
        }
    }
    found
}

/// A record's fields without those that say nothing.
fn known(value: Value) -> Value {
    let Value::Object(fields) = value else { panic!("a record is an object") };
    let says = |value: &Value| *value != json!(null) && *value != json!(false) && *value != json!([]);
    Value::Object(fields.into_iter().filter(|(_, value)| says(value)).collect::<Map<_, _>>())
}

fn id(value: &Value) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if matches!(text.as_str(), "0" | "" | "null") { Value::Null } else { json!(text) }
}

fn ms(value: &Value, unit: i64) -> Value {
    value.as_i64().filter(|at| *at != 0).map_or(Value::Null, |at| json!(at * unit))
}

fn number(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.clone(), |digits| json!(digits.parse::<i64>().unwrap()))
}

fn text(value: &Value) -> Value {
    if value == "" { Value::Null } else { value.clone() }
}

fn urls(pictures: &Value) -> Vec<Value> {
    pictures.as_array().into_iter().flatten().map(|picture| picture["url_list"][0].clone()).collect()
}

fn content(row: &Value) -> Value {
    let mut media: Vec<Value> = row["video"]["play_addr"]["url_list"].get(0).cloned().into_iter().collect();
    media.extend(urls(&row["images"]));
    let kind = match row["media_type"].as_i64().unwrap() {
        4 => "video",
        2 => "image",
        _ => "article",
    };
    known(json!({
        "id": row["item_id_str"], "content_type": kind, "title": row["desc"]["item_title"],
        "description": text(&row["desc"]["caption"]), "url": row["share_info"]["share_url"],
        "cover_url": row["Cover"]["url_list"][0], "media_urls": media, "duration_ms": row["video"]["duration"],
        "author_id": row["author"]["uid"], "author_name": row["author"]["nickname"],
        "published_at": ms(&row["publish_time"], 1000), "view_count": number(&row["metrics"]["view_count"]),
        "like_count": row["statistics"]["digg_count"], "comment_count": row["statistics"]["comment_count"],
        "share_count": number(&row["metrics"]["share_count"]), "favorite_count": row["statistics"]["collect_count"],
        "deleted": row["status"]["is_delete"],
    }))
}

fn comment(row: &Value) -> Value {
    let images: Vec<Value> =
        row["image_list"].as_array().unwrap().iter().map(|it| it["origin_url"].clone()).collect();
    known(json!({
        "id": row["cid"], "content_id": id(&row["item_id"]), "parent_id": id(&row["reply_id"]),
        "reply_to_id": id(&row["reply_to_reply_id"]),
        "direction": if row["is_author"] == true { "outbound" } else { "inbound" },
        "author_id": id(&row["user"]["uid"]), "author_name": row["user"]["nickname"],
        "author_avatar_url": row["user"]["avatar_thumb"]["url_list"][0], "text": row["text"],
        "created_at": ms(&row["create_time"], 1000), "edited_at": ms(&row["modify_time"], 1000),
        "like_count": row["digg_count"], "reply_count": row["reply_comment_total"],
        "image_urls": urls(&json!(images)), "deleted": row["status"] == 0,
    }))
}

fn conversation(row: &Value) -> Value {
    let (with, group) = (&row["participant"], &row["group_info"]);
    let alone = row["conversation_type"] == 1;
    known(json!({
        "id": row["conversation_id"], "conversation_type": if alone { "private" } else { "group" },
        "name": if alone { &with["nickname"] } else { &group["group_name"] }, "counterpart_id": id(&with["uid"]),
        "avatar_url": with["avatar_thumb"]["url_list"][0], "unread_count": row["badge_count"],
        "last_message_text": row["last_message"]["digest"],
        "last_message_at": ms(&row["last_message"]["create_time"], 1), "deleted": row["is_deleted"],
    }))
}

fn message(row: &Value) -> Value {
    let content: Value = serde_json::from_str(row["content"].as_str().unwrap()).unwrap();
    let (kind, text) = match row["message_type"].as_i64().unwrap() {
        7 => ("text", &content["text"]),
        27 => ("image", &Value::Null),
        _ => ("card", &content["product"]["title"]),
    };
    known(json!({
        "id": id(&row["server_message_id"]), "conversation_id": row["conversation_id"],
        "direction": if row["from_self"] == 1 { "outbound" } else { "inbound" },
        "sender_id": id(&row["sender"]["uid"]), "sender_name": row["sender"]["nickname"], "message_type": kind,
        "text": text, "media_url": content["resource_url"]["url_list"][0], "sent_at": ms(&row["create_time"], 1),
        "edited_at": ms(&row["edit_time"], 1), "reply_to_id": id(&row["ref_message_id"]),
        "recalled": row["is_recalled"],
    }))
}

fn notice(row: &Value) -> Value {
    let kind = match row["type"].as_i64().unwrap() {
        31 => "comment",
        41 => "like",
        33 => "follow",
        45 => "mention",
        _ => "system",
    };
    let at: jiff::Timestamp = row["create_at"].as_str().unwrap().parse().unwrap();
    known(json!({
        "id": id(&row["nid"]), "notification_type": kind, "actor_id": id(&row["from_user"]["uid"]),
        "actor_name": row["from_user"]["nickname"], "content_id": id(&row["item_id"]),
        "comment_id": id(&row["comment_id"]), "text": row["content"], "created_at": at.as_millisecond(),
    }))
}
