//! What stands around every handler: the host's name is checked, and who has a browser send a change; every answer
//! carries the headers that keep hostile content harmless.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::body::check_site;
use super::error::ApiError;

/// The page's scripts and styles are files of ours; it talks to us alone, and nobody may frame it. Its pictures are ours
/// or what its scripts made of an answer (`blob:`): the login page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Refuses requests for foreign hosts and changes from foreign pages, lets the rest through, and completes the answer's headers.
pub(crate) async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let checked = check_host(&request, state.loopback_only());
    let mut response = match checked.and_then(|()| check_site(request.method(), request.headers())) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    complete(response.headers_mut());
    response
}

fn complete(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// A browser sends the name in its address bar. A page elsewhere that points its own name at 127.0.0.1 (DNS
/// rebinding) would read everything here; its name gives it away.
fn check_host(request: &Request, loopback_only: bool) -> Result<(), ApiError> {
    if !loopback_only {
        return Ok(());
    }
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("(not text)"));
    let host = named.or_else(|| request.uri().host()).unwrap_or("");
    if is_loopback_name(host) { Ok(()) } else { Err(ApiError::WrongHost(host.chars().take(80).collect())) }
}

/// Whether `host`, with or without a port, is a name of this machine's loopback.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback_name;

    #[test]
    fn only_names_of_the_loopback_are_ours() {
        for ours in ["127.0.0.1", "127.0.0.1:7070", "localhost", "LOCALHOST:80", "[::1]:7070", "[::1]"] {
            assert!(is_loopback_name(ours), "{ours} was refused");
        }
        for foreign in [
            "",
            "evil.example",
            "evil.example:7070",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1:7070",
            "0.0.0.0",
            "user@localhost",
            "127.0.0.1:7070:1",
        ] {
            assert!(!is_loopback_name(foreign), "{foreign} was let through");
        }
    }
}
