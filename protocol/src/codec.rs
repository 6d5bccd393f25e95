//! Snapshots to bytes and back: MessagePack with field names, zstd above 1 KiB, both ways bounded.

use std::io::Read;

use serde::Serialize;

use crate::snapshot::{Snapshot, SnapshotKind};

/// Above this many bytes a snapshot is compressed.
pub const COMPRESS_ABOVE_BYTES: usize = 1024;
/// The largest snapshot before compression, in bytes; larger ones are split by the publisher.
pub const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most records in one snapshot.
pub const RECORDS_MAX: usize = 100_000;

/// Every zstd frame begins with these bytes (RFC 8878, section 3.1.1); no MessagePack map does.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const ZSTD_LEVEL: i32 = 1;

/// Why a snapshot could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The serialiser failed.
    #[error("snapshot cannot be encoded: {0}")]
    Serialize(#[from] rmp_serde::encode::Error),
    /// The compressor failed.
    #[error("snapshot cannot be compressed: {0}")]
    Compress(std::io::Error),
    /// Larger than a reader would accept.
    #[error("snapshot of {bytes} bytes is over the limit of {UNPACKED_BYTES_MAX}: split it")]
    TooLarge {
        /// Its size before compression.
        bytes: usize,
    },
}

/// Why bytes are not a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not MessagePack of a snapshot's shape.
    #[error("not a snapshot: {0}")]
    Deserialize(#[from] rmp_serde::decode::Error),
    /// A broken zstd frame.
    #[error("not a valid zstd frame: {0}")]
    Decompress(std::io::Error),
    /// Larger than [`UNPACKED_BYTES_MAX`] once unpacked.
    #[error("snapshot unpacks to more than {UNPACKED_BYTES_MAX} bytes")]
    TooLarge,
    /// Something follows the snapshot.
    #[error("{0} bytes follow the snapshot")]
    TrailingBytes(usize),
    /// Well-formed, but not what a worker may publish.
    #[error("snapshot breaks the contract: {0}")]
    Contract(&'static str),
}

/// Encodes a snapshot as it goes over the wire.
///
/// # Errors
/// [`EncodeError::TooLarge`] above [`UNPACKED_BYTES_MAX`]; the others do not happen with memory to spare.
pub fn encode_snapshot(snapshot: &Snapshot) -> Result<Vec<u8>, EncodeError> {
    let mut plain = Vec::with_capacity(256 + snapshot.record_count() * 256);
    snapshot.serialize(&mut rmp_serde::Serializer::new(&mut plain).with_struct_map())?;
    if plain.len() > UNPACKED_BYTES_MAX {
        return Err(EncodeError::TooLarge { bytes: plain.len() });
    }
    if plain.len() <= COMPRESS_ABOVE_BYTES {
        return Ok(plain);
    }
    zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(EncodeError::Compress)
}

/// Decodes what [`encode_snapshot`] wrote, compressed or not, and checks what the types cannot.
///
/// # Errors
/// [`DecodeError`] for anything else; no input panics or takes more memory than the limits above allow.
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, DecodeError> {
    let snapshot = if bytes.starts_with(&ZSTD_MAGIC) {
        read_snapshot(&unpack(bytes)?)?
    } else if bytes.len() > UNPACKED_BYTES_MAX {
        return Err(DecodeError::TooLarge);
    } else {
        read_snapshot(bytes)?
    };
    check_contract(&snapshot)?;
    Ok(snapshot)
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(DecodeError::Decompress)?;
    let limit = UNPACKED_BYTES_MAX as u64 + 1;
    decoder.take(limit).read_to_end(&mut plain).map_err(DecodeError::Decompress)?;
    if plain.len() > UNPACKED_BYTES_MAX {
        return Err(DecodeError::TooLarge);
    }
    Ok(plain)
}

fn read_snapshot(plain: &[u8]) -> Result<Snapshot, DecodeError> {
    let mut rest = plain;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    let snapshot = serde::Deserialize::deserialize(&mut reader)?;
    if rest.is_empty() { Ok(snapshot) } else { Err(DecodeError::TrailingBytes(rest.len())) }
}

fn check_contract(snapshot: &Snapshot) -> Result<(), DecodeError> {
    if snapshot.part == 0 || snapshot.part > snapshot.parts {
        return Err(DecodeError::Contract("part is not between 1 and parts"));
    }
    if snapshot.epoch == 0 || snapshot.seq == 0 {
        return Err(DecodeError::Contract("epoch and seq count from 1"));
    }
    if snapshot.record_count() > RECORDS_MAX {
        return Err(DecodeError::Contract("more records than a snapshot may hold"));
    }
    if snapshot.kind == SnapshotKind::Claim && snapshot.record_count() > 0 {
        return Err(DecodeError::Contract("a claim holds no records"));
    }
    Ok(())
}
