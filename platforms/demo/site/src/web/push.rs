//! The two push channels: server-sent events for messages and notices, a WebSocket for comments. A channel ends
//! when its session expires, when its reader falls behind, and when the site stops.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::account_of;
use crate::push::{Channel, Frame};
use crate::site::Site;

/// A dead reader is noticed after about this long without anything to push.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a browser waits before it opens the events again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn events(site: State<Site>, headers: HeaderMap) -> Response {
    match listen(&site, &headers, Channel::Events) {
        Some(frames) => Sse::new(event_stream(frames))
            .keep_alive(
                KeepAlive::new().interval(KEEP_ALIVE).event(Event::default().event("ping").data("{}")),
            )
            .into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

pub(super) async fn socket(site: State<Site>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    match listen(&site, &headers, Channel::Socket) {
        Some(frames) => upgrade.on_upgrade(|socket| speak(socket, frames)),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

fn listen(site: &Site, headers: &HeaderMap, channel: Channel) -> Option<mpsc::Receiver<Frame>> {
    let account = account_of(site, headers)?;
    site.with(&account, |account| account.listeners.add(channel))
}

fn event_stream(frames: mpsc::Receiver<Frame>) -> impl Stream<Item = Result<Event, Infallible>> {
    let hello = Event::default().event("hello").retry(RETRY).data("{\"cmd\":\"hello\"}");
    stream::iter([Ok(hello)]).chain(
        ReceiverStream::new(frames).map(|frame| Ok(Event::default().event(frame.event).data(frame.data))),
    )
}

/// Sends frames until either side ends; answers the page's pings.
async fn speak(mut socket: WebSocket, mut frames: mpsc::Receiver<Frame>) {
    let mut keep_alive = tokio::time::interval(KEEP_ALIVE);
    loop {
        let text = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => Message::Text(frame.data.into()),
                None => return,
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Text(_))) => Message::Text("{\"type\":\"pong\"}".into()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = keep_alive.tick() => Message::Ping(Default::default()),
        };
        if socket.send(text).await.is_err() {
            return;
        }
    }
}
