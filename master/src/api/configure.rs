//! Changing accounts: added, set, paused, resumed, removed, erased; a person's erasure; a sync. Every request is
//! checked, handed to [`crate::accounts::Accounts`], and answered with how the account is then.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use snapfleet_protocol::fleet::INTERVAL_S_DEFAULT;
use snapfleet_protocol::{AccountConfig, AccountId, Command, CommandAnswer, Heartbeat, PersonHash, RecordId};

use super::ApiState;
use super::accounts::{detail, tagged, unknown};
use super::ask::{Words, answered_else, ask};
use super::body::InBody;
use super::error::ApiError;
use super::params::InPath;
use super::view::{AccountDetailView, EndView, SyncedView};
use crate::accounts::{Configured, check_platform, could_take, why_unassigned};
use crate::store::{Query, Standing, StoreError};

/// How long an answer waits for the store to have followed an end or an erasure.
const STORE_WAIT: Duration = Duration::from_secs(15);
/// How often it is asked meanwhile.
const STORE_ASKED_EVERY: Duration = Duration::from_millis(100);
/// What is said of a sync that was not made.
const SYNC: Words = Words {
    undone: "was not captured",
    perhaps: "may have been captured or not",
    to_the_last: true,
    unheld: |_, _| String::new(),
};

/// An account to be added.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAccount {
    account: String,
    #[serde(default = "interval_default")]
    interval_s: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    plain_secrets: bool,
}

/// An account's new settings, in place of all that it had.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewConfig {
    revision: Option<u64>,
    #[serde(default = "interval_default")]
    interval_s: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    plain_secrets: bool,
}

/// A request that says all in its path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// The account's name once more, for what cannot be undone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmed {
    confirm: String,
}

/// A person, and once more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmedPerson {
    person: String,
    confirm: String,
}

fn interval_default() -> u64 {
    INTERVAL_S_DEFAULT
}

pub(crate) async fn add(
    State(state): State<ApiState>,
    InBody(asked): InBody<NewAccount>,
) -> Result<Response, ApiError> {
    let id = AccountId::parse(&asked.account).map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let config = AccountConfig {
        interval_s: asked.interval_s,
        labels: asked.labels,
        settings: asked.settings,
        erased: None,
    };
    let known = state.live.look(|moment| check_platform(&id.platform, &moment.workers.heartbeats));
    let known = known.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    // Held back until the store knows that its end is over: what a worker published before that would be refused.
    let ended = state.accounts.get(&id).await.is_ok_and(|known| known.entry.config().is_none());
    let mut added = state.accounts.add(&id, config, asked.paused || ended, asked.plain_secrets).await?;
    if ended && !asked.paused {
        let asked = id.clone();
        let is_over = move |query: &Query| Ok(matches!(query.standing(&asked)?, Standing::Active { .. }));
        if !until(&state, is_over).await? {
            return Err(ApiError::Unavailable(format!(
                "{id} is added, but paused: the store has not taken in yet that its end is over; resume it later"
            )));
        }
        added = state.accounts.resume(&id).await?;
    }
    let mut view = shown(&state, &id, &added).await?;
    view.warnings = match known {
        None => vec![format!(
            "no worker is online, so it cannot be told whether platform {} is known",
            id.platform
        )],
        Some(()) => state.live.look(|moment| against(&id, &added, &moment.workers.heartbeats)),
    };
    let mut response = tagged(StatusCode::CREATED, &view);
    let location = HeaderValue::from_str(&format!("/api/v1/accounts/{id}"));
    response.headers_mut().extend(location.ok().map(|location| (header::LOCATION, location)));
    Ok(response)
}

/// What keeps the workers that are online from taking an account.
fn against(id: &AccountId, configured: &Configured, workers: &[Heartbeat]) -> Vec<String> {
    let Some(config) = configured.entry.active() else { return Vec::new() };
    let could = workers.iter().any(|worker| could_take(worker, &id.platform, config));
    if could { Vec::new() } else { vec![why_unassigned(&id.platform, config, workers)] }
}

