//! The JSON Schema that is shipped for editors is the one of the code, and every platform's file names it.

use serde_json::{Value, json};
use snapfleet_worker::platform::schema;

use super::*;

fn platforms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../platforms")
}

#[test]
fn the_shipped_schema_is_the_one_of_the_code() {
    let shipped = std::fs::read_to_string(platforms().join("platform.schema.json")).unwrap();
    assert!(
        shipped == format!("{}\n", schema()),
        "write it anew: cargo run -p snapfleet-worker -- platform schema > platforms/platform.schema.json"
    );
}

#[test]
fn every_platform_names_the_schema_first() {
    let mut named = 0;
    for folder in std::fs::read_dir(platforms()).unwrap() {
        let path = folder.unwrap().path().join("platform.toml");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        assert_eq!(text.lines().next(), Some("#:schema ../platform.schema.json"), "{}", path.display());
        named += 1;
    }
    assert!(named >= 2);
}

#[test]
fn the_schema_knows_what_the_reader_knows() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let property = |path: &[&str]| {
        path.iter().fold(&schema, |at, name| {
            let at = at.get("items").unwrap_or(at);
            &at["properties"][name]
        })
    };
    let rule = &property(&["capture"])["items"];
    assert_eq!(rule["additionalProperties"], false);
    assert_eq!(rule["required"], json!(["name", "source", "filter"]));
    assert_eq!(property(&["capture", "every_ms"])["minimum"], 200);
    assert_eq!(property(&["capture", "every_ms"])["maximum"], 600_000);
    assert_eq!(property(&["capture", "page"])["minItems"], 1);
    let [by_network, by_response] = rule["allOf"].as_array().unwrap().as_slice() else { panic!("{rule}") };
    assert_eq!(by_network["if"]["properties"]["source"]["enum"], json!(["page_state"]));
    assert_eq!(by_network["then"]["required"], json!(["script"]));
    assert_eq!(by_network["else"]["required"], json!(["path"]));
    assert_eq!(by_response["else"]["properties"]["status"], false);
    assert_eq!(property(&["page", "scroll", "steps_max"])["maximum"], 1000);
    assert_eq!(property(&["page", "refresh_jitter"])["maximum"], 0.5);
    assert_eq!(property(&["schema"])["maximum"], 1);
    let sources = property(&["capture", "source"]).to_string();
    for source in ["response", "event_source", "websocket", "page_state"] {
        assert!(sources.contains(&format!("\"{source}\"")), "{source} is not in {sources}");
    }
    let about = property(&["login", "code"])["description"].as_str().unwrap();
    assert!(about.starts_with("CSS of the element with the code to scan"), "{about}");
    assert!(!schema.to_string().contains("null"), "TOML has no null");
}
