//! What is wrong, in words: each problem with a code for programs, since when it is one, and what helps.

use serde::{Deserialize, Serialize};
use snapfleet_protocol::{AccountId, AccountState, UnixMs};

use super::ApiState;
use super::live::Moment;
use super::view::AccountView;
use crate::store::Totals;

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
    pub state: Option<AccountState>,
    /// The worker it is about, as host and instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The cause in its own words, or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The sorts of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// An account of the store is held by no online worker.
    AccountUnheld,
    /// A worker reports a fault.
    WorkerFault,
    /// The connection to the broker reported a fault.
    BrokerFault,
    /// Deliveries could not be applied.
    DeadLetters,
}

impl ProblemView {
    fn new(code: ProblemCode, since: Option<UnixMs>, text: String, remedy: &str) -> Self {
        let remedy = remedy.to_owned();
        Self { code, text, remedy, since, account: None, state: None, worker: None, detail: None }
    }

    fn with_detail(mut self, detail: &str) -> Self {
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
    // With no worker at all, that is the one problem to tell; and who may be held is not told to be held by none.
    let tell_unheld = moment.workers_complete() && !moment.workers.heartbeats.is_empty();
    problems.extend(accounts.iter().filter_map(|account| of_an_account(account, tell_unheld)));
    for worker in &moment.workers.heartbeats {
        let name = format!("{} {}", worker.host, worker.instance);
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
        let remedy = "start one with: snapfleet-worker run --config FILE";
        ProblemView::new(ProblemCode::NoWorkers, moment.workers.none_since, text, remedy)
    })
}

fn of_an_account(account: &AccountView, tell_unheld: bool) -> Option<ProblemView> {
    let id = &account.account;
    let worker = account.host.as_ref().zip(account.worker.as_ref());
    let worker = worker.map(|(host, instance)| format!("{host} {instance}"));
    let problem = match account.state {
        Some(state) if state.is_well() => return None,
        Some(state) => {
            let (is, remedy) = in_words(state);
            let reason = account.reason.as_deref();
            let text = format!("{id} {is}{}", reason.map(|reason| format!(": {reason}")).unwrap_or_default());
            let mut problem = ProblemView::new(ProblemCode::AccountUnwell, account.since, text, remedy);
            problem.detail = reason.map(str::to_owned);
            problem
        }
        None if !tell_unheld => return None,
        None => {
            let text = format!("{id} is held by no worker that is online: it is not being captured");
            let remedy = "start the worker that holds it, or add it to a worker's file";
            ProblemView::new(ProblemCode::AccountUnheld, None, text, remedy)
        }
    };
    Some(ProblemView { account: Some(id.clone()), state: account.state, worker, ..problem })
}

/// An account's state in a sentence that names several.
pub(crate) fn state_words(state: Option<AccountState>) -> &'static str {
    match state {
        Some(AccountState::Starting) => "starting",
        Some(AccountState::Capturing) => "capturing",
        Some(AccountState::Silent) => "delivers nothing",
        Some(AccountState::LoggedOut) => "logged out",
        Some(AccountState::Failing) => "failing",
        Some(AccountState::CutOff) => "cut off from the broker",
        None => "held by no worker",
    }
}

/// What an account in this state does, and what helps.
fn in_words(state: AccountState) -> (&'static str, &'static str) {
    match state {
        AccountState::Capturing => ("is being captured", ""),
        AccountState::Starting => ("is starting", ""),
        AccountState::Silent => {
            ("delivers nothing", "see the worker's log, and open the account's page in a browser")
        }
        AccountState::LoggedOut => {
            ("is logged out", "log it in again: check its user and password in the worker's file")
        }
        AccountState::Failing => ("fails", "mend what the reason names; the worker tries again by itself"),
        AccountState::CutOff => {
            ("is cut off from the broker", "mend the connection of its worker; it goes on by itself")
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
