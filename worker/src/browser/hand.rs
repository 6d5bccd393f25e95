//! A tab as somebody far away sees and uses it: its picture, and clicks, texts and keys that they send.
//!
//! Knows nothing of logins. Neither a picture nor a text is ever logged or part of an error.

use chromiumoxide::cdp::browser_protocol::input::{
    DispatchKeyEventParams, DispatchKeyEventType, DispatchMouseEventParams, DispatchMouseEventType,
    InsertTextParams, MouseButton,
};
use chromiumoxide::cdp::browser_protocol::page::{
    CaptureScreenshotFormat, CaptureScreenshotParams, Viewport,
};
use serde::Deserialize;
use serde_json::json;

use super::connection::CallError;
use super::tab::Tab;

/// The quality of a JPEG, where a PNG would be too large.
const JPEG_QUALITY: i64 = 70;
/// A small element is enlarged to about this many pixels, so that a telephone can read it off the screen.
const ELEMENT_PX: f64 = 360.0;
const SCALE_MAX: f64 = 4.0;
/// A larger element is no code to scan.
const ELEMENT_PX_MAX: f64 = 2_000.0;
/// How long one picture may take: with both formats of both parts, well below what its asker waits.
const PICTURE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(3);

/// A picture of a tab.
pub(crate) struct Picture {
    /// In pixels of the page, whatever the screen's density.
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) media_type: &'static str,
    /// In base64, as the browser gives it.
    pub(crate) base64: String,
}

/// Where an element is on its page.
#[derive(Debug, Deserialize)]
struct Place {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

#[derive(Debug, Deserialize)]
struct Window {
    width: f64,
    height: f64,
}

impl Tab {
    /// What the window shows, in at most `bytes_max` before base64; `None` where even a JPEG is larger, or
    /// the page paints nothing in time.
    pub(crate) async fn picture(&self, bytes_max: usize) -> Result<Option<Picture>, CallError> {
        let script = "({ width: innerWidth, height: innerHeight })".to_owned();
        let window: Window = self.evaluate("measure the window", script).await?;
        self.shoot((window.width, window.height), None, bytes_max).await
    }

    /// The first element that matches, alone; `None` where it is not shown.
    pub(crate) async fn picture_of(
        &self,
        selector: &str,
        bytes_max: usize,
    ) -> Result<Option<Picture>, CallError> {
        let Some(place) = self.place(selector).await? else { return Ok(None) };
        let scale = (ELEMENT_PX / place.width.max(place.height)).clamp(1.0, SCALE_MAX);
        let clip = Viewport { x: place.x, y: place.y, width: place.width, height: place.height, scale };
        self.shoot((place.width * scale, place.height * scale), Some(clip), bytes_max).await
    }

    /// Whether the first element that matches is shown.
    pub(crate) async fn is_shown(&self, selector: &str) -> Result<bool, CallError> {
        Ok(self.place(selector).await?.is_some())
    }

    async fn place(&self, selector: &str) -> Result<Option<Place>, CallError> {
        let script = format!(
            "(() => {{
                const box = document.querySelector({})?.getBoundingClientRect();
                if (!box || box.width < 1 || box.height < 1) return null;
                return {{ x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height }};
            }})()",
            json!(selector)
        );
        let place: Option<Place> = self.evaluate("find an element", script).await?;
        Ok(place.filter(|place| place.width.max(place.height) <= ELEMENT_PX_MAX))
    }

    async fn shoot(
        &self,
        (width, height): (f64, f64),
        clip: Option<Viewport>,
        bytes_max: usize,
    ) -> Result<Option<Picture>, CallError> {
        let base64_max = bytes_max.div_ceil(3) * 4;
        for (format, quality, media_type) in [
            (CaptureScreenshotFormat::Png, None, "image/png"),
            (CaptureScreenshotFormat::Jpeg, Some(JPEG_QUALITY), "image/jpeg"),
        ] {
            let mut params = CaptureScreenshotParams::builder().format(format);
            params = match quality {
                Some(quality) => params.quality(quality),
                None => params,
            };
            if let Some(clip) = clip.clone() {
                params = params.clip(clip).capture_beyond_viewport(true);
            }
            let call = self.page().execute(params.build());
            let shot = match self.browser().call_within("picture the page", PICTURE_TIMEOUT, call).await {
                // Of a document that is replaced meanwhile it never answers; the next one asks the one that came.
                Err(CallError::Timeout { .. }) => {
                    tracing::debug!(media_type, "a page is not pictured in time");
                    continue;
                }
                shot => shot?,
            };
            let base64: String = shot.result.data.into();
            if base64.len() <= base64_max {
                let (width, height) = (width.round() as u32, height.round() as u32);
                return Ok(Some(Picture { width, height, media_type, base64 }));
            }
        }
        // None is small enough, or the page paints nothing: it can be used all the same.
        Ok(None)
    }

    /// Clicks at a place of the window.
    pub(crate) async fn click_at(&self, x: u32, y: u32) -> Result<(), CallError> {
        for r#type in [DispatchMouseEventType::MousePressed, DispatchMouseEventType::MouseReleased] {
            let mut event = DispatchMouseEventParams::new(r#type, f64::from(x), f64::from(y));
            (event.button, event.click_count) = (Some(MouseButton::Left), Some(1));
            self.call("click", self.page().execute(event)).await?;
        }
        Ok(())
    }

    /// Types into whatever has the focus, key by key: a field for each digit of a code moves on at each.
    pub(crate) async fn type_text(&self, text: &str) -> Result<(), CallError> {
        let mut buffer = [0; 4];
        for letter in text.chars() {
            let typed: &str = letter.encode_utf8(&mut buffer);
            let done = if letter.is_ascii_graphic() || letter == ' ' {
                self.press(typed, 0, Some(typed)).await
            } else {
                self.call("type", self.page().execute(InsertTextParams::new(typed))).await.map(drop)
            };
            done.map_err(|error| match error {
                CallError::Refused { .. } => {
                    CallError::Refused { what: "type", reason: "the text was refused".into() }
                }
                other => other,
            })?;
        }
        Ok(())
    }

    /// Presses a key and lets it go, by its name in the DOM and its Windows key code; `text` is what it types.
    pub(crate) async fn press(&self, key: &str, code: i64, text: Option<&str>) -> Result<(), CallError> {
        for r#type in [DispatchKeyEventType::KeyDown, DispatchKeyEventType::KeyUp] {
            let text = text.filter(|_| r#type == DispatchKeyEventType::KeyDown);
            let mut event = DispatchKeyEventParams::new(r#type);
            (event.key, event.code) = (Some(key.to_owned()), Some(key.to_owned()));
            (event.windows_virtual_key_code, event.text) = (Some(code), text.map(str::to_owned));
            self.call("press a key", self.page().execute(event)).await?;
        }
        Ok(())
    }
}
