//! The browser's network events, told apart and turned into what is to be fetched or reported.
//!
//! There is one queue for each kind of event, and between kinds their order is lost. What is told of time is
//! therefore the event's own, never the moment at which it is taken out of its queue.

use std::sync::Arc;

use bytes::Bytes;
use chromiumoxide::cdp::browser_protocol::network::{
    EventEventSourceMessageReceived, EventLoadingFailed, EventLoadingFinished, EventRequestWillBeSent,
    EventResponseReceived, EventWebSocketClosed, EventWebSocketCreated, EventWebSocketFrameReceived,
    MonotonicTime, RequestId, ResourceType,
};
use chromiumoxide::cdp::{Event, IntoEventKind};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use tokio::time::Instant;

use super::clock::Clock;
use super::matcher::{End, Head, Matcher, Step};
use super::report::PageReport;
use super::wanted::Wanted;
use super::{Source, body, now_ms};
use crate::browser::{CallError, Tab};

/// What the browser told of the tab's network.
pub(super) enum Signal {
    Sent(Arc<EventRequestWillBeSent>),
    Response(Arc<EventResponseReceived>),
    Finished(Arc<EventLoadingFinished>),
    Failed(Arc<EventLoadingFailed>),
    Pushed(Arc<EventEventSourceMessageReceived>),
    SocketOpened(Arc<EventWebSocketCreated>),
    SocketFrame(Arc<EventWebSocketFrameReceived>),
    SocketClosed(Arc<EventWebSocketClosed>),
}

/// All of a tab's events in one stream.
pub(super) type Signals = SelectAll<BoxStream<'static, Signal>>;

/// One place in the order of reports.
pub(super) enum Slot {
    Ready(Vec<PageReport>),
    Fetch { request: RequestId, wanted: Wanted },
}

/// The tab's events, of the kinds that the rules look at.
pub(super) async fn subscribe(tab: &Tab, matcher: &Matcher) -> Result<Signals, CallError> {
    let mut signals = vec![
        events(tab, Signal::Sent).await?,
        events(tab, Signal::Response).await?,
        events(tab, Signal::Finished).await?,
        events(tab, Signal::Failed).await?,
    ];
    if matcher.wants(Source::EventSource) {
        signals.push(events(tab, Signal::Pushed).await?);
    }
    if matcher.wants(Source::WebSocket) {
        signals.push(events(tab, Signal::SocketOpened).await?);
        signals.push(events(tab, Signal::SocketFrame).await?);
        signals.push(events(tab, Signal::SocketClosed).await?);
    }
    Ok(futures_util::stream::select_all(signals))
}

async fn events<T: IntoEventKind + Event + Unpin>(
    tab: &Tab,
    signal: fn(Arc<T>) -> Signal,
) -> Result<BoxStream<'static, Signal>, CallError> {
    let stream = tab.browser().call("listen", tab.page().event_listener::<T>()).await?;
    Ok(stream.map(signal).boxed())
}

/// What follows from one event.
pub(super) fn take(matcher: &mut Matcher, clock: &Clock, signal: Signal) -> Option<Slot> {
    let wall_ms = |at: &MonotonicTime| clock.wall_ms(*at.inner(), now_ms());
    let (step, request) = match signal {
        Signal::Sent(event) => {
            clock.learn(*event.timestamp.inner(), *event.wall_time.inner());
            matcher.sent(event.request_id.inner(), &event.request.method, &event.request.url);
            return None;
        }
        Signal::Response(event) => {
            let request = event.request_id.clone();
            let (response, began_ms) = (&event.response, wall_ms(&event.timestamp));
            // What the browser kept is as old as the answer was then: it must not pass for what the site says now.
            // The time is in milliseconds, whatever its type says.
            let kept = response.response_time.as_ref().filter(|_| response.from_disk_cache == Some(true));
            let at_ms = kept.map_or(began_ms, |time| began_ms.min(*time.inner() as i64));
            let headers = response.headers.inner();
            let head = Head {
                url: &response.url,
                status: response.status,
                mime_type: &response.mime_type,
                content_type: header(headers, "content-type"),
                content_length: header(headers, "content-length")
                    .and_then(|value| value.trim().parse().ok())
                    .unwrap_or(0),
                compressed: header(headers, "content-encoding").is_some(),
                at_ms,
            };
            let step = match event.r#type {
                ResourceType::EventSource => matcher.opened(Source::EventSource, request.inner(), &head),
                ResourceType::Preflight => return None,
                _ => matcher.response(request.inner(), &head),
            };
            (step, request)
        }
        Signal::Finished(event) => {
            let end = End::Whole { sent_bytes: event.encoded_data_length.max(0.0) as u64 };
            (matcher.ended(event.request_id.inner(), end), event.request_id.clone())
        }
        Signal::Failed(event) => {
            let reason = format!("the page did not get it: {}", event.error_text);
            (matcher.ended(event.request_id.inner(), End::Failed(reason)), event.request_id.clone())
        }
        Signal::Pushed(event) => {
            let body = Bytes::copy_from_slice(event.data.as_bytes());
            let at_ms = wall_ms(&event.timestamp);
            let step = matcher.pushed(event.request_id.inner(), Some(&event.event_name), body, at_ms);
            (step, event.request_id.clone())
        }
        Signal::SocketOpened(event) => {
            let head = Head::bare(&event.url, now_ms());
            let step = matcher.opened(Source::WebSocket, event.request_id.inner(), &head);
            (step, event.request_id.clone())
        }
        Signal::SocketFrame(event) => {
            let frame = &event.response;
            let step = match body::frame_payload(frame.opcode, &frame.payload_data) {
                Ok(body) => matcher.pushed(event.request_id.inner(), None, body, wall_ms(&event.timestamp)),
                Err(reason) => matcher.unreadable(event.request_id.inner(), &reason),
            };
            (step, event.request_id.clone())
        }
        Signal::SocketClosed(event) => (matcher.closed(event.request_id.inner()), event.request_id.clone()),
    };
    slot(step, request)
}

/// What is to be done for the next request that has waited long enough for its method; at the end, that waits.
pub(super) fn settled(matcher: &mut Matcher, at_end: bool) -> Option<Slot> {
    let now = (!at_end).then(Instant::now);
    while let Some((request, step)) = matcher.settle(now) {
        let slot = slot(step, RequestId::new(request));
        if slot.is_some() {
            return slot;
        }
    }
    None
}

fn slot(step: Step, request: RequestId) -> Option<Slot> {
    match step {
        Step::Nothing => None,
        Step::Report(reports) if reports.is_empty() => None,
        Step::Report(reports) => Some(Slot::Ready(reports)),
        Step::Fetch(wanted) => Some(Slot::Fetch { request, wanted }),
    }
}

fn header<'a>(headers: &'a serde_json::Value, wanted: &str) -> Option<&'a str> {
    let mut headers = headers.as_object()?.iter();
    headers.find_map(|(name, value)| if name.eq_ignore_ascii_case(wanted) { value.as_str() } else { None })
}
