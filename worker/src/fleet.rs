//! This worker among the others: which accounts it holds, decided by itself from what the broker's buckets say.
//!
//! Every worker computes the same plan from the same view and acts on its own part of it; the lease, written by
//! compare-and-set, is the truth where views differ. Nothing here knows pages, windows or the stream of snapshots.

pub mod gate;
pub(crate) mod heartbeat;
mod identity;
pub mod plan;
mod take;
pub(crate) mod tenure;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use snapfleet_broker::PublishError;
use snapfleet_protocol::stream::HEARTBEAT_TTL_S;
use snapfleet_protocol::{AccountEntry, AccountId, InstanceId, Lease};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::account::Ended;
use crate::outbox;
use heartbeat::Told;
pub use identity::{Identity, IdentityError};
use plan::{Candidate, Plan, Wanted};
use take::TAKEN_PER_LOOK;
use tenure::{Crew, Fate, Source, Tenure};
use view::View;

/// How often the buckets are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An account that the plan gives to another worker goes once the plan has said so for this long.
const MOVE_AFTER: Duration = Duration::from_secs(2);
/// An account of which a part died is taken anew after this.
const ANEW_AFTER: Duration = Duration::from_secs(5);
/// Accounts of which records were left behind that the heartbeat tells of: it is read by everybody twice a second.
const LEFT_BEHIND_TOLD_MAX: usize = 100;
/// How long letting everything go may take when the worker stops.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What the fleet's task needs.
pub(crate) struct FleetTask {
    pub(crate) identity: Identity,
    pub(crate) crew: Arc<Crew>,
    pub(crate) told: watch::Sender<Told>,
    pub(crate) stop: CancellationToken,
}

struct Fleet {
    task: FleetTask,
    view: View,
    tenures: BTreeMap<AccountId, Tenure>,
    plan: Option<Plan>,
    /// Since when the plan gives an account of ours to somebody else.
    moving: BTreeMap<AccountId, Instant>,
    /// Accounts of which a part died, and when they are taken anew.
    resting: BTreeMap<AccountId, Instant>,
    started: Instant,
    /// The gate's term, and since when.
    term: (u64, Instant),
    twin_since: Option<Instant>,
    leases_anew_at: Option<Instant>,
    outboxes_due: bool,
    failing: bool,
}

/// Holds the accounts that are this worker's part until `stop`, then gives them back.
///
/// # Errors
/// [`IdentityError`] where another running worker has the same id.
pub(crate) async fn run(task: FleetTask) -> Result<(), IdentityError> {
    let mut fleet = Fleet {
        task,
        view: View::new(),
        tenures: BTreeMap::new(),
        plan: None,
        moving: BTreeMap::new(),
        resting: BTreeMap::new(),
        started: Instant::now(),
        term: (0, Instant::now()),
        twin_since: None,
        leases_anew_at: None,
        outboxes_due: true,
        failing: false,
    };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stop = fleet.task.stop.clone();
    let result = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            _ = looks.tick() => {}
        }
        let looked = tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            looked = fleet.look() => looked,
        };
        if looked.is_err() {
            break looked;
        }
    };
    if tokio::time::timeout(LEAVE_TIMEOUT, fleet.leave()).await.is_err() {
        tracing::warn!(limit_s = LEAVE_TIMEOUT.as_secs(), "not every account was let go in time");
    }
    result
}

