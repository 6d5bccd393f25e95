//! What becomes of an account whose lease is in doubt, lost, or whose persons are erased, on a real broker.

use std::sync::Arc;
use std::time::Duration;

use snapfleet_protocol::stream::SNAPSHOTS;
use snapfleet_protocol::{AccountState, Erasure, Erasures, PersonHash, Record, SnapshotKind, Topic};
use snapfleet_testkit::{eventually, sample};
use snapfleet_worker::fleet::gate::{Gate, Moment};
use snapfleet_worker::roster::now;

use super::rig::*;

/// A gate that opens and shuts as heartbeats are stored or not.
fn open_gate() -> Gate {
    let gate = Gate::new();
    gate.renewed(Moment::now());
    gate
}

#[tokio::test]
async fn a_lease_in_doubt_publishes_nothing_but_goes_on_listening() {
    let (server, master) = broker().await;
    let (account, dir, gate) = (sample::account("demo.a"), tempfile::tempdir().unwrap(), open_gate());
    let worker = Running::with_grant(&server.url(), &account, "one", dir.path(), grant(7, &gate)).await;
    worker.see(vec![comment(1)]).await;
    wait_until_told(&master, &account, &["c1"]).await;
    gate.shut();
    worker.see(vec![comment(2)]).await;
    eventually(DEADLINE, "it is shown as cut off, with one record pending", async || {
        let health = &worker.roster.all()[0];
        (health.state == AccountState::CutOff && health.pending == 1).then_some(())
    })
    .await;
    assert_eq!(worker.steering.epoch(), None, "its pages are driven");
    let before = stored(&master, &account).await.len();
    // More than an interval: with a grant it would have been published twice over.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(stored(&master, &account).await.len(), before);
    gate.renewed(Moment::now());
    worker.grants.send_replace(Some(grant(40, &gate)));
    wait_until_told(&master, &account, &["c1", "c2"]).await;
    let all = stored(&master, &account).await;
    assert_nothing_twice(&all);
    let epochs: Vec<u64> = all.iter().map(|(_, snapshot)| snapshot.epoch).collect();
    assert_eq!((epochs[0], epochs[epochs.len() - 1]), (7, 40), "an epoch is at least its lease's sequence");
    assert_eq!(worker.steering.epoch(), Some(40));
    worker.stop().await;
}

/// What was seen while another holder published newer records only adds to them.
#[tokio::test]
async fn what_was_heard_while_somebody_else_held_the_account_adds_but_never_overwrites() {
    let (server, master) = broker().await;
    let (account, dir, gate) = (sample::account("demo.a"), tempfile::tempdir().unwrap(), open_gate());
    let edited = |text: &str| Record::Comment(sample::comment(1, 1, text));
    let (old_dir, new_dir) = (dir.path().join("old"), dir.path().join("new"));
    let old = Running::with_grant(&server.url(), &account, "old", &old_dir, grant(1, &gate)).await;
    old.see(vec![comment(1)]).await;
    wait_until_told(&master, &account, &["c1"]).await;
    gate.shut();
    old.see(vec![edited("older edit"), comment(2)]).await;
    eventually(DEADLINE, "two records wait", async || (old.roster.all()[0].pending == 2).then_some(())).await;
    let new = Running::start(&server.url(), &account, "new", &new_dir).await;
    new.see(vec![edited("newer edit")]).await;
    let newest = async || {
        let all = stored(&master, &account).await;
        let comments = all.into_iter().flat_map(|(_, snapshot)| snapshot.comments);
        let mut texts: Vec<_> = comments.filter(|comment| comment.id.as_str() == "c1").collect();
        texts.pop().and_then(|comment| comment.text)
    };
    eventually(DEADLINE, "the edit is there", async || {
        (newest().await.as_deref() == Some("newer edit")).then_some(())
    })
    .await;
    new.stop().await;
    gate.renewed(Moment::now());
    old.grants.send_replace(Some(grant(9, &gate)));
    wait_until_told(&master, &account, &["c1", "c2"]).await;
    old.stop().await;
    assert_eq!(newest().await.as_deref(), Some("newer edit"));
}

/// The holder's window would bring an erased person back with its next full.
#[tokio::test]
async fn an_erased_persons_records_leave_the_window_and_are_not_taken_in_again() {
    let (server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let by = |author: &str, number| {
        let mut comment = sample::comment(1, number, "text");
        comment.author_id = Some(sample::id(author));
        Record::Comment(comment)
    };
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    worker.see(vec![by("ann", 1), by("bob", 2)]).await;
    wait_for(&master, &account, SnapshotKind::Full, &["c1", "c2"]).await;
    let mut erasures = Erasures::new(account.clone());
    erasures.insert(Erasure { person: PersonHash::of(&account, &sample::id("ann")), at: now() });
    worker.erasures.send_replace(Arc::new(erasures));
    eventually(DEADLINE, "one record is left", async || (worker.roster.all()[0].window == 1).then_some(()))
        .await;
    let subject = Topic::Snapshot.subject(&account);
    let stream = master.jetstream().get_stream(SNAPSHOTS).await.unwrap();
    stream.purge().filter(subject).await.unwrap();
    worker.see(vec![by("ann", 1), by("bob", 2), by("bob", 3)]).await;
    wait_until_told(&master, &account, &["c2", "c3"]).await;
    worker.stop().await;
}
