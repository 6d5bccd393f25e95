//! Somebody far from the worker who logs an account in by way of the master's API.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::StatusCode;
use serde_json::{Value, json};
use snapfleet_testkit::system::System;

use super::ACCOUNT;

/// The least size of a picture with something on it, in bytes.
const BYTES_MIN: usize = 400;

pub(crate) struct Afar {
    url: String,
    http: reqwest::Client,
}

impl Afar {
    pub(crate) fn of(system: &System) -> Self {
        let url = format!("{}/api/v1/accounts/{ACCOUNT}/login", system.master_url());
        Self { url, http: reqwest::Client::new() }
    }

    /// Looks at a part of the login page.
    pub(crate) async fn look(&self, part: &str) -> Value {
        Self::answer(self.http.get(format!("{}?part={part}", self.url))).await
    }

    /// Types a text.
    pub(crate) async fn text(&self, text: &str) -> Value {
        Self::answer(self.http.post(&self.url).json(&json!({ "text": text }))).await
    }

    /// Presses a key.
    pub(crate) async fn key(&self, key: &str) -> Value {
        Self::answer(self.http.post(&self.url).json(&json!({ "key": key }))).await
    }

    /// Goes away.
    pub(crate) async fn leave(&self) -> Value {
        Self::answer(self.http.delete(&self.url)).await
    }

    async fn answer(request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.expect("the master answers");
        let (status, scene) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{scene}");
        scene
    }
}

/// The width and height of a scene's picture of this part, which must be what the picture itself says.
pub(crate) fn picture(scene: &Value, part: &str) -> (u32, u32) {
    let picture = &scene["picture"];
    assert_eq!(picture["part"], part, "another part, or no picture: {scene}");
    let bytes = BASE64_STANDARD.decode(picture["base64"].as_str().unwrap()).unwrap();
    assert!(bytes.len() >= BYTES_MIN, "a picture of {} bytes", bytes.len());
    let size = match picture["media_type"].as_str().unwrap() {
        "image/png" => png_size(&bytes),
        "image/jpeg" => jpeg_size(&bytes),
        other => panic!("{other} is no picture"),
    };
    let size = size.expect("the picture is what its media type says");
    assert_eq!(
        (picture["width"].as_u64(), picture["height"].as_u64()),
        (Some(size.0.into()), Some(size.1.into()))
    );
    size
}

fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    Some((number(0)?, number(4)?))
}

/// The size in the frame header of a JPEG, behind segments of other kinds.
fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    loop {
        let [0xff, kind, high, low, body @ ..] = rest else { return None };
        if matches!(kind, 0xc0..=0xc2) {
            let number =
                |at: usize| Some(u32::from(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?])));
            return Some((number(3)?, number(1)?));
        }
        rest = rest.get(2 + usize::from(u16::from_be_bytes([*high, *low]))..)?;
    }
}
