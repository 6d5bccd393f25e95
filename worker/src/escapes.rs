//! The `\u` escapes of JSON, of which half a surrogate pair is no letter. Knows nothing of whose JSON it is.

use std::borrow::Cow;

/// The code unit of the escape at the beginning, if one is there: `\u` and four hexadecimal digits.
pub(crate) fn code_unit(json: &[u8]) -> Option<u16> {
    let digits = json.get(..6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u16::from_str_radix(digits, 16).ok()
}

/// Well-formed JSON with U+FFFD for each escape that is half of a surrogate pair: who cuts a text between the two, as
/// JavaScript and Java do, writes such a half, and one text must not cost the whole body.
pub(crate) fn with_whole_letters(json: &[u8]) -> Cow<'_, [u8]> {
    let mut whole = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json[at..]) {
        at += found;
        let first = code_unit(&json[at..]);
        let second = json.get(at + 6..).and_then(code_unit);
        at += match (first, second) {
            (None, _) => 2,
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                whole.to_mut()[at..at + 6].copy_from_slice(br"\ufffd");
                6
            }
            (Some(_), _) => 6,
        };
        if at >= json.len() {
            break;
        }
    }
    whole
}
