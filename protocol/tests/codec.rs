//! The wire format: what was ever published stays readable, and no bytes panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use snapfleet_protocol::codec::{
    COMPRESS_ABOVE_BYTES, EncodeError, LIST_ENTRIES_MAX, RECORDS_MAX, UNPACKED_BYTES_MAX,
};
use snapfleet_protocol::{
    AccountName, Comment, Content, ContentType, Conversation, ConversationType, DecodeError, DirectMessage,
    Direction, InstanceId, MessageType, Metrics, Notification, NotificationType, PlatformName, RecordId,
    Snapshot, SnapshotId, SnapshotKind, UnixMs, decode_snapshot, encode_snapshot,
};

fn id(text: &str) -> RecordId {
    RecordId::parse(text).unwrap()
}

fn empty(kind: SnapshotKind) -> Snapshot {
    Snapshot {
        platform: PlatformName::parse("demo").unwrap(),
        account: AccountName::parse("shop-a").unwrap(),
        instance: InstanceId::parse("0123456789abcdef").unwrap(),
        epoch: 7,
        seq: 42,
        kind,
        part: 1,
        parts: 1,
        captured_at: UnixMs(1_790_812_800_000),
        contents: Vec::new(),
        comments: Vec::new(),
        conversations: Vec::new(),
        direct_messages: Vec::new(),
        notifications: Vec::new(),
    }
}

/// One record of each kind, each with every field set.
fn everything() -> Snapshot {
    let at = Some(UnixMs(1_790_812_800_123));
    let text = |text: &str| Some(text.to_owned());
    Snapshot {
        contents: vec![Content {
            content_type: Some(ContentType::Video),
            title: text("新品 🎉"),
            description: text("description"),
            url: text("https://example.test/w"),
            cover_url: text("https://example.test/c.jpg"),
            duration_ms: Some(15_000),
            author_id: Some(id("owner")),
            author_name: text("Owner"),
            published_at: at,
            view_count: Some(i64::MAX),
            like_count: Some(1),
            comment_count: Some(2),
            share_count: Some(3),
            favorite_count: Some(4),
            media_urls: vec!["https://example.test/v.mp4".to_owned()],
            deleted: true,
            ..Content::new(id("7123456789012345678"))
        }],
        comments: vec![Comment {
            parent_id: Some(id("c0")),
            reply_to_id: Some(id("c00")),
            author_id: Some(id("reader")),
            author_name: text("Reader"),
            author_avatar_url: text("https://example.test/a.png"),
            text: text("多少钱?"),
            created_at: at,
            edited_at: at,
            like_count: Some(5),
            reply_count: Some(6),
            image_urls: vec!["https://example.test/i.png".to_owned()],
            deleted: true,
            ..Comment::new(id("c1"), id("7123456789012345678"), Direction::Inbound)
        }],
        conversations: vec![Conversation {
            conversation_type: Some(ConversationType::Group),
            counterpart_id: Some(id("u1")),
            name: text("Ann"),
            avatar_url: text("https://example.test/u.png"),
            unread_count: Some(1),
            last_message_text: text("hi"),
            last_message_at: at,
            deleted: true,
            ..Conversation::new(id("v1"))
        }],
        direct_messages: vec![DirectMessage {
            sender_id: Some(id("u1")),
            sender_name: text("Ann"),
            message_type: Some(MessageType::Other("sticker".to_owned())),
            text: text("hi"),
            media_url: text("https://example.test/m.webp"),
            sent_at: at,
            edited_at: at,
            reply_to_id: Some(id("m0")),
            recalled: true,
            ..DirectMessage::new(id("m1"), id("v1"), Direction::Outbound)
        }],
        notifications: vec![Notification {
            notification_type: Some(NotificationType::Like),
            actor_id: Some(id("u2")),
            actor_name: text("Bo"),
            content_id: Some(id("7123456789012345678")),
            comment_id: Some(id("c1")),
            text: text("liked"),
            created_at: at,
            ..Notification::new(id("n1"))
        }],
        ..empty(SnapshotKind::Full)
    }
}

