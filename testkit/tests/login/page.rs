//! The dialog of the master's page, as a person uses it in a browser: the live picture, clicks in it, typed text.

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::emulation::SetDeviceMetricsOverrideParams;
use chromiumoxide::layout::Point;
use serde_json::Value;
use snapfleet_testkit::system::System;

use super::person::{evaluate, open, wait_until};
use super::typed::stands_in_no_log;
use super::{NAME, NOTICED_WITHIN, STORED_WITHIN, logged_out_system, login_pages, logins, wait_for_state};

const WRONG: &str = "q9-never-sent";
/// Modules of the site's code on each side, its margin included.
const MODULES: usize = 37;
/// The dialog's picture as a canvas `c` of its own size, with its pixels `at(x, y)`.
const CANVAS: &str = "const i = document.querySelector('#login-picture');
    const k = Object.assign(document.createElement('canvas'), { width: i.naturalWidth, height: i.naturalHeight });
    const c = k.getContext('2d', { willReadFrequently: true });
    c.drawImage(i, 0, 0);
    const d = c.getImageData(0, 0, k.width, k.height).data;
    const at = (x, y) => [...d.slice((y * k.width + x) * 4, (y * k.width + x) * 4 + 3)];";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_the_code_takes_a_click_and_a_text_and_closes_once_logged_in() {
    let system = logged_out_system().await;
    let profile = tempfile::tempdir().unwrap();
    let (mut browser, page) = open(&format!("{}/?lang=en", system.master_url()), profile.path()).await;
    let button = "document.querySelector('button[data-login=\"demo.shop-a\"]')";
    wait_until(&page, "the page offers to log in", &format!("Boolean({button})")).await;
    evaluate(&page, &format!("{button}.click()")).await;
    wait_until(&page, "the dialog shows a picture", &shown("i.className === 'code'")).await;
    let loads = login_pages(&system).await;
    shows_the_code(&system, &page).await;

    evaluate(&page, "document.querySelector('#login-tab-page').click()").await;
    wait_until(
        &page,
        "the picture is the whole page's",
        &shown("i.className === '' && i.naturalWidth > 600"),
    )
    .await;
    let red = format!(
        "(() => {{ {CANVAS} let n = 0;
        for (let p = 0; p < d.length; p += 4) n += d[p] > 150 && d[p + 1] < 90 && d[p + 2] < 90;
        return n > 40; }})()"
    );
    assert_eq!(evaluate(&page, &red).await, Some(false.into()), "an error shows before anything was typed");
    let field = field_of_the_code(&system, &browser, &page).await;
    let loads = loads + 1;
    click_in_picture(&page, field).await;
    type_text(&page, WRONG).await;
    wait_until(&page, "the site's error shows in the picture", &red).await;
    assert_eq!((logins(&system).await, login_pages(&system).await), (0, loads));

    let sent = system.control(&format!("{NAME}/sms")).await;
    let code = sent["code"].as_str().unwrap();
    click_in_picture(&page, field).await;
    for _ in 0..WRONG.len() {
        evaluate(&page, "document.querySelector('[data-key=backspace]').click()").await;
    }
    wait_until(&page, "all is typed", "document.querySelector('#login-dialog').ariaBusy !== 'true'").await;
    type_text(&page, code).await;
    wait_until(&page, "the dialog closes by itself", "!document.querySelector('#login-dialog').open").await;
    wait_for_state(&system, "capturing", NOTICED_WITHIN).await;
    wait_until(&page, "the page offers no login any more", &format!("!{button}")).await;
    assert_eq!((logins(&system).await, login_pages(&system).await), (1, loads));
    system.wait_for_equality(STORED_WITHIN).await;
    for text in [WRONG, code] {
        stands_in_no_log(&system, text);
    }
    let _ = browser.close().await;
    let _ = browser.wait().await;
}

