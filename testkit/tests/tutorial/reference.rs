//! The reference names what there is: keys, fields, definitions, flags, limits.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use snapfleet_testkit::process::binary;
use snapfleet_testkit::workspace;
use snapfleet_worker::normalise::{
    COMPLETE_IDS_MAX, LIST_LEN_MAX, RAW_BYTES_MAX, TEXT_BYTES_MAX, URL_BYTES_MAX,
};
use snapfleet_worker::platform::{
    BODY_BYTES_MAX, DEPTH_MAX, EVERY_MS_MAX, EVERY_MS_MIN, Limits, REFRESH_JITTER_MAX, SCRIPT_BYTES_MAX,
    SCROLL_STEPS_MAX,
};

use super::document::{ENGLISH, spans, text};

/// The rows of the table below a heading, each cell's text.
fn table(heading: &str) -> Vec<Vec<String>> {
    let all = text(ENGLISH);
    let section = all.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading:?}")).1;
    let section = section.split("\n## ").next().unwrap();
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

fn resolved<'s>(schema: &'s Value, root: &'s Value) -> &'s Value {
    let alternatives = ["anyOf", "allOf"].into_iter().find_map(|name| schema[name].as_array());
    let referred = alternatives.into_iter().flatten().chain([schema]).find_map(|one| one["$ref"].as_str());
    referred.map_or(schema, |path| root.pointer(path.trim_start_matches('#')).unwrap())
}

/// Each key with whether it is required.
fn keys(schema: &Value, root: &Value, before: &str, found: &mut BTreeSet<(String, bool)>) {
    let schema = resolved(schema, root);
    let Some(properties) = schema["properties"].as_object() else { return };
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    for (name, value) in properties {
        let key = format!("{before}{name}");
        found.insert((key.clone(), required.iter().any(|required| *required == name)));
        let within = value.get("items").unwrap_or(value);
        keys(within, root, &format!("{key}."), found);
    }
}

#[test]
fn every_key_of_the_schema_is_in_the_table_and_no_other() {
    let schema: Value = serde_json::from_str(&text("platforms/platform.schema.json")).unwrap();
    let mut known = BTreeSet::new();
    keys(&schema, &schema, "", &mut known);
    // Tables that hold the keys after their dot; `settings` alone says nothing.
    known.retain(|(key, _)| key != "settings");
    assert!(known.len() > 30, "{known:?}");
    let named: BTreeSet<_> = table("Keys of `platform.toml`")
        .iter()
        .map(|row| (row[0].trim_matches(['*', '`']).to_owned(), row[0].starts_with("**")))
        .collect();
    assert_eq!(named, known);
}

/// The fields of each kind as the contract declares them, with whether a row needs them.
fn declared() -> Vec<(String, BTreeSet<(String, bool)>)> {
    let source = text("protocol/src/records.rs");
    let mut kinds = Vec::new();
    for declaration in source.split("\nrecord! {\n").skip(1) {
        let declaration = declaration.split("\n}\n").next().unwrap();
        let (mut kind, mut section, mut fields) = (String::new(), "", BTreeSet::new());
        for line in declaration.lines().map(str::trim).filter(|line| !line.starts_with("///")) {
            if let Some(name) = line.strip_suffix(" {") {
                if kind.is_empty() {
                    kind = name.to_owned();
                } else {
                    section = name;
                }
            } else if let Some(field) = line.strip_suffix(',') {
                let name = field.split(':').next().unwrap();
                fields.insert((name.to_owned(), section == "required"));
            }
        }
        fields.insert(("id".to_owned(), true));
        kinds.push((kind, fields));
    }
    kinds
}

