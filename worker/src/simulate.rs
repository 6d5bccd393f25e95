//! A generator in place of the browser: sends what an account's pages would, so that everything after them is put
//! under load without Chromium.
//!
//! What an account shows is a function of seed, account and step alone ([`truth`]), so that what arrives in a store
//! can be compared field by field. It must not know windows, the stream or the broker.

mod inbox;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use snapfleet_protocol::{AccountId, Record, UnixMs};
use tokio::sync::mpsc::{self, error::SendError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::account::Sighting;
use crate::roster::now;
use crate::steering::Steering;
use crate::window;
use inbox::Inbox;

/// The least and the most records that an account begins with; beyond it, its window could not hold them.
const RECORDS: std::ops::RangeInclusive<u64> = 2..=window::RECORDS_MAX as u64;
/// After so many rounds the page is loaded anew, and shows everything again.
const ROUNDS_PER_LOAD: u64 = 100;
/// The name of the one page that an account has.
const PAGE: &str = "inbox";

/// What is simulated.
#[derive(Debug, Clone, Args)]
pub struct Simulation {
    /// Records that each account begins with, 2 to 20000.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(RECORDS))]
    pub records: u64,
    /// The part of them that changes or is new in each interval, 0 to 1. Two changes may meet the same record.
    #[arg(long, default_value_t = 0.01, value_parser = parse_rate)]
    pub change_rate: f64,
    /// What the records are made from: the same seed gives the same records.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// When the first step began, in milliseconds since 1970. Given to all workers alike, an account that moves goes
    /// on where it was; otherwise each holder begins at the first step.
    #[arg(long)]
    pub since_ms: Option<i64>,
    /// After this many steps nothing changes any more.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    pub steps: u64,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err("give a part from 0 to 1, such as 0.01".to_owned()),
    }
}

/// The records of an account as of a step, by kind and id. Step 0 is what it begins with.
#[must_use]
pub fn truth(account: &AccountId, settings: &Simulation, step: u64) -> Vec<Record> {
    let mut records = Inbox::new(account, settings).all(step.min(settings.steps), usize::MAX);
    records.sort_by(|a, b| (a.kind(), a.id()).cmp(&(b.kind(), b.id())));
    records
}

/// Writes the simulated accounts, `sim.a0000` and on, as a table for `snapfleet-master accounts import`.
///
/// # Errors
/// Those of `out`.
pub fn write_csv(out: &mut impl io::Write, accounts: u32, interval_s: u64) -> io::Result<()> {
    writeln!(out, "id,interval_s")?;
    for number in 0..accounts {
        writeln!(out, "sim.a{number:04},{interval_s}")?;
    }
    Ok(())
}

/// Sends what the account's page would show, each `interval`, until `stop`. The accounts' rounds are spread over the
/// interval. While the page may not be driven nothing is loaded, but what it is pushed still comes.
pub async fn run(
    account: AccountId,
    settings: Arc<Simulation>,
    interval: Duration,
    sightings: mpsc::Sender<Sighting>,
    steering: Steering,
    stop: CancellationToken,
) {
    let page = Page { inbox: Inbox::new(&account, &settings), steps: settings.steps, sightings };
    let rounds = Rounds::new(&settings, interval, page.inbox.phase(interval));
    // Nobody takes what it shows any more: its end tells the account's task.
    let _ = stop.run_until_cancelled(page.drive(rounds, steering)).await;
}

struct Page {
    inbox: Inbox,
    steps: u64,
    sightings: mpsc::Sender<Sighting>,
}

impl Page {
    async fn drive(self, rounds: Rounds, mut steering: Steering) -> Result<(), SendError<Sighting>> {
        steering.may_drive().await;
        self.sightings.send(loaded()).await?;
        let mut round = rounds.next();
        tokio::time::sleep_until(rounds.at(round)).await;
        let mut shown = self.show_all(round).await?;
        let mut load = round + ROUNDS_PER_LOAD;
        loop {
            round = rounds.next().max(round + 1);
            let asked = tokio::select! {
                () = tokio::time::sleep_until(rounds.at(round)) => false,
                () = steering.refresh() => true,
            };
            if asked {
                // Between two rounds: what it shows is what the last one showed.
                steering.may_drive().await;
                self.sightings.send(loaded()).await?;
                shown = self.show_all(shown).await?;
            } else if round >= load && steering.epoch().is_some() {
                load = round + ROUNDS_PER_LOAD;
                shown = self.show_all(round).await?;
            } else {
                let step = round.min(self.steps);
                self.show(self.inbox.changed(shown, step)).await?;
                shown = step;
            }
        }
    }

