//! Isso, its page and its database: a reader's requests as their browsers send them, and the rows that Isso keeps.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use snapfleet_testkit::process::{Process, free_port};
use snapfleet_testkit::{eventually, workspace};

use super::DEADLINE;

/// Comments wait for a moderator until one of the same writer was let through.
const MODERATION: &str = "\n[moderation]\nenabled = true\napprove-if-email-previously-approved = true\n";

/// Isso's command: `ISSO`, or the one that the scripts install.
fn isso_command() -> PathBuf {
    let path =
        std::env::var_os("ISSO").map_or_else(|| workspace().join(".tools/venv/bin/isso"), PathBuf::from);
    assert!(path.exists(), "{} is missing: scripts/test installs it", path.display());
    path
}

/// The running server and the page that embeds it.
pub(crate) struct Isso {
    url: String,
    pub(crate) page_url: String,
    database: PathBuf,
    _processes: [Process; 2],
}

/// A comment that was written, and its writer's right to change it.
pub(crate) struct Written {
    pub(crate) number: i64,
    /// Isso's name for the writer.
    pub(crate) hash: String,
    cookie: String,
}

impl Isso {
    pub(crate) async fn start(dir: &Path) -> Self {
        let (url, page_port) = (format!("http://127.0.0.1:{}", free_port()), free_port());
        let page_url = format!("http://127.0.0.1:{page_port}/");
        std::fs::create_dir_all(dir.join("page")).unwrap();
        let reader = concat!("<script>", include_str!("reader.js"), "</script>\n</body>");
        for (file, to) in [("isso.conf", "isso.conf"), ("index.html", "page/index.html")] {
            let text = std::fs::read_to_string(workspace().join("platforms/isso/site").join(file)).unwrap();
            let text = text.replace("@ISSO_URL@", &url).replace("@PAGE_URL@", &page_url);
            let text = text.replace("@DATA@", &dir.display().to_string()).replace("</body>", reader);
            std::fs::write(dir.join(to), text).unwrap();
        }
        let conf = std::fs::read_to_string(dir.join("isso.conf")).unwrap();
        std::fs::write(dir.join("isso.conf"), conf + MODERATION).unwrap();
        let mut isso = Command::new(isso_command());
        isso.arg("-c").arg(dir.join("isso.conf"));
        let mut page = Command::new("python3");
        page.args(["-m", "http.server", &page_port.to_string(), "--bind", "127.0.0.1", "--directory"]);
        page.arg(dir.join("page"));
        let processes = [
            Process::start(&mut isso, &dir.join("isso.log")),
            Process::start(&mut page, &dir.join("page.log")),
        ];
        let isso = Self { url, page_url, database: dir.join("comments.db"), _processes: processes };
        let http = reqwest::Client::new();
        eventually(DEADLINE, "isso and its page answer", async || {
            let isso_answers = http.get(format!("{}/js/embed.min.js", isso.url)).send().await.ok()?;
            let page_answers = http.get(&isso.page_url).send().await.ok()?;
            (isso_answers.status().is_success() && page_answers.status().is_success()).then_some(())
        })
        .await;
        isso
    }

    /// A request as the browser of a reader with another network address than the page's sends it.
    async fn send(
        &self,
        method: &str,
        path: &str,
        from: u8,
        cookie: Option<&str>,
        body: Value,
    ) -> reqwest::Response {
        let address: std::net::IpAddr = [127, 0, from, 1].into();
        let http = reqwest::Client::builder().local_address(address).build().unwrap();
        let mut request = http
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .header("origin", self.page_url.trim_end_matches('/'))
            .json(&body);
        if let Some(cookie) = cookie {
            request = request.header("cookie", cookie);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "isso refuses {method} {path}: {}", answer.status());
        answer
    }

    /// Writes a comment; one that waits for the moderator is let through only by [`Isso::let_through`].
    pub(crate) async fn write_moderated(
        &self,
        text: &str,
        author: &str,
        parent: Option<&Written>,
    ) -> Written {
        let email = format!("{}@example.com", author.to_lowercase());
        let parent = parent.map(|parent| parent.number);
        let body = json!({ "text": text, "author": author, "email": email, "parent": parent, "title": "Guest book" });
        let answer = self.send("POST", "/new?uri=%2F", 1, None, body).await;
        let cookie = answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let comment: Value = answer.json().await.unwrap();
        let hash = comment["hash"].as_str().unwrap().to_owned();
        Written { number: comment["id"].as_i64().unwrap(), hash, cookie }
    }

    /// Writes a comment that everybody sees.
    pub(crate) async fn write(&self, text: &str, author: &str, parent: Option<&Written>) -> Written {
        let written = self.write_moderated(text, author, parent).await;
        self.let_through(&written);
        written
    }

    pub(crate) async fn edit(&self, written: &mut Written, text: &str, author: &str) {
        let path = format!("/id/{}", written.number);
        let body = json!({ "text": text, "author": author });
        let answer = self.send("PUT", &path, 1, Some(&written.cookie), body).await;
        written.cookie =
            answer.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    }

    /// Whether the comment is gone from the database; one with replies stays there, marked.
    pub(crate) async fn delete(&self, written: &Written) -> bool {
        let path = format!("/id/{}", written.number);
        let answer = self.send("DELETE", &path, 1, Some(&written.cookie), Value::Null).await;
        answer.json::<Value>().await.unwrap().is_null()
    }

    /// A vote of a reader from the network with this number. The writer's own, 1, does not count.
    pub(crate) async fn vote(&self, vote: &str, written: &Written, from: u8) {
        self.send("POST", &format!("/id/{}/{vote}", written.number), from, None, json!({})).await;
    }

    /// A moderator lets a comment through.
    pub(crate) fn let_through(&self, written: &Written) {
        self.python(&[&written.number.to_string()]);
    }

    /// The rows of the database.
    pub(crate) fn rows(&self) -> Value {
        self.python(&[])
    }

    fn python(&self, arguments: &[&str]) -> Value {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isso/database.py");
        let output =
            Command::new("python3").arg(script).arg(&self.database).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
