//! One response's body, out of the browser.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::network::{GetResponseBodyParams, RequestId};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::PageReport;
use super::budget::Budget;
use super::wanted::Wanted;
use crate::browser::{Browser, CallError};

/// A body that is not answered within this is given up: what came after it waits for it.
const BODY_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// After a crash of the page, what is in flight gets this long: the browser may hold the body outside of it.
const CRASH_GRACE: Duration = Duration::from_secs(2);

/// Fetches the body of a finished response and turns it into what is reported of it; the body is counted until it
/// is dropped.
pub(super) async fn fetch(
    browser: Arc<Browser>,
    page: Page,
    request: RequestId,
    wanted: Wanted,
    mut crashes: watch::Receiver<u64>,
    budget: Budget,
    reserved: OwnedSemaphorePermit,
) -> Vec<PageReport> {
    let limit = browser.call_timeout().min(BODY_TIMEOUT_MAX);
    let call = page.execute(GetResponseBodyParams::new(request));
    let answer = tokio::select! {
        biased;
        answer = browser.call_within("fetch a body", limit, call) => answer,
        () = crashed(&mut crashes) => {
            return wanted.failed("the page crashed before its body was read");
        }
    };
    let body = match answer {
        Ok(answer) if answer.result.base64_encoded => STANDARD
            .decode(answer.result.body)
            .map(Bytes::from)
            .map_err(|error| format!("the body's base64 is broken: {error}")),
        Ok(answer) => Ok(Bytes::from(answer.result.body)),
        Err(CallError::Refused { reason, .. }) => {
            Err(format!("the browser did not keep it: {}", told(&reason)))
        }
        Err(error) => Err(error.to_string()),
    };
    match body {
        Ok(body) => wanted.captured(None, &budget.hold(reserved, body), wanted.began_at_ms),
        Err(reason) => wanted.failed(&reason),
    }
}

/// Why the browser has no body, in words that help.
fn told(reason: &str) -> &str {
    // It tells no kinds, only texts.
    if reason.contains("evicted") || reason.contains("No data found") {
        return "unpacked it is too large, or too many bodies came at once";
    }
    reason
}

async fn crashed(crashes: &mut watch::Receiver<u64>) {
    match crashes.changed().await {
        Ok(()) => tokio::time::sleep(CRASH_GRACE).await,
        // The tab is closed; the call has its own limit.
        Err(_) => std::future::pending().await,
    }
}

/// A frame's payload: text as it is, anything else in base64.
pub(super) fn frame_payload(opcode: f64, payload: &str) -> Result<Bytes, String> {
    const TEXT: f64 = 1.0;
    if (opcode - TEXT).abs() < 0.5 {
        return Ok(Bytes::copy_from_slice(payload.as_bytes()));
    }
    STANDARD
        .decode(payload)
        .map(Bytes::from)
        .map_err(|error| format!("the frame's base64 is broken: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_frames_are_taken_as_they_are_and_binary_ones_decoded() {
        assert_eq!(frame_payload(1.0, "aGk=").unwrap(), "aGk=");
        assert_eq!(frame_payload(2.0, "aGk=").unwrap(), "hi");
        assert!(frame_payload(2.0, "a").is_err());
    }
}
