//! What a changing request brings: JSON of a bounded size, said to be JSON, and from no other site's page.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, header};
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// The body as a `T`.
pub(crate) struct InBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for InBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::NotJson);
        }
        let read = Bytes::from_request(request, state).await;
        let bytes = read.map_err(|error| {
            let too_large = error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE;
            if too_large { ApiError::TooLarge } else { ApiError::BadRequest("the body broke off".to_owned()) }
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| ApiError::BadRequest(said(&error)))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let told = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = told.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// What is wrong with a body. Where a value is wrong it is not repeated: it may be a secret.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let about_a_name =
        ["unknown field", "missing field", "duplicate field"].iter().any(|what| text.starts_with(what));
    if about_a_name {
        return format!("body: {text}");
    }
    let what = match error.classify() {
        serde_json::error::Category::Data => "a value of the wrong kind",
        _ => "not JSON",
    };
    format!("body: {what} at line {} column {}", error.line(), error.column())
}

/// Refuses what a page of another site has a browser send. Programs send neither header.
pub(crate) fn check_site(method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("(not text)"));
    if let Some(site) = text("sec-fetch-site")
        && !matches!(site, "same-origin" | "none")
    {
        return Err(ApiError::OtherSite(site.chars().take(80).collect()));
    }
    let Some(origin) = text("origin") else { return Ok(()) };
    let host = text("host").unwrap_or("");
    let ours = origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host));
    if ours && !host.is_empty() {
        Ok(())
    } else {
        Err(ApiError::OtherSite(origin.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let host = ("host", "127.0.0.1:7070");
        let checked =
            |method: &Method, more: &[(&str, &str)]| check_site(method, &headers(&[&[host], more].concat()));
        for ours in [&[][..], &[("origin", "http://127.0.0.1:7070"), ("sec-fetch-site", "same-origin")]] {
            assert!(checked(&Method::POST, ours).is_ok(), "{ours:?}");
        }
        for foreign in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:7071")],
            &[("origin", "https://127.0.0.1:7070")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:7070")],
        ] {
            assert!(checked(&Method::DELETE, foreign).is_err(), "{foreign:?}");
            assert!(checked(&Method::GET, foreign).is_ok(), "{foreign:?}");
        }
    }

    #[test]
    fn a_wrong_value_is_not_repeated() {
        let error =
            serde_json::from_str::<std::collections::BTreeMap<String, u64>>(r#"{"password":"hunter2"}"#);
        let said = said(&error.unwrap_err());
        assert!(said.contains("line 1") && !said.contains("hunter2"), "{said}");
    }
}
