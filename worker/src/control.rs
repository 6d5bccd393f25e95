//! What is asked of this worker over the broker: commands to the accounts it holds, and, as a NATS micro service,
//! who it is and what it holds.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::service::{Service, ServiceExt};
use bytes::Bytes;
use futures_util::StreamExt;
use snapfleet_broker::Broker;
use snapfleet_protocol::login::LOGIN_TEXT_BYTES_MAX;
use snapfleet_protocol::{AccountId, Command, CommandAnswer, HeldAccounts, LoginInput, Topic};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::account::Ask;
use crate::fleet::Identity;
use crate::pages::{Bell, LoginWish};
use crate::roster::{Roster, now};

/// The service's name in `nats micro`.
const SERVICE: &str = "snapfleet-worker";
/// Commands of one account that wait for their answers, at most.
const WAITING_MAX: usize = 16;
/// How long a command may take.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Hands the commands for an account to its task, and its answers back, until dropped.
pub(crate) async fn listen(broker: Broker, account: AccountId, asks: mpsc::Sender<Ask>, bell: Bell) {
    let subject = Topic::Command.subject(&account);
    let mut requests = match broker.client().subscribe(subject).await {
        Ok(requests) => requests,
        Err(error) => {
            tracing::error!(account.id = %account, %error, "commands for the account cannot be listened for");
            return;
        }
    };
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    while let Some(request) = requests.next().await {
        let Some(reply) = request.reply else {
            tracing::warn!(account.id = %account, "a command without a reply subject is not carried out");
            continue;
        };
        let place = Arc::clone(&waiting).try_acquire_owned().ok();
        let answer = match serde_json::from_slice::<Command>(&request.payload) {
            Ok(_) if place.is_none() => Err("too many commands wait already: ask again later".to_owned()),
            Ok(command) => {
                // A live picture is asked for every second.
                if !matches!(command, Command::LoginView { .. }) {
                    tracing::info!(account.id = %account, ?command, "command received");
                }
                ask(command, &asks, &bell)
            }
            Err(error) => Err(format!("the command cannot be read: {error}")),
        };
        // A task of its own, which outlives the listening: who asked is answered also when the account is let go.
        let (client, account) = (broker.client().clone(), account.clone());
        tokio::spawn(async move {
            let _place = place;
            let gone = || CommandAnswer::Refused { reason: "the account was let go meanwhile".to_owned() };
            let answer = match answer {
                Ok(answered) => match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
                    Ok(answer) => answer.unwrap_or_else(|_| gone()),
                    Err(_) => CommandAnswer::Refused {
                        reason:
                            "its page is being loaded and does not answer yet: ask again in a few seconds"
                                .to_owned(),
                    },
                },
                Err(reason) => CommandAnswer::Refused { reason },
            };
            tracing::debug!(account.id = %account, ?answer, "command answered");
            let payload = serde_json::to_vec(&answer).unwrap_or_default();
            if let Err(error) = client.publish(reply, Bytes::from(payload)).await {
                tracing::warn!(account.id = %account, %error, "a command's answer cannot be sent");
            }
        });
    }
}

/// Hands a command to whom it is for.
fn ask(
    command: Command,
    asks: &mpsc::Sender<Ask>,
    bell: &Bell,
) -> Result<oneshot::Receiver<CommandAnswer>, String> {
    let wish = match command {
        Command::Sync {} => {
            let (answer, answered) = oneshot::channel();
            let gone = "the account is being let go: ask again in a few seconds";
            return asks.try_send(Ask { answer }).map(|()| answered).map_err(|_| gone.to_owned());
        }
        Command::LoginInput { input: LoginInput::Text(text) } if text.len() > LOGIN_TEXT_BYTES_MAX => {
            return Err(format!(
                "a text of {} bytes is too long: at most {LOGIN_TEXT_BYTES_MAX}",
                text.len()
            ));
        }
        Command::LoginInput { input: LoginInput::Text(text) } if text.chars().any(char::is_control) => {
            return Err("the text holds control characters: send keys by their names".to_owned());
        }
        Command::LoginView { part } => LoginWish::View(part),
        Command::LoginInput { input } => LoginWish::Input(input),
        Command::LoginEnd {} => LoginWish::End,
    };
    bell.ask(wish)
}

/// Shows this worker to `nats micro ls|info|stats` until `stop`; asked on `worker.<instance>.accounts`, it tells what
/// it holds.
pub(crate) async fn serve(broker: Broker, identity: Identity, roster: Roster, stop: CancellationToken) {
    let service = match start(&broker, &identity, &roster).await {
        Ok(service) => service,
        Err(error) => {
            tracing::error!(%error, "the worker is not shown as a micro service");
            return;
        }
    };
    let subject = format!("worker.{}.accounts", identity.instance);
    let endpoint = service.endpoint_builder().name("accounts").add(subject).await;
    let mut requests = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => {
            tracing::error!(%error, "the worker's micro service has no endpoint");
            return;
        }
    };
    loop {
        let request = tokio::select! {
            request = requests.next() => request,
            () = stop.cancelled() => break,
        };
        let Some(request) = request else { break };
        let held = HeldAccounts { instance: identity.instance.clone(), at: now(), accounts: roster.all() };
        let answer = serde_json::to_vec(&held).map(Bytes::from).unwrap_or_default();
        if let Err(error) = request.respond(Ok(answer)).await {
            tracing::warn!(%error, "an answer of the micro service cannot be sent");
        }
    }
    if let Err(error) = service.stop().await {
        tracing::debug!(%error, "the micro service ended before it was stopped");
    }
}

async fn start(broker: &Broker, identity: &Identity, roster: &Roster) -> Result<Service, async_nats::Error> {
    let mut metadata = HashMap::from([
        ("worker".to_owned(), identity.worker.to_string()),
        ("instance".to_owned(), identity.instance.to_string()),
        ("host".to_owned(), identity.host.clone()),
    ]);
    metadata.extend(identity.labels.iter().map(|(name, value)| (format!("label.{name}"), value.clone())));
    let roster = roster.clone();
    let builder = broker.client().service_builder();
    builder
        .description("holds browser sessions of accounts and publishes what they show")
        .metadata(metadata)
        .stats_handler(move |_, _| {
            let all = roster.all();
            let sum =
                |figure: fn(&snapfleet_protocol::AccountHealth) -> u64| all.iter().map(figure).sum::<u64>();
            serde_json::json!({
                "accounts": all.len(),
                "well": all.iter().filter(|health| health.state.is_well()).count(),
                "captured": sum(|health| health.captured),
                "published": sum(|health| health.published),
                "pending": sum(|health| health.pending),
            })
        })
        .start(SERVICE, env!("CARGO_PKG_VERSION"))
        .await
}
