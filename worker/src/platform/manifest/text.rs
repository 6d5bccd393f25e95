//! `platform.toml` as it is written. The descriptions here are what an editor shows.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use toml::Spanned;

use super::{
    EVERY_MS_MAX, EVERY_MS_MIN, LIST_LEN_MAX, REFRESH_JITTER_MAX, REFRESH_S_MAX, SCHEMA, SCROLL_PAUSE_MS_MAX,
    SCROLL_STEPS_MAX,
};
use crate::capture::HOST_BYTES_MAX;
use crate::platform::CaptureSource;

/// What a setting's name looks like.
const SETTING: &str = "^[a-z][a-z0-9_]{0,63}$";

/// A platform: which pages to open, how to log in, which bodies to capture, and how each becomes records.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::platform) struct FileText {
    /// The version of this file's language: 1.
    #[schemars(with = "u32", range(min = SCHEMA, max = SCHEMA))]
    pub(super) schema: Spanned<u32>,
    /// The platform's name, which is its folder's.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// What an account can set.
    #[serde(default)]
    pub(super) settings: SettingsText,
    /// The pages to open, each in a tab of its own.
    #[serde(default)]
    #[schemars(length(max = LIST_LEN_MAX))]
    pub(super) page: Vec<PageText>,
    /// How to tell whether a page is logged in, and how to log in. Leave it out where nobody logs in.
    pub(super) login: Option<LoginText>,
    /// The rules for what is captured. Each that takes a body gets it.
    #[serde(default)]
    #[schemars(length(max = LIST_LEN_MAX))]
    pub(super) capture: Vec<CaptureText>,
}

/// What an account can set: names of lower-case letters, digits and `_`, a letter first.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct SettingsText {
    /// Settings that every account must have.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(max = LIST_LEN_MAX), inner(regex(pattern = SETTING)))]
    pub(super) required: Vec<Spanned<String>>,
    /// Settings that an account may have.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(max = LIST_LEN_MAX), inner(regex(pattern = SETTING)))]
    pub(super) optional: Vec<Spanned<String>>,
    /// Which of the above are secret: they go into the login form alone, never into an address or a filter.
    #[serde(default)]
    #[schemars(with = "Vec<String>", length(max = LIST_LEN_MAX), inner(regex(pattern = SETTING)))]
    pub(super) secret: Vec<Spanned<String>>,
}

/// One page.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PageText {
    /// Its name, unique within the platform.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Its address, http or https; `{setting}` is replaced by the account's. For a brace itself write it twice.
    #[schemars(with = "String")]
    pub(super) url: Spanned<String>,
    /// How often it is loaded again, in seconds; 0 or absent: never.
    #[schemars(with = "Option<u64>", range(max = REFRESH_S_MAX))]
    pub(super) refresh_s: Option<Spanned<u64>>,
    /// How far the time between two loads is varied, as a part of it. Default 0.1.
    #[schemars(with = "Option<f64>", range(min = 0.0, max = REFRESH_JITTER_MAX))]
    pub(super) refresh_jitter: Option<Spanned<f64>>,
    /// How it is scrolled after each load, so that it fetches more.
    pub(super) scroll: Option<ScrollText>,
}

/// How a page is scrolled.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScrollText {
    /// CSS of the element that scrolls; absent: the window.
    #[schemars(with = "Option<String>")]
    pub(super) selector: Option<Spanned<String>>,
    /// The most steps after one load. Default 20.
    #[schemars(with = "Option<u32>", range(max = SCROLL_STEPS_MAX))]
    pub(super) steps_max: Option<Spanned<u32>>,
    /// The pause between two steps, in milliseconds. Default 200.
    #[schemars(with = "Option<u64>", range(max = SCROLL_PAUSE_MS_MAX))]
    pub(super) pause_ms: Option<Spanned<u64>>,
    /// CSS: scrolling ends once it exists.
    #[schemars(with = "Option<String>")]
    pub(super) until: Option<Spanned<String>>,
}

