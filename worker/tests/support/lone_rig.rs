//! The demo site with a page that repeats every secret that it can, its platform's folder, and the worker's program.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Extension;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use snapfleet_demo_site::{Config, Login, Site, router};
use snapfleet_testkit::workspace;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Generous: the tests share two cores with whatever else is built there.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
pub(crate) const ACCOUNT: &str = "shop-a";
pub(crate) const PASSWORD: &str = "pä\"ss wörd/1";
pub(crate) const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl";
/// An id that no number of JavaScript holds.
pub(crate) const LONG_ID: &str = "73512345678901234567";

/// The values of session cookies that the site has seen.
pub(crate) type Seen = Arc<Mutex<Vec<String>>>;

pub(crate) struct Rig {
    pub(crate) site: Site,
    pub(crate) base: String,
    pub(crate) seen: Seen,
    pub(crate) folder: tempfile::TempDir,
    _stop: DropGuard,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let mut config = Config::for_tests(&[ACCOUNT], 7);
        config.password = PASSWORD.to_owned();
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let base = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let (site, stop, seen) = (Site::new(config).unwrap(), CancellationToken::new(), Seen::default());
        let extra = router(site.clone())
            .route("/extra", get(extra))
            .route("/api/echo", get(echo))
            .layer(Extension(seen.clone()));
        let stopping = stop.clone();
        tokio::spawn(async move {
            let server = axum::serve(listener, extra);
            tokio::select! { _ = server.into_future() => {}, () = stopping.cancelled() => {} }
        });
        let rig = Self { site, base, seen, folder: tempfile::tempdir().unwrap(), _stop: stop.drop_guard() };
        rig.copy_platform();
        rig
    }

    /// The demo platform's folder, with one page and one rule more.
    fn copy_platform(&self) {
        for folder in ["platforms/lib", "platforms/demo"] {
            std::fs::create_dir_all(self.path(folder)).unwrap();
            let files = std::fs::read_dir(workspace().join(folder)).unwrap().flatten();
            for file in files.filter(|file| file.path().is_file()) {
                std::fs::copy(file.path(), self.path(folder).join(file.file_name())).unwrap();
            }
        }
        let to = self.path("platforms/demo");
        let manifest = to.join("platform.toml");
        let more = "\n[[page]]\nname = \"extra\"\nurl = \"{base_url}/extra\"\n\n[[capture]]\nname = \"state\"\n\
            source = \"page_state\"\nscript = \"state.js\"\npage = [\"extra\"]\nevery_ms = 500\nfilter = \"state.jq\"\n";
        std::fs::write(&manifest, std::fs::read_to_string(&manifest).unwrap() + more).unwrap();
        std::fs::write(to.join("state.js"), "() => ({ n: 1, csrf: 'hunter2-state' })").unwrap();
        std::fs::write(to.join("state.jq"), "empty").unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn logins(&self) -> Vec<Login> {
        self.site.logins(ACCOUNT).unwrap()
    }

    /// The program, with nothing of this process' surroundings that would change what it does.
    pub(crate) fn worker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapfleet-worker"));
        command
            .args(arguments)
            .arg("--platforms")
            .arg(self.path("platforms"))
            .env("SNAPFLEET_LOG", "warn")
            .env("TMPDIR", self.folder.path());
        for name in
            ["DISPLAY", "WAYLAND_DISPLAY", "NATS_URL", "SNAPFLEET_NATS_PASSWORD", "SNAPFLEET_SESSION_KEY"]
        {
            command.env_remove(name);
        }
        command
    }

    /// What the account's settings are on the command line.
    pub(crate) fn settings(&self) -> Vec<String> {
        let pairs = [
            format!("base_url={}", self.base),
            format!("username={ACCOUNT}"),
            format!("password={PASSWORD}"),
        ];
        pairs.into_iter().flat_map(|pair| ["--setting".to_owned(), pair]).collect()
    }
}

/// For whoever is logged in a page that goes on asking for its secrets.
async fn extra(headers: HeaderMap) -> Response {
    if session(&headers).is_none() {
        return Redirect::to("/creator/inbox").into_response();
    }
    let script = "setInterval(() => fetch('/api/echo?item_id=7&msToken=hunter2-url'), 500)";
    Html(format!(
        "<title>extra</title><link rel=icon href='data:,'><p id=owner>x</p><script>{script}</script>"
    ))
    .into_response()
}

async fn echo(seen: Extension<Seen>, headers: HeaderMap) -> Response {
    let session = session(&headers).unwrap_or_default();
    let mut seen = seen.lock().unwrap();
    if !session.is_empty() && !seen.contains(&session) {
        seen.push(session.clone());
    }
    let deep = json!({ "access_token": "hunter2-deep", "said": PASSWORD }).to_string();
    let long: serde_json::Value = json!({ "id": "LONG", "said": PASSWORD, "seen": session, "jwt": JWT, "deep": deep, "sid": "hunter2-sid" });
    let text = long.to_string().replace("\"LONG\"", LONG_ID);
    ([(header::CONTENT_TYPE, "application/json"), (header::SET_COOKIE, "other=hunter2-cookie")], text)
        .into_response()
}

fn session(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    let pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(name, _)| *name == "demo_sid").map(|(_, value)| value.to_owned())
}

/// A running command; killed when dropped.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(Some(child.unwrap()))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let id = i32::try_from(self.0.as_ref().unwrap().id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
    }

    /// Waits for its end, and returns its exit code and everything that it printed.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let child = self.0.take().unwrap();
        let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
        let output: Output =
            tokio::time::timeout(DEADLINE, waiting).await.expect("it ends").unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
