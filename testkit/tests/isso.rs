//! A real application that others wrote: what happens in Isso reaches the store through its own JavaScript client in a
//! real page, and equals the rows of Isso's own database, field by field, and what is gone from there is deleted here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "isso/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use server::Isso;
use snapfleet_testkit::system::{Setup, System};
use snapfleet_testkit::{TestBroker, eventually};

const DEADLINE: Duration = Duration::from_secs(120);
const ACCOUNT: &str = "isso.guestbook";

/// The fields of each comment by its id; those that are not known are left out.
type Comments = BTreeMap<String, Map<String, Value>>;

/// What the store should hold for a row of Isso's database. What somebody wrote in a comment that was deleted is gone
/// from the row and stays in the store, so it is not compared.
fn expected(row: &Value, rows: &[Value]) -> Map<String, Value> {
    let is_shown = |row: &&Value| row["mode"] != 2;
    let replies = rows.iter().filter(is_shown).filter(|reply| reply["parent"] == row["id"]).count();
    let deleted = row["mode"] == 4;
    let written = |value: &Value| if deleted { Value::Null } else { value.clone() };
    let direction = if row["email"] == "shop@example.com" { "outbound" } else { "inbound" };
    let fields = json!({
        "content_id": row["uri"],
        "direction": direction,
        "parent_id": row["parent"],
        "author_name": written(&row["author"]),
        "text": written(&row["text"]),
        "created_at": row["created_ms"],
        "edited_at": row["modified_ms"],
        "like_count": row["likes"],
        "reply_count": if row["parent"].is_null() { json!(replies) } else { Value::Null },
        "deleted": if deleted { json!(true) } else { Value::Null },
    });
    known(fields)
}

