//! A command in a terminal of its own, for programs that ask whether to go on: the answer is no.

use std::io::{Read, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(90);
/// A program that asks wants to know first, a few times, where the terminal's cursor is; what is typed together with
/// that is lost. No is typed, again and again, when it has been quiet for this long.
const QUIET: Duration = Duration::from_millis(200);
const WHERE: &[u8] = b"\x1b[6n";
const HERE: &[u8] = b"\x1b[24;80R";
const NO: &[u8] = b"n\r";

/// Runs a command line, prepared further by `prepare`, and returns what it printed.
///
/// # Panics
/// If it fails, or does not end in time.
pub(crate) fn run(line: &str, prepare: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new("script");
    command
        .args(["-qec", line, "/dev/null"])
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    prepare(&mut command);
    let mut terminal = command.spawn().expect("script (of util-linux) runs");
    let (mut stdin, stdout) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let (asking, asked) = channel();
    let reading = std::thread::spawn(|| read(stdout, asking));
    let (started, mut asks) = (Instant::now(), false);
    loop {
        let answer = match asked.recv_timeout(QUIET) {
            Ok(()) => HERE,
            Err(RecvTimeoutError::Timeout) if asks => NO,
            Err(RecvTimeoutError::Timeout) => b"",
            Err(RecvTimeoutError::Disconnected) => break,
        };
        asks |= answer == HERE;
        // A program that does not wait for it may be gone already.
        let _ = stdin.write_all(answer);
        if started.elapsed() > TIMEOUT {
            terminal.kill().unwrap();
        }
    }
    let (said, status) = (reading.join().unwrap(), terminal.wait().unwrap());
    assert!(status.success(), "{line}: {said}");
    said
}

/// Reads to the end, and tells each time that the cursor's place is asked for.
fn read(mut stdout: ChildStdout, asking: Sender<()>) -> String {
    let (mut said, mut told, mut chunk) = (Vec::new(), 0, [0; 4_096]);
    while let Ok(read @ 1..) = stdout.read(&mut chunk) {
        said.extend_from_slice(&chunk[..read]);
        let asked = said.windows(WHERE.len()).filter(|window| *window == WHERE).count();
        for _ in told..asked {
            // Nobody listens any more once the command was given up.
            let _ = asking.send(());
        }
        told = asked;
    }
    String::from_utf8_lossy(&said).into_owned()
}
