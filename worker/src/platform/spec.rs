//! What `platform.toml` says to the browser's side, filled in for an account where it depends on one.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// The settings of one account, by name.
pub type Settings = BTreeMap<String, String>;

/// One page to open in a tab of its own, its address filled in for an account.
#[derive(Debug, Clone, PartialEq)]
pub struct PageSpec {
    /// Its name, unique within the platform.
    pub name: String,
    /// Its address, http or https. Holds no secret.
    pub url: Url,
    /// How often it is loaded again; `None` is never.
    pub refresh: Option<Duration>,
    /// How far the time between two loads is varied, as a part of it: 0 to [`super::REFRESH_JITTER_MAX`].
    pub refresh_jitter: f64,
    /// How to make it fetch more after each load.
    pub scroll: Option<ScrollSpec>,
}

/// How a page is scrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrollSpec {
    /// CSS of the element that scrolls; `None` is the window.
    pub selector: Option<String>,
    /// The most steps after one load.
    pub steps_max: u32,
    /// The pause between two steps.
    pub pause: Duration,
    /// CSS: scrolling ends once it exists.
    pub until: Option<String>,
}

/// How to tell whether a page is logged in, and how to log in, filled in for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSpec {
    /// CSS: logged in once it exists.
    pub logged_in: String,
    /// CSS: logged out once it exists; `None` where the page does not show it.
    pub logged_out: Option<String>,
    /// CSS of the element with the code to scan; `None` where the page shows none.
    pub code: Option<String>,
    /// CSS of what is clicked once the form is filled; `None` where a form cannot log in.
    pub submit: Option<String>,
    /// What goes into the form, in this order.
    pub fill: Vec<FillSpec>,
}

/// One field of a login form.
#[derive(Clone, PartialEq, Eq)]
pub struct FillSpec {
    /// CSS of the field.
    pub selector: String,
    /// What is typed into it: a secret, as far as anybody else is concerned.
    pub value: String,
}

impl fmt::Debug for FillSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FillSpec").field("selector", &self.selector).finish_non_exhaustive()
    }
}

/// Where a captured body comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaptureSource {
    /// The body of a response.
    Response,
    /// The data of an event of an event source.
    EventSource,
    /// A text frame of a WebSocket.
    Websocket,
    /// What a script finds in a page's own state.
    PageState,
}

/// Which bodies one rule takes. Its place in [`super::Platform::captures`] is its number for [`super::Platform::map`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureSpec {
    /// Its name, unique within the platform.
    pub name: String,
    /// Where the bodies come from.
    pub source: CaptureSource,
    /// Pattern of the URL's path; empty for page state.
    pub path: String,
    /// Glob of the URL's host, in lower case; `None` is any.
    pub host: Option<String>,
    /// Which methods of a response's request, in capitals; empty is any.
    pub methods: Vec<String>,
    /// Which statuses of a response; empty is any 2xx.
    pub status: Vec<u16>,
    /// What a response's content type begins with; `None` is any.
    pub content_type: Option<String>,
    /// The text of page state's script; `None` for every other source.
    pub script: Option<String>,
    /// On which pages page state's script runs; empty is all.
    pub pages: Vec<String>,
    /// How often page state's script runs.
    pub every: Duration,
}