/// A script that tells whether the dialog's picture `i` is loaded and more.
fn shown(more: &str) -> String {
    format!(
        "(() => {{ const i = document.querySelector('#login-picture');
        return Boolean(i && !i.hidden && i.complete && i.naturalWidth) && {more}; }})()"
    )
}

/// The picture is the code that the site shows now, module by module.
async fn shows_the_code(system: &System, page: &Page) {
    let token = system.site_control().login_page(NAME).await["token"].as_str().unwrap().to_owned();
    let url = format!("{}/creator/qr.svg?token={token}", site_url(system));
    let svg = reqwest::get(url).await.unwrap().text().await.unwrap();
    let dark: Vec<(usize, usize)> = svg
        .split('M')
        .filter_map(|module| {
            module.strip_suffix("h1v1h-1z").or(module.split_once("h1v1h-1z").map(|cut| cut.0))
        })
        .filter_map(|place| place.split_once(' '))
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect();
    assert!((300..600).contains(&dark.len()), "{} dark modules", dark.len());
    let modules = format!(
        "(() => {{ {CANVAS} const side = k.width / {MODULES}, found = [];
        for (let y = 0; y < {MODULES}; y++) for (let x = 0; x < {MODULES}; x++)
            if (at(Math.floor((x + 0.5) * side), Math.floor((y + 0.5) * side))[0] < 128) found.push([x, y]);
        return found; }})()"
    );
    let found: Vec<(usize, usize)> = serde_json::from_value(evaluate(page, &modules).await.unwrap()).unwrap();
    let sorted = |mut modules: Vec<(usize, usize)>| {
        modules.sort_unstable();
        modules
    };
    assert_eq!(sorted(found), sorted(dark), "the picture is another code");
}

/// Where a person sees the field for the code: its middle, in pixels of the login page, which is looked up in a
/// window of the same size.
async fn field_of_the_code(system: &System, browser: &chromiumoxide::Browser, page: &Page) -> (f64, f64) {
    let size =
        evaluate(page, &format!("(() => {{ {CANVAS} return [k.width, k.height]; }})()")).await.unwrap();
    let own = browser.new_page("about:blank").await.unwrap();
    let (width, height) = (size[0].as_i64().unwrap(), size[1].as_i64().unwrap());
    own.execute(SetDeviceMetricsOverrideParams::new(width, height, 1.0, false)).await.unwrap();
    own.goto(format!("{}/creator/inbox", site_url(system))).await.unwrap();
    let middle = "(() => { const box = document.querySelector('#code').getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2]; })()";
    let middle = evaluate(&own, middle).await.unwrap();
    own.close().await.unwrap();
    page.bring_to_front().await.unwrap();
    (middle[0].as_f64().unwrap(), middle[1].as_f64().unwrap())
}

async fn click_in_picture(page: &Page, (x, y): (f64, f64)) {
    let place = format!(
        "(() => {{ const i = document.querySelector('#login-picture');
        i.scrollIntoView({{ block: 'center' }});
        const box = i.getBoundingClientRect();
        return [box.left + {x} * box.width / i.naturalWidth, box.top + {y} * box.height / i.naturalHeight]; }})()"
    );
    let place = evaluate(page, &place).await.unwrap();
    let point = Point { x: place[0].as_f64().unwrap(), y: place[1].as_f64().unwrap() };
    page.click(point).await.unwrap();
}

/// Types into the dialog's field, sends that, and presses Enter on the login page.
async fn type_text(page: &Page, text: &str) {
    let typing = format!(
        "(() => {{ document.querySelector('#login-text').value = {};
        document.querySelector('#login-send').click();
        const left = document.querySelector('#login-text').value;
        document.querySelector('[data-key=enter]').click();
        return left; }})()",
        Value::from(text)
    );
    assert_eq!(evaluate(page, &typing).await, Some("".into()), "what was typed stays in the field");
}

fn site_url(system: &System) -> String {
    system.demo_settings(NAME, "")["base_url"].as_str().unwrap().to_owned()
}
