//! A command in a terminal of its own, for programs that ask whether to go on: the answer is no.

use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a program prints that is to be answered, and the answer: where the cursor is, and whether to go on.
const ANSWERS: [(&[u8], &[u8]); 2] = [(b"\x1b[6n", b"\x1b[24;80R"), (b"(Y/n)", b"n\r")];

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
    let (stdin, stdout) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let talking = std::thread::spawn(|| talk(stdin, stdout));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = terminal.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > TIMEOUT {
            terminal.kill().unwrap();
        }
        std::thread::park_timeout(LOOK_EVERY);
    };
    let said = talking.join().unwrap();
    assert!(status.success(), "{line}: {said}");
    said
}

/// Reads what is printed, and answers what is asked in it.
fn talk(mut stdin: ChildStdin, mut stdout: ChildStdout) -> String {
    let (mut said, mut answered) = (Vec::new(), [0; ANSWERS.len()]);
    let mut chunk = [0; 4_096];
    while let Ok(read @ 1..) = stdout.read(&mut chunk) {
        said.extend_from_slice(&chunk[..read]);
        for ((asked, answer), answered) in ANSWERS.iter().zip(&mut answered) {
            let asked = said.windows(asked.len()).filter(|window| window == asked).count();
            for _ in *answered..asked {
                // A program that does not wait for it may be gone already.
                let _ = stdin.write_all(answer);
            }
            *answered = asked;
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}