pub(crate) async fn set(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    headers: HeaderMap,
    InBody(asked): InBody<NewConfig>,
) -> Result<Response, ApiError> {
    let revision = revision(&headers, asked.revision)?;
    let config = AccountConfig {
        interval_s: asked.interval_s,
        labels: asked.labels,
        settings: asked.settings,
        erased: None,
    };
    let set = state.accounts.set(&id, revision, config, asked.plain_secrets).await?;
    let mut view = shown(&state, &id, &set).await?;
    if view.account.worker.is_none() {
        let online = |workers: &[Heartbeat]| {
            if workers.is_empty() { Vec::new() } else { against(&id, &set, workers) }
        };
        view.warnings = state.live.look(|moment| online(&moment.workers.heartbeats));
    }
    Ok(tagged(StatusCode::OK, &view))
}

/// Which write a change replaces: If-Match, or the body's word.
fn revision(headers: &HeaderMap, in_body: Option<u64>) -> Result<u64, ApiError> {
    let Some(tag) = headers.get(header::IF_MATCH) else { return in_body.ok_or(ApiError::NoRevision) };
    let text = tag.to_str().unwrap_or("").trim().trim_matches('"');
    let tag = text.parse::<u64>().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        ApiError::BadRequest(format!(
            "if-match {shown:?} is not valid: use the revision that the account was read with"
        ))
    })?;
    match in_body {
        Some(other) if other != tag => {
            Err(ApiError::BadRequest(format!("if-match says revision {tag} and the body {other}: give one")))
        }
        _ => Ok(tag),
    }
}

pub(crate) async fn pause(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    InBody(Nothing {}): InBody<Nothing>,
) -> Result<Response, ApiError> {
    let paused = state.accounts.pause(&id).await?;
    Ok(tagged(StatusCode::OK, &shown(&state, &id, &paused).await?))
}

pub(crate) async fn resume(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    InBody(Nothing {}): InBody<Nothing>,
) -> Result<Response, ApiError> {
    let resumed = state.accounts.resume(&id).await?;
    Ok(tagged(StatusCode::OK, &shown(&state, &id, &resumed).await?))
}

/// The account as it is after a write, which the shared view has taken over.
async fn shown(
    state: &ApiState,
    id: &AccountId,
    written: &Configured,
) -> Result<AccountDetailView, ApiError> {
    state.live.look(|moment| moment.accounts.note(id.clone(), written.clone()));
    detail(state, id).await?.ok_or_else(|| unknown(id))
}

pub(crate) async fn remove(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    InBody(Nothing {}): InBody<Nothing>,
) -> Result<Json<EndView>, ApiError> {
    let elsewhere = known_elsewhere(&state, &id).await?;
    state.accounts.remove(&id, elsewhere).await?;
    let asked = id.clone();
    let done =
        until(&state, move |query| Ok(matches!(query.standing(&asked)?, Standing::Removed { .. }))).await?;
    let text = match done {
        true => {
            "it is not captured any more; what is stored of it stays readable, and nothing late is taken in"
        }
        false => "it is not captured any more; the store has not taken note of it yet, and does so by itself",
    };
    Ok(Json(EndView { account: id, done, text: text.to_owned() }))
}

pub(crate) async fn erase(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    InBody(asked): InBody<Confirmed>,
) -> Result<Json<EndView>, ApiError> {
    confirmed(&asked.confirm, id.to_string(), "the account's name")?;
    let elsewhere = known_elsewhere(&state, &id).await?;
    let ended = state.accounts.erase(&id, elsewhere).await?;
    let at = ended.entry.erased_at().unwrap_or_default();
    let asked = id.clone();
    let stage = stage(&state, &id, move |query| query.is_erased(&asked, at)).await?;
    if !matches!(stage, Stage::Store) {
        // What is shown follows once a second, and would lag behind this answer.
        state.live.note(|moment| _ = moment.endings.erasing.remove(&id));
    }
    let (done, text) = match stage {
        Stage::Done => {
            (true, "everything that was stored of it is deleted, and nothing late brings it back".to_owned())
        }
        Stage::Broker(until) => {
            (false, format!("everything of it is deleted here; still in the broker {until}"))
        }
        Stage::Store => (false, "it is being deleted; the master goes on with that by itself".to_owned()),
    };
    Ok(Json(EndView { account: id, done, text }))
}