impl Fleet {
    async fn look(&mut self) -> Result<(), IdentityError> {
        self.reap().await;
        let gate = self.task.crew.gate.clone();
        if !gate.is_open() {
            return Ok(());
        }
        let term = gate.term();
        if term != self.term.0 {
            self.term = (term, Instant::now());
        }
        match self.view.refresh(&self.task.crew.broker).await {
            Ok(changed) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the fleet's buckets are read again");
                }
                if changed {
                    self.plan = None;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "accounts are neither taken nor given up for now");
                }
                return Ok(());
            }
        }
        self.check_twin()?;
        if self.view.leases_anew_at != self.leases_anew_at {
            self.leases_anew_at = self.view.leases_anew_at;
            // Their sequences are of another bucket: as doubtful as after a lapse.
            self.tenures.values_mut().for_each(|tenure| (tenure.lease_seq, tenure.term) = (0, 0));
        }
        self.outboxes_due |= std::mem::take(&mut self.view.erased);
        self.renew(term).await;
        self.end_unwanted();
        self.follow_plan();
        self.return_strays().await;
        self.take(term).await;
        self.tell().await;
        Ok(())
    }

    /// Two running workers with one id would each take the other's accounts for its own after a restart.
    fn check_twin(&mut self) -> Result<(), IdentityError> {
        let identity = &self.task.identity;
        let twin = self.view.workers.values().find(|worker| identity.is_twin(worker));
        let Some(twin) = twin else {
            self.twin_since = None;
            return Ok(());
        };
        let since = *self.twin_since.get_or_insert_with(Instant::now);
        // Of two that started at once, one stays.
        if since.elapsed() > Duration::from_secs(HEARTBEAT_TTL_S + 1) && identity.instance > twin.instance {
            return Err(IdentityError::twin(twin));
        }
        Ok(())
    }

    /// Takes the leases again that were in doubt; what others have taken since is lost.
    async fn renew(&mut self, term: u64) {
        let doubtful = self.tenures.iter().filter(|(_, tenure)| tenure.term != term && tenure.fate.is_none());
        let (mut again, mut lost) = (Vec::new(), Vec::new());
        for (account, _) in doubtful {
            match self.view.leases.get(account) {
                // The bucket was made anew.
                None => again.push((account.clone(), 0)),
                Some(row)
                    if row
                        .lease
                        .as_ref()
                        .is_some_and(|lease| lease.instance == self.task.identity.instance) =>
                {
                    again.push((account.clone(), row.seq));
                }
                Some(_) => lost.push(account.clone()),
            }
        }
        for account in lost {
            self.lose(&account);
        }
        // In small parts, so that what was taken counts at once, and a lapse in between ends it.
        for part in again.chunks(TAKEN_PER_LOOK) {
            if !self.task.crew.gate.is_open_in(term) {
                return;
            }
            for (account, acquired) in self.acquire(part.to_vec()).await {
                self.renewed(&account, acquired, term);
            }
        }
    }

    fn renewed(&mut self, account: &AccountId, acquired: Result<(u64, Lease), PublishError>, term: u64) {
        let Some(tenure) = self.tenures.get_mut(account) else { return };
        match acquired {
            Ok((seq, lease)) => {
                tenure.granted_anew(&self.task.crew.gate, seq, term);
                self.view.note_own_lease(account, seq, Some(lease));
                tracing::info!(account.id = %account, lease.seq = seq, "the lease is ours again");
            }
            Err(PublishError::Conflict(_)) => self.lose(account),
            Err(error) => tracing::warn!(account.id = %account, %error, "a lease cannot be taken again yet"),
        }
    }

    fn lose(&mut self, account: &AccountId) {
        if let Some(tenure) = self.tenures.get_mut(account)
            && tenure.fate != Some(Fate::Lost)
        {
            tracing::warn!(account.id = %account, "another worker holds the account now; what was not published stays on disk");
            tenure.end(Fate::Lost);
        }
    }

    /// Lets go what is not to be captured any more, what has other settings now, and what somebody else has taken.
    fn end_unwanted(&mut self) {
        let mut lost = Vec::new();
        for (account, tenure) in &mut self.tenures {
            tenure.erased(&self.view.erasures(account));
            let row = self.view.leases.get(account);
            let ours = |lease: &Lease| lease.instance == self.task.identity.instance;
            if row.is_some_and(|row| row.seq > tenure.lease_seq && !row.lease.as_ref().is_some_and(ours)) {
                lost.push(account.clone());
                continue;
            }
            if tenure.fate.is_some() {
                continue;
            }
            match self.view.accounts.get(account) {
                Some(entry) => match entry.active() {
                    Some(config) if *config == tenure.config => {}
                    Some(_) => {
                        tracing::info!(account.id = %account, "the account's settings have changed; it starts anew");
                        tenure.end(Fate::TakeAnew);
                    }
                    None => {
                        tracing::info!(account.id = %account, "the account is not to be captured any more");
                        tenure.end(Fate::GiveBack);
                    }
                },
                None => tenure.end(Fate::GiveBack),
            }
        }
        for account in lost {
            self.lose(&account);
        }
    }

    /// Gives up what the plan has given to somebody else for a while.
    fn follow_plan(&mut self) {
        if self.plan.is_none() {
            self.plan = Some(self.make_plan());
        }
        let Some(plan) = &self.plan else { return };
        let me = &self.task.identity.instance;
        for (account, tenure) in &mut self.tenures {
            if tenure.fate.is_some() || plan.holder(account) == Some(me) {
                self.moving.remove(account);
                continue;
            }
            let since = *self.moving.entry(account.clone()).or_insert_with(Instant::now);
            if since.elapsed() >= MOVE_AFTER {
                tracing::info!(account.id = %account, to = ?plan.holder(account).map(InstanceId::as_str), "the account moves to another worker");
                tenure.end(Fate::GiveBack);
                self.moving.remove(account);
            }
        }
        self.moving.retain(|account, _| self.tenures.contains_key(account));
    }

    fn make_plan(&self) -> Plan {
        let identity = &self.task.identity;
        let mut candidates: Vec<Candidate> = self
            .view
            .workers
            .values()
            .filter(|worker| worker.instance != identity.instance && !identity.is_former(&worker.instance))
            .map(|worker| Candidate {
                instance: worker.instance.clone(),
                worker: worker.worker.clone(),
                max_accounts: worker.max_accounts,
                labels: worker.labels.clone(),
                platforms: worker.platforms.iter().cloned().collect(),
                leaving: worker.leaving,
            })
            .collect();
        candidates.push(Candidate {
            instance: identity.instance.clone(),
            worker: identity.worker.clone(),
            max_accounts: identity.max_accounts,
            labels: identity.labels.clone(),
            platforms: self.task.crew.source.platforms().into_iter().collect(),
            leaving: false,
        });
        let active = self.view.accounts.iter().filter_map(|(id, entry)| Some((id, entry.active()?)));
        let wanted: Vec<Wanted> = active
            .map(|(account, config)| Wanted {
                account: account.clone(),
                labels: config.labels.clone(),
                holder: self.holder(account),
            })
            .collect();
        Plan::new(&candidates, &wanted)
    }

    /// Who holds an account: what this worker held in an earlier start counts as its own.
    fn holder(&self, account: &AccountId) -> Option<InstanceId> {
        let lease = self.view.lease(account)?;
        let identity = &self.task.identity;
        if identity.is_former(&lease.instance) || self.is_ours_by_id(lease) {
            return Some(identity.instance.clone());
        }
        Some(lease.instance.clone())
    }

    /// Whether a lease names an earlier start of this worker that is gone.
    fn is_ours_by_id(&self, lease: &Lease) -> bool {
        lease.worker == self.task.identity.worker && !self.view.workers.contains_key(&lease.instance)
    }

    /// Draws the conclusion from tenures that have ended.
    async fn reap(&mut self) {
        let done: Vec<AccountId> = self
            .tenures
            .iter()
            .filter(|(_, tenure)| tenure.task.is_finished())
            .map(|(account, _)| account.clone())
            .collect();
        let mut back = Vec::new();
        for account in done {
            let Some(tenure) = self.tenures.remove(&account) else { continue };
            let ended = tenure.task.await.unwrap_or_else(|error| Ended::Broken(error.to_string()));
            self.task.crew.roster.remove(&account);
            self.outboxes_due = true;
            let fate = match (tenure.fate, &ended) {
                (Some(fate), _) => fate,
                (None, Ended::Stopped) => Fate::GiveBack,
                (None, Ended::Fenced(_) | Ended::Broken(_)) => {
                    tracing::warn!(account.id = %account, ?ended, "the account is taken anew in a moment");
                    self.resting.insert(account.clone(), Instant::now() + ANEW_AFTER);
                    Fate::TakeAnew
                }
            };
            // Behind a closed gate a write would only wait; the lease is free once the heartbeat is gone.
            if fate == Fate::GiveBack && self.task.crew.gate.is_open() {
                back.push((account, tenure.lease_seq));
            }
        }
        self.give_back(back).await;
    }

    /// Tells the heartbeat what it cannot see itself.
    async fn tell(&mut self) {
        let pages = self.tenures.values().map(|tenure| tenure.pages).sum();
        let browser_bytes = match &self.task.crew.source {
            Source::Browser { browser, .. } => browser.memory_bytes(),
            Source::Simulation(_) => 0,
        };
        let left_behind = std::mem::take(&mut self.outboxes_due).then(|| {
            let held = self.tenures.keys().cloned().collect();
            let erased = |account: &AccountId| {
                let entry = self.view.accounts.get(account);
                matches!(entry, Some(AccountEntry::Erased(_)))
            };
            let erasures = |account: &AccountId| self.view.erasures(account);
            let mut left = outbox::left_behind(&self.task.crew.outbox_dir, &held, erased, erasures);
            if left.len() > LEFT_BEHIND_TOLD_MAX {
                tracing::warn!(
                    accounts = left.len(),
                    told = LEFT_BEHIND_TOLD_MAX,
                    "records of more accounts than are told are left behind"
                );
                left.truncate(LEFT_BEHIND_TOLD_MAX);
            }
            left
        });
        let mut problems = self.task.crew.broker.problems();
        problems.extend(self.task.crew.source.problems());
        let platforms = self.task.crew.source.platforms();
        self.task.told.send_if_modified(|told| {
            (told.problems, told.platforms) = (problems, platforms);
            let changed =
                told.pages != pages || left_behind.as_ref().is_some_and(|left| *left != told.left_behind);
            (told.pages, told.browser_bytes) = (pages, browser_bytes);
            if let Some(left) = left_behind {
                told.left_behind = left;
            }
            changed
        });
    }

    /// Lets everything go at once, and gives it back as it ends.
    async fn leave(&mut self) {
        self.task.told.send_modify(|told| told.leaving = true);
        for tenure in self.tenures.values_mut() {
            tenure.end(Fate::GiveBack);
        }
        while !self.tenures.is_empty() {
            self.reap().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