    async fn show_all(&self, round: u64) -> Result<u64, SendError<Sighting>> {
        let step = round.min(self.steps);
        self.show(self.inbox.all(step, window::RECORDS_MAX)).await?;
        Ok(step)
    }

    async fn show(&self, records: Vec<Record>) -> Result<(), SendError<Sighting>> {
        self.sightings.send(Sighting::Records { records, refused: 0, at: now() }).await
    }
}

fn loaded() -> Sighting {
    Sighting::PageLoaded { page: PAGE.to_owned(), without_login: true }
}

/// When an account's rounds are; round and step have the same number.
#[derive(Debug)]
struct Rounds {
    /// How far the simulation was when this began.
    ahead: Duration,
    began: Instant,
    phase: Duration,
    interval: Duration,
}

impl Rounds {
    fn new(settings: &Simulation, interval: Duration, phase: Duration) -> Self {
        let since_ms = settings.since_ms.map_or(0, |since_ms| now().0 - UnixMs(since_ms).0);
        let ahead = Duration::from_millis(u64::try_from(since_ms).unwrap_or(0));
        Self { ahead, began: Instant::now(), phase, interval: interval.max(Duration::from_millis(1)) }
    }

    /// The first round that is not over yet.
    fn next(&self) -> u64 {
        let passed = (self.ahead + self.began.elapsed()).saturating_sub(self.phase);
        u64::try_from(passed.as_nanos().div_ceil(self.interval.as_nanos())).unwrap_or(u64::MAX)
    }

