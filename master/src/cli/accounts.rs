//! `accounts`, `person` and `sync`: what the running master is asked for, and what it answered, for people.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use reqwest::Method;
use serde::Serialize;
use serde_json::json;
use snapfleet_protocol::{AccountId, UnixMs};

use super::source::{Master, SYNC_TIMEOUT};
use super::text::{plain, when, write_json};
use super::{CliError, import};
use crate::api::view::{AccountDetailView, AccountView, ConfigView, EndView, PageView, SyncedView};
use crate::api::{now, state_words};
use crate::config::accounts::{
    AccountsAction, AccountsCommand, AddArgs, PersonAction, PersonCommand, SetArgs, SyncArgs,
};

/// Accounts of one page of the list.
const PAGE: usize = 500;

/// An account to be added, as the API takes it.
#[derive(Serialize)]
pub(super) struct NewAccount<'a> {
    pub(super) account: &'a AccountId,
    pub(super) interval_s: u64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) paused: bool,
    pub(super) plain_secrets: bool,
}

/// New settings, as the API takes them.
#[derive(Serialize)]
pub(super) struct NewConfig {
    pub(super) revision: u64,
    pub(super) interval_s: u64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) plain_secrets: bool,
}

/// Runs one of the commands below `accounts`.
pub(crate) async fn run(command: &AccountsCommand, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let master = Master::at(&command.at.url)?;
    match &command.action {
        AccountsAction::Add(args) => add(&master, args, out).await?,
        AccountsAction::List { removed, json } => list(&master, *removed, *json, out).await?,
        AccountsAction::Show { account, json } => show(&master, account, *json, out).await?,
        AccountsAction::Set(args) => set(&master, args, out).await?,
        AccountsAction::Pause(one) => turn(&master, &one.account, "pause", out).await?,
        AccountsAction::Resume(one) => turn(&master, &one.account, "resume", out).await?,
        AccountsAction::Remove(one) => {
            let end: EndView = master.change(Method::DELETE, &path(&one.account, ""), &json!({})).await?;
            writeln!(out, "{}: {}", end.account, plain(&end.text))?;
        }
        AccountsAction::Erase { account, yes_erase } => {
            erase(&master, account, yes_erase.as_deref(), out).await?
        }
        AccountsAction::Import(args) => return import::run(&master, args, out).await,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn path(account: &AccountId, end: &str) -> String {
    format!("/api/v1/accounts/{account}{end}")
}

async fn add(master: &Master, args: &AddArgs, out: &mut impl Write) -> Result<(), CliError> {
    let new = NewAccount {
        account: &args.account,
        interval_s: args.interval_s,
        labels: pairs("--label", &args.labels)?,
        settings: pairs("--set", &args.settings)?,
        paused: args.paused,
        plain_secrets: args.plain_secrets,
    };
    let added: AccountDetailView = master.change(Method::POST, "/api/v1/accounts", &new).await?;
    told(&added, "added", out)
}

/// A name given twice would lose the first value without a word.
fn pairs(flag: &str, given: &[(String, String)]) -> Result<BTreeMap<String, String>, CliError> {
    let pairs: BTreeMap<String, String> = given.iter().cloned().collect();
    if pairs.len() == given.len() {
        return Ok(pairs);
    }
    let twice =
        given.iter().enumerate().find(|(n, (name, _))| given[..*n].iter().any(|(other, _)| other == name));
    let name = twice.map(|(_, (name, _))| name.as_str()).unwrap_or_default();
    Err(CliError::Argument(format!("{flag} {} is given twice: give it once", plain(name))))
}

async fn set(master: &Master, args: &SetArgs, out: &mut impl Write) -> Result<(), CliError> {
    let (labels, settings) = (pairs("--label", &args.labels)?, pairs("--set", &args.settings)?);
    let names_none =
        labels.is_empty() && settings.is_empty() && args.unlabel.is_empty() && args.unset.is_empty();
    if names_none && args.interval_s.is_none() {
        let flags = "--interval-s, --label, --unlabel, --set or --unset";
        return Err(CliError::Argument(format!("nothing to change: give {flags}")));
    }
    let before: AccountDetailView = master.get(&path(&args.account, "")).await?;
    let Some((revision, mut config)) = before.revision.zip(before.config.clone()) else {
        let account = &args.account;
        return Err(CliError::Argument(format!(
            "{account} has no settings: {}",
            ended_words(&before.account)
        )));
    };
    config.interval_s = args.interval_s.unwrap_or(config.interval_s);
    take_away("label", &mut config.labels, &args.unlabel)?;
    take_away("setting", &mut config.settings, &args.unset)?;
    config.labels.extend(labels);
    config.settings.extend(settings);
    let revision = args.revision.unwrap_or(revision);
    let changed = replace(master, &args.account, revision, config, args.plain_secrets).await?;
    told(&changed, if changed.revision == before.revision { "is so already" } else { "changed" }, out)
}

/// Sends an account's whole settings; hidden values among them stay as they are.
pub(super) async fn replace(
    master: &Master,
    account: &AccountId,
    revision: u64,
    config: ConfigView,
    plain_secrets: bool,
) -> Result<AccountDetailView, CliError> {
    let ConfigView { interval_s, labels, settings, .. } = config;
    let new = NewConfig { revision, interval_s, labels, settings, plain_secrets };
    master.change(Method::PUT, &path(account, ""), &new).await
}

fn take_away(what: &str, from: &mut BTreeMap<String, String>, names: &[String]) -> Result<(), CliError> {
    for name in names {
        if from.remove(name).is_none() {
            return Err(CliError::Argument(format!("there is no {what} {:?} to take away", plain(name))));
        }
    }
    Ok(())
}

fn ended_words(account: &AccountView) -> String {
    match account.configured {
        true => format!("it was {}; add it again", state_words(account.state)),
        false => "it is not configured; add it".to_owned(),
    }
}

async fn turn(
    master: &Master,
    account: &AccountId,
    verb: &str,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let turned: AccountDetailView =
        master.change(Method::POST, &path(account, &format!("/{verb}")), &json!({})).await?;
    told(&turned, if verb == "pause" { "paused" } else { "to be captured" }, out)
}

fn told(view: &AccountDetailView, what: &str, out: &mut impl Write) -> Result<(), CliError> {
    let revision = view.revision.map(|revision| format!(" (revision {revision})")).unwrap_or_default();
    writeln!(out, "{}: {what}{revision}", view.account.account)?;
    for warning in &view.warnings {
        writeln!(out, "! {}", plain(warning))?;
    }
    Ok(())
}

async fn erase(
    master: &Master,
    account: &AccountId,
    yes: Option<&str>,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let view: AccountDetailView = master.get(&path(account, "")).await?;
    let records = &view.account.records;
    if yes != Some(account.to_string().as_str()) {
        let all = [
            records.contents,
            records.comments,
            records.conversations,
            records.direct_messages,
            records.notifications,
        ];
        return Err(CliError::Argument(format!(
            "erasing {account} deletes its {} records, their history in the change log, its messages in the stream and \
             its session, and cannot be undone: repeat its name with --yes-erase {account}",
            all.iter().sum::<u64>()
        )));
    }
    let end: EndView =
        master.change(Method::POST, &path(account, "/erase"), &json!({ "confirm": account })).await?;
    writeln!(out, "{}: {}", end.account, plain(&end.text))?;
    Ok(())
}

/// `person erase`
pub(crate) async fn person(command: &PersonCommand, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let master = Master::at(&command.at.url)?;
    let PersonAction::Erase { account, person, yes_erase } = &command.action;
    let shown = plain(person.as_str()).into_owned();
    if yes_erase.as_deref() != Some(person.as_str()) {
        return Err(CliError::Argument(format!(
            "erasing person {shown} of {account} deletes what was said by and to that person up to now, and cannot be \
             undone: repeat the id with --yes-erase {shown}"
        )));
    }
    let body = json!({ "person": person, "confirm": person });
    let end: EndView = master.change(Method::POST, &path(account, "/persons/erase"), &body).await?;
    writeln!(out, "{}: {}", end.account, plain(&end.text))?;
    Ok(ExitCode::SUCCESS)
}

/// `sync`
pub(crate) async fn sync(args: &SyncArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let master = Master::at(&args.at.url)?.patient(SYNC_TIMEOUT)?;
    let synced: SyncedView = master.change(Method::POST, &path(&args.account, "/sync"), &json!({})).await?;
    if args.json {
        write_json(out, &synced, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    let SyncedView { account, instance, records, stream_seq, captured } = synced;
    let brought = match records {
        0 => "nothing new".to_owned(),
        1 => "1 record published".to_owned(),
        n => format!("{n} records published"),
    };
    writeln!(
        out,
        "{account}: {brought}, of {captured} bodies captured by {instance}; its last message has stream sequence {stream_seq}"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Every account, page by page.
pub(super) async fn all(master: &Master, removed: bool) -> Result<Vec<AccountView>, CliError> {
    let mut accounts = Vec::new();
    let mut after = String::new();
    loop {
        let page: PageView<AccountView> =
            master.get(&format!("/api/v1/accounts?limit={PAGE}&removed={removed}{after}")).await?;
        accounts.extend(page.items);
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(accounts),
        }
    }
}

async fn list(master: &Master, removed: bool, json: bool, out: &mut impl Write) -> Result<(), CliError> {
    let accounts = all(master, removed).await?;
    if json {
        for account in &accounts {
            write_json(out, account, false)?;
        }
        return Ok(());
    }
    if accounts.is_empty() {
        writeln!(out, "no accounts: add one with snapfleet-master accounts add")?;
    }
    let now = now();
    for account in &accounts {
        print_line(out, account, now)?;
    }
    Ok(())
}

fn print_line(out: &mut impl Write, account: &AccountView, now: UnixMs) -> io::Result<()> {
    let state = state_words(account.state);
    let host = account.host.as_deref().map(|host| format!("  at {}", plain(host))).unwrap_or_default();
    let reason = account.reason.as_deref().map(|reason| format!("  {}", plain(reason))).unwrap_or_default();
    let name = account.account.to_string();
    writeln!(out, "{name:<32} {state:<24} since {}{host}{reason}", when(account.since, now))?;
    for problem in &account.problems {
        writeln!(out, "{:<32} ! {}", "", plain(problem))?;
    }
    Ok(())
}

async fn show(
    master: &Master,
    account: &AccountId,
    json: bool,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let view: AccountDetailView = master.get(&path(account, "")).await?;
    if json {
        write_json(out, &view, true)?;
        return Ok(());
    }
    let now = now();
    print_line(out, &view.account, now)?;
    match (view.revision, &view.config) {
        (Some(revision), _) => writeln!(out, "revision {revision}, written {}", when(view.changed_at, now))?,
        (None, _) => {
            writeln!(out, "it is not configured: add it with snapfleet-master accounts add {account}")?
        }
    }
    if let Some(config) = &view.config {
        writeln!(out, "interval_s = {}", config.interval_s)?;
        for (name, value) in &config.labels {
            writeln!(out, "label {} = {}", plain(name), plain(value))?;
        }
        for (name, value) in &config.settings {
            writeln!(out, "setting {} = {}", plain(name), plain(value))?;
        }
    }
    if let Some(lease) = &view.lease {
        let alive = if lease.alive { "" } else { ", which is not online: it is free" };
        writeln!(
            out,
            "leased by {} of worker {} since {}{alive}",
            lease.instance,
            lease.worker,
            when(Some(lease.at), now)
        )?;
    }
    if let Some(health) = &view.health {
        writeln!(
            out,
            "term {}; captured {} (last {}), published {} (last {}), {} pending, {} rows refused, {} in the window",
            health.epoch,
            health.captured,
            when(health.captured_at, now),
            health.published,
            when(health.published_at, now),
            health.pending,
            health.refused,
            health.window
        )?;
    }
    Ok(())
}
