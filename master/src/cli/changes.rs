//! `changes`: the change log, oldest first, and on request what comes.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::CliError;
use super::source::{self, Source};
use super::text::{exact, plain, write_json};
use crate::api::view::ChangeView;
use crate::api::{ApiError, change_page};
use crate::config::ChangesArgs;

/// Changes asked for at a time.
const PAGE_ROWS: u64 = 500;
/// How often a master that has no more is asked again.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);

/// Where to read on.
enum Place {
    Oldest,
    /// At the last so many.
    Last(u64),
    /// Behind a cursor.
    After(String),
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Box<RawValue>>,
    next: String,
}

pub(crate) async fn run(args: &ChangesArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let source = source::open(&args.read).await?;
    if args.follow && matches!(source, Source::File(_)) {
        return Err(CliError::FollowAtRest);
    }
    let limit = args.limit.unwrap_or(u64::MAX);
    let (mut from, mut left) = match (&args.after, args.newest) {
        (Some(after), _) => (Place::After(after.clone()), limit),
        // The limit says where to begin; whoever follows then sees all that comes.
        (None, true) => (Place::Last(limit), if args.follow { u64::MAX } else { limit }),
        (None, false) => (Place::Oldest, limit),
    };
    while left > 0 {
        let page = read(&source, &from, left.min(PAGE_ROWS)).await?;
        for item in &page.items {
            if args.read.json { write_json(out, item, false)? } else { print(out, item)? }
        }
        left = left.saturating_sub(page.items.len() as u64);
        let none = page.items.is_empty();
        from = Place::After(page.next);
        if !none {
            continue;
        }
        if !args.follow {
            break;
        }
        out.flush()?;
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_PAUSE) => {}
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn read(source: &Source, from: &Place, limit: u64) -> Result<Answer, CliError> {
    let (after, last) = match from {
        Place::Oldest => (None, None),
        Place::Last(number) => (None, Some(*number)),
        Place::After(cursor) => (Some(cursor.as_str()), None),
    };
    match source {
        Source::Master(master) => {
            let from = match from {
                Place::Oldest => String::new(),
                Place::Last(number) => format!("&last={number}"),
                Place::After(cursor) => format!("&after={}", encoded(cursor)),
            };
            master.get(&format!("/api/v1/changes?limit={limit}{from}")).await
        }
        Source::File(query) => match change_page(query, after, last, limit as usize)? {
            Ok((items, next)) => Ok(Answer { items, next }),
            Err(ApiError::CursorGone { detail, .. } | ApiError::BadRequest(detail)) => {
                Err(CliError::Cursor(detail))
            }
            Err(error) => Err(CliError::Cursor(format!("{error:?}"))),
        },
    }
}

/// `text` as part of a query string.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

/// One line: which record of which account, and what of it. Its text is in the JSON.
fn print(out: &mut impl Write, item: &RawValue) -> io::Result<()> {
    let change: ChangeView = serde_json::from_str(item.get())?;
    let fields = change.changed.iter().map(|field| format!(" {}", plain(field))).collect::<String>();
    let record =
        change.kind.zip(change.id).map(|(kind, id)| format!(" {} {}", plain(&kind), plain(id.as_str())));
    writeln!(
        out,
        "{}  {}  {}  {}{}{fields}",
        plain(&change.cursor),
        exact(change.at),
        change.account,
        plain(&change.operation),
        record.unwrap_or_default(),
    )
}
