//! Reads a HAR file and prints what it held and the most memory that this process ever took: for the tests of huge files.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context;
use snapfleet_worker::har::{HarBody, read};

fn main() -> anyhow::Result<()> {
    let path = PathBuf::from(std::env::args_os().nth(1).context("give a file")?);
    let (mut largest, mut too_large) = (0, 0);
    let summary = read(&path, &mut |entry| {
        match &entry.body {
            HarBody::TooLarge(_) => too_large += 1,
            body => largest = largest.max(body.bytes().map_or(0, <[u8]>::len)),
        }
        ControlFlow::Continue(())
    })?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let entries = summary.entries;
    writeln!(
        std::io::stdout(),
        "entries={entries} largest={largest} too_large={too_large} peak={}",
        peak.trim()
    )?;
    Ok(())
}
