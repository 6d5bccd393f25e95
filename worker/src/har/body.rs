//! A body as the page saw it: out of the HAR's base64, and decompressed where the browser left it compressed.

use std::io::Read;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::json::Text;
use super::{BODY_BYTES_MAX, HarBody};

/// Why a body is absent: there was none.
pub const EMPTY: &str = "the answer has no body";
/// Why a body is absent: the browser did not keep it, or was not asked to save it.
pub const NOT_SAVED: &str = "the HAR was saved without this body: open the developer tools before the page, load it, and \
                             save with content soon after (Chrome: \"Export HAR (with sensitive data)\" or \"Save all as \
                             HAR with content\"; Firefox: devtools.netmonitor.har.includeResponseBodies = true)";
/// Why a stream's body is absent.
pub const STREAM_NOT_SAVED: &str = "Chrome does not save what an event source sends: save the HAR with Firefox, or with \
                                    snapfleet-worker platform record";

/// The most encodings on top of each other.
const LAYERS_MAX: usize = 4;
/// What HTTP allows for zstd (RFC 9659): a window of 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A body as it stands in the HAR.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) text: Option<Text>,
    /// Whether the text is base64.
    pub(super) is_base64: bool,
    /// The answer's `content-encoding`.
    pub(super) encoding: String,
    pub(super) mime_type: String,
    /// What the HAR says of its length.
    pub(super) size: Option<u64>,
}

/// Decodes a body. `is_stream`: it is an event source's.
pub(super) fn decode(content: Content, is_stream: bool) -> HarBody {
    let Content { text, is_base64, encoding, mime_type, size } = content;
    let text = match text {
        Some(text) if text.raw_bytes > 0 => text,
        _ if is_stream => return HarBody::Absent(STREAM_NOT_SAVED),
        _ if size.is_some_and(|size| size > 0) => return HarBody::Absent(NOT_SAVED),
        Some(_) => return HarBody::Absent(EMPTY),
        None if size == Some(0) => return HarBody::Absent(EMPTY),
        None => return HarBody::Absent(NOT_SAVED),
    };
    if text.is_cut {
        return HarBody::TooLarge(if is_base64 { text.raw_bytes / 4 * 3 } else { text.raw_bytes });
    }
    let bytes = if is_base64 {
        match from_base64(text.bytes) {
            Ok(bytes) => bytes,
            Err(reason) => return HarBody::Broken(reason),
        }
    } else {
        text.bytes
    };
    match decompress(bytes, &encoding, &mime_type, is_base64) {
        HarBody::Bytes(bytes) if bytes.len() > BODY_BYTES_MAX => HarBody::TooLarge(bytes.len() as u64),
        body => body,
    }
}

/// Reads base64, which may be broken into lines and may lack its padding.
pub(super) fn from_base64(mut text: Vec<u8>) -> Result<Vec<u8>, String> {
    text.retain(|byte| !byte.is_ascii_whitespace());
    BASE64.decode(text).map_err(|error| format!("the body's base64 is broken: {error}"))
}

/// Takes the encodings off that are still there: browsers save most bodies without, and keep the header.
fn decompress(mut bytes: Vec<u8>, encoding: &str, mime_type: &str, is_base64: bool) -> HarBody {
    for encoding in encoding.rsplit(',').take(LAYERS_MAX) {
        let encoding = encoding.trim().to_ascii_lowercase();
        let Some(format) = Format::left_in(&bytes, &encoding) else {
            if !is_base64 && encoding.contains("gzip") && bytes.starts_with(b"\x1f") {
                return HarBody::Broken(
                    "its gzip was saved as text, which loses bytes: save the HAR again".into(),
                );
            }
            continue;
        };
        match format.decompress(&bytes) {
            Ok(body) if body.len() > BODY_BYTES_MAX => return HarBody::TooLarge(body.len() as u64),
            Ok(body) => bytes = body,
            // A picture, say, which was never compressed once more.
            Err(_) if !format.is_certain() && !is_textual(mime_type) => {}
            Err(error) => return HarBody::Broken(format!("its {} is broken: {error}", format.name())),
        }
    }
    HarBody::Bytes(bytes)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Gzip,
    Zlib,
    Deflate,
    Brotli,
    Zstd,
}

impl Format {
    /// What `bytes` still are of `encoding`; the browser may have taken it off, and kept the header.
    fn left_in(bytes: &[u8], encoding: &str) -> Option<Self> {
        match encoding {
            "gzip" | "x-gzip" => bytes.starts_with(b"\x1f\x8b").then_some(Self::Gzip),
            "zstd" => bytes.starts_with(b"\x28\xb5\x2f\xfd").then_some(Self::Zstd),
            "deflate" if is_text(bytes) => None,
            "deflate" if is_zlib(bytes) => Some(Self::Zlib),
            "deflate" => Some(Self::Deflate),
            "br" => (!is_text(bytes)).then_some(Self::Brotli),
            _ => None,
        }
    }

    /// Whether its first bytes tell it.
    fn is_certain(self) -> bool {
        matches!(self, Self::Gzip | Self::Zlib | Self::Zstd)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib | Self::Deflate => "deflate",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
        }
    }

    fn decompress(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip => bounded(flate2::read::MultiGzDecoder::new(bytes)),
            Self::Zlib => bounded(flate2::read::ZlibDecoder::new(bytes)),
            Self::Deflate => bounded(flate2::read::DeflateDecoder::new(bytes)),
            Self::Brotli => bounded(brotli_decompressor::Decompressor::new(bytes, 4096)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(bytes)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                bounded(decoder)
            }
        }
    }
}

/// At most one byte more than a body may have: a bomb is not let off.
fn bounded(decoder: impl Read) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    decoder.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut body)?;
    Ok(body)
}

fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31))
}

/// Text without control characters, which compressed bytes are not.
fn is_text(bytes: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    std::str::from_utf8(bytes).is_ok() && !bytes.iter().any(is_control)
}

fn is_textual(mime_type: &str) -> bool {
    let mime_type = mime_type.to_ascii_lowercase();
    ["json", "text", "javascript", "xml"].iter().any(|kind| mime_type.contains(kind))
}