    fn at(&self, round: u64) -> Instant {
        let nanos = self.interval.as_nanos().saturating_mul(u128::from(round));
        let due = self.phase + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.began + due.saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use snapfleet_protocol::{RecordId, RecordKind};
    use snapfleet_testkit::sample;

    use super::*;
    use crate::fleet::gate::Gate;
    use crate::steering::Helm;
    use crate::window::{Observed, Window};

    fn simulation(records: u64, change_rate: f64) -> Simulation {
        Simulation { records, change_rate, seed: 7, since_ms: None, steps: u64::MAX }
    }

    fn by_key(records: Vec<Record>) -> BTreeMap<(RecordKind, RecordId), Record> {
        records.into_iter().map(|record| ((record.kind(), record.id().clone()), record)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_records_and_another_one_others() {
        let (account, settings) = (sample::account("sim.a0000"), simulation(300, 0.1));
        assert_eq!(truth(&account, &settings, 9), truth(&account, &settings, 9));
        let other_seed = Simulation { seed: 8, ..settings.clone() };
        for other in [truth(&account, &other_seed, 9), truth(&sample::account("sim.a0001"), &settings, 9)] {
            let (ours, others) = (by_key(truth(&account, &settings, 9)), by_key(other));
            assert!(ours.keys().all(|key| !others.contains_key(key)), "ids are shared");
        }
    }

    #[test]
    fn the_change_rate_is_kept_and_every_reference_leads_somewhere() {
        let account = sample::account("sim.a0000");
        for records in [2, 37, 2_000] {
            let settings = simulation(records, 0.05);
            let mut before = by_key(truth(&account, &settings, 0));
            assert_eq!(before.len() as u64, records, "ids are unique");
            let mut changed = 0;
            for step in 1..=40 {
                let after = by_key(truth(&account, &settings, step));
                changed += after.iter().filter(|(key, record)| before.get(*key) != Some(*record)).count();
                before = after;
            }
            let asked = records as f64 * 0.05 * 40.0;
            assert!(
                (asked * 0.9..=asked + 1.0).contains(&(changed as f64)),
                "{records}: {changed} of {asked}"
            );
            assert!(asked < 10.0 || before.len() as u64 > records, "something is new");
            for record in before.values() {
                let Some(thread) = record.thread_id() else { continue };
                let parents = [RecordKind::Content, RecordKind::Conversation];
                assert!(
                    parents.iter().any(|kind| before.contains_key(&(*kind, thread.clone()))),
                    "{record:?}"
                );
            }
        }
    }

    #[test]
    fn records_are_as_various_and_as_large_as_those_of_an_inbox() {
        let records = truth(&sample::account("sim.a0000"), &simulation(1_000, 0.0), 0);
        let kinds: BTreeSet<_> = records.iter().map(Record::kind).collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");
        let json = serde_json::to_vec(&records).unwrap();
        assert!((300..800).contains(&(json.len() / records.len())), "{} bytes", json.len());
        let inbound = records.iter().filter(|record| record.is_inbound()).count();
        assert!((500..900).contains(&inbound), "{inbound}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_ends_up_with_the_truth_also_when_the_account_moves() {
        let account = sample::account("sim.a0003");
        let settings = Arc::new(Simulation { steps: 120, ..simulation(200, 0.02) });
        let interval = Duration::from_secs(30);
        let mut window = Window::default();
        // The second holder begins anew, and leaves out nothing that the first has told.
        for rounds in [50_u64, 121] {
            let (sender, mut sightings) = mpsc::channel(1);
            let stop = CancellationToken::new();
            let steering = Steering::free();
            let task = tokio::spawn(run(
                account.clone(),
                settings.clone(),
                interval,
                sender,
                steering,
                stop.clone(),
            ));
            let loaded = sightings.recv().await.unwrap();
            assert!(matches!(loaded, Sighting::PageLoaded { without_login: true, .. }), "{loaded:?}");
            for round in 0..rounds {
                let Some(Sighting::Records { records, refused: 0, at }) = sightings.recv().await else {
                    panic!("round {round} is no set of records");
                };
                let count = records.len();
                assert_eq!(count >= 200, round == 0 || round == ROUNDS_PER_LOAD, "round {round}: {count}");
                let news = records.into_iter().map(|record| window.observe(record, at));
                let news = news.filter(|observed| *observed != Observed::Unchanged).count();
                assert!(round == 0 || news <= 4, "round {round}: {news} changes");
            }
            stop.cancel();
            task.await.unwrap();
            if rounds == 50 {
                assert_eq!(window.full().0, truth(&account, &settings, 49));
            }
        }
        assert_eq!(window.full().0, truth(&account, &settings, 120));
        assert_eq!(window.full().0, truth(&account, &settings, 9_999), "nothing changes after the last step");
    }

    #[tokio::test(start_paused = true)]
    async fn while_it_may_not_be_driven_pushes_come_and_loads_wait() {
        let account = sample::account("sim.a0000");
        let settings = Arc::new(simulation(100, 0.02));
        let (sender, mut sightings) = mpsc::channel(1);
        let (helm, stop) = (Helm::new(Gate::always_open()), CancellationToken::new());
        let interval = Duration::from_secs(30);
        let task = tokio::spawn(run(account, settings, interval, sender, helm.steering(), stop.clone()));
        let nothing = tokio::time::timeout(Duration::from_secs(300), sightings.recv()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        helm.held(Some((1, 1)));
        assert!(matches!(sightings.recv().await, Some(Sighting::PageLoaded { .. })));
        let mut next = async || match sightings.recv().await {
            Some(Sighting::Records { records, .. }) => Some(records.len()),
            Some(Sighting::PageLoaded { .. }) => None,
            other => panic!("{other:?}"),
        };
        assert!(next().await.is_some_and(|count| count >= 100), "loaded");
        helm.held(None);
        for round in 0..=ROUNDS_PER_LOAD {
            assert!(next().await.is_some_and(|count| count <= 2), "round {round}");
        }
        helm.held(Some((2, 1)));
        assert!(next().await.is_some_and(|count| count > 100), "loaded, late");
        helm.refresh();
        assert_eq!(next().await, None, "loaded because it was asked to");
        assert!(next().await.is_some_and(|count| count > 100));
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_holder_goes_on_where_the_simulation_is() {
        let account = sample::account("sim.a0000");
        let since_ms = now().0 - 30_000 * 70;
        let settings = Arc::new(Simulation { since_ms: Some(since_ms), ..simulation(50, 0.1) });
        let (sender, mut sightings) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let interval = Duration::from_secs(30);
        let steering = Steering::free();
        tokio::spawn(run(account.clone(), settings.clone(), interval, sender, steering, stop.clone()));
        sightings.recv().await.unwrap();
        let Some(Sighting::Records { records, .. }) = sightings.recv().await else { panic!("no records") };
        let records = by_key(records);
        let at = (69..=71).find(|step| by_key(truth(&account, &settings, *step)) == records);
        assert!(at.is_some(), "not as of now");
        stop.cancel();
    }

    #[test]
    fn the_table_names_every_account() {
        let mut csv = Vec::new();
        write_csv(&mut csv, 2, 30).unwrap();
        assert_eq!(String::from_utf8(csv).unwrap(), "id,interval_s\nsim.a0000,30\nsim.a0001,30\n");
    }
}
