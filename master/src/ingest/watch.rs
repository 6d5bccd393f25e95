//! A look at the stream each second: how far the store lags behind it, and whether it is full.

use std::time::Duration;

use async_nats::jetstream::account::Account;
use async_nats::jetstream::stream::Info;
use snapfleet_broker::Broker;
use snapfleet_protocol::stream::SNAPSHOTS;
use tokio_util::sync::CancellationToken;

use crate::store::DataStore;

use super::consumer::incarnation;
use super::state::IngestState;

/// How often the stream is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// From this share of a limit on, in percent, the stream counts as full: the next publish may be refused.
const FULL_PERCENT: u64 = 98;

/// Looks until `stop`.
pub(super) async fn run(broker: &Broker, store: &DataStore, state: &IngestState, stop: &CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut logged = None;
    loop {
        let look = async {
            ticks.tick().await;
            look(broker, store, state).await
        };
        let problem = tokio::select! {
            problem = look => problem,
            () = stop.cancelled() => return,
        };
        if problem != logged {
            match &problem {
                Some(problem) => tracing::warn!(problem, "the stream is not well"),
                None => tracing::info!("the stream is well again"),
            }
            logged.clone_from(&problem);
        }
        state.update(|status| status.stream_problem = problem);
    }
}

/// Takes the stream's figures over into `state`; returns what is wrong with it.
async fn look(broker: &Broker, store: &DataStore, state: &IngestState) -> Option<String> {
    let stream = match broker.jetstream().get_stream(SNAPSHOTS).await {
        Ok(stream) => stream,
        Err(error) => return Some(format!("stream {SNAPSHOTS} cannot be looked at: {error}")),
    };
    let info = stream.cached_info();
    let last = info.state.last_sequence;
    let position = match store.read(|query| query.totals()).await {
        Ok(totals) => totals.position,
        Err(error) => return Some(error.to_string()),
    };
    let here = position.filter(|position| incarnation(info).is_ok_and(|it| it == position.incarnation));
    let lag = last.saturating_sub(here.map_or(0, |position| position.seq));
    state.update(|status| (status.stream_last, status.lag) = (Some(last), lag));
    if let Some(problem) = stream_full(info) {
        return Some(problem);
    }
    match broker.jetstream().query_account().await {
        Ok(account) => store_full(&account),
        Err(error) => Some(format!("the broker's store cannot be looked at: {error}")),
    }
}

fn stream_full(info: &Info) -> Option<String> {
    let used = [
        ("bytes", info.state.bytes, info.config.max_bytes),
        ("messages", info.state.messages, info.config.max_messages),
    ];
    let (what, used, limit) = used.into_iter().find(|(_, used, limit)| is_full(*used, *limit))?;
    Some(format!(
        "stream {SNAPSHOTS} is full ({used} of {limit} {what}), and workers cannot publish: raise the stream's limit"
    ))
}

fn store_full(account: &Account) -> Option<String> {
    let (used, limit) = (account.storage, account.limits.max_storage.unwrap_or(-1));
    is_full(used, limit).then(|| {
        format!(
            "the broker's store is full ({used} of {limit} bytes), and workers cannot publish: raise max_file in \
             nats.conf"
        )
    })
}

/// Whether a limit, which is none where it is not positive, is as good as reached.
fn is_full(used: u64, limit: i64) -> bool {
    limit > 0 && i128::from(used) * 100 >= i128::from(limit) * i128::from(FULL_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_is_near_a_limit_and_never_without_one() {
        assert!(!is_full(u64::MAX, -1) && !is_full(u64::MAX, 0));
        assert!(!is_full(900, 1_000));
        assert!(is_full(980, 1_000) && is_full(2_000, 1_000));
        assert!(!is_full(1, 50) && is_full(50, 50));
    }
}
