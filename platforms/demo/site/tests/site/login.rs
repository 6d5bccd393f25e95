//! The login page with a code to scan and a code by SMS, as its script and the owner's phone use it.

use reqwest::Response;
use serde_json::{Value, json};
use snapfleet_demo_site::{Config, LoginKind};

use super::client::{Client, Running};

/// A site that shows codes to scan.
async fn site(valid_s: u32) -> Running {
    let config = Config::for_tests(&["shop-a", "shop-b"], 7);
    Running::start(Config { login: LoginKind::Qr, qr_valid_s: valid_s, ..config }).await
}

/// A visitor's first look at the login page: the visitor, with the cookie by which it is known, and the page.
async fn visit(site: &Running) -> (Client, String) {
    let mut visitor = Client { base: site.base.clone(), cookie: String::new() };
    let answer = visitor.get("/creator/inbox").await;
    visitor.cookie = cookie(&answer).expect("a visitor's cookie");
    (visitor, answer.text().await.unwrap())
}

fn cookie(answer: &Response) -> Option<String> {
    Some(answer.headers().get("set-cookie")?.to_str().unwrap().split(';').next().unwrap().to_owned())
}

fn token(page: &str) -> String {
    page.split("data-token=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

async fn state(visitor: &Client, token: &str) -> (Value, Option<String>) {
    let answer = visitor.get(&format!("/creator/qr/state?token={token}")).await;
    let cookie = cookie(&answer);
    (answer.json::<Value>().await.unwrap()["state"].clone(), cookie)
}

async fn verify(site: &Running, code: &str) -> (u16, Option<String>) {
    let request = reqwest::Client::new().post(format!("{}/creator/verify", site.base));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(format!("code={code}")).send().await.unwrap();
    (answer.status().as_u16(), cookie(&answer))
}

#[tokio::test]
async fn a_scanned_code_logs_in_once_and_an_earlier_one_is_worth_nothing() {
    let site = site(120).await;
    let (visitor, page) = visit(&site).await;
    for part in ["form id=\"login\"", "id=\"qr\"", "id=\"code\"", "id=\"verify\""] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    let (early, now) = (token(&page), token(&visitor.page().await));
    assert_ne!(early, now);
    let early_picture = visitor.get(&format!("/creator/qr.svg?token={early}")).await;
    let picture = visitor.get(&format!("/creator/qr.svg?token={now}")).await;
    assert_eq!(picture.headers()["content-type"], "image/svg+xml");
    assert_ne!(early_picture.text().await.unwrap(), picture.text().await.unwrap());

    assert_eq!(state(&visitor, &now).await, (json!("waiting"), None));
    assert_eq!(state(&visitor, &early).await, (json!("worthless"), None));
    assert_eq!(visitor.post_status(&format!("/control/shop-a/scan?token={early}")).await, 409);
    assert_eq!(visitor.post_status("/control/nobody/scan").await, 404);
    assert_eq!(visitor.post("/control/shop-b/scan").await["token"], now);
    let (confirmed, session) = state(&visitor, &now).await;
    assert_eq!(confirmed, "confirmed");
    let owner = Client { base: site.base.clone(), cookie: session.expect("a session") };
    assert!(owner.page().await.contains("id=\"owner\">shop-b"));
    assert_eq!(state(&visitor, &now).await, (json!("worthless"), None), "it logged in twice");
    let told = visitor.list("/control/shop-b/login-page").await;
    assert_eq!(told["loads"], 2, "{told}");
    let logins = site.site.logins("shop-b").unwrap();
    assert_eq!((logins.len(), logins[0].pages), (1, 1));
    assert!(site.site.logins("shop-a").unwrap().is_empty());
}

#[tokio::test]
async fn a_code_to_scan_grows_too_old_and_two_visitors_have_one_each() {
    let old = site(0).await;
    let (visitor, page) = visit(&old).await;
    assert_eq!(state(&visitor, &token(&page)).await.0, "worthless");
    assert_eq!(visitor.post_status("/control/shop-a/scan").await, 409);

    let site = site(120).await;
    let ((one, of_one), (two, of_two)) = (visit(&site).await, visit(&site).await);
    one.post(&format!("/control/shop-a/scan?token={}", token(&of_one))).await;
    assert_eq!(state(&two, &token(&of_two)).await.0, "waiting");
    assert_eq!(state(&one, &token(&of_one)).await.0, "confirmed");
}

#[tokio::test]
async fn the_last_code_by_sms_logs_in_once_and_a_wrong_one_does_not() {
    let site = site(120).await;
    let (visitor, _) = visit(&site).await;
    let sent = visitor.post("/control/shop-a/sms").await["code"].as_str().unwrap().to_owned();
    assert!(sent.len() == 6 && sent.bytes().all(|digit| digit.is_ascii_digit()), "{sent}");
    let last = visitor.post("/control/shop-a/sms").await["code"].as_str().unwrap().to_owned();
    for wrong in ["", "12", sent.as_str()] {
        assert_eq!(verify(&site, wrong).await, (403, None), "{wrong:?}");
    }
    let (status, session) = verify(&site, &last).await;
    assert_eq!(status, 200);
    let owner = Client { base: site.base.clone(), cookie: session.expect("a session") };
    assert!(owner.page().await.contains("id=\"owner\">shop-a"));
    assert_eq!(verify(&site, &last).await, (403, None), "it logged in twice");
    let told = visitor.list("/control/shop-a/login-page").await;
    assert_eq!((&told["codes"], &told["loads"]), (&json!([sent, last]), &json!(1)));
}

#[tokio::test]
async fn the_address_chooses_the_login_page_and_the_form_is_as_it_was() {
    let form = Running::start(Config::for_tests(&["shop-a"], 7)).await;
    let visitor = Client { base: form.base.clone(), cookie: String::new() };
    assert!(visitor.page().await.contains("name=\"password\""));
    let page = visitor.get("/creator/inbox?login=qr").await.text().await.unwrap();
    assert!(page.contains("id=\"qr\""), "{page}");
    let codes = site(120).await;
    assert!(codes.try_log_in("shop-a", "wrong").await.is_none());
    assert!(codes.log_in("shop-a").await.page().await.contains("id=\"owner\">shop-a"));
    let visitor = Client { base: codes.base.clone(), cookie: String::new() };
    let page = visitor.get("/creator/inbox?login=form&error=1").await.text().await.unwrap();
    assert!(page.contains("name=\"password\"") && page.contains("密码错误"), "{page}");
}
