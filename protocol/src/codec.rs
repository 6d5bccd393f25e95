//! Snapshots to bytes and back: MessagePack with field names, zstd above 1 KiB, both ways bounded.

use std::fmt;
use std::io::Read;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::snapshot::{Snapshot, SnapshotKind};

/// Above this many bytes a snapshot is compressed.
pub const COMPRESS_ABOVE_BYTES: usize = 1024;
/// The largest snapshot before compression, in bytes; larger ones are split by the publisher.
pub const UNPACKED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The most records in one snapshot, all kinds together.
pub const RECORDS_MAX: usize = 20_000;
/// The most entries in the lists and maps of all of a snapshot's records together, such as addresses of pictures.
pub const LIST_ENTRIES_MAX: usize = 200_000;

/// Every zstd frame begins with these bytes (RFC 8878, section 3.1.1); no MessagePack map does.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const ZSTD_LEVEL: i32 = 1;
/// The largest window, as a power of two, that a frame may make us keep: [`UNPACKED_BYTES_MAX`].
const ZSTD_WINDOW_LOG_MAX: u32 = UNPACKED_BYTES_MAX.ilog2();
/// The deepest nesting: a snapshot's own is 4, the rest is for fields of a later version.
const DEPTH_MAX: usize = 32;

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
    /// More in it than a reader would accept.
    #[error(
        "snapshot has more than {RECORDS_MAX} records or {LIST_ENTRIES_MAX} entries in their lists: split it"
    )]
    TooMany,
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
/// [`EncodeError::TooLarge`] above [`UNPACKED_BYTES_MAX`], [`EncodeError::TooMany`] above [`RECORDS_MAX`] or
/// [`LIST_ENTRIES_MAX`]; the others do not happen with memory to spare.
pub fn encode_snapshot(snapshot: &Snapshot) -> Result<Vec<u8>, EncodeError> {
    let in_contents =
        snapshot.contents.iter().map(|content| content.media_urls.len() + content.metrics.len());
    let in_comments = snapshot.comments.iter().map(|comment| comment.image_urls.len());
    let entries = in_contents.chain(in_comments).sum::<usize>();
    if snapshot.record_count() > RECORDS_MAX || entries > LIST_ENTRIES_MAX {
        return Err(EncodeError::TooMany);
    }
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
    let mut decoder = zstd::stream::read::Decoder::new(bytes).map_err(DecodeError::Decompress)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(DecodeError::Decompress)?;
    let limit = UNPACKED_BYTES_MAX as u64 + 1;
    decoder.take(limit).read_to_end(&mut plain).map_err(DecodeError::Decompress)?;
    if plain.len() > UNPACKED_BYTES_MAX {
        return Err(DecodeError::TooLarge);
    }
    Ok(plain)
}

fn read_snapshot(plain: &[u8]) -> Result<Snapshot, DecodeError> {
    check_counts(plain)?;
    let mut rest = plain;
    let mut reader = reader(&mut rest);
    let snapshot = serde::Deserialize::deserialize(&mut reader)?;
    if rest.is_empty() { Ok(snapshot) } else { Err(DecodeError::TrailingBytes(rest.len())) }
}

fn reader<'a, 'b>(
    plain: &'a mut &'b [u8],
) -> rmp_serde::Deserializer<rmp_serde::decode::ReadReader<&'a mut &'b [u8]>> {
    let mut reader = rmp_serde::Deserializer::new(plain);
    reader.set_max_depth(DEPTH_MAX);
    reader
}

fn check_contract(snapshot: &Snapshot) -> Result<(), DecodeError> {
    if snapshot.part == 0 || snapshot.part > snapshot.parts {
        return Err(DecodeError::Contract("part is not between 1 and parts"));
    }
    if snapshot.epoch == 0 || snapshot.seq == 0 {
        return Err(DecodeError::Contract("epoch and seq count from 1"));
    }
    if snapshot.kind == SnapshotKind::Claim && snapshot.record_count() > 0 {
        return Err(DecodeError::Contract("a claim holds no records"));
    }
    Ok(())
}

/// Counts before anything is built: a record of 6 bytes takes hundreds in memory, an entry of 1 byte takes 24.
/// Lists of fields that this version does not know count as well.
fn check_counts(mut plain: &[u8]) -> Result<(), DecodeError> {
    let mut counts = Counts::default();
    let counted = Count { depth: 0, counts: &mut counts }.deserialize(&mut reader(&mut plain));
    if counts.records > RECORDS_MAX {
        return Err(DecodeError::Contract("more records than a snapshot may hold"));
    }
    if counts.entries > LIST_ENTRIES_MAX {
        return Err(DecodeError::Contract("more entries in lists than a snapshot may hold"));
    }
    Ok(counted?)
}

#[derive(Default)]
struct Counts {
    /// Elements of the lists right in the snapshot.
    records: usize,
    /// Elements of the lists and maps below those.
    entries: usize,
}

/// Walks over one value and keeps nothing of it; stops with an error as soon as a count is over its limit.
struct Count<'a> {
    /// 0 for the snapshot itself, 1 for its fields, and so on.
    depth: usize,
    counts: &'a mut Counts,
}

impl Count<'_> {
    fn below(&mut self) -> Count<'_> {
        Count { depth: self.depth + 1, counts: self.counts }
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self.below())?.is_some() {
            match self.depth {
                0 => {}
                1 => self.counts.records += 1,
                _ => self.counts.entries += 1,
            }
            if self.counts.records > RECORDS_MAX || self.counts.entries > LIST_ENTRIES_MAX {
                return Err(A::Error::custom("too many elements"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            // Below a record's own fields: a map in one of them.
            self.counts.entries += usize::from(self.depth > 2);
            if self.counts.entries > LIST_ENTRIES_MAX {
                return Err(A::Error::custom("too many elements"));
            }
            map.next_value_seed(self.below())?;
        }
        Ok(())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, extension: D) -> Result<(), D::Error> {
        extension.deserialize_ignored_any(IgnoredAny).map(|_| ())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<(), E> {
        Ok(())
    }
}
