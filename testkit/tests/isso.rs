//! A real application that others wrote: Isso's comments reach the store through its own JavaScript client in a
//! real page, and equal what Isso's own HTTP API answers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use snapfleet_testkit::process::{Process, free_port};
use snapfleet_testkit::system::{Setup, System, encode};
use snapfleet_testkit::{TestBroker, eventually, workspace};

const DEADLINE: Duration = Duration::from_secs(60);

/// Isso's command: `ISSO`, or the one that the scripts install.
fn isso_command() -> PathBuf {
    let path =
        std::env::var_os("ISSO").map_or_else(|| workspace().join(".tools/venv/bin/isso"), PathBuf::from);
    assert!(path.exists(), "{} is missing: scripts/test installs it", path.display());
    path
}

struct Isso {
    url: String,
    page_url: String,
    http: reqwest::Client,
    _processes: [Process; 2],
}

impl Isso {
    async fn start(dir: &std::path::Path) -> Self {
        let (url, page_port) = (format!("http://127.0.0.1:{}", free_port()), free_port());
        let page_url = format!("http://127.0.0.1:{page_port}/");
        std::fs::create_dir_all(dir.join("page")).unwrap();
        for (file, to) in [("isso.conf", "isso.conf"), ("index.html", "page/index.html")] {
            let text = std::fs::read_to_string(workspace().join("platforms/isso/site").join(file)).unwrap();
            let text = text.replace("@ISSO_URL@", &url).replace("@PAGE_URL@", &page_url);
            std::fs::write(dir.join(to), text.replace("@DATA@", &dir.display().to_string())).unwrap();
        }
        let mut isso = Command::new(isso_command());
        isso.arg("-c").arg(dir.join("isso.conf"));
        let mut page = Command::new("python3");
        page.args(["-m", "http.server", &page_port.to_string(), "--bind", "127.0.0.1", "--directory"]);
        page.arg(dir.join("page"));
        let processes = [
            Process::start(&mut isso, &dir.join("isso.log")),
            Process::start(&mut page, &dir.join("page.log")),
        ];
        let isso = Self { url, page_url, http: reqwest::Client::new(), _processes: processes };
        eventually(DEADLINE, "isso and its page answer", async || {
            let isso_answers = isso.http.get(format!("{}/js/embed.min.js", isso.url)).send().await.ok()?;
            let page_answers = isso.http.get(&isso.page_url).send().await.ok()?;
            (isso_answers.status().is_success() && page_answers.status().is_success()).then_some(())
        })
        .await;
        isso
    }

    /// Posts a comment as a reader's browser would, and returns its id.
    async fn post(&self, text: &str, author: &str, parent: Option<i64>) -> i64 {
        let body = json!({ "text": text, "author": author, "parent": parent, "title": "Guest book" });
        let answer = self
            .http
            .post(format!("{}/new?uri=%2F", self.url))
            .header("origin", self.page_url.trim_end_matches('/'));
        let answer = answer.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "isso refuses a comment: {}", answer.status());
        answer.json::<Value>().await.unwrap()["id"].as_i64().unwrap()
    }

    /// What Isso's own API answers: text, author, time and parent by id.
    async fn comments(&self) -> BTreeMap<String, Value> {
        let url = format!("{}/?uri=%2F&nested_limit=1000", self.url);
        let thread: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let mut comments = BTreeMap::new();
        let top = thread["replies"].as_array().unwrap();
        for comment in
            top.iter().flat_map(|top| std::iter::once(top).chain(top["replies"].as_array().unwrap()))
        {
            let html = comment["text"].as_str().unwrap();
            let text = html.trim().trim_start_matches("<p>").trim_end_matches("</p>").to_owned();
            let created_ms = (comment["created"].as_f64().unwrap() * 1000.0) as i64;
            let parent = comment["parent"].as_i64().map(|id| id.to_string());
            comments.insert(
                comment["id"].to_string(),
                json!({ "text": text, "author_name": comment["author"], "created_at": created_ms, "parent_id": parent }),
            );
        }
        comments
    }
}

async fn stored(system: &System) -> Option<BTreeMap<String, Value>> {
    let page = system.try_api("comments?account=isso.guestbook&limit=500").await?;
    let rows = page["items"].as_array()?.iter();
    let fields = |row: &Value| {
        let parent = row["parent_id"].clone();
        json!({ "text": row["text"], "author_name": row["author_name"], "created_at": row["created_at"], "parent_id": parent })
    };
    Some(rows.map(|row| (row["id"].as_str().unwrap().to_owned(), fields(row))).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn comments_of_a_foreign_application_equal_its_own_api() {
    let dir = tempfile::tempdir().unwrap();
    let isso = Isso::start(dir.path()).await;
    let first = isso.post("What does it cost?", "Ann", None).await;
    isso.post("Ten, and the post is free", "Shop", Some(first)).await;
    let account = ("isso.guestbook".to_owned(), json!({ "page_url": isso.page_url }));
    let setup = Setup {
        workers: vec![vec!["shop-a"]],
        events_per_minute: 0.0,
        more_accounts: vec![account],
        ..Setup::default()
    };
    let system = System::start(TestBroker::start(), setup).await;
    let equal = async || {
        let (theirs, ours) = (isso.comments().await, stored(&system).await?);
        (ours == theirs && !theirs.is_empty()).then_some(theirs.len())
    };
    assert_eq!(eventually(DEADLINE, "the store equals isso's answer", equal).await, 2);
    isso.post("多少钱? 👍", "王", Some(first)).await;
    isso.post("Posted while the page was open", "Bo", None).await;
    assert_eq!(eventually(DEADLINE, "later comments arrive as well", equal).await, 4);
    let contents = system.rows(&format!("contents?account={}", encode("isso.guestbook"))).await;
    assert_eq!(contents.len(), 1, "the thread itself is a content: {contents:?}");
}