pub(crate) async fn erase_person(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    InBody(asked): InBody<ConfirmedPerson>,
) -> Result<Json<EndView>, ApiError> {
    let person = RecordId::parse(&asked.person).map_err(|error| ApiError::BadRequest(error.to_string()))?;
    confirmed(&asked.confirm, asked.person, "the person's id")?;
    if detail(&state, &id).await?.is_none() {
        return Err(unknown(&id));
    }
    let (of, hash) = (id.clone(), PersonHash::of(&id, &person));
    let newest = state.store.read(move |query| query.newest_of_person(&of, hash)).await?;
    let erasure = state.accounts.erase_person(&id, &person, newest).await?;
    let asked = id.clone();
    let done = move |query: &Query| query.is_person_erased(&asked, erasure);
    let (done, text) = match stage(&state, &id, done).await? {
        Stage::Done => {
            (true, "the person's records up to now are deleted, and nothing late brings them back".to_owned())
        }
        Stage::Broker(until) => {
            (false, format!("the person's records up to now are deleted here; still in the broker {until}"))
        }
        Stage::Store => {
            let text =
                "the person's records up to now are being deleted; the master goes on with that by itself";
            (false, text.to_owned())
        }
    };
    Ok(Json(EndView { account: id, done, text }))
}

/// How far an erasure is.
enum Stage {
    /// Rows are left in the store.
    Store,
    /// None is; the broker may have something, until when.
    Broker(String),
    Done,
}

/// Waits until an erasure is done in store and broker, up to [`STORE_WAIT`], or until it is known what it waits for.
async fn stage(
    state: &ApiState,
    id: &AccountId,
    stored: impl Fn(&Query) -> Result<bool, StoreError> + Clone + Send + 'static,
) -> Result<Stage, ApiError> {
    let deadline = tokio::time::Instant::now() + STORE_WAIT;
    loop {
        let (stored, asked) = (stored.clone(), id.clone());
        let read = move |query: &Query| Ok((stored(query)?, query.is_purge_due(&asked)?));
        let (stored, due) = state.store.read(read).await?;
        if stored && !due {
            return Ok(Stage::Done);
        }
        let held = state.live.look(|moment| {
            let mut pending = moment.endings.pending.iter();
            pending.find(|pending| pending.account == *id).and_then(|pending| pending.held_by.clone())
        });
        let late = tokio::time::Instant::now() >= deadline;
        match held {
            Some(held) if stored => return Ok(Stage::Broker(format!("until {held}"))),
            None if stored && late => {
                return Ok(Stage::Broker(
                    "until the master has deleted it there, which it does by itself".to_owned(),
                ));
            }
            _ if late => return Ok(Stage::Store),
            _ => tokio::time::sleep(STORE_ASKED_EVERY).await,
        }
    }
}

fn confirmed(given: &str, wanted: String, what: &str) -> Result<(), ApiError> {
    if given == wanted {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!(
        "confirm is not {what}: repeat it there, because this cannot be undone"
    )))
}

/// Whether there is something of the account although it may have no entry.
async fn known_elsewhere(state: &ApiState, id: &AccountId) -> Result<bool, ApiError> {
    Ok(detail(state, id).await?.is_some())
}

/// Waits until the store says so, up to [`STORE_WAIT`].
async fn until(
    state: &ApiState,
    done: impl Fn(&Query) -> Result<bool, StoreError> + Clone + Send + 'static,
) -> Result<bool, ApiError> {
    let waited = tokio::time::timeout(STORE_WAIT, async {
        while !state.store.read(done.clone()).await? {
            tokio::time::sleep(STORE_ASKED_EVERY).await;
        }
        Ok(true)
    });
    waited.await.unwrap_or(Ok(false))
}

pub(crate) async fn sync(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    InBody(Nothing {}): InBody<Nothing>,
) -> Result<Json<SyncedView>, ApiError> {
    match ask(&state, &id, &Command::Sync {}, &SYNC).await? {
        CommandAnswer::Synced { instance, records, stream_seq, captured } => {
            Ok(Json(SyncedView { account: id, instance, records, stream_seq, captured }))
        }
        _ => Err(answered_else(&id, &SYNC)),
    }
}
