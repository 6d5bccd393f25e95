//! The Chromium process: spawned so that it cannot outlive the worker, reaped, and killed with all its children.
//!
//! `setpriv --pdeathsig KILL` ties its life to the *thread* that spawned it, so that thread is one of its own,
//! which waits for the process and ends with it. The process leads a group of its own: a Ctrl-C in the terminal
//! reaches the worker alone, which then closes the browser in order, and a kill reaches the children too.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{BrowserConfig, BrowserError};

/// How long Chromium may take to open its debugging port; a machine that builds at the same time is slow.
const START_TIMEOUT: Duration = Duration::from_secs(45);
/// What is kept of its output to explain a failed start, in bytes.
const OUTPUT_KEPT_MAX: usize = 16 * 1024;
const PORT_LINE: &str = "DevTools listening on ";

const SWITCHES: [&str; 25] = [
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--enable-automation",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-extensions-with-background-pages",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-features=Translate",
    "--disable-gpu",
    "--disable-hang-monitor",
    "--disable-ipc-flooding-protection",
    "--disable-prompt-on-repost",
    "--disable-quic",
    "--disable-sync",
    "--metrics-recording-only",
    "--password-store=basic",
    "--use-mock-keychain",
];

/// A running Chromium, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    reaped: Arc<Mutex<bool>>,
    exited: CancellationToken,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Cancelled once the process is gone and reaped.
    pub(crate) fn exited(&self) -> &CancellationToken {
        &self.exited
    }

    /// Kills the process and its group.
    pub(crate) fn kill(&self) {
        // Under the lock the process cannot be reaped, so its id cannot belong to another one meanwhile.
        let reaped = self.reaped.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reaped {
            kill_group(self.pid);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill_group(pid: Pid) {
    // It fails only when the group is gone, which is what is wanted.
    let _ = kill_process_group(pid, Signal::KILL);
}

/// Starts Chromium and returns it with the address of its debugging socket.
pub(crate) async fn start(config: &BrowserConfig, profile: &Path) -> Result<(Process, String), BrowserError> {
    super::find::check_executable(&config.executable)?;
    let (process, stderr) = spawn(command(config, profile)?).await.map_err(|error| BrowserError::Launch {
        reason: format!("{}: {error}", config.executable.display()),
    })?;
    let mut output = Vec::new();
    match tokio::time::timeout(START_TIMEOUT, read_address(stderr, &mut output)).await {
        Ok(Ok(address)) => Ok((process, address)),
        Ok(Err(error)) => Err(BrowserError::Launch { reason: explain(&error.to_string(), &output) }),
        Err(_) => Err(BrowserError::Launch {
            reason: explain(&format!("no debugging port after {} s", START_TIMEOUT.as_secs()), &output),
        }),
    }
}

fn command(config: &BrowserConfig, profile: &Path) -> Result<Command, BrowserError> {
    let mut command = Command::new(super::find::find_setpriv()?);
    command.args(["--pdeathsig", "KILL", "--"]).arg(&config.executable).args(SWITCHES);
    command.arg(format!("--user-data-dir={}", profile.display()));
    if config.headless {
        command.args(["--headless=new", "--hide-scrollbars", "--mute-audio"]);
    }
    if !config.sandbox {
        command.args(["--no-sandbox", "--disable-setuid-sandbox"]);
    }
    command.args(&config.extra_args).arg("about:blank");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    Ok(command)
}

async fn spawn(mut command: Command) -> io::Result<(Process, ChildStderr)> {
    let (sender, receiver) = oneshot::channel();
    let exited = CancellationToken::new();
    let reaped = Arc::new(Mutex::new(false));
    let (thread_exited, thread_reaped) = (exited.clone(), Arc::clone(&reaped));
    std::thread::Builder::new().name("chromium".into()).spawn(move || {
        let _exited = thread_exited.drop_guard();
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        let pid = Pid::from_child(&child);
        let stderr = child.stderr.take();
        if sender.send(Ok((pid, stderr))).is_err() {
            // Nobody waits for it any more.
            kill_group(pid);
        }
        // First seen dead, then the rest of its group killed, and only then reaped: until that its id is its own.
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
        kill_group(pid);
        let mut reaped = thread_reaped.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.wait();
        *reaped = true;
    })?;
    let (pid, stderr) =
        receiver.await.map_err(|_| io::Error::other("the thread that spawns it ended early"))??;
    let process = Process { pid, reaped, exited };
    let stderr = stderr.ok_or_else(|| io::Error::other("its output was not piped"))?;
    Ok((process, stderr))
}

/// Reads the output up to the address, and goes on draining it in the background, so that Chromium never blocks
/// on a full pipe. What it prints later may name pages, so it is not logged.
async fn read_address(stderr: ChildStderr, output: &mut Vec<u8>) -> io::Result<String> {
    let mut stderr = tokio::process::ChildStderr::from_std(stderr)?;
    let mut chunk = [0_u8; 4096];
    loop {
        let read = stderr.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended at once"));
        }
        output.extend_from_slice(&chunk[..read]);
        if let Some(address) = address_in(output) {
            tokio::spawn(async move { while matches!(stderr.read(&mut chunk).await, Ok(1..)) {} });
            return Ok(address);
        }
        if output.len() > OUTPUT_KEPT_MAX {
            output.drain(..output.len() - OUTPUT_KEPT_MAX);
        }
    }
}

fn address_in(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let (_, after) = text.split_once(PORT_LINE)?;
    let (address, _) = after.split_once('\n')?;
    address.starts_with("ws://").then(|| address.trim().to_owned())
}

/// The last lines that Chromium printed say why it did not start.
fn explain(what: &str, output: &[u8]) -> String {
    const LINES: usize = 3;
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join(" | ");
    if tail.is_empty() { what.to_owned() } else { format!("{what}: {tail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_once_its_line_is_whole() {
        let line = b"noise\nDevTools listening on ws://127.0.0.1:1/devtools/browser/x";
        assert_eq!(address_in(line), None);
        let whole = [line.as_slice(), b"\nmore"].concat();
        assert_eq!(address_in(&whole).as_deref(), Some("ws://127.0.0.1:1/devtools/browser/x"));
    }

    #[tokio::test]
    async fn a_program_that_is_no_browser_is_an_error_with_its_words() {
        let mut config = BrowserConfig::new("/bin/ls".into(), "/tmp".into());
        config.sandbox = false;
        let error = start(&config, Path::new("/nonexistent")).await.unwrap_err().to_string();
        assert!(error.contains("unrecognized option"), "{error}");
    }
}
