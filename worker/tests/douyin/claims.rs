//! What was expected of the records before the mapping was written, claim by claim, against every fixture that tells of
//! the record in question.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use snapfleet_protocol::Record;
use snapfleet_worker::platform::{AccountView, Request};

use crate::{NOW, douyin, folder, map, rule, state_of};

/// The claims as they were handed down.
fn claims(kind: &str) -> Map<String, Value> {
    let text = include_str!("../fixtures/douyin_expected.json");
    serde_json::from_str::<Value>(text).unwrap()[kind].as_object().unwrap().clone()
}

#[derive(Deserialize)]
struct Fixture {
    rule: String,
    request: Request,
    account: AccountView,
    body: Box<serde_json::value::RawValue>,
}

/// Every record that the fixtures give, with the fixture's name.
fn records() -> Vec<(String, Record)> {
    let (platform, mut records) = (douyin(), Vec::new());
    for entry in std::fs::read_dir(folder().join("fixtures")).unwrap() {
        let path = entry.unwrap().path();
        let fixture: Fixture = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let body = fixture.body.get().as_bytes();
        let mapped =
            platform.map(rule(&platform, &fixture.rule), &fixture.request, &fixture.account, body, NOW);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        records.extend(mapped.records.into_iter().map(|record| (name.clone(), record)));
    }
    records
}

/// Holds each claim of a kind against every record that it is about; each is about one at least.
fn hold(kind: &str, told: impl Fn(&Record) -> Option<Value>) {
    let records = records();
    for (id, claimed) in claims(kind) {
        let about = records.iter().filter(|(_, record)| record.id().as_str() == id);
        let told: Vec<_> = about.filter_map(|(fixture, record)| Some((fixture, told(record)?))).collect();
        assert!(!told.is_empty(), "{kind}: no fixture tells of {id}");
        for (fixture, told) in told {
            assert_eq!(told, claimed, "{kind} of {id} in {fixture}");
        }
    }
}

#[test]
fn every_message_is_in_the_conversation_of_its_counterpart() {
    hold("conversation_of", |record| match record {
        Record::DirectMessage(message) => Some(json!(message.conversation_id)),
        _ => None,
    });
}

#[test]
fn every_direction_is_as_expected() {
    hold("direction_of", |record| match record {
        Record::DirectMessage(message) => Some(json!(message.direction)),
        Record::Comment(comment) => Some(json!(comment.direction)),
        _ => None,
    });
}

#[test]
fn every_reply_has_its_parent_and_no_other_comment_has_one() {
    hold("parent_of", |record| match record {
        Record::Comment(comment) => Some(json!(comment.parent_id)),
        _ => None,
    });
}

#[test]
fn every_comment_is_below_its_work() {
    hold("content_of", |record| match record {
        Record::Comment(comment) => Some(json!(comment.content_id)),
        _ => None,
    });
}

/// The times as a work's and as a message's, each as the text that it is and, where it is digits, as a number.
#[test]
fn every_time_is_read_in_every_place() {
    let platform = douyin();
    for (time, claimed) in claims("times") {
        let number = time.parse::<i64>().ok().map(Value::from);
        for written in std::iter::once(Value::from(time.clone())).chain(number) {
            let works =
                json!({"status_code": 0, "item_info_list": [{"item_id_plain": "1", "create_time": written}]});
            let rows = json!({"messages": [{"serverId": "1", "conversationId": "c", "isFromMe": false, "secSender": "s",
                "type": 7, "content": {"text": "x"}, "createdAt": written}]});
            let work = map(&platform, "items", &Request::default(), works.to_string().as_bytes());
            let message = map(&platform, "chat_rows", &state_of("chat"), rows.to_string().as_bytes());
            for mapped in [work, message] {
                assert_eq!((mapped.error, mapped.refused.len(), mapped.unknown_times), (None, 0, 0));
                let [record] = &mapped.records[..] else { panic!("not one record of {written}") };
                assert_eq!(json!(record.time()), claimed, "{written}");
            }
        }
    }
}

#[test]
fn no_record_of_the_old_shape_has_an_id_of_todays_and_none_is_in_a_thread_of_todays() {
    let is_old = |id: &str| id.starts_with('@');
    let mut seen = (0, 0);
    for (fixture, record) in records() {
        let Record::Comment(comment) = record else { continue };
        let old = fixture.contains("_v1");
        assert_eq!(is_old(comment.id.as_str()), old, "{fixture}");
        let content = comment.content_id.as_str();
        assert_eq!(is_old(content) || content.starts_with("of-comment:@"), old, "{fixture}: {content}");
        if old { seen.0 += 1 } else { seen.1 += 1 }
    }
    assert!(seen.0 > 3 && seen.1 > 3, "{seen:?}");
}