/// What records of version 1 gained later: fields that an older reader passes over.
fn added_later() -> Snapshot {
    let everything = everything();
    let mut metrics = Metrics::default();
    for (name, figure) in [("completion_rate", 0.41), ("avg_view_second", 12.5), ("完播", -3.0)] {
        metrics.insert(name.to_owned(), figure).unwrap();
    }
    let raw = Some(r#"{"aweType":9999}"#.to_owned());
    Snapshot {
        contents: vec![Content { metrics, ..everything.contents[0].clone() }],
        direct_messages: vec![DirectMessage { raw, ..everything.direct_messages[0].clone() }],
        ..everything
    }
}

fn golden(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// To publish a new version, add files beside these; never write one of these again.
#[test]
fn bytes_of_version_1_stay_readable_and_are_still_written() {
    for (name, snapshot) in [
        ("v1-claim.msgpack", empty(SnapshotKind::Claim)),
        ("v1-full.msgpack", everything()),
        ("v1-raw-metrics.msgpack", added_later()),
    ] {
        assert_eq!(decode_snapshot(&golden(name)).unwrap(), snapshot, "{name}");
    }
    assert_eq!(encode_snapshot(&empty(SnapshotKind::Claim)).unwrap(), golden("v1-claim.msgpack"));
}

#[test]
fn large_snapshots_are_compressed_and_read_back_the_same() {
    let mut snapshot = empty(SnapshotKind::Delta);
    for number in 0..2_000 {
        let record = Comment { text: Some("很好".repeat(20)), ..everything().comments[0].clone() };
        snapshot.comments.push(Comment { id: id(&format!("c{number}")), ..record });
    }
    let bytes = encode_snapshot(&snapshot).unwrap();
    assert!(bytes.len() > COMPRESS_ABOVE_BYTES && bytes.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]));
    assert_eq!(decode_snapshot(&bytes).unwrap(), snapshot);
}

#[test]
fn unknown_fields_of_a_later_minor_are_passed_over() {
    let mut value: serde_json::Value = serde_json::to_value(empty(SnapshotKind::Delta)).unwrap();
    value["a_field_of_tomorrow"] = serde_json::json!({ "x": [1, 2, 3] });
    let bytes = rmp_serde::to_vec_named(&value).unwrap();
    assert_eq!(decode_snapshot(&bytes).unwrap(), empty(SnapshotKind::Delta));
}

#[test]
fn what_breaks_the_contract_is_refused() {
    let encode = |snapshot: &Snapshot| encode_snapshot(snapshot).unwrap();
    let mut trailing = encode(&empty(SnapshotKind::Claim));
    trailing.push(0xC0);
    assert!(matches!(decode_snapshot(&trailing), Err(DecodeError::TrailingBytes(1))));
    for broken in [
        Snapshot { part: 0, ..empty(SnapshotKind::Delta) },
        Snapshot { part: 3, parts: 2, ..empty(SnapshotKind::Delta) },
        Snapshot { epoch: 0, ..empty(SnapshotKind::Delta) },
        Snapshot { kind: SnapshotKind::Claim, ..everything() },
    ] {
        assert!(matches!(decode_snapshot(&encode(&broken)), Err(DecodeError::Contract(_))), "{broken:?}");
    }
    let bad_name = rmp_serde::to_vec_named(&serde_json::json!({ "platform": "a.b" })).unwrap();
    assert!(matches!(decode_snapshot(&bad_name), Err(DecodeError::Deserialize(_))));
}

#[test]
fn a_compression_bomb_is_refused_at_the_limit() {
    let zeros = vec![0; UNPACKED_BYTES_MAX + 1];
    let bomb = zstd::bulk::compress(&zeros, 1).unwrap();
    assert!(bomb.len() < 100_000, "the bomb is small");
    assert!(matches!(decode_snapshot(&bomb), Err(DecodeError::TooLarge)));
}

/// What is malformed lies behind the limit: who builds the records first, and counts then, complains of that.
#[test]
fn a_bomb_of_tiny_records_or_entries_is_refused_before_it_is_built() {
    use serde_json::{Value, json};
    let records = |count: usize| vec![json!({ "id": "a" }); count];
    let then = |mut list: Vec<Value>, last: Value| {
        list.push(last);
        list
    };
    let one_list = json!({ "notifications": then(records(RECORDS_MAX + 1), json!(5)) });
    let half = RECORDS_MAX / 2 + 1;
    let two_lists = json!({ "contents": records(half), "notifications": then(records(half), json!(5)) });
    let urls = then(vec![json!(""); LIST_ENTRIES_MAX + 1], json!(5));
    let entries = json!({ "contents": [{ "id": "a", "media_urls": urls }] });
    let figures: serde_json::Map<_, _> =
        (0..=LIST_ENTRIES_MAX).map(|at| (at.to_string(), json!("x"))).collect();
    let figures = json!({ "contents": [{ "id": "a", "metrics": figures }] });
    for lists in [one_list, two_lists, entries, figures] {
        let mut bomb = serde_json::to_value(empty(SnapshotKind::Delta)).unwrap();
        bomb.as_object_mut().unwrap().extend(lists.as_object().unwrap().clone());
        let plain = rmp_serde::to_vec_named(&bomb).unwrap();
        for bytes in [zstd::bulk::compress(&plain, 1).unwrap(), plain] {
            let refused = decode_snapshot(&bytes);
            assert!(matches!(refused, Err(DecodeError::Contract(_))), "{refused:?}");
        }
    }
}

