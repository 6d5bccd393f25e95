//! The platforms' ways of writing one value, each read once: ids as text or number, counters as text or number, `""`
//! and `"0"` for nothing, a picture as an object or as its address.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use snapfleet_protocol::{RecordId, UnixMs};

/// A day, by which a time may be ahead of now.
const AHEAD_MS: i64 = 24 * 60 * 60 * 1000;

/// A text, borrowed where nothing in it is escaped.
#[derive(Clone)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Text<'_> {
    fn given(&self) -> Option<String> {
        (!matches!(&*self.0, "" | "0")).then(|| self.0.clone().into_owned())
    }
}

/// The text, where it says something.
pub(crate) fn given(text: Option<&Text<'_>>) -> Option<String> {
    text.and_then(Text::given)
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// Implements `Deserialize` for a type made from a number, a text or `null`.
macro_rules! scalar {
    ($type:ident, $what:literal, text $text:expr, whole $whole:expr, float $float:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl<'de> Visitor<'de> for Reader {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_unit<E>(self) -> Result<$type, E> {
                        Ok($type(None))
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        $text(text).map($type).map_err(E::custom)
                    }
                    fn visit_i64<E: Error>(self, number: i64) -> Result<$type, E> {
                        $whole(number).map($type).map_err(E::custom)
                    }
                    fn visit_u64<E: Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_i64(i64::try_from(number).map_err(E::custom)?)
                    }
                    fn visit_f64<E: Error>(self, number: f64) -> Result<$type, E> {
                        $float(number).map($type).map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }
    };
}

/// An id; nothing, `0` and the text of a missing value are none.
#[derive(Default, Clone)]
pub(crate) struct Id(pub(crate) Option<RecordId>);

fn id(text: &str) -> Result<Option<RecordId>, String> {
    if matches!(text, "" | "0" | "undefined" | "null" | "NaN") {
        return Ok(None);
    }
    RecordId::parse(text).map(Some).map_err(|error| error.to_string())
}

scalar!(Id, "an id", text id, whole |number: i64| id(&number.to_string()),
    float |_| Err("an id has no fraction"));

/// A counter.
#[derive(Default, Clone, Copy)]
pub(crate) struct Count(pub(crate) Option<i64>);

impl Count {
    pub(crate) fn not_zero(self) -> Option<i64> {
        self.0.filter(|count| *count != 0)
    }
}

fn count(text: &str) -> Result<Option<i64>, String> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| "no count".to_owned()) }
}

scalar!(Count, "a count", text count, whole |number: i64| Ok::<_, String>(Some(number)),
    float |_| Err("a count has no fraction"));

/// A figure.
#[derive(Default, Clone, Copy)]
pub(crate) struct Figure(pub(crate) Option<f64>);

scalar!(Figure, "a figure", text |text: &str| Ok::<_, String>(text.parse().ok()),
    whole |number: i64| Ok::<_, String>(Some(number as f64)), float |number: f64| Ok::<_, String>(Some(number)));

/// Seconds since 1970.
#[derive(Default, Clone, Copy)]
pub(crate) struct Seconds(Option<i64>);

impl Seconds {
    pub(crate) fn time(self, now: UnixMs) -> Option<UnixMs> {
        let ms = self.0?.checked_mul(1000)?;
        (UnixMs::EARLIEST.0..=now.0 + AHEAD_MS).contains(&ms).then_some(UnixMs(ms))
    }
}

scalar!(Seconds, "seconds", text |text: &str| Ok::<_, String>(text.parse().ok()),
    whole |number: i64| Ok::<_, String>(Some(number)), float |number: f64| Ok::<_, String>(Some(number as i64)));

/// A picture's or a file's first address.
#[derive(Default)]
pub(crate) struct Picture<'a>(pub(crate) Option<Text<'a>>);

impl Picture<'_> {
    pub(crate) fn url(&self) -> Option<String> {
        given(self.0.as_ref())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Picture<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Picture<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a picture")
            }
            fn visit_unit<E>(self) -> Result<Picture<'de>, E> {
                Ok(Picture(None))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Picture<'de>, E> {
                Ok(Picture(Some(Text(Cow::Borrowed(text)))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Picture<'de>, E> {
                Ok(Picture(Some(Text(Cow::Owned(text.to_owned())))))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Picture<'de>, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    match &*key.0 {
                        "url_list" | "urlList" => found = map.next_value::<FirstGiven<'de>>()?.0.or(found),
                        // A list of pictures may wrap each one.
                        "origin_url" => found = found.or(map.next_value::<Picture<'de>>()?.0),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Picture(found))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The first text of a list that says something.
struct FirstGiven<'a>(Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for FirstGiven<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = FirstGiven<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<FirstGiven<'de>, A::Error> {
                while let Some(text) = list.next_element::<Text<'de>>()? {
                    if !matches!(&*text.0, "" | "0") {
                        while list.next_element::<IgnoredAny>()?.is_some() {}
                        return Ok(FirstGiven(Some(text)));
                    }
                }
                Ok(FirstGiven(None))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}
