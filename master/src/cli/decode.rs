//! `decode`: one snapshot's bytes to JSON, compressed or not. What cannot be decoded is answered in JSON too, so
//! that `nats sub --translate` shows it.

use std::io::{Read, Write};
use std::process::ExitCode;

use serde_json::json;
use snapfleet_protocol::decode_snapshot;

use super::CliError;
use super::text::write_json;
use crate::api::hex;

/// No message is larger: a broker takes 64 MiB at most.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many bytes of undecodable input are shown.
const HEX_BYTES_MAX: usize = 32;

pub(crate) fn run(input: impl Read, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let mut bytes = Vec::new();
    input.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(CliError::Input)?;
    let decoded = if bytes.len() as u64 > INPUT_BYTES_MAX {
        Err(format!("input is larger than {INPUT_BYTES_MAX} bytes: give one message"))
    } else {
        decode_snapshot(&bytes).map_err(|error| error.to_string())
    };
    match decoded {
        Ok(snapshot) => {
            write_json(out, &snapshot, true)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let hex = hex(&bytes, HEX_BYTES_MAX);
            write_json(out, &json!({ "error": error, "bytes": bytes.len(), "hex": hex }), false)?;
            Ok(ExitCode::FAILURE)
        }
    }
}
