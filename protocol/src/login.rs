//! Logging an account in by hand from afar: what the master asks of the holder, and the picture that it answers.
//!
//! Travels inside [`crate::Command`] and [`crate::CommandAnswer`]. What a person types may be a secret and a picture
//! may show one: neither is part of any `Debug` output.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::UnixMs;

/// The longest text that is typed at once, in bytes.
pub const LOGIN_TEXT_BYTES_MAX: usize = 1_024;
/// The largest picture, in bytes before base64: well below a broker's least `max_payload` of 1 MB with base64.
pub const LOGIN_PICTURE_BYTES_MAX: usize = 600 * 1024;
/// How long a login stays pending after somebody last looked at it or typed, in milliseconds: nothing reloads its page
/// meanwhile.
pub const LOGIN_PENDING_MS: i64 = 3 * 60 * 1000;

/// Which part of the login page is pictured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginPart {
    /// What its window shows.
    #[default]
    Page,
    /// The code to scan alone, where the platform's file says where it is (`login.code`); otherwise the page.
    Code,
}

/// A key that is pressed and let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginKey {
    /// Enter.
    Enter,
    /// Tab.
    Tab,
    /// Backspace.
    Backspace,
    /// Escape.
    Escape,
}

/// What a person does on the login page.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LoginInput {
    /// A click, in pixels of the picture of [`LoginPart::Page`].
    Click {
        /// From the left.
        x: u32,
        /// From the top.
        y: u32,
    },
    /// A text typed into what has the focus, at most [`LOGIN_TEXT_BYTES_MAX`].
    Text(String),
    /// A key.
    Key(LoginKey),
}

impl fmt::Debug for LoginInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Click { x, y } => write!(f, "Click({x}, {y})"),
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Key(key) => write!(f, "Key({key:?})"),
        }
    }
}

/// What the login page looks like.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginPicture {
    /// Which part it is.
    pub part: LoginPart,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
    /// `image/png` or `image/jpeg`.
    pub media_type: String,
    /// The picture in standard base64.
    pub base64: String,
}

impl fmt::Debug for LoginPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "LoginPicture({:?}, {}x{}, {} bytes)",
            self.part,
            self.width,
            self.height,
            self.base64.len()
        )
    }
}

/// How an account's login stands at its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginScene {
    /// Whether the account is logged in. There is no picture then.
    pub logged_in: bool,
    /// Since when, by the worker's clock; `None` while nothing is known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMs>,
    /// Why it is logged out, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The page's name in the platform's file.
    pub page: String,
    /// Until when nothing reloads the page, unless somebody looks or types again; `None` where no login is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_until: Option<UnixMs>,
    /// Whether the page shows a code to scan right now.
    #[serde(default)]
    pub has_code: bool,
    /// What it looks like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<LoginPicture>,
}
