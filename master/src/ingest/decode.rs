//! Messages to deliveries: what each says, or why that cannot be told. Runs beside the async threads; no
//! message stops it.

use std::panic::catch_unwind;

use async_nats::HeaderMap;
use snapfleet_protocol::{WireVersion, decode_snapshot};

use crate::store::{Delivery, Incoming};

use super::consumer::Raw;

/// Unpacked records, in bytes, at which the rest of a batch waits: what a batch unpacks to is not known
/// before.
const DECODED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What was decoded of a batch.
pub(super) struct Decoded {
    /// The deliveries, in order.
    pub(super) deliveries: Vec<Delivery>,
    /// Messages that were too much at once, in order.
    pub(super) rest: Vec<Raw>,
}

/// Decodes messages in order, until they grow too large together.
pub(super) fn decode(batch: Vec<Raw>) -> Decoded {
    let mut decoded = Decoded { deliveries: Vec::with_capacity(batch.len()), rest: Vec::new() };
    let mut bytes = 0;
    let mut messages = batch.into_iter();
    while bytes < DECODED_BYTES_MAX
        && let Some(raw) = messages.next()
    {
        let delivery = delivery(raw);
        bytes += delivery.outcome.as_ref().map_or(0, Incoming::record_bytes);
        decoded.deliveries.push(delivery);
    }
    decoded.rest = messages.collect();
    decoded
}

fn delivery(raw: Raw) -> Delivery {
    let message = raw.message;
    let headers = message.headers.unwrap_or_default();
    let outcome = read(&headers, &message.payload);
    Delivery {
        seq: raw.seq,
        subject: message.subject.to_string(),
        stored_at: raw.stored_at,
        headers: headers_text(&headers),
        payload: message.payload,
        outcome,
    }
}

fn read(headers: &HeaderMap, payload: &[u8]) -> Result<Incoming, String> {
    let version = headers.get(WireVersion::HEADER).map(|value| value.as_str());
    let version = version.ok_or_else(|| format!("no header {} states its version", WireVersion::HEADER))?;
    if WireVersion::parse(version).is_none() {
        let known = WireVersion::CURRENT.as_str();
        return Err(format!("its version {version:?} is not known: this master reads up to {known}"));
    }
    // No input is known to panic the decoder; should one be found, it must not stop the line.
    let decoded = catch_unwind(|| {
        let snapshot = decode_snapshot(payload).map_err(|error| error.to_string())?;
        Incoming::new(snapshot).map_err(|error| error.to_string())
    });
    decoded.unwrap_or_else(|_| Err("decoding it panicked".to_owned()))
}

/// One `name: value` a line, in the order of the names.
fn headers_text(headers: &HeaderMap) -> String {
    let mut lines: Vec<String> = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {}\n", value.as_str())))
        .collect();
    lines.sort_unstable();
    lines.concat()
}
