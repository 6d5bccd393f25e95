//! Whether another master writes by way of the same broker: each says every two seconds that it is there, and hears the
//! others. Two would both purge and create streams, and each would show only what it did itself. Nothing of it is stored:
//! one that is killed is forgotten at once.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use snapfleet_broker::Broker;
use tokio_util::sync::CancellationToken;

use crate::api::{Live, now};

/// Masters alone may publish it (nats.conf). It is none of the subjects that services are asked on.
const SUBJECT: &str = "$SRV.SNAPFLEET_MASTER";
/// How often a master says that it is there.
const SAID_EVERY: Duration = Duration::from_secs(2);
/// One that has said nothing for this long has gone.
const GONE_AFTER: Duration = Duration::from_secs(7);

/// What a master says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Here {
    /// Tells its starts and others apart.
    id: String,
    host: String,
    pid: u32,
}

/// Says that this master is there, and notes in `live` whom else it hears, until `shutdown`.
pub(crate) async fn run(broker: Broker, live: Live, shutdown: CancellationToken) {
    let (id, host) = (broker.client().new_inbox(), crate::host_name());
    let own = Here { id, host, pid: std::process::id() };
    let said = serde_json::to_vec(&own).unwrap_or_default();
    let mut heard = match broker.client().subscribe(SUBJECT).await {
        Ok(heard) => heard,
        Err(error) => return tracing::warn!(%error, "other masters cannot be heard"),
    };
    let mut ticks = tokio::time::interval(SAID_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut other: Option<(Here, Instant)> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {
                if broker.is_connected() && let Err(error) = broker.client().publish(SUBJECT, said.clone().into()).await {
                    tracing::debug!(%error, "other masters cannot be told");
                }
            }
            Some(message) = heard.next() => {
                let here = serde_json::from_slice::<Here>(&message.payload);
                other = here.ok().filter(|here| here.id != own.id).map(|here| (here, Instant::now())).or(other);
            }
        }
        other = other.filter(|(_, at)| at.elapsed() < GONE_AFTER);
        note(&live, other.as_ref().map(|(here, _)| here));
    }
}

fn note(live: &Live, other: Option<&Here>) {
    live.note(|moment| match (other, &moment.broker.other_master) {
        (Some(here), None) => {
            tracing::error!(host = here.host, pid = here.pid, "another master writes by way of this broker");
            let name = format!("process {} on host {}", here.pid, here.host);
            moment.broker.other_master = Some((name, now()));
        }
        (None, Some(_)) => {
            tracing::info!("the other master has gone");
            moment.broker.other_master = None;
        }
        _ => {}
    });
}
