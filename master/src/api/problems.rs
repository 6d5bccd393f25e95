//! What is wrong, in words: each problem with a code for programs, since when it is one, and what helps.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use snapfleet_protocol::{AccountId, Heartbeat, UnixMs};

use super::ApiState;
use super::condition::Condition;
use super::live::Moment;
use super::view::AccountView;
use crate::store::Totals;

/// Problems of one sort that are told one by one: ten thousand accounts may have the same.
const TOLD_MAX: usize = 100;
/// The sorts that are about one account each.
const ACCOUNT_CODES: [ProblemCode; 4] = [
    ProblemCode::AccountUnwell,
    ProblemCode::AccountUnassigned,
    ProblemCode::AccountUnconfigured,
    ProblemCode::AccountFault,
];

/// One problem.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProblemView {
    /// Which sort it is; programs and translations go by it.
    pub code: ProblemCode,
    /// What is wrong and what it means for the data.
    pub text: String,
    /// What helps.
    pub remedy: String,
    /// Since when, where that is known.
    pub since: Option<UnixMs>,
    /// The account it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// How that account fares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Condition>,
    /// The worker it is about, as host and instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The cause in its own words, or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The sorts of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The store's writer stopped for good.
    StoreFailed,
    /// There is no connection to the broker.
    BrokerDisconnected,
    /// The stream is not read, or cannot take more.
    IntakeFailed,
    /// Which workers are online cannot be told.
    WorkersUnknown,
    /// No worker is online.
    NoWorkers,
    /// An account is held but not delivering.
    AccountUnwell,
    /// An account is to be captured and held by no online worker.
    AccountUnassigned,
    /// An account is stored or held, and has no entry among the accounts.
    AccountUnconfigured,
    /// Something is wrong with an account beside its state.
    AccountFault,
    /// The accounts, or some of their entries, cannot be read.
    AccountsUnreadable,
    /// Ends of accounts and erasures cannot be followed.
    ErasureFailed,
    /// Something that was erased here is still in the broker.
    ErasurePending,
    /// The accounts know nothing of an erasure that was carried out.
    ErasureContradicted,
    /// A worker has records on its disk of an account that another holds.
    LeftBehind,
    /// A worker reports a fault.
    WorkerFault,
    /// The connection to the broker reported a fault.
    BrokerFault,
    /// Another master writes by way of the same broker.
    OtherMaster,
    /// A cluster of brokers keeps too few copies of what is stored.
    CopiesFew,
    /// Deliveries could not be applied.
    DeadLetters,
    /// A worker that the master starts died at start time after time.
    WorkerGivenUp,
    /// A replica says nothing any more.
    ReplicaSilent,
    /// How far replicas are cannot be read, or not be told by this one.
    ReplicaFault,
}

impl ProblemView {
    pub(super) fn new(code: ProblemCode, since: Option<UnixMs>, text: String, remedy: &str) -> Self {
        let remedy = remedy.to_owned();
        Self { code, text, remedy, since, account: None, state: None, worker: None, detail: None }
    }

    pub(super) fn with_detail(mut self, detail: &str) -> Self {
        self.detail = Some(detail.to_owned());
        self
    }
}

/// Every problem of this moment, those that stop everything first.
pub(crate) fn all(
    state: &ApiState,
    moment: &Moment,
    accounts: &[AccountView],
    totals: &Totals,
) -> Vec<ProblemView> {
    let mut problems = Vec::new();
    problems.extend(state.store.failure().map(|failure| {
        let text = format!("the store's writer stopped: {failure}; nothing new is stored");
        let remedy = "mend the cause and restart the master";
        ProblemView::new(ProblemCode::StoreFailed, None, text, remedy).with_detail(&failure)
    }));
    problems.extend(of_the_broker(state, moment));
    problems.extend(of_the_workers(moment));
    problems.extend(moment.supervised.values().filter_map(super::workers::problem));
    // With no worker at all, that is the one problem to tell; and who may be held is not told to be held by none.
    let tell_unheld = moment.workers_complete() && !moment.workers.heartbeats.is_empty();
    problems.extend(of_the_directory(moment));
    problems.extend(super::erasures::problems(moment));
    problems.extend(of_the_accounts(accounts, tell_unheld));
    for worker in &moment.workers.heartbeats {
        let name = format!("{} {}", worker.host, worker.instance);
        problems.extend(left_behind(worker, &name));
        problems.extend(worker.problems.iter().map(|fault| {
            ProblemView {
                worker: Some(name.clone()),
                ..ProblemView::new(
                    ProblemCode::WorkerFault,
                    None,
                    format!("worker {name}: {fault}"),
                    "see that worker's log",
                )
                .with_detail(fault)
            }
        }));
    }
    problems.extend(moment.broker.faults.iter().map(|fault| {
        let text = format!("the broker reported: {fault}");
        let remedy = "compare the rights of the master's user with nats.conf, and see the broker's log";
        ProblemView::new(ProblemCode::BrokerFault, None, text, remedy).with_detail(fault)
    }));
    problems.extend(moment.broker.copies_few.map(|copies| {
        let count = if copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") };
        let text = format!(
            "the broker is a cluster, but keeps only {count} of what is stored: the death of a node can stop \
             everything, or lose what was acked"
        );
        let remedy = "start the master with SNAPFLEET_REPLICAS=3 (--replicas 3): it adds the missing copies";
        ProblemView::new(ProblemCode::CopiesFew, None, text, remedy).with_detail(&copies.to_string())
    }));
    problems.extend(super::replicas::problems(moment, totals));
    problems.extend(dead_letters(totals));
    problems
}