/// How to tell whether a page is logged in, and how to log in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginText {
    /// CSS: logged in once it exists.
    #[schemars(with = "String")]
    pub(super) logged_in: Spanned<String>,
    /// CSS: logged out once it exists; absent: the page does not show it.
    #[schemars(with = "Option<String>")]
    pub(super) logged_out: Option<Spanned<String>>,
    /// CSS of the element with the code to scan: an img, a canvas or a div.
    #[schemars(with = "Option<String>")]
    pub(super) code: Option<Spanned<String>>,
    /// CSS of what is clicked once the form is filled.
    #[schemars(with = "Option<String>")]
    pub(super) submit: Option<Spanned<String>>,
    /// What goes into the form, in this order.
    #[serde(default)]
    #[schemars(length(max = LIST_LEN_MAX))]
    pub(super) fill: Vec<FillText>,
}

/// One field of the login form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FillText {
    /// CSS of the field.
    #[schemars(with = "String")]
    pub(super) selector: Spanned<String>,
    /// What is typed into it; `{setting}` is replaced by the account's.
    #[schemars(with = "String")]
    pub(super) value: Spanned<String>,
}

/// One rule: which bodies it takes, and the filter that turns them into records.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("allOf" = keys_of_sources()))]
pub(super) struct CaptureText {
    /// Its name, unique within the platform.
    #[schemars(with = "String")]
    pub(super) name: Spanned<String>,
    /// Where the bodies come from.
    pub(super) source: CaptureSource,
    /// Pattern of the URL's path: `*` is any characters within one segment, `**` any across segments. A trailing slash
    /// does not matter; without a slash at its beginning any prefix may come before it. Required but for page_state.
    #[schemars(with = "Option<String>")]
    pub(super) path: Option<Spanned<String>>,
    /// Pattern of the URL's host, without scheme and port: `*` is any characters. Absent: any. Not for page_state.
    #[schemars(with = "Option<String>", length(min = 1, max = HOST_BYTES_MAX))]
    pub(super) host: Option<Spanned<String>>,
    /// Methods of the request, in capitals. Absent: any. For response alone.
    #[schemars(with = "Option<Vec<String>>", length(min = 1), inner(regex(pattern = "^[A-Z]+$")))]
    pub(super) method: Option<Spanned<Vec<String>>>,
    /// Statuses of the response. Absent: any 2xx. For response alone.
    #[schemars(with = "Option<Vec<u16>>", length(min = 1), inner(range(min = 100, max = 599)))]
    pub(super) status: Option<Spanned<Vec<u16>>>,
    /// What the response's content type begins with. Absent: any. For response alone.
    #[schemars(with = "Option<String>")]
    pub(super) content_type: Option<Spanned<String>>,
    /// A .js file beside platform.toml with one function that returns what it reads. For page_state alone, and
    /// required there.
    #[schemars(with = "Option<String>", regex(pattern = "^[^./\\\\][^/\\\\]*[.]js$"))]
    pub(super) script: Option<Spanned<String>>,
    /// Names of the pages on which the script runs. Absent: all. For page_state alone.
    #[schemars(with = "Option<Vec<String>>", length(min = 1))]
    pub(super) page: Option<Spanned<Vec<String>>>,
    /// How often the script runs, in milliseconds. Default 1000. For page_state alone.
    #[schemars(with = "Option<u64>", range(min = EVERY_MS_MIN, max = EVERY_MS_MAX))]
    pub(super) every_ms: Option<Spanned<u64>>,
    /// A .jq file beside platform.toml: from the body to rows.
    #[schemars(with = "String", regex(pattern = "^[^./\\\\][^/\\\\]*[.]jq$"))]
    pub(super) filter: Spanned<String>,
}

/// Which keys a source has no use for and which it needs, as [`super::reader::Reader`] checks it.
fn keys_of_sources() -> Value {
    let of = |sources: &[&str]| json!({ "properties": { "source": { "enum": sources } } });
    json!([
        {
            "if": of(&["page_state"]),
            "then": { "required": ["script"], "properties": { "path": false, "host": false } },
            "else": { "required": ["path"], "properties": { "script": false, "page": false, "every_ms": false } },
        },
        {
            "if": of(&["response"]),
            "else": { "properties": { "method": false, "status": false, "content_type": false } },
        },
    ])
}
