//! The tap on one tab: its network events taken as they come, bodies fetched a few at a time, reported in order.
//!
//! Two tasks. One drains the browser's event queues, which have no bound of their own, and never waits. The other
//! takes from a bounded queue, fetches, and waits for the consumer.

use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::Page;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::matcher::Matcher;
use super::report::Reporter;
use super::signals::{self, Signals, Slot};
use super::{CaptureRule, body};
use crate::browser::{Browser, CallError, Tab};

/// Bodies fetched at once, and so the most that are held while a consumer is slow.
const BODIES_MAX: usize = 16;
/// Bodies to fetch and frames to report that may queue up behind those.
const QUEUE_MAX: usize = 4096;
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
    /// Begins to listen to a tab; to be called before it is navigated.
    pub(crate) async fn start(
        tab: &Tab,
        rules: Arc<Vec<CaptureRule>>,
        reporter: Arc<Reporter>,
    ) -> Result<Self, CallError> {
        let matcher = Matcher::new(rules);
        let signals = signals::subscribe(tab, &matcher).await?;
        let (queue, slots) = mpsc::channel(QUEUE_MAX);
        let stop = CancellationToken::new();
        let listening = listen(signals, matcher, queue, Arc::clone(&reporter), stop.clone());
        let fetcher =
            Fetcher { browser: Arc::clone(tab.browser()), page: tab.page().clone(), crashes: tab.crashes() };
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

/// Takes every event as it comes.
async fn listen(
    mut signals: Signals,
    mut matcher: Matcher,
    queue: mpsc::Sender<Slot>,
    reporter: Arc<Reporter>,
    stop: CancellationToken,
) {
    loop {
        let signal = tokio::select! {
            biased;
            signal = signals.next() => signal,
            () = stop.cancelled() => return,
        };
        let Some(signal) = signal else { return };
        let Some(slot) = signals::take(&mut matcher, signal) else { continue };
        match queue.try_send(slot) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => reporter.lose("the queue of captures is full"),
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}

/// What a body is fetched with.
struct Fetcher {
    browser: Arc<Browser>,
    page: Page,
    crashes: watch::Receiver<u64>,
}

/// Fetches a few bodies at once and reports everything in the order in which it happened.
async fn deliver(mut fetcher: Fetcher, mut slots: mpsc::Receiver<Slot>, reporter: Arc<Reporter>) {
    let start = |slot| match slot {
        Slot::Ready(reports) => std::future::ready(reports).boxed(),
        Slot::Fetch { request, wanted, finished_at_ms } => {
            fetcher.crashes.mark_unchanged();
            let (browser, page) = (Arc::clone(&fetcher.browser), fetcher.page.clone());
            let fetch = body::fetch(browser, page, request, wanted, finished_at_ms, fetcher.crashes.clone());
            // A task of its own goes on while an earlier one's report waits for the consumer.
            let fetching = AbortOnDropHandle::new(tokio::spawn(fetch));
            async move { fetching.await.unwrap_or_default() }.boxed()
        }
    };
    let mut reports =
        futures_util::stream::poll_fn(|context| slots.poll_recv(context)).map(start).buffered(BODIES_MAX);
    while let Some(reports) = reports.next().await {
        for report in reports {
            if reporter.send(report).await.is_err() {
                return;
            }
        }
    }
}