fn of_the_broker(state: &ApiState, moment: &Moment) -> Vec<ProblemView> {
    let mut problems = Vec::new();
    let url = &state.settings.broker_url;
    if !moment.broker.connected {
        let text = format!("no connection to the broker {url}: nothing new arrives");
        let remedy = "check that nats-server runs there; the master goes on by itself once it does";
        let problem = ProblemView::new(ProblemCode::BrokerDisconnected, moment.broker.since, text, remedy);
        problems.push(problem.with_detail(url));
        return problems;
    }
    problems.extend(moment.broker.other_master.as_ref().map(|(name, since)| {
        let text =
            format!("another master writes by way of this broker: {name}; neither knows what the other does");
        let remedy =
            "stop one of the two; a second one that only reads is a replica: start it with --replica NAME";
        ProblemView::new(ProblemCode::OtherMaster, Some(*since), text, remedy).with_detail(name)
    }));
    for (reason, since) in &moment.intake.problems {
        let text = format!("the stream is not well: {reason}");
        let remedy = "see the master's log; it tries again by itself";
        let problem = ProblemView::new(ProblemCode::IntakeFailed, Some(*since), text, remedy);
        problems.push(problem.with_detail(reason));
    }
    problems
}

fn of_the_workers(moment: &Moment) -> Option<ProblemView> {
    if !moment.broker.connected {
        return None;
    }
    if let Some(reason) = &moment.workers.problem {
        let text = format!("which workers are online cannot be told: {reason}");
        let remedy = "see the master's log; it tries again by itself";
        return Some(ProblemView::new(ProblemCode::WorkersUnknown, None, text, remedy).with_detail(reason));
    }
    (moment.workers_online() == Some(0)).then(|| {
        let text = "no worker is online: nothing is being captured".to_owned();
        let remedy = "start one with: snapfleet-worker run, or this master with --workers N";
        ProblemView::new(ProblemCode::NoWorkers, moment.workers.none_since, text, remedy)
    })
}

/// What is wrong with reading the accounts themselves.
fn of_the_directory(moment: &Moment) -> Vec<ProblemView> {
    let known = moment.accounts.read();
    let mut problems = Vec::new();
    if let Some((reason, since)) = known.problem().filter(|_| moment.broker.connected) {
        let text = format!("{reason}: accounts and their holders are shown as they were before");
        let remedy = "see the master's log; it tries again by itself";
        let problem = ProblemView::new(ProblemCode::AccountsUnreadable, Some(*since), text, remedy);
        problems.push(problem.with_detail(reason));
    }
    for (key, reason) in known.unreadable().iter().take(TOLD_MAX) {
        let text =
            format!("the entry {key:?} among the accounts cannot be read ({reason}): it is not captured");
        let remedy = "with NATS_USER=master and its NATS_PASSWORD, delete it: nats --inbox-prefix _INBOX_master kv del \
                      accounts KEY; then add the account again";
        problems.push(ProblemView::new(ProblemCode::AccountsUnreadable, None, text, remedy).with_detail(key));
    }
    problems
}

/// What is wrong with accounts. Of each sort so many are told, and how many more there are.
fn of_the_accounts(accounts: &[AccountView], tell_unheld: bool) -> Vec<ProblemView> {
    let mut problems = Vec::new();
    let mut count: HashMap<ProblemCode, usize> = HashMap::new();
    for problem in accounts.iter().flat_map(|account| of_an_account(account, tell_unheld)) {
        let told = count.entry(problem.code).or_default();
        *told += 1;
        if *told <= TOLD_MAX {
            problems.push(problem);
        }
    }
    for code in ACCOUNT_CODES {
        let more = count.get(&code).copied().unwrap_or_default().saturating_sub(TOLD_MAX);
        if more > 0 {
            let text = format!("{more} more accounts have the same sort of problem");
            let remedy = "see them all with: snapfleet-master accounts list";
            problems.push(ProblemView::new(code, None, text, remedy).with_detail(&more.to_string()));
        }
    }
    problems
}