#[test]
fn as_much_as_may_be_read_can_be_written_and_no_more() {
    let content = |urls: usize| Content { media_urls: vec![String::new(); urls], ..Content::new(id("a")) };
    let mut most = empty(SnapshotKind::Full);
    most.contents = vec![content(LIST_ENTRIES_MAX)];
    most.notifications = vec![Notification::new(id("n")); RECORDS_MAX - 1];
    assert_eq!(decode_snapshot(&encode_snapshot(&most).unwrap()).unwrap(), most);
    let one_entry = Snapshot { contents: vec![content(LIST_ENTRIES_MAX + 1)], ..empty(SnapshotKind::Full) };
    most.conversations = vec![Conversation::new(id("v"))];
    for too_many in [one_entry, most] {
        assert!(matches!(encode_snapshot(&too_many), Err(EncodeError::TooMany)));
    }
}

#[test]
fn a_figure_that_is_no_finite_number_is_refused() {
    let mut snapshot = serde_json::to_value(added_later()).unwrap();
    snapshot["contents"][0]["metrics"] = serde_json::json!({ "rate": 0.5 });
    let written = |snapshot: &serde_json::Value| rmp_serde::to_vec_named(snapshot).unwrap();
    assert!(decode_snapshot(&written(&snapshot)).is_ok());
    let mut bytes = written(&snapshot);
    let at =
        bytes.windows(9).position(|eight| eight[0] == 0xCB && eight[1..] == 0.5_f64.to_be_bytes()).unwrap();
    bytes[at + 1..at + 9].copy_from_slice(&f64::NAN.to_be_bytes());
    assert!(matches!(decode_snapshot(&bytes), Err(DecodeError::Deserialize(_))));
}

#[test]
fn deep_nesting_is_refused_and_bytes_of_any_type_are_passed_over() {
    let with = |value: &[u8]| {
        let mut bytes = encode_snapshot(&empty(SnapshotKind::Delta)).unwrap();
        bytes[0] += 1; // one field more in the map
        bytes.extend([0xA1, b'x']);
        bytes.extend(value);
        decode_snapshot(&bytes)
    };
    let values: [&[u8]; 9] = [
        &[0xC0],
        &[0xC3],
        &[0xFF],
        &[0xCB, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xCA, 0, 0, 0, 0],
        &[0xC4, 1, 0xFF],
        &[0xA1, 0xFF],
        &[0xD4, 1, 2],
        &[0x81, 0x91, 1, 0x92, 1, 2],
    ];
    for value in values {
        assert_eq!(with(value).unwrap(), empty(SnapshotKind::Delta), "{value:x?}");
    }
    let deep = [vec![0x91; 100_000], vec![0xC0]].concat();
    assert!(matches!(with(&deep), Err(DecodeError::Deserialize(_))));
}

#[test]
fn message_ids_round_trip_and_differ_between_accounts() {
    let other = Snapshot { account: AccountName::parse("shop-b").unwrap(), ..empty(SnapshotKind::Delta) };
    assert_ne!(empty(SnapshotKind::Delta).id().to_string(), other.id().to_string());
    let snapshot_id = empty(SnapshotKind::Delta).id();
    assert_eq!(SnapshotId::parse(&snapshot_id.to_string()), Some(snapshot_id));
    for bad in ["", "demo", "demo.a.i.1", "demo.a.i.1.2.3", "demo.a.i.x.2", "demo.a b.i.1.2"] {
        assert_eq!(SnapshotId::parse(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = decode_snapshot(&bytes);
    }

    #[test]
    fn no_damage_to_a_snapshot_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = encode_snapshot(&everything()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        let _ = decode_snapshot(&bytes);
    }
}
