//! Gathers what connection, fleet and ingest show of themselves into the API's [`Moment`](crate::api::Moment),
//! and notes since when each of them is as it is. It changes nothing of what it looks at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use snapfleet_broker::Broker;
use snapfleet_protocol::UnixMs;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{Live, Moment, now};
use crate::fleet::{Fleet, HEARTBEATS_DUE};
use crate::ingest::IngestState;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Keeps `live` up to date until `shutdown`.
pub(crate) async fn run(
    broker: Broker,
    fleet: watch::Receiver<Fleet>,
    ingest: Arc<IngestState>,
    live: Live,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut connections = broker.connections();
    let mut began = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let at = now();
        let (connected, faults) = (broker.is_connected(), broker.problems());
        let anew = connections.has_changed().unwrap_or(false);
        if anew || !connected {
            connections.borrow_and_update();
            began = Instant::now();
        }
        let settled = connected && began.elapsed() >= HEARTBEATS_DUE;
        let (fleet, problems, ingest) = (fleet.borrow().clone(), ingest.problems(), ingest.status());
        live.note(|moment| {
            note_broker(moment, connected, faults, at);
            note_workers(moment, fleet, settled, at);
            moment.intake.stream_last = ingest.stream_last;
            moment.intake.lag = ingest.lag;
            note_problems(&mut moment.intake.problems, problems, at);
        });
    }
}

fn note_broker(moment: &mut Moment, connected: bool, faults: Vec<String>, at: UnixMs) {
    let broker = &mut moment.broker;
    if broker.connected != connected || broker.since.is_none() {
        broker.connected = connected;
        broker.since = Some(at);
    }
    broker.faults = faults;
}

/// Without a connection nobody can be told to be online: what was heard last is not kept.
fn note_workers(moment: &mut Moment, fleet: Fleet, settled: bool, at: UnixMs) {
    let connected = moment.broker.connected;
    let workers = &mut moment.workers;
    workers.problem = fleet.problem.or_else(|| {
        (fleet.unreadable > 0)
            .then(|| format!("{} heartbeats cannot be read: see the master's log", fleet.unreadable))
    });
    workers.heartbeats = if connected { fleet.workers } else { Vec::new() };
    workers.settled = settled;
    let none = moment.workers_online() == Some(0);
    let since = &mut moment.workers.none_since;
    *since = if none { since.or(Some(at)) } else { None };
}

/// A problem that stays keeps the moment at which it was first seen.
fn note_problems(known: &mut Vec<(String, UnixMs)>, problems: Vec<String>, at: UnixMs) {
    let since =
        |problem: &String| known.iter().find(|(text, _)| text == problem).map_or(at, |(_, since)| *since);
    *known = problems.into_iter().map(|problem| (problem.clone(), since(&problem))).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_when_it_changed_and_not_when_it_was_last_seen() {
        let mut moment = Moment::default();
        note_broker(&mut moment, false, Vec::new(), UnixMs(1));
        note_broker(&mut moment, false, Vec::new(), UnixMs(2));
        assert_eq!(moment.broker.since, Some(UnixMs(1)));
        note_broker(&mut moment, true, Vec::new(), UnixMs(3));
        assert_eq!((moment.broker.connected, moment.broker.since), (true, Some(UnixMs(3))));
        note_workers(&mut moment, Fleet::default(), false, UnixMs(4));
        assert_eq!((moment.workers_online(), moment.workers.none_since), (None, None));
        note_workers(&mut moment, Fleet::default(), true, UnixMs(5));
        note_workers(&mut moment, Fleet::default(), true, UnixMs(6));
        assert_eq!((moment.workers_online(), moment.workers.none_since), (Some(0), Some(UnixMs(5))));
        let mut problems = Vec::new();
        note_problems(&mut problems, vec!["full".to_owned()], UnixMs(6));
        note_problems(&mut problems, vec!["cut".to_owned(), "full".to_owned()], UnixMs(7));
        assert_eq!(problems, [("cut".to_owned(), UnixMs(7)), ("full".to_owned(), UnixMs(6))]);
    }
}