fn of_an_account(account: &AccountView, tell_unheld: bool) -> Vec<ProblemView> {
    let id = &account.account;
    let worker = account.host.as_ref().zip(account.worker.as_ref());
    let worker = worker.map(|(host, instance)| format!("{host} {instance}"));
    let mut problems = Vec::new();
    let reason = account.reason.as_deref();
    let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    if !account.configured && (tell_unheld || worker.is_some()) {
        let text =
            format!("{id} is not configured: what comes of it is stored, but no worker is to capture it");
        let remedy = format!("snapfleet-master accounts add {id}, or: snapfleet-master accounts remove {id}");
        problems.push(ProblemView::new(ProblemCode::AccountUnconfigured, None, text, &remedy));
    }
    let told = account.configured || account.state != Some(Condition::Unassigned);
    if let Some((is, remedy)) = account.state.filter(|_| told).and_then(unwell) {
        let unassigned = account.state == Some(Condition::Unassigned);
        if !unassigned || tell_unheld {
            let code = if unassigned { ProblemCode::AccountUnassigned } else { ProblemCode::AccountUnwell };
            let remedy = remedy.replace("ACCOUNT", &id.to_string());
            let mut problem = ProblemView::new(code, account.since, format!("{id} {is}{because}"), &remedy);
            problem.detail = reason.map(str::to_owned);
            problems.push(problem);
        }
    }
    for fault in &account.problems {
        let (code, remedy) = (ProblemCode::AccountFault, "see the log of its worker");
        problems.push(ProblemView::new(code, None, format!("{id}: {fault}"), remedy).with_detail(fault));
    }
    let whole = |problem| ProblemView {
        account: Some(id.clone()),
        state: account.state,
        worker: worker.clone(),
        ..problem
    };
    problems.into_iter().map(whole).collect()
}

/// Records that a worker could not publish before another took their account.
fn left_behind(worker: &Heartbeat, name: &str) -> Vec<ProblemView> {
    let left = worker.left_behind.iter().take(TOLD_MAX).map(|left| {
        let (account, records) = (&left.account, left.records);
        let text = format!(
            "worker {name} has {records} records of {account} on its disk, which another worker holds"
        );
        let remedy = "keep its state_dir: they are offered again when it holds the account again";
        let problem = ProblemView::new(ProblemCode::LeftBehind, None, text, remedy);
        ProblemView {
            account: Some(account.clone()),
            worker: Some(name.to_owned()),
            ..problem.with_detail(&records.to_string())
        }
    });
    left.collect()
}

/// An account's state in a sentence that names several.
pub(crate) fn state_words(state: Option<Condition>) -> &'static str {
    match state {
        Some(Condition::Paused) => "paused",
        Some(Condition::Unassigned) => "held by no worker",
        Some(Condition::Starting) => "starting",
        Some(Condition::Capturing) => "capturing",
        Some(Condition::Silent) => "delivers nothing",
        Some(Condition::LoggedOut) => "logged out",
        Some(Condition::Failing) => "failing",
        Some(Condition::CutOff) => "cut off from the broker",
        Some(Condition::Removed) => "removed",
        Some(Condition::Erasing) => "being erased",
        Some(Condition::Erased) => "erased",
        None => "not known",
    }
}

/// What an account in this state does, and what helps, where it is not as it should be; `ACCOUNT` stands for its name.
fn unwell(state: Condition) -> Option<(&'static str, &'static str)> {
    match state {
        Condition::Capturing | Condition::Starting => None,
        Condition::Paused | Condition::Removed | Condition::Erasing | Condition::Erased => None,
        Condition::Unassigned => Some((
            "is held by no worker that is online, and is not being captured",
            "start a worker that knows its platform, carries its labels and has room; see: snapfleet-worker run --help",
        )),
        Condition::Silent => {
            Some(("delivers nothing", "see the worker's log, and open the account's page in a browser"))
        }
        Condition::LoggedOut => Some((
            "is logged out, and is not being captured",
            "log in on the master's page, or with: snapfleet-worker login ACCOUNT; what it logs in with by itself is \
             changed with: snapfleet-master accounts set ACCOUNT",
        )),
        Condition::Failing => Some(("fails", "mend what the reason names; the worker tries again by itself")),
        Condition::CutOff => {
            Some(("is cut off from the broker", "mend the connection of its worker; it goes on by itself"))
        }
    }
}

/// Deliveries that could not be applied.
pub(crate) fn dead_letters(totals: &Totals) -> Option<ProblemView> {
    let count = totals.dead_letters;
    (count > 0).then(|| {
        let text = match count {
            1 => "1 snapshot could not be applied and is kept as a dead letter".to_owned(),
            _ => format!("{count} snapshots could not be applied and are kept as dead letters"),
        };
        let remedy = "see them with: snapfleet-master dead-letters";
        ProblemView::new(ProblemCode::DeadLetters, None, text, remedy).with_detail(&count.to_string())
    })
}
