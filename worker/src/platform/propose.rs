//! `platform new`: a platform's folder proposed from a HAR file. Shows what the file holds and writes what a person can
//! go on from: everything compiles and checks, and emits nothing yet.

mod folder;
mod gather;
mod guess;
mod kinds;
mod merge;
mod shape;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use snapfleet_protocol::PlatformName;

use self::folder::{Rule, rows_of, shown_path};
use self::gather::{Gathered, SourceKind, gather};
use self::shape::Place;
use crate::commands::{Failed, failed, usage};
use crate::config::NewArgs;
use crate::record::Redactor;

/// The most addresses that become rules.
const CHOSEN_MAX: usize = 24;
/// The most addresses that are shown, and fields of each array.
const SHOWN_MAX: usize = 60;
const FIELDS_SHOWN_MAX: usize = 24;
/// It is told how far the reading is after so many entries.
const TELL_EVERY: usize = 1_000;

/// Proposes a platform's folder.
///
/// # Errors
/// [`Failed`]: a bad name, a folder that is there already, a file that is no HAR or holds no JSON. Nothing is written
/// then.
pub fn propose(args: &NewArgs, out: &mut (dyn Write + Send)) -> Result<ExitCode, Failed> {
    let name = PlatformName::parse(&args.name).map_err(usage)?;
    let dir = args.into.join(name.as_str());
    if dir.symlink_metadata().is_ok() {
        let error =
            anyhow::anyhow!("{} is there already: give another name, or remove it first", dir.display());
        return Err(usage(error));
    }
    let redactor = Redactor::new(&args.redact).map_err(usage)?;
    let gathered = read(args, &redactor, out)?;
    let (rules, others) = choose(&gathered);
    show(&gathered, &rules, &others, out).map_err(failed)?;

    let first = rules.first().map(|rule| format!("https://{}/", rule.address.host)).unwrap_or_default();
    let page = gathered.document.as_deref().unwrap_or(&first);
    let har = args.har.file_name().unwrap_or_default().to_string_lossy();
    let mut files = vec![(
        "platform.toml".to_owned(),
        folder::manifest(name.as_str(), &har, page, &gathered.people, (&rules, &others)),
    )];
    let now_ms = Timestamp::now().as_millisecond();
    for rule in &rules {
        files.push((format!("{}.jq", rule.name), folder::filter(rule)));
        if let Some(example) = &rule.group.example {
            let text = folder::fixture(name.as_str(), &rule.name, example, now_ms);
            files.push((format!("fixtures/{}.json", rule.name), text));
        }
    }
    std::fs::create_dir_all(&args.into)
        .and_then(|()| folder::write(&dir, &files))
        .with_context(|| format!("{} cannot be written", dir.display()))
        .map_err(failed)?;
    summary(&dir, &args.har, rules.len(), out).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn read(args: &NewArgs, redactor: &Redactor, out: &mut (dyn Write + Send)) -> Result<Gathered, Failed> {
    let mut told = Ok(());
    let (gathered, summary) = gather(&args.har, redactor, &mut |entries| {
        if entries.is_multiple_of(TELL_EVERY) && told.is_ok() {
            told = writeln!(out, "{entries} entries read");
        }
    });
    told.map_err(failed)?;
    match summary {
        Ok(summary) => {
            writeln!(
                out,
                "{}: {} entries, {} kB",
                args.har.display(),
                summary.entries,
                summary.bytes / 1_000
            )
            .map_err(failed)?;
        }
        Err(error) if gathered.groups.is_empty() => return Err(usage(error)),
        Err(error) => writeln!(out, "warning: {error}; what came before is used").map_err(failed)?,
    }
    if gathered.groups.is_empty() {
        return Err(usage(anyhow::anyhow!(
            "{} holds no JSON to propose from ({} bodies are not in it, {} are something else): save it from the developer tools' network panel with content, after the page has loaded",
            args.har.display(),
            gathered.absent,
            gathered.others
        )));
    }
    Ok(gathered)
}

/// Addresses that seem to matter, most certain first, and the others. What is pushed always does. Where nothing is
/// guessed, those with arrays of objects count, and without any of these all.
fn choose(gathered: &Gathered) -> (Vec<Rule<'_>>, Vec<Rule<'_>>) {
    let mut order: Vec<_> = gathered.groups.iter().collect();
    let certain = |(address, group): &(&_, &_)| std::cmp::Reverse(Rule::new(address, group, &[]).score());
    order.sort_by_cached_key(certain);
    let (mut taken, mut all) = (Vec::new(), Vec::new());
    for (address, group) in order {
        let rule = Rule::new(address, group, &taken);
        taken.push(rule.name.clone());
        all.push(rule);
    }
    let guessed = all.iter().any(|rule| rule.score() > 0);
    let tables = all.iter().any(|rule| !rule.group.shape.tables().is_empty());
    let (mut chosen, mut others) = (Vec::new(), Vec::new());
    for rule in all {
        let pushed = rule.address.source != SourceKind::Response;
        let matters = pushed
            || match (guessed, tables) {
                (true, _) => rule.score() > 0,
                (false, true) => !rule.group.shape.tables().is_empty(),
                (false, false) => true,
            };
        if matters && chosen.len() < CHOSEN_MAX {
            chosen.push(rule);
        } else {
            others.push(rule);
        }
    }
    (chosen, others)
}

fn show(
    gathered: &Gathered,
    rules: &[Rule<'_>],
    others: &[Rule<'_>],
    out: &mut (dyn Write + Send),
) -> std::io::Result<()> {
    writeln!(out, "page: {}", gathered.document.as_deref().unwrap_or("no document is in the file"))?;
    for (title, rules) in [("becomes a rule", rules), ("left as a comment", others)] {
        for rule in rules.iter().take(SHOWN_MAX) {
            show_rule(rule, title, out)?;
        }
        if rules.len() > SHOWN_MAX {
            writeln!(out, "\nand {} addresses more", rules.len() - SHOWN_MAX)?;
        }
    }
    writeln!(out)?;
    for (count, what) in [
        (gathered.others, "bodies are no JSON, or too large"),
        (gathered.absent, "bodies are not in the file"),
        (gathered.left_out, "bodies are of further addresses, which are left out"),
        (gathered.page_states, "page states are left out: their scripts are not in the file"),
    ] {
        if count > 0 {
            writeln!(out, "{count} {what}")?;
        }
    }
    Ok(())
}

fn show_rule(rule: &Rule<'_>, title: &str, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    let what = if rule.address.method.is_empty() { rule.address.source.word() } else { &rule.address.method };
    writeln!(
        out,
        "\n{what} {}{}  {} times, {} bytes: {title}, {}",
        rule.address.host, rule.address.path, rule.group.count, rule.group.bytes, rule.name
    )?;
    for (table, guess) in &rule.guesses {
        writeln!(
            out,
            "  probably {} in {}: a guess, by {}",
            guess.kind.name,
            shown_path(table.path),
            guess.by.join(", ")
        )?;
    }
    let tables = rule.group.shape.tables();
    for table in &tables {
        writeln!(out, "  {}  {}", shown_path(table.path), rows_of(table.rows))?;
        show_fields(table.fields.iter().copied(), out)?;
    }
    if tables.is_empty() {
        show_fields(rule.group.shape.top(), out)?;
    }
    Ok(())
}

fn show_fields<'g>(
    fields: impl Iterator<Item = (&'g str, &'g Place)>,
    out: &mut (dyn Write + Send),
) -> std::io::Result<()> {
    let leaves = fields.filter(|(_, place)| place.sample.is_some() && place.rows.is_none());
    for (path, place) in leaves.take(FIELDS_SHOWN_MAX) {
        let sample = place.sample.as_deref().unwrap_or_default();
        writeln!(out, "    {path}  ({})  {sample}", place.type_names())?;
    }
    Ok(())
}

fn summary(dir: &Path, har: &Path, rules: usize, out: &mut (dyn Write + Send)) -> std::io::Result<()> {
    let (dir, har) = (dir.display(), har.display());
    writeln!(
        out,
        "\n{dir} is written: {rules} rules, whose filters emit nothing yet. Each filter lists what was found and has an \
         example to begin with. The fixtures hold what people wrote.\nnext:\n  \
         snapfleet-worker platform check {dir}\n  \
         snapfleet-worker platform check {dir} --har {har}\n  \
         snapfleet-worker platform check {dir} --accept"
    )
}
