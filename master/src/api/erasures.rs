//! What is wrong with removals and erasures: they cannot be followed, wait in the broker, or are contradicted.

use std::time::Duration;

use snapfleet_protocol::UnixMs;

use super::live::{HeldBack, Moment, PendingPurge};
use super::now;
use super::problems::{ProblemCode, ProblemView};

/// Problems of one sort that are told one by one.
const TOLD_MAX: usize = 100;
/// How long an erasure that waits for nothing may take in the broker before it is told of.
const PENDING_MAX: Duration = Duration::from_secs(180);

pub(super) fn problems(moment: &Moment) -> Vec<ProblemView> {
    let endings = &moment.endings;
    let mut problems = Vec::new();
    for (reason, since) in endings.problems.iter().filter(|_| moment.broker.connected) {
        let then = match endings.holds_intake {
            true => "nothing is taken from the stream before that works",
            false => "what was removed or erased since is still taken in and shown",
        };
        let text = format!("{reason}: {then}");
        let remedy = "see the master's log; it tries again by itself. Where the bucket is gone, restart the writing master, which makes it anew";
        let problem = ProblemView::new(ProblemCode::ErasureFailed, Some(*since), text, remedy);
        problems.push(problem.with_detail(reason));
    }
    let overdue = |pending: &&PendingPurge| pending.held_by.is_some() || is_overdue(pending.since, now());
    problems.extend(endings.pending.iter().filter(overdue).take(TOLD_MAX).map(pending));
    problems.extend(endings.contradicted.iter().take(TOLD_MAX).map(|(account, since)| {
        let text = format!(
            "{account} was erased, and its entry among the accounts knows nothing of it: it stays erased, and nothing of it is taken in"
        );
        let remedy = format!(
            "was the bucket restored from a copy? to have it captured: snapfleet-master accounts erase {account}, then snapfleet-master accounts add {account}"
        );
        let problem = ProblemView::new(ProblemCode::ErasureContradicted, Some(*since), text, &remedy);
        ProblemView { account: Some(account.clone()), ..problem }
    }));
    problems
}

fn pending(pending: &PendingPurge) -> ProblemView {
    let account = &pending.account;
    let (until, remedy) = match &pending.held_by {
        Some(held @ HeldBack::Replica(name)) => (
            format!(" until {held}"),
            format!("start that replica, or drop it with: snapfleet-master replica remove {name}"),
        ),
        Some(held @ HeldBack::Unheld) => (
            format!(" until {held}"),
            format!(
                "have a worker hold it (accounts resume or add), or erase all of it with: snapfleet-master accounts erase {account}"
            ),
        ),
        None => (String::new(), "see the master's log; it tries again by itself".to_owned()),
    };
    let text = format!("what was erased of {account} is deleted here, and still in the broker{until}");
    let problem = ProblemView::new(ProblemCode::ErasurePending, Some(pending.since), text, &remedy);
    ProblemView { account: Some(account.clone()), ..problem }
}

fn is_overdue(since: UnixMs, now: UnixMs) -> bool {
    let longest = i64::try_from(PENDING_MAX.as_millis()).unwrap_or(i64::MAX);
    now.0.saturating_sub(since.0) > longest
}
