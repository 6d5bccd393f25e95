use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl";

fn redactor() -> Redactor {
    Redactor::new(&[]).unwrap()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(&redactor().text(text)).unwrap()
}

#[test]
fn secret_fields_keep_their_type_and_everything_else_its_letters() {
    let text = r#"{"item_id":7351234567890123456789, "msToken":"abc","n":1.50,"a":[{"Access_Token":12},{"csrf":{"x":["y",2,true,null],"":"z"}}],"uid":"u1"}"#;
    assert_eq!(
        redactor().text(text),
        r#"{"item_id":7351234567890123456789, "msToken":"[removed]","n":1.50,"a":[{"Access_Token":0},{"csrf":{"x":["[removed]",0,true,null],"":"[removed]"}}],"uid":"u1"}"#
    );
    for ids in
        [r#"{"id":"1","cid":2,"sec_uid":"x","conversation_id":"a:b","ticket_id":9,"session_list":[]}"#, ""]
    {
        assert_eq!(redactor().text(ids), ids);
    }
}

#[test]
fn json_within_json_is_followed_and_what_is_too_deep_is_removed() {
    let inner = json!({ "text": "hi", "password": "hunter2" }).to_string();
    let clean = json_of(&json!({ "content": inner, "plain": "{\"a\"" }).to_string());
    let clean_inner: Value = serde_json::from_str(clean["content"].as_str().unwrap()).unwrap();
    assert_eq!(clean_inner, json!({ "text": "hi", "password": REMOVED }));
    let mut deep = json!({ "password": "hunter2" }).to_string();
    for _ in 0..NESTED_MAX + 2 {
        deep = json!({ "deeper": deep }).to_string();
    }
    assert!(!redactor().text(&deep).contains("hunter2"));
    let half = r#"{"a":"{\"x\":\"\ud83d\",\"token\":\"hunter2\"}"}"#;
    assert!(!redactor().text(half).contains("hunter2"), "half a character hides nothing");
}

#[test]
fn parameters_of_addresses_forms_and_cookies_are_removed() {
    for (text, clean) in [
        (
            "https://a.example/x?id=7&msToken=abc&n=1#sid=9",
            "https://a.example/x?id=7&msToken=[removed]&n=1#sid=[removed]",
        ),
        ("https://ann:hunter2@a.example:8/x", "https://a.example:8/x"),
        ("user=ann&password=hunter2", "user=ann&password=[removed]"),
        ("demo_x=1; sessionid=abc; uid=7", "demo_x=1; sessionid=[removed]; uid=7"),
        ("wss://a.example/ws?access%5Ftoken=abc", "wss://a.example/ws?access%5Ftoken=[removed]"),
        ("/x?q=a%20b", "/x?q=a%20b"),
        ("a=b=c==", "a=b=c=="),
        ("1 = 2, token = 3?", "1 = 2, token = 3?"),
    ] {
        assert_eq!(redactor().text(text), clean);
    }
    let next = redactor().text("https://a.example/?next=https%3A%2F%2Fb.example%2F%3Ftoken%3Dabc%26id%3D7");
    assert!(!next.contains("abc") && next.contains("id%3D7"), "{next}");
    let shared = json_of(r#"{"share_url":"https://a.example/v/7?x-signature=abc&ticket=z"}"#);
    assert_eq!(shared["share_url"], "https://a.example/v/7?x-signature=[removed]&ticket=[removed]");
}

#[test]
fn values_that_look_like_tokens_are_removed_wherever_they_stand() {
    let clean =
        redactor().text(&format!(r#"{{"a":"x {JWT} y","b":"Bearer abcdefgh12","c":"a bearer of news"}}"#));
    assert_eq!(clean, r#"{"a":"x [removed] y","b":"Bearer [removed]","c":"a bearer of news"}"#);
    assert_eq!(redactor().text(&format!("/v/{JWT}/x")), "/v/[removed]/x");
    assert_eq!(
        redactor().text(&format!("cb({{\"token\":\"x\"}}); // {JWT}")),
        "cb({\"token\":\"[removed]\"}); // [removed]"
    );
}

#[test]
fn known_values_are_removed_however_they_are_written() {
    let mut redactor = redactor();
    redactor.add_literal("p\"ä s/1");
    redactor.add_literal("123456");
    redactor.add_literal("");
    let quoted =
        json!({ "greeting": "hello p\"ä s/1!", "n": 9_123_456_i64, "m": 12, "p\"ä s/1": 1 }).to_string();
    let nested = json!({ "inner": quoted, "url": "/x?q=p%22%C3%A4+s%2F1" }).to_string();
    let clean = redactor.text(&nested);
    assert!(!redactor.holds_literal(&clean), "{clean}");
    let clean: Value = serde_json::from_str(&clean).unwrap();
    let inner: Value = serde_json::from_str(clean["inner"].as_str().unwrap()).unwrap();
    assert_eq!(inner, json!({ "greeting": "hello [removed]!", "n": 0, "m": 12, "[removed]": 1 }));
}

#[test]
fn more_names_can_be_given_but_not_all() {
    let redactor = Redactor::new(&["Internal_*".into()]).unwrap();
    assert_eq!(
        redactor.text(r#"{"internal_key":"x","other":"y"}"#),
        r#"{"internal_key":"[removed]","other":"y"}"#
    );
    assert!(Redactor::new(&["*".into()]).is_err() && Redactor::new(&[String::new()]).is_err());
}

#[test]
fn hostile_texts_end_soon() {
    let redactor = redactor();
    for text in ["eyJ".repeat(300_000), "=%25".repeat(100_000), format!("a=%{}", "25".repeat(200_000))] {
        drop(redactor.text(&text));
    }
    drop(redactor.text(&format!("{{\"token\":{}", "[".repeat(500_000))));
    drop(redactor.text(&"\"".repeat(500_001)));
}

proptest! {
    #[test]
    fn any_text_is_taken(text in any::<String>()) {
        drop(redactor().text(&text));
    }

    #[test]
    fn what_resembles_json_is_taken(text in r#"[\[\]{}:,"\\ue0-9a token=%&;\n]{0,60}"#) {
        drop(redactor().text(&text));
    }
}