#[test]
fn every_field_of_every_record_is_in_the_table_and_no_other() {
    let rows = table("Rows");
    let declared = declared();
    assert_eq!((declared.len(), rows.len()), (5, 5));
    for ((kind, fields), row) in declared.iter().zip(&rows) {
        let named = |cells: &[String], required: bool| {
            let spans = cells.iter().flat_map(|cell| spans(cell));
            spans.map(|span| (span, required)).collect::<BTreeSet<_>>()
        };
        let mut told = named(&row[1..2], true);
        told.append(&mut named(&row[2..], false));
        assert_eq!(told, *fields, "{kind}");
        let snake = row[0].split('`').nth(1).unwrap().replace('_', "");
        assert_eq!(snake, kind.to_lowercase());
    }
}

#[test]
fn every_shared_definition_is_in_the_table_and_no_other() {
    let library = std::fs::read_to_string(workspace().join("platforms/lib/snapfleet.jq")).unwrap();
    let defined = library.lines().filter_map(|line| line.strip_prefix("def "));
    let defined: BTreeSet<_> =
        defined.map(|line| line.split(['(', ':']).next().unwrap().trim().to_owned()).collect();
    let named = table("Shared definitions").iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(defined, named);
}

fn help(program: &str, command: &str) -> String {
    let said = Command::new(binary(program)).args(command.split(' ')).arg("--help").output().unwrap();
    assert!(said.status.success(), "{program} {command}");
    String::from_utf8(said.stdout).unwrap()
}

/// The flags in a text.
fn flags(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    let is_flag = |word: &&str| word.len() > 3 && word.starts_with("--") && !word.starts_with("---");
    words.filter(is_flag).map(str::to_owned).collect()
}

#[test]
fn flags_that_are_named_exist_and_those_of_platform_are_named() {
    let (mut known, mut own) = (BTreeSet::new(), BTreeSet::new());
    for command in ["platform check", "platform new", "platform record", "login", "run"] {
        let found = flags(&help("snapfleet-worker", command));
        if command.starts_with("platform") {
            own.extend(found.clone());
        }
        known.extend(found);
    }
    known.extend(flags(&help("snapfleet-master", "accounts add")));
    known.extend(flags(&help("snapfleet-master", "accounts erase")));
    let named = flags(&text(ENGLISH));
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(named.len() > 10 && unknown.is_empty(), "{unknown:?}");
    // What every command has, and what reaches broker and browser, as for `run`.
    let elsewhere = flags("--help --log --nats-url --nats-user --nats-password --session-key-file --chrome");
    let unnamed: Vec<_> =
        own.iter().filter(|flag| !named.contains(*flag) && !elsewhere.contains(*flag)).collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
}

#[test]
fn limits_are_those_of_the_code() {
    let reference = text(ENGLISH);
    let limits = Limits::default();
    let mib = |bytes: usize| format!("{} MiB", bytes / 1024 / 1024);
    let thousands = |number: u64| {
        let digits = number.to_string();
        let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
        groups.join(",")
    };
    for told in [
        format!("| body | {}, JSON nested at most {DEPTH_MAX} deep |", mib(BODY_BYTES_MAX)),
        format!("| time | {} s of processor time |", limits.run_time.as_secs()),
        format!("| steps (turns of loops, elements, calls of itself) | {} |", thousands(limits.steps)),
        format!("| rows | {} |", thousands(limits.rows as u64)),
        format!("| bytes of rows | {} |", mib(limits.output_bytes)),
        format!("At most {} ids", thousands(COMPLETE_IDS_MAX as u64)),
        format!("up to {} KiB, `raw` {} KiB", TEXT_BYTES_MAX / 1024, RAW_BYTES_MAX / 1024),
        format!("up to {URL_BYTES_MAX} bytes, {LIST_LEN_MAX} in a list"),
        format!("{EVERY_MS_MIN} to {EVERY_MS_MAX}, "),
        format!("0 to {REFRESH_JITTER_MAX}, "),
        format!("at most {SCROLL_STEPS_MAX}."),
        format!("The file may have {} KiB", SCRIPT_BYTES_MAX / 1024),
    ] {
        assert!(reference.contains(&told), "the reference does not say {told:?}");
    }
}