fn known(fields: Value) -> Map<String, Value> {
    fields.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// The database's comments that everybody can see, and its threads.
fn in_database(isso: &Isso) -> (Comments, Vec<Value>) {
    let tables = isso.rows();
    let rows = tables["comments"].as_array().unwrap();
    let shown = rows.iter().filter(|row| row["mode"] != 2);
    let comments: Comments =
        shown.map(|row| (row["id"].as_str().unwrap().to_owned(), expected(row, rows))).collect();
    let threads = tables["threads"].as_array().unwrap().iter().map(|thread| {
        let count = comments.values().filter(|comment| comment["content_id"] == thread["uri"]).count();
        json!({ "id": thread["uri"], "title": thread["title"], "url": isso.page_url, "comment_count": count })
    });
    let threads = threads.collect();
    (comments, threads)
}

/// The store's comments, all their fields, and its contents.
async fn in_store(system: &System) -> Option<(Comments, Vec<Value>)> {
    let page = system.try_api(&format!("comments?account={ACCOUNT}&limit=500")).await?;
    let fields = |row: &Value| {
        let mut row = row.as_object().unwrap().clone();
        row.retain(|name, _| {
            !["account", "kind", "id", "first_seen_at", "updated_at"].contains(&name.as_str())
        });
        row
    };
    let rows = page["items"].as_array()?.iter();
    let comments = rows.map(|row| (row["id"].as_str().unwrap().to_owned(), fields(row))).collect();
    let page = system.try_api(&format!("contents?account={ACCOUNT}&limit=500")).await?;
    let contents = page["items"].as_array()?.iter().map(|row| {
        json!({ "id": row["id"], "title": row["title"], "url": row["url"], "comment_count": row["comment_count"] })
    });
    Some((comments, contents.collect()))
}

/// What differs between database and store, a line each; those that are in the store alone must be deleted.
async fn differences(isso: &Isso, system: &System) -> Option<Vec<String>> {
    let (mut ours, contents) = in_store(system).await?;
    let (theirs, threads) = in_database(isso);
    let mut found = Vec::new();
    if contents != threads {
        found.push(format!("threads: theirs {threads:?}, ours {contents:?}"));
    }
    for (id, theirs) in &theirs {
        let mut ours = ours.remove(id).unwrap_or_default();
        if theirs.contains_key("deleted") {
            ours.retain(|name, _| name != "text" && name != "author_name");
        }
        if ours != *theirs {
            found.push(format!("comment {id}: theirs {theirs:?}, ours {ours:?}"));
        }
    }
    for (id, gone) in ours {
        if gone.get("deleted") != Some(&json!(true)) {
            found.push(format!("comment {id} is gone from the database: {gone:?}"));
        }
    }
    Some(found)
}

async fn equal(isso: &Isso, system: &System, what: &str) {
    let mut last = None;
    let waited = tokio::time::timeout(DEADLINE, async {
        loop {
            last = differences(isso, system).await;
            if last.as_ref().is_some_and(Vec::is_empty) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}: {last:#?}");
}

/// The store's comment that says this.
async fn saying(system: &System, text: &str) -> Option<Value> {
    let page = system.try_api(&format!("comments?account={ACCOUNT}&limit=500")).await?;
    page["items"].as_array()?.iter().find(|row| row["text"] == text).cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_equals_the_database_of_a_foreign_application() {
    let dir = tempfile::tempdir().unwrap();
    let isso = Isso::start(dir.path()).await;

    // Before anybody looks: a thread, edited, voted on and deleted in both ways.
    let mut question = isso.write("Is 3 < 5 & \"two\" right?", "Ann", None).await;
    let answer = isso.write("多少钱? 👍", "Shop", Some(&question)).await;
    isso.edit(&mut question, "Is 3 < 4 & \"two\" right?", "Ann <b>").await;
    isso.vote("like", &question, 2).await;
    let never_seen = isso.write("Deleted before anybody looked", "Eve", None).await;
    assert!(isso.delete(&never_seen).await, "a comment without replies is gone");
    let marked = isso.write("Deleted, with a reply", "Eve", None).await;
    let marked_reply = isso.write("A reply to what is deleted", "Bo", Some(&marked)).await;
    assert!(!isso.delete(&marked).await, "a comment with replies stays");
    let goes = isso.write("Goes without replies", "Ann", None).await;
    let goes_with_reply = isso.write("Goes with replies", "Ann", None).await;
    isso.write("Stays below what goes", "Bo", Some(&goes_with_reply)).await;
    let waiting = isso.write_moderated("Please let me in", "Mallory", None).await;

    let settings = json!({ "page_url": isso.page_url, "author_hash": answer.hash });
    let setup = Setup {
        workers: vec![vec!["shop-a"]],
        events_per_minute: 0.0,
        more_accounts: vec![(ACCOUNT.to_owned(), settings)],
        ..Setup::default()
    };
    let system = System::start(TestBroker::start(), setup).await;
    // Its owner uses the page meanwhile: no load of it ever showed the comment that was taken back there, so that only the
    // answers to its writer told what it said.
    let regretted = eventually(DEADLINE, "the owner has used the page", async || {
        saying(&system, "In the page, edited").await?;
        saying(&system, "Regretted, edited").await
    });
    let regretted = regretted.await;
    equal(&isso, &system, "what was there before the page was opened").await;

    // While the page is open.
    let late = isso.write("While the page is open", "Bo", None).await;
    let number = regretted["id"].as_str().unwrap().split('-').next().unwrap();
    assert_eq!(
        number,
        late.number.to_string(),
        "isso gives a number anew, which must not make two comments one"
    );
    let mut reply = isso.write("A reply to that", "王", Some(&late)).await;
    isso.edit(&mut reply, "A better reply to that", "王").await;
    isso.edit(&mut question, "Is 3 < 5 after all?", "Ann").await;
    isso.vote("like", &question, 3).await;
    isso.vote("dislike", &late, 2).await;
    isso.vote("like", &answer, 2).await;
    assert!(isso.delete(&goes).await);
    assert!(!isso.delete(&goes_with_reply).await);
    assert!(isso.delete(&marked_reply).await, "and what was kept for it goes as well");
    isso.let_through(&waiting);
    isso.write_moderated("Still waiting", "Trudy", None).await;
    equal(&isso, &system, "what happened while the page was open").await;

    for (text, deleted) in [
        ("Goes without replies", Some(true)),
        ("Goes with replies", Some(true)),
        ("A reply to what is deleted", Some(true)),
        ("Regretted, edited", Some(true)),
        ("Stays below what goes", Some(false)),
        ("In the page, edited", Some(false)),
        ("Please let me in", Some(false)),
        ("Still waiting", None),
        ("Deleted before anybody looked", None),
    ] {
        let stored = saying(&system, text).await.map(|comment| comment["deleted"] == true);
        assert_eq!(stored, deleted, "{text}");
    }
}
