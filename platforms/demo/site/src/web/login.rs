//! The login page, which the creator page's URL shows to somebody without a session: a form for name and password, or
//! a code to scan with a field for a code by SMS. And what these lead to.

use std::fmt::Write;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::{Form, Json};
use fastrand::Rng;
use serde::Deserialize;
use serde_json::json;

use super::{SESSION_COOKIE, cookie};
use crate::LoginKind;
use crate::codes::Confirmation;
use crate::site::Site;

const FORM_HTML: &str = include_str!("../../assets/login.html");
const CODE_HTML: &str = include_str!("../../assets/qr.html");
/// The cookie by which the site knows that two pages were shown to the same browser.
const VISITOR_COOKIE: &str = "demo_visitor";
/// Modules of the picture's side, and of the three marks in its corners.
const SIDE: usize = 29;
const MARK: usize = 7;
/// Empty modules around it, without which it cannot be read.
const MARGIN: usize = 4;

#[derive(Deserialize)]
pub(super) struct Login {
    username: String,
    password: String,
}

#[derive(Deserialize)]
pub(super) struct Token {
    token: String,
}

#[derive(Deserialize)]
pub(super) struct Sent {
    code: String,
}

/// The login page of this kind.
pub(super) fn page(site: &Site, kind: LoginKind, refused: bool, headers: &HeaderMap) -> Response {
    site.login_page_served();
    let no_store = (header::CACHE_CONTROL, "no-store".to_owned());
    if kind == LoginKind::Form {
        let page = FORM_HTML.replace("{{error}}", if refused { "账号或密码错误" } else { "" });
        return ([no_store], Html(page)).into_response();
    }
    let visitor =
        cookie(headers, VISITOR_COOKIE).map_or_else(|| format!("{:016x}", Rng::new().u64(..)), str::to_owned);
    let page = CODE_HTML.replace("{{token}}", &site.show_code(&visitor));
    let known = (header::SET_COOKIE, format!("{VISITOR_COOKIE}={visitor}; Path=/; HttpOnly; SameSite=Lax"));
    (AppendHeaders([no_store, known]), Html(page)).into_response()
}

pub(super) async fn log_in(site: State<Site>, login: Form<Login>) -> Response {
    match site.log_in(&login.username, &login.password) {
        Some(token) => (opened(&token), Redirect::to("/creator/inbox")).into_response(),
        None => Redirect::to("/creator/inbox?login=form&error=1").into_response(),
    }
}

/// What the page asks every moment. Whoever asks first after the scan gets the session.
pub(super) async fn code_state(site: State<Site>, asked: Query<Token>) -> Response {
    match site.redeem_code(&asked.token) {
        Confirmation::None => Json(json!({ "state": "waiting" })).into_response(),
        Confirmation::Worthless => Json(json!({ "state": "worthless" })).into_response(),
        Confirmation::By(token) => (opened(&token), Json(json!({ "state": "confirmed" }))).into_response(),
    }
}

pub(super) async fn verify(site: State<Site>, sent: Form<Sent>) -> Response {
    match site.verify(sent.code.trim()) {
        Some(token) => (opened(&token), Json(json!({ "state": "confirmed" }))).into_response(),
        None => (StatusCode::FORBIDDEN, Json(json!({ "state": "refused" }))).into_response(),
    }
}

/// The session ends with the browser; that somebody was here once is remembered for a year.
fn opened(token: &str) -> AppendHeaders<[(HeaderName, String); 2]> {
    let cookies = [
        format!("{SESSION_COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax"),
        "demo_known=1; Path=/; Max-Age=31536000; SameSite=Lax".to_owned(),
    ];
    AppendHeaders(cookies.map(|cookie| (header::SET_COOKIE, cookie)))
}

/// A picture that looks like the codes that phones scan, and differs from token to token. No phone can read it: the
/// scan is [`Site::scan`].
pub(super) async fn code(asked: Query<Token>) -> Response {
    let headers = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-store")];
    (headers, picture(&asked.token)).into_response()
}

fn picture(token: &str) -> String {
    let seed = token.bytes().fold(0_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let (mut rng, mut dark) = (Rng::with_seed(seed), String::new());
    for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
        let random = rng.bool();
        if mark(x, y).unwrap_or(random) {
            // Writing into a string cannot fail.
            let _ = write!(dark, "M{} {}h1v1h-1z", x + MARGIN, y + MARGIN);
        }
    }
    let side = SIDE + 2 * MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path d=\"{dark}\"/></svg>"
    )
}

/// Whether a module is dark where it belongs to the mark of a corner or to the gap around it.
fn mark(x: usize, y: usize) -> Option<bool> {
    let far = SIDE - MARK;
    let inside = |at: usize, from: usize| {
        let place = (at + 1).checked_sub(from)?;
        (place < MARK + 2).then_some(place)
    };
    [(0, 0), (far, 0), (0, far)].into_iter().find_map(|(left, top)| {
        let (x, y) = (inside(x, left)?, inside(y, top)?);
        // Rings around the middle: the gap, the frame, a gap, the core.
        let ring = [x, y, MARK + 1 - x, MARK + 1 - y].into_iter().min()?;
        Some(matches!(ring, 1 | 3 | 4))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_its_three_marks_and_differs_from_token_to_token() {
        let row = |y: usize| {
            (0..SIDE).map(|x| mark(x, y).map_or('?', |dark| if dark { '#' } else { '.' })).collect::<String>()
        };
        assert_eq!(row(0), "#######.?????????????.#######");
        assert_eq!(row(1), "#.....#.?????????????.#.....#");
        assert_eq!(row(2), "#.###.#.?????????????.#.###.#");
        assert_eq!(row(7), "........?????????????........");
        assert_eq!(row(28), "#######.?????????????????????");
        assert_ne!(picture("a"), picture("b"));
        assert_eq!(picture("a"), picture("a"));
    }
}
