//! Logging an account in by hand from afar: its holder is asked for a picture of the login page, told what a person
//! does on it, and told when that is over. What is typed and pictured passes through: it is neither kept nor logged.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use serde::Deserialize;
use snapfleet_protocol::login::LOGIN_TEXT_BYTES_MAX;
use snapfleet_protocol::{AccountId, Command, CommandAnswer, LoginInput, LoginPart, LoginScene};

use super::ApiState;
use super::ask::{Words, answered_else, ask};
use super::body::{InBody, check_site};
use super::condition::Condition;
use super::error::ApiError;
use super::params::{InPath, Params};

const WORDS: Words = Words {
    undone: "cannot be logged in from here",
    perhaps: "may have done it or not",
    to_the_last: false,
    unheld: |id, state| match state {
        Some(Condition::Paused) => format!(": resume it first, with: snapfleet-master accounts resume {id}"),
        Some(Condition::Removed | Condition::Erasing | Condition::Erased) => {
            format!(": add it first, with: snapfleet-master accounts add {id}")
        }
        _ => format!(": start a worker that takes it, or log in with: snapfleet-worker login {id}"),
    },
};

/// Which part of the login page is looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookParams {
    #[serde(default)]
    part: LoginPart,
}

/// `GET /accounts/{account}/login`: the login page as it is. Looking holds back the reloads of the page for minutes, so
/// it is guarded as a change is, though it is none of what is stored: pages of other sites and replicas may not.
pub(crate) async fn look(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    Params(LookParams { part }): Params<LookParams>,
    headers: HeaderMap,
) -> Result<Json<LoginScene>, ApiError> {
    check_site(&Method::POST, &headers)?;
    if let Some(name) = &state.replica {
        return Err(ApiError::ReadOnly(name.to_string()));
    }
    scene(&state, &id, &Command::LoginView { part }).await
}

/// `POST /accounts/{account}/login`: a click, a text or a key, answered with what came of it.
pub(crate) async fn input(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
    InBody(input): InBody<LoginInput>,
) -> Result<Json<LoginScene>, ApiError> {
    if let LoginInput::Text(text) = &input
        && text.len() > LOGIN_TEXT_BYTES_MAX
    {
        let bytes = text.len();
        let detail =
            format!("text of {bytes} bytes is not valid: use at most {LOGIN_TEXT_BYTES_MAX} at a time");
        return Err(ApiError::BadRequest(detail));
    }
    scene(&state, &id, &Command::LoginInput { input }).await
}

/// `DELETE /accounts/{account}/login`: nobody logs it in any more; its pages are driven as usual again.
pub(crate) async fn end(
    State(state): State<ApiState>,
    InPath(id): InPath<AccountId>,
) -> Result<Json<LoginScene>, ApiError> {
    scene(&state, &id, &Command::LoginEnd {}).await
}

async fn scene(state: &ApiState, id: &AccountId, command: &Command) -> Result<Json<LoginScene>, ApiError> {
    match ask(state, id, command, &WORDS).await? {
        CommandAnswer::Login(scene) => Ok(Json(scene)),
        _ => Err(answered_else(id, &WORDS)),
    }
}
