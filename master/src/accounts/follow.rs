//! Reading the buckets `accounts` and `leases` on, once a second, into the [`Directory`].

use std::collections::HashSet;
use std::time::{Duration, Instant};

use snapfleet_broker::{Broker, Stored, Tail};
use snapfleet_protocol::stream::{ACCOUNTS_PREFIX, ACCOUNTS_STREAM, LEASES_PREFIX, LEASES_STREAM};
use snapfleet_protocol::{AccountEntry, AccountId, Lease, UnixMs};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clean::Cleaner;
use super::directory::{Configured, Directory};
use crate::api::now;
use crate::fleet::{Fleet, HEARTBEATS_DUE};

/// How often the buckets are read.
const READ_EVERY: Duration = Duration::from_secs(1);
/// After so many looks it is asked whether the buckets are still those that were read.
const LOOKS_PER_CHECK: u32 = 10;

/// Follows the buckets until `shutdown`.
pub(super) async fn run(
    directory: &Directory,
    broker: Broker,
    fleet: watch::Receiver<Fleet>,
    cleans: bool,
    shutdown: CancellationToken,
) {
    let mut reader = Reader::new(directory.clone(), broker.clone());
    let mut connections = broker.connections();
    let mut began = Instant::now();
    let mut ticks = tokio::time::interval(READ_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looks = 0_u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        if !broker.is_connected() {
            continue;
        }
        if connections.has_changed().unwrap_or(false) {
            connections.borrow_and_update();
            (began, looks) = (Instant::now(), 0);
        }
        let check = looks.is_multiple_of(LOOKS_PER_CHECK);
        looks = looks.wrapping_add(1);
        let problem = tokio::select! {
            read = reader.read(check) => read.err(),
            () = shutdown.cancelled() => return,
        };
        let failed = problem.is_some();
        if directory.note_look(problem.clone(), now()) {
            match &problem {
                Some(problem) => tracing::warn!(problem, "accounts and leases cannot be read"),
                None => tracing::info!("accounts and leases are read again"),
            }
        }
        // Who is not heard of shortly after connecting may hold accounts all the same.
        let settled = began.elapsed() >= HEARTBEATS_DUE;
        if failed || (fleet.borrow().problem.is_some()) {
            continue;
        }
        let living = living(&fleet.borrow());
        directory.note_held(&held(directory, &fleet.borrow(), &living), now());
        if settled && cleans {
            tokio::select! {
                () = reader.cleaner.clean(directory, &broker, &living) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// The instances whose heartbeat lives.
fn living(fleet: &Fleet) -> HashSet<String> {
    fleet.workers.iter().map(|worker| worker.instance.to_string()).collect()
}

/// The accounts that a living worker holds, by its own word or by the lease.
fn held(directory: &Directory, fleet: &Fleet, living: &HashSet<String>) -> HashSet<AccountId> {
    let told = fleet.workers.iter().flat_map(|worker| &worker.accounts).map(|health| health.account.clone());
    let mut held: HashSet<AccountId> = told.collect();
    let known = directory.read();
    let leased = known
        .accounts()
        .keys()
        .filter(|id| known.lease(id).is_some_and(|lease| living.contains(lease.instance.as_str())));
    held.extend(leased.cloned());
    held
}

struct Reader {
    directory: Directory,
    broker: Broker,
    accounts: Tail,
    leases: Tail,
    cleaner: Cleaner,
}

impl Reader {
    fn new(directory: Directory, broker: Broker) -> Self {
        Self {
            directory,
            broker,
            accounts: Tail::new(ACCOUNTS_STREAM, format!("{ACCOUNTS_PREFIX}>")),
            leases: Tail::new(LEASES_STREAM, format!("{LEASES_PREFIX}>")),
            cleaner: Cleaner::default(),
        }
    }

    /// Takes over what was written since the last look; with `check` also whether the buckets are still the same.
    async fn read(&mut self, check: bool) -> Result<(), String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} cannot be read: {error}");
        if check {
            let same = self.accounts.is_same(&self.broker).await;
            if !same.map_err(|error| failed("the bucket accounts", &error))? {
                tracing::warn!("the bucket accounts was made anew; it is read from its beginning");
                self.directory.forget_accounts();
            }
            let same = self.leases.is_same(&self.broker).await;
            if !same.map_err(|error| failed("the bucket leases", &error))? {
                self.directory.forget_leases();
            }
        }
        let accounts = self.accounts.read(&self.broker).await;
        for stored in accounts.map_err(|error| failed("the bucket accounts", &error))? {
            self.take_account(&stored);
        }
        let leases = self.leases.read(&self.broker).await;
        for stored in leases.map_err(|error| failed("the bucket leases", &error))? {
            self.take_lease(&stored);
        }
        Ok(())
    }

    fn take_account(&mut self, stored: &Stored) {
        let key = stored.key(ACCOUNTS_PREFIX).unwrap_or(&stored.subject);
        let unreadable = |error: &str| {
            if self.directory.note_unreadable(key, error) {
                tracing::warn!(subject = %stored.subject, error, "an account's entry cannot be read");
            }
        };
        let parsed = AccountId::parse(key);
        if stored.is_gone() {
            parsed.iter().for_each(|id| self.cleaner.keep(id));
            return self.directory.forget(key, stored.seq);
        }
        let id = match parsed {
            Ok(id) => id,
            Err(error) => return unreadable(&error.to_string()),
        };
        match serde_json::from_slice::<AccountEntry>(&stored.payload) {
            Ok(entry) => {
                self.cleaner.take(&id, &entry);
                let (revision, changed_at) = (stored.seq, stored_at(stored));
                let rolled_up = stored.headers.get("Nats-Rollup").is_some();
                self.directory.note_read(id, Configured { revision, changed_at, entry }, rolled_up);
            }
            Err(error) => unreadable(&said(&error)),
        }
    }

    fn take_lease(&mut self, stored: &Stored) {
        let id = stored.key(LEASES_PREFIX).map(AccountId::parse);
        let Some(Ok(id)) = id else {
            return tracing::warn!(subject = %stored.subject, "a lease of no account is in the bucket");
        };
        let lease = (!stored.is_gone()).then(|| serde_json::from_slice::<Lease>(&stored.payload));
        match lease.transpose() {
            Ok(lease) => self.directory.note_lease(id, lease),
            Err(error) => {
                self.directory.note_lease(id.clone(), None);
                tracing::warn!(account.id = %id, %error, "a lease cannot be read");
            }
        }
    }
}

/// What is wrong with an entry, without what stands there: that may be a secret.
pub(super) fn said(error: &serde_json::Error) -> String {
    format!("not an account's entry at line {} column {}", error.line(), error.column())
}

/// When the broker stored a message.
fn stored_at(stored: &Stored) -> Option<UnixMs> {
    let time: jiff::Timestamp = stored.headers.get("Nats-Time-Stamp")?.as_str().parse().ok()?;
    Some(UnixMs(time.as_millisecond()))
}
