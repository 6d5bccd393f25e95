//! `dead-letters`: what could not be applied, oldest first.

use std::io::{self, Write};
use std::process::ExitCode;

use super::CliError;
use super::source::{self, Source};
use super::text::{exact, plain, write_json};
use crate::api::DEAD_LETTERS_PAGE_MAX;
use crate::api::dead_letter_page;
use crate::api::view::{DeadLetterView, PageView};
use crate::config::DeadLettersArgs;

pub(crate) async fn run(args: &DeadLettersArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let source = source::open(&args.read).await?;
    let (mut after, mut left) = (args.after, args.limit.unwrap_or(u64::MAX));
    let mut any = false;
    while left > 0 {
        let limit = left.min(DEAD_LETTERS_PAGE_MAX as u64);
        let page: PageView<DeadLetterView> = match &source {
            Source::Master(master) => {
                master.get(&format!("/api/v1/dead-letters?after={after}&limit={limit}")).await?
            }
            Source::File(query) => dead_letter_page(query, after, limit as usize)?,
        };
        for letter in &page.items {
            if args.read.json {
                write_json(out, letter, false)?
            } else {
                print(out, letter)?
            }
            after = letter.n;
            any = true;
        }
        left = left.saturating_sub(page.items.len() as u64);
        if page.next.is_none() || page.items.is_empty() {
            break;
        }
    }
    if !any && !args.read.json {
        writeln!(out, "no dead letters")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, letter: &DeadLetterView) -> io::Result<()> {
    writeln!(
        out,
        "{}  {}  {}  stream sequence {}  {} bytes",
        letter.n,
        exact(letter.at),
        plain(&letter.subject),
        letter.stream_seq,
        letter.bytes
    )?;
    writeln!(out, "    {}", plain(&letter.error))?;
    for header in letter.headers.lines() {
        writeln!(out, "    {}", plain(header))?;
    }
    if let Some(snapshot) = &letter.snapshot {
        let records = &snapshot.records;
        writeln!(
            out,
            "    {} of {} by {}, term {}, seq {}: {} contents, {} comments, {} conversations, {} direct messages, \
             {} notifications",
            plain(&snapshot.snapshot_kind),
            snapshot.account,
            snapshot.instance,
            snapshot.epoch,
            snapshot.seq,
            records.contents,
            records.comments,
            records.conversations,
            records.direct_messages,
            records.notifications
        )?;
    }
    if let Some(error) = &letter.decode_error {
        writeln!(out, "    {}", plain(error))?;
    }
    writeln!(out, "    {}{}", letter.hex, if letter.bytes * 2 > letter.hex.len() as u64 { ".." } else { "" })
}
