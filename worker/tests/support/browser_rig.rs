//! A browser, an account on the test site, and its reports with deadlines.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use snapfleet_protocol::AccountId;
use snapfleet_worker::browser::{Browser, BrowserConfig, SharedBrowser, find_chromium};
use snapfleet_worker::capture::{CaptureRule, PathPattern, Source};
use snapfleet_worker::pages::{
    AccountPlan, Desk, DriveError, LoginPlan, PagePlan, PageReport, drive_account,
};
use snapfleet_worker::session::SessionExchange;
use snapfleet_worker::steering::Steering;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Generous: the tests share two cores with whatever else is built there.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) fn config(folder: &std::path::Path) -> BrowserConfig {
    let mut config = BrowserConfig::new(find_chromium().unwrap(), folder.to_owned());
    config.sandbox = std::fs::metadata("/proc/self").unwrap().uid() != 0;
    config
}

pub(crate) struct TestBrowser {
    pub(crate) shared: SharedBrowser,
    pub(crate) folder: tempfile::TempDir,
}

impl TestBrowser {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut BrowserConfig)) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env()
            .add_directive(snapfleet_worker::browser::LOG_DIRECTIVE.parse().unwrap());
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        Self { shared: SharedBrowser::new(config), folder }
    }

    pub(crate) async fn acquire(&self) -> Arc<Browser> {
        self.shared.acquire().await.unwrap()
    }

    pub(crate) async fn drive(&self, account: &str, pages: Vec<PagePlan>, rules: Vec<CaptureRule>) -> Driven {
        Driven::start(self.acquire().await, account, pages, None, rules)
    }
}

pub(crate) struct Driven {
    pub(crate) reports: mpsc::Receiver<PageReport>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), DriveError>>,
}

impl Driven {
    pub(crate) fn start(
        browser: Arc<Browser>,
        account: &str,
        pages: Vec<PagePlan>,
        login: Option<LoginPlan>,
        rules: Vec<CaptureRule>,
    ) -> Self {
        Self::start_with(browser, account, pages, login, rules, SessionExchange::default())
    }

    pub(crate) fn start_with(
        browser: Arc<Browser>,
        account: &str,
        pages: Vec<PagePlan>,
        login: Option<LoginPlan>,
        rules: Vec<CaptureRule>,
        session: SessionExchange,
    ) -> Self {
        let (sender, reports) = mpsc::channel(64);
        let shutdown = CancellationToken::new();
        let account: AccountId = account.parse().unwrap();
        let plan = AccountPlan {
            desk: Desk::default(),
            account,
            pages,
            login,
            rules: Arc::new(rules),
            session,
            steering: Steering::free(),
        };
        let drive = drive_account(browser, plan, sender, shutdown.clone());
        Self { reports, shutdown, task: tokio::spawn(drive) }
    }

    /// The next report within the deadline.
    pub(crate) async fn next(&mut self) -> PageReport {
        tokio::time::timeout(DEADLINE, self.reports.recv())
            .await
            .expect("a report within the deadline")
            .expect("the pages are still driven")
    }

    /// Reports until one is picked; the others are dropped.
    pub(crate) async fn find<T>(&mut self, what: &str, mut pick: impl FnMut(&PageReport) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(DEADLINE, async {
            loop {
                let report = self.reports.recv().await.expect("the pages are still driven");
                if let Some(found) = pick(&report) {
                    return found;
                }
                seen.push(report);
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("no {what} within {DEADLINE:?}; seen: {seen:?}"),
        }
    }

    /// Reports until each of two was seen, in whichever order.
    pub(crate) async fn find_both(
        &mut self,
        what: &str,
        first: impl Fn(&PageReport) -> bool,
        second: impl Fn(&PageReport) -> bool,
    ) {
        let (mut seen_first, mut seen_second) = (false, false);
        self.find(what, |report| {
            seen_first |= first(report);
            seen_second |= second(report);
            (seen_first && seen_second).then_some(())
        })
        .await;
    }

    /// Tells it to stop and hands over what is still reported until its end.
    pub(crate) async fn stop(mut self) -> Vec<PageReport> {
        self.shutdown.cancel();
        let mut rest = Vec::new();
        tokio::time::timeout(DEADLINE, async {
            while let Some(report) = self.reports.recv().await {
                rest.push(report);
            }
            self.task.await.unwrap().expect("a stop is no error");
        })
        .await
        .expect("it stops");
        rest
    }
}

pub(crate) fn page(name: &str, url: String) -> PagePlan {
    PagePlan { name: name.into(), url, refresh: None, refresh_jitter: 0.1, scroll: None }
}

pub(crate) fn rule(source: Source, path: &str) -> CaptureRule {
    let path = PathPattern::parse(path).unwrap();
    CaptureRule::new(path.to_string(), source, path)
}

/// The `n` of the query in a captured URL.
pub(crate) fn captured_n(report: &PageReport) -> Option<String> {
    let PageReport::Captured(captured) = report else { return None };
    query(&captured.url, "n")
}

pub(crate) fn query(url: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(url).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A process and all below it, as (pid, start time).
pub(crate) fn process_tree(root: u32) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some((_, parent, start)) = stat(pid) {
            all.push((pid, parent, start));
        }
    }
    let mut tree: Vec<u32> = vec![root];
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, parent, _)| tree.contains(parent) && !tree.contains(pid))
            .map(|(pid, ..)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        tree.extend(more);
    }
    all.into_iter().filter(|(pid, ..)| tree.contains(pid)).map(|(pid, _, start)| (pid, start)).collect()
}

/// State, parent and start time.
fn stat(pid: u32) -> Option<(String, u32, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields[0].into(), fields[1].parse().ok()?, fields[19].into()))
}

/// Which of them still run; a zombie that nobody has reaped yet does not.
pub(crate) fn still_running(processes: &[(u32, String)]) -> Vec<u32> {
    processes
        .iter()
        .filter(|(pid, start)| stat(*pid).is_some_and(|(state, _, now)| now == *start && state != "Z"))
        .map(|(pid, _)| *pid)
        .collect()
}

/// Waits until none of them runs.
pub(crate) async fn gone_within(limit: Duration, processes: &[(u32, String)]) {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let left = still_running(processes);
        if left.is_empty() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "still running: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// The one profile below a folder of profiles.
pub(crate) fn profile(profiles: &std::path::Path) -> std::path::PathBuf {
    let mut folders = std::fs::read_dir(profiles).unwrap().map(|entry| entry.unwrap().path());
    folders.find(|path| path.is_dir()).unwrap()
}

/// The folder that the running browser keeps outside of its profile.
pub(crate) fn socket_folder(profiles: &std::path::Path) -> std::path::PathBuf {
    let socket = std::fs::read_link(profile(profiles).join("SingletonSocket")).unwrap();
    let folder = socket.parent().unwrap().to_owned();
    assert!(folder.is_dir(), "{folder:?}");
    folder
}

/// One request to the browser's debugging port, as any local program could make it.
pub(crate) async fn debugging_port(profiles: &std::path::Path, method: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let active = std::fs::read_to_string(profile(profiles).join("DevToolsActivePort")).unwrap();
    let port: u16 = active.lines().next().unwrap().parse().unwrap();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut chunk)).await
    {
        answer.extend_from_slice(&chunk[..read]);
    }
    let answer = String::from_utf8(answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// The process ids of the browser's renderers.
pub(crate) fn renderers(browser: u32) -> Vec<u32> {
    let is_renderer = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains("--type=renderer"))
    };
    process_tree(browser).into_iter().map(|(pid, _)| pid).filter(is_renderer).collect()
}
