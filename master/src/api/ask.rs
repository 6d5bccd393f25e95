//! What the holder of an account is asked by way of [`crate::accounts::Accounts::ask`], and in which words it is told
//! that it was not done.

use snapfleet_protocol::{AccountId, Command, CommandAnswer};

use super::ApiState;
use super::accounts::{detail, unknown};
use super::condition::Condition;
use super::error::ApiError;
use super::view::AccountView;
use crate::accounts::AskError;

/// What is said where a command was not carried out, each behind the account's name.
pub(crate) struct Words {
    /// It was not done.
    pub(crate) undone: &'static str,
    /// Nobody knows whether it was.
    pub(crate) perhaps: &'static str,
    /// Whether a holder is asked that is about to let go of an account that was paused or has ended.
    pub(crate) to_the_last: bool,
    /// What helps where nobody holds the account; empty where nothing but its state does.
    pub(crate) unheld: fn(&AccountId, Option<Condition>) -> String,
}

/// Asks the holder, and answers with what it has done: never with [`CommandAnswer::Refused`].
///
/// # Errors
/// [`ApiError::NotFound`] for an account that nobody knows, [`ApiError::Conflict`] where the holder refuses or there is
/// none, [`ApiError::NoAnswer`] and [`ApiError::Unavailable`].
pub(crate) async fn ask(
    state: &ApiState,
    id: &AccountId,
    command: &Command,
    words: &Words,
) -> Result<CommandAnswer, ApiError> {
    let view = detail(state, id).await?.ok_or_else(|| unknown(id))?.account;
    let Words { undone, perhaps, .. } = words;
    let to_be_held = !matches!(
        view.state,
        Some(Condition::Paused | Condition::Removed | Condition::Erasing | Condition::Erased)
    );
    if !to_be_held && !words.to_the_last {
        return Err(unheld(id, &view, words));
    }
    match state.accounts.ask(id, command).await {
        Ok(CommandAnswer::Refused { reason }) => Err(ApiError::Conflict(format!("{id} {undone}: {reason}"))),
        Ok(answer) => Ok(answer),
        Err(AskError::NoHolder) => Err(unheld(id, &view, words)),
        Err(error @ AskError::NoAnswer(_)) => {
            Err(ApiError::NoAnswer(format!("{id} {perhaps}: {error}; see that worker's log")))
        }
        Err(error @ (AskError::NotReached(_) | AskError::Failed(_))) => {
            Err(ApiError::Unavailable(format!("{id} {undone}: {error}")))
        }
    }
}

fn unheld(id: &AccountId, view: &AccountView, words: &Words) -> ApiError {
    let state = view.state.map_or("not known at present", |state| state.as_str()).replace('_', " ");
    let reason = view.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (undone, error, remedy) = (words.undone, AskError::NoHolder, (words.unheld)(id, view.state));
    ApiError::Conflict(format!("{id} {undone}: {error}; it is {state}{reason}{remedy}"))
}

/// The holder did something else than it was asked.
pub(crate) fn answered_else(id: &AccountId, words: &Words) -> ApiError {
    let undone = words.undone;
    ApiError::Unavailable(format!(
        "{id} {undone}: its worker answered something else; is it of another version?"
    ))
}
