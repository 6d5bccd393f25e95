//! A command in a terminal of its own, for programs that ask whether to go on: the answer is no.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(90);
/// How often no is answered: what is typed before a question is asked may be thrown away.
const ANSWER_EVERY: Duration = Duration::from_millis(300);

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
    let (mut stdin, mut stdout) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let reading = std::thread::spawn(move || {
        let mut said = Vec::new();
        stdout.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = terminal.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > TIMEOUT {
            terminal.kill().unwrap();
        }
        // A command that asks nothing may be gone already.
        let _ = stdin.write_all(b"n\n");
        std::thread::park_timeout(ANSWER_EVERY);
    };
    let said = reading.join().unwrap();
    assert!(status.success(), "{line}: {said}");
    said
}
