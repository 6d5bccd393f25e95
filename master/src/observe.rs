//! Gathers what connection, fleet and ingest show of themselves into the API's [`Moment`](crate::api::Moment),
//! and notes since when each of them is as it is. It changes nothing of what it looks at.

use std::sync::Arc;
use std::time::Duration;

use snapfleet_broker::Broker;
use snapfleet_protocol::UnixMs;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{Live, Moment, now};
use crate::fleet::Fleet;
use crate::ingest::IngestState;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a fault that the connection reported is shown: it does not say when it is over.
const FAULT_SHOWN_MS: i64 = 10 * 60 * 1000;

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
    let mut faults = Faults::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let at = now();
        let faults = faults.current(broker.problems(), at);
        let connected = broker.is_connected();
        let (fleet, problems, ingest) = (fleet.borrow().clone(), ingest.problems(), ingest.status());
        live.note(|moment| {
            note_broker(moment, connected, faults, at);
            note_workers(moment, fleet, at);
            moment.intake.stream_last = ingest.stream_last;
            moment.intake.lag = ingest.lag;
            note_problems(&mut moment.intake.problems, problems, at);
        });
    }
}

/// Faults of the connection, with when the list last grew.
#[derive(Default)]
struct Faults {
    known: Vec<String>,
    grown_at: UnixMs,
}

impl Faults {
    fn current(&mut self, reported: Vec<String>, at: UnixMs) -> Vec<String> {
        if reported != self.known {
            self.known = reported;
            self.grown_at = at;
        }
        if at.0 - self.grown_at.0 > FAULT_SHOWN_MS { Vec::new() } else { self.known.clone() }
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
fn note_workers(moment: &mut Moment, fleet: Fleet, at: UnixMs) {
    let connected = moment.broker.connected;
    let workers = &mut moment.workers;
    workers.problem = fleet.problem.or_else(|| {
        (fleet.unreadable > 0)
            .then(|| format!("{} heartbeats cannot be read: see the master's log", fleet.unreadable))
    });
    workers.heartbeats = if connected { fleet.workers } else { Vec::new() };
    workers.none_since = if workers.heartbeats.is_empty() { workers.none_since.or(Some(at)) } else { None };
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
        note_workers(&mut moment, Fleet::default(), UnixMs(4));
        note_workers(&mut moment, Fleet::default(), UnixMs(5));
        assert_eq!(moment.workers.none_since, Some(UnixMs(4)));
        let mut problems = Vec::new();
        note_problems(&mut problems, vec!["full".to_owned()], UnixMs(6));
        note_problems(&mut problems, vec!["cut".to_owned(), "full".to_owned()], UnixMs(7));
        assert_eq!(problems, [("cut".to_owned(), UnixMs(7)), ("full".to_owned(), UnixMs(6))]);
    }

    #[test]
    fn a_fault_is_shown_for_a_while_and_again_when_another_comes() {
        let mut faults = Faults::default();
        let denied = vec!["denied".to_owned()];
        assert_eq!(faults.current(denied.clone(), UnixMs(1_000)), denied);
        assert!(faults.current(denied.clone(), UnixMs(1_001 + FAULT_SHOWN_MS)).is_empty());
        let two = vec!["denied".to_owned(), "slow".to_owned()];
        assert_eq!(faults.current(two.clone(), UnixMs(1_002 + FAULT_SHOWN_MS)), two);
    }
}
