//! What is told of an account's pages, and how it is handed over: never dropped in silence.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use snapfleet_protocol::AccountId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

/// How long a slow consumer is waited for before a report is given up, counted and logged.
pub(crate) const REPORT_WAIT: Duration = Duration::from_secs(10);

/// A captured body or frame.
#[derive(Clone)]
pub struct Captured {
    /// Which rule matched: its place in the list.
    pub rule: usize,
    /// The full URL of the request, or of the page whose state it is; it may hold what is secret, so it is not for the
    /// log.
    pub url: String,
    /// The name of a pushed event (`message` unless the server named it); none for responses and frames.
    pub event: Option<String>,
    /// The method of the request that was answered, after all redirects, in capitals; none for frames and page state,
    /// and where the browser did not tell it in time.
    pub method: Option<String>,
    /// The status of the response; none for frames and page state.
    pub status: Option<u16>,
    /// What the browser takes the response for, such as `application/json`; none for frames and page state.
    pub mime_type: Option<String>,
    /// The name of the page that showed it.
    pub page: Option<String>,
    /// The body, decoded; the data of an event; the payload of a frame; the JSON that a page-state script returned.
    pub body: Bytes,
    /// The moment to which the content belongs, in milliseconds of the wall clock: when the answer to a request had
    /// begun to arrive (its body may have taken longer), when an event or frame had arrived. Told by the browser's
    /// clock, so it orders all captures of one browser; the reports themselves may come in another order.
    pub captured_at_ms: i64,
}

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured")
            .field("rule", &self.rule)
            .field("event", &self.event)
            .field("body_bytes", &self.body.len())
            .field("captured_at_ms", &self.captured_at_ms)
            .finish_non_exhaustive()
    }
}

/// What happened on the pages of an account.
///
/// The order of reports, within one drive of an account: where there is a login plan, [`Self::LoggedIn`] or
/// [`Self::LoggedOut`] comes before the first [`Self::PageLoaded`], and again on each change; each drive begins with
/// nothing told. Each load of a page then ends in one `PageLoaded` or [`Self::PageFailed`], and a page that failed
/// for want of a login marker is told as loaded when a marker appears after all. Captures come at any time, also
/// before the page that fetched them is told as loaded. A page that shows the login form has loaded: that the
/// account is logged out is told by `LoggedOut` alone.
#[derive(Debug, Clone)]
pub enum PageReport {
    /// A body or frame that a rule asked for.
    Captured(Captured),
    /// Something that a rule asked for was seen and could not be captured.
    CaptureFailed {
        /// Which rule; none where several reports were lost together.
        rule: Option<usize>,
        /// The full URL of the request; it may hold what is secret, so it is not for the log.
        url: String,
        /// Why, for people.
        reason: String,
    },
    /// The same failure as one that was told within the last minute: to be counted, not to be told again.
    FailedAgain {
        /// Which rule.
        rule: usize,
    },
    /// What a page-state script returned is what it returned before.
    Unchanged {
        /// Which rule.
        rule: usize,
        /// When it was read, in milliseconds of the wall clock.
        at_ms: i64,
    },
    /// The pages show a logged-in account; told on each change.
    LoggedIn,
    /// The pages show the login form, and the account could not be logged in (yet); told on each change.
    LoggedOut {
        /// Why, for people.
        reason: String,
    },
    /// A page has loaded, and whether the account is logged in is known if there is a way to know.
    PageLoaded {
        /// The page's name.
        page: String,
    },
    /// A page did not load, crashed or hangs; it is tried again.
    PageFailed {
        /// The page's name.
        page: String,
        /// Why, for people.
        reason: String,
    },
}

impl PageReport {
    /// Whether it tells of something captured, or that could not be.
    fn is_of_capture(&self) -> bool {
        match self {
            Self::Captured(_)
            | Self::CaptureFailed { .. }
            | Self::FailedAgain { .. }
            | Self::Unchanged { .. } => true,
            Self::LoggedIn | Self::LoggedOut { .. } | Self::PageLoaded { .. } | Self::PageFailed { .. } => {
                false
            }
        }
    }
}

/// The consumer of the reports is gone.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("nobody takes the reports of the pages any more")]
pub(crate) struct ReportsClosed;

/// Hands reports over, waiting a bounded while for a slow consumer.
#[derive(Debug)]
pub(crate) struct Reporter {
    account: AccountId,
    sender: mpsc::Sender<PageReport>,
    lost: AtomicU64,
    wait: Duration,
}

impl Reporter {
    pub(crate) fn new(account: AccountId, sender: mpsc::Sender<PageReport>) -> Self {
        Self { account, sender, lost: AtomicU64::new(0), wait: REPORT_WAIT }
    }

    pub(crate) fn account(&self) -> &AccountId {
        &self.account
    }

    /// Waits until nobody takes reports any more.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Hands one report over. A capture that is not taken in time is logged, counted, and told of with the next that is;
    /// what is told on each change alone is waited for: it would not be told again.
    pub(crate) async fn send(&self, report: PageReport) -> Result<(), ReportsClosed> {
        if !report.is_of_capture() {
            self.sender.send(report).await.map_err(|_| ReportsClosed)?;
            self.tell_lost();
            return Ok(());
        }
        match self.sender.send_timeout(report, self.wait).await {
            Ok(()) => {
                self.tell_lost();
                Ok(())
            }
            Err(SendTimeoutError::Closed(_)) => Err(ReportsClosed),
            Err(SendTimeoutError::Timeout(_)) => {
                self.lose("its consumer is too slow");
                Ok(())
            }
        }
    }

    /// Counts a report that cannot even be queued.
    pub(crate) fn lose(&self, reason: &'static str) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(account.id = %self.account, lost, reason, "page report lost");
    }

    fn tell_lost(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let reason = format!("{lost} reports were lost: they were not taken in time");
        let report = PageReport::CaptureFailed { rule: None, url: String::new(), reason };
        if self.sender.try_send(report).is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_consumer_is_waited_for_and_then_told_what_it_lost() {
        tokio::time::pause();
        let (sender, mut receiver) = mpsc::channel(2);
        let reporter = Reporter::new("demo.a".parse().unwrap(), sender);
        let capture = || PageReport::FailedAgain { rule: 7 };
        let is_capture = |report| matches!(report, Some(PageReport::FailedAgain { rule: 7 }));
        for _ in 0..4 {
            reporter.send(capture()).await.unwrap();
        }
        for _ in 0..2 {
            assert!(is_capture(receiver.recv().await));
        }
        reporter.send(capture()).await.unwrap();
        assert!(is_capture(receiver.recv().await));
        match receiver.recv().await {
            Some(PageReport::CaptureFailed { rule: None, reason, .. }) => {
                assert!(reason.starts_with("2 reports"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        drop(receiver);
        assert!(reporter.send(capture()).await.is_err());
        assert!(reporter.send(PageReport::LoggedIn).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn that_an_account_is_logged_out_is_told_however_slow_the_consumer_is() {
        let (sender, mut receiver) = mpsc::channel(1);
        let reporter = Reporter::new("demo.a".parse().unwrap(), sender);
        reporter.send(PageReport::FailedAgain { rule: 0 }).await.unwrap();
        let slow = async {
            tokio::time::sleep(REPORT_WAIT * 10).await;
            (receiver.recv().await, receiver.recv().await)
        };
        let told = PageReport::LoggedOut { reason: "its session has ended".into() };
        let (sent, (_, second)) = tokio::join!(reporter.send(told), slow);
        sent.unwrap();
        assert!(matches!(second, Some(PageReport::LoggedOut { .. })), "{second:?}");
    }
}
