//! The tap on one tab: its network events taken as they come, bodies fetched a few at a time, reported in order.
//!
//! Two tasks. One drains the browser's event queues, which have no bound of their own, and never waits. The other
//! takes from a bounded queue, fetches, and waits for the consumer.

use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::Page;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::budget::Budget;
use super::matcher::Matcher;
use super::report::{PageReport, REPORT_WAIT, Reporter};
use super::signals::{self, Signals, Slot};
use super::{CaptureRule, body};
use crate::browser::{Browser, CallError, Tab};

/// Bodies fetched at once.
const BODIES_MAX: usize = 16;
/// Bodies to fetch and frames to report that may queue up behind those.
const QUEUE_MAX: usize = 4096;
/// Bytes of bodies that are fetched and not yet dropped by the consumer, for each tab: fewer are fetched at once when
/// they are large.
const FETCHED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of events and frames that are not yet dropped by the consumer, for each tab. A count of their own: they come
/// unasked for, and must not take the room for which a body before them waits.
const PUSHED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a tab that is given up may still deliver what it has captured.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);

/// Listens until it is finished or dropped.
#[derive(Debug)]
pub(crate) struct Tap {
    stop: CancellationToken,
    listening: AbortOnDropHandle<()>,
    delivering: AbortOnDropHandle<()>,
}

impl Tap {
    /// Begins to listen to the tab of the page with this name; to be called before it is navigated.
    pub(crate) async fn start(
        tab: &Tab,
        page: &str,
        rules: Arc<Vec<CaptureRule>>,
        reporter: Arc<Reporter>,
    ) -> Result<Self, CallError> {
        let matcher = Matcher::new(rules, page);
        let signals = signals::subscribe(tab, &matcher).await?;
        let (queue, slots) = mpsc::channel(QUEUE_MAX);
        let stop = CancellationToken::new();
        let browser = Arc::clone(tab.browser());
        let listening =
            listen(Arc::clone(&browser), signals, matcher, queue, Arc::clone(&reporter), stop.clone());
        let budget = Budget::new(FETCHED_BYTES_MAX);
        let fetcher = Fetcher { browser, page: tab.page().clone(), crashes: tab.crashes(), budget };
        let delivering = deliver(fetcher, slots, reporter);
        Ok(Self {
            stop,
            listening: AbortOnDropHandle::new(tokio::spawn(listening)),
            delivering: AbortOnDropHandle::new(tokio::spawn(delivering)),
        })
    }

    /// Stops listening and delivers what was captured, for at most 3 s.
    pub(crate) async fn finish(self) {
        self.stop.cancel();
        let both = async { tokio::join!(self.listening, self.delivering) };
        if tokio::time::timeout(FINISH_TIMEOUT, both).await.is_err() {
            tracing::warn!("a closing tab's last captures were not delivered in time");
        }
    }
}

/// Takes every event as it comes; what has come before the stop is taken, too.
async fn listen(
    browser: Arc<Browser>,
    mut signals: Signals,
    mut matcher: Matcher,
    queue: mpsc::Sender<Slot>,
    reporter: Arc<Reporter>,
    stop: CancellationToken,
) {
    let budget = Budget::new(PUSHED_BYTES_MAX);
    loop {
        let slot = tokio::select! {
            biased;
            signal = signals.next() => {
                let Some(signal) = signal else { return };
                signals::take(&mut matcher, browser.clock(), signal)
            }
            () = settles(&matcher) => signals::settled(&mut matcher, false),
            () = stop.cancelled() => match signals::settled(&mut matcher, true) {
                Some(slot) => Some(slot),
                None => return,
            },
        };
        let slot = match slot {
            Some(Slot::Ready(reports)) => Slot::Ready(hold(&budget, &reporter, reports)),
            Some(slot) => slot,
            None => continue,
        };
        match queue.try_send(slot) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => reporter.lose("the queue of captures is full"),
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}

/// Waits until a request has waited long enough for its method; for ever where none does.
async fn settles(matcher: &Matcher) {
    match matcher.settles_at() {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Counts what was pushed; what there is no room for is lost.
fn hold(budget: &Budget, reporter: &Reporter, mut reports: Vec<PageReport>) -> Vec<PageReport> {
    reports.retain_mut(|report| {
        let PageReport::Captured(captured) = report else { return true };
        match budget.try_hold(std::mem::take(&mut captured.body)) {
            Some(body) => {
                captured.body = body;
                true
            }
            None => {
                reporter.lose("too many bytes of frames wait for the consumer");
                false
            }
        }
    });
    reports
}

/// What a body is fetched with.
struct Fetcher {
    browser: Arc<Browser>,
    page: Page,
    crashes: watch::Receiver<u64>,
    budget: Budget,
}

/// Fetches a few bodies at once and reports everything in the order in which it was seen.
async fn deliver(mut fetcher: Fetcher, mut slots: mpsc::Receiver<Slot>, reporter: Arc<Reporter>) {
    let budget = fetcher.budget.clone();
    let start = |(slot, reserved): (Slot, Option<OwnedSemaphorePermit>)| match (slot, reserved) {
        (Slot::Ready(reports), _) => std::future::ready(reports).boxed(),
        (Slot::Fetch { wanted, .. }, None) => {
            let reason = "the bodies before it are not taken in time";
            std::future::ready(wanted.failed(reason)).boxed()
        }
        (Slot::Fetch { request, wanted }, Some(reserved)) => {
            fetcher.crashes.mark_unchanged();
            let (browser, page) = (Arc::clone(&fetcher.browser), fetcher.page.clone());
            let (crashes, budget) = (fetcher.crashes.clone(), fetcher.budget.clone());
            let fetch = body::fetch(browser, page, request, wanted, crashes, budget, reserved);
            // A task of its own goes on while an earlier one's report waits for the consumer.
            let fetching = AbortOnDropHandle::new(tokio::spawn(fetch));
            async move { fetching.await.unwrap_or_default() }.boxed()
        }
    };
    // One reservation after another: who comes first is never kept waiting by who comes later.
    let slots = futures_util::stream::poll_fn(|context| slots.poll_recv(context));
    let reserved = slots.then(|slot| reserve(budget.clone(), slot));
    let mut reports = std::pin::pin!(reserved.map(start).buffered(BODIES_MAX));
    while let Some(reports) = reports.next().await {
        for report in reports {
            if reporter.send(report).await.is_err() {
                return;
            }
        }
    }
}

/// Room for the body that a slot is to fetch; none if there is none in time.
async fn reserve(budget: Budget, slot: Slot) -> (Slot, Option<OwnedSemaphorePermit>) {
    let reserved = match &slot {
        Slot::Ready(_) => None,
        Slot::Fetch { wanted, .. } => budget.reserve(wanted.expected_bytes(), REPORT_WAIT).await,
    };
    (slot, reserved)
}
