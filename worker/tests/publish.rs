//! From sightings to the stream, against a real broker that is killed, cut off and emptied meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "publish/lapse.rs"]
mod lapse;
#[path = "publish/rig.rs"]
mod rig;

use std::time::Duration;

use snapfleet_broker::ensure_streams;
use snapfleet_protocol::stream::SNAPSHOTS;
use snapfleet_protocol::{AccountState, Direction, InstanceId, Record, SnapshotKind};
use snapfleet_testkit::{Proxy, eventually, sample};
use snapfleet_worker::account::{Ended, Sighting};
use snapfleet_worker::fleet::gate::Gate;
use snapfleet_worker::publish::Publisher;
use snapfleet_worker::roster::now;

use rig::*;

#[tokio::test]
async fn a_claim_comes_first_then_what_changed_then_a_full() {
    let (server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    worker.see(vec![comment(1), comment(2)]).await;
    wait_until_told(&master, &account, &["c1", "c2"]).await;
    wait_for(&master, &account, SnapshotKind::Full, &["c1", "c2"]).await;
    worker.see(vec![comment(1), comment(3)]).await;
    wait_until_told(&master, &account, &["c1", "c2", "c3"]).await;
    worker.see(vec![comment(1), comment(2), comment(3)]).await;
    worker.stop().await;
    let all = stored(&master, &account).await;
    let kinds: Vec<_> = all.iter().map(|(_, snapshot)| snapshot.kind).collect();
    assert_eq!(kinds[0], SnapshotKind::Claim);
    assert_eq!(told(&all), ["c1", "c2", "c3"]);
    assert_nothing_twice(&all);
    let seqs: Vec<_> = all.iter().map(|(_, snapshot)| (snapshot.epoch, snapshot.seq)).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?} do not rise");
}

#[tokio::test]
async fn a_lost_ack_neither_fences_nor_doubles() {
    let (server, master) = broker().await;
    let proxy = Proxy::start(&server.address()).await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&proxy.url(), &account, "one", dir.path()).await;
    for round in 1..=3 {
        proxy.lose_answers(true);
        worker.see(vec![comment(round)]).await;
        let ids: Vec<String> = (1..=round).map(|number| format!("c{number}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        wait_until_told(&master, &account, &ids).await;
        proxy.lose_answers(false);
        proxy.cut();
        eventually(DEADLINE, "the stored publish counts as acked", async || {
            (worker.roster.all()[0].pending == 0).then_some(())
        })
        .await;
    }
    assert_eq!(worker.stop().await, Ended::Stopped);
    let all = stored(&master, &account).await;
    assert_eq!(told(&all), ["c1", "c2", "c3"]);
    assert_nothing_twice(&all);
}

#[tokio::test]
async fn a_new_holder_fences_the_old_one_and_starts_from_its_window() {
    let (server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let old = Running::start(&server.url(), &account, "old", &dir.path().join("old")).await;
    old.see(vec![comment(1)]).await;
    wait_until_told(&master, &account, &["c1"]).await;
    let new = Running::start(&server.url(), &account, "new", &dir.path().join("new")).await;
    old.see(vec![comment(2)]).await;
    assert_eq!(old.ended().await, Ended::Fenced(2));
    new.see(vec![comment(1), comment(3)]).await;
    wait_until_told(&master, &account, &["c1", "c3"]).await;
    assert_eq!(new.roster.all()[0].epoch, 2);
    new.stop().await;
}

#[tokio::test]
async fn what_was_seen_during_an_outage_arrives_after_it_and_after_a_restart() {
    let (mut server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    server.kill();
    worker.see(vec![comment(1)]).await;
    worker.see(vec![comment(2)]).await;
    eventually(DEADLINE, "two records wait", async || (worker.roster.all()[0].pending == 2).then_some(()))
        .await;
    // Gone without a word, as by kill -9: what it saw is on its disk alone.
    worker.task.abort();
    let _ = worker.task.await;
    server.restart();
    let worker = Running::start(&server.url(), &account, "two", dir.path()).await;
    wait_until_told(&master, &account, &["c1", "c2"]).await;
    server.kill();
    worker.see(vec![comment(3)]).await;
    server.restart();
    wait_until_told(&master, &account, &["c1", "c2", "c3"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_stream_made_anew_gets_everything_again() {
    let (server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    worker.see(vec![comment(1), comment(2)]).await;
    wait_for(&master, &account, SnapshotKind::Full, &["c1", "c2"]).await;
    master.jetstream().delete_stream(SNAPSHOTS).await.unwrap();
    ensure_streams(&master, 1).await.unwrap();
    worker.see(vec![comment(3)]).await;
    wait_for(&master, &account, SnapshotKind::Full, &["c1", "c2", "c3"]).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_window_over_the_brokers_limit_goes_as_one_batch() {
    let (server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    // Random text does not compress: 12 MB against a limit of 8.
    let noise = || (0..1200).map(|_| fastrand::alphanumeric()).collect::<String>();
    let records: Vec<Record> =
        (0..10_000).map(|number| Record::Comment(sample::comment(1, number, &noise()))).collect();
    worker.see(records).await;
    eventually(DEADLINE, "a full of several parts", async || {
        let all = stored(&master, &account).await;
        let parts: Vec<_> = all.iter().filter(|(_, snapshot)| snapshot.kind == SnapshotKind::Full).collect();
        let (_, first) = parts.first()?;
        assert!(first.parts > 1, "one part was enough");
        assert_eq!(parts.len(), first.parts as usize, "a batch is stored whole or not at all");
        (parts.iter().map(|(_, part)| part.comments.len()).sum::<usize>() == 10_000).then_some(())
    })
    .await;
    worker.stop().await;
}

/// The message ids of two accounts were once the same, and the broker took one's snapshot for the other's.
#[tokio::test]
async fn accounts_of_one_worker_are_not_taken_for_each_other() {
    let (server, master) = broker().await;
    let dir = tempfile::tempdir().unwrap();
    let accounts = [sample::account("demo.a"), sample::account("demo.b"), sample::account("isso.a")];
    let mut workers = Vec::new();
    for account in &accounts {
        workers.push(Running::start(&server.url(), account, "one", dir.path()).await);
    }
    for number in 1..=3 {
        for (index, worker) in workers.iter().enumerate() {
            worker.see(vec![comment(number + 10 * index as u64)]).await;
        }
        for (index, account) in accounts.iter().enumerate() {
            let ids: Vec<String> =
                (1..=number).map(|number| format!("c{}", number + 10 * index as u64)).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            wait_until_told(&master, account, &ids).await;
        }
    }
    for (worker, account) in workers.into_iter().zip(&accounts) {
        worker.stop().await;
        let all = stored(&master, account).await;
        assert_eq!(told(&all).len(), 3, "{account} tells of others' records");
        assert_nothing_twice(&all);
    }
}

/// The system that this one replaces looked healthy while nothing came.
#[tokio::test]
async fn an_account_that_captures_nothing_for_three_intervals_is_called_silent_until_it_does() {
    let (server, _master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    worker.sightings.send(Sighting::LoggedIn).await.unwrap();
    let becomes = async |state: AccountState| {
        eventually(DEADLINE, "the state changes", async || {
            (worker.roster.state(&account) == Some(state)).then_some(())
        })
        .await;
    };
    becomes(AccountState::Capturing).await;
    becomes(AccountState::Silent).await;
    let health = &worker.roster.all()[0];
    assert!(health.reason.as_ref().unwrap().contains("nothing captured"), "{health:?}");
    worker.see(vec![comment(1)]).await;
    becomes(AccountState::Capturing).await;
    worker.stop().await;
}

/// A claim once carried no expected sequence, and two holders shared one epoch.
#[tokio::test]
async fn of_two_that_claim_at_once_one_is_fenced() {
    let (server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let (one_dir, two_dir) = (dir.path().join("one"), dir.path().join("two"));
    let url = server.url();
    let (one, two) = tokio::join!(
        Running::start(&url, &account, "one", &one_dir),
        Running::start(&url, &account, "two", &two_dir)
    );
    let epochs = [one.roster.all()[0].epoch, two.roster.all()[0].epoch];
    assert_ne!(epochs[0], epochs[1], "both hold one term");
    one.see(vec![comment(1)]).await;
    two.see(vec![comment(2)]).await;
    let (old, new, told) = if epochs[0] < epochs[1] { (one, two, "c2") } else { (two, one, "c1") };
    assert_eq!(old.ended().await, Ended::Fenced(epochs[0].max(epochs[1])));
    wait_until_told(&master, &account, &[told]).await;
    new.stop().await;
}

/// An edit that was seen during an outage was once taken for outdated when only a claim had come in between.
#[tokio::test]
async fn a_claim_that_published_nothing_does_not_outdate_the_outbox() {
    let (mut server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    worker.see(vec![comment(1)]).await;
    wait_for(&master, &account, SnapshotKind::Full, &["c1"]).await;
    server.kill();
    worker.see(vec![Record::Comment(sample::comment(1, 1, "edited"))]).await;
    eventually(DEADLINE, "the edit waits", async || (worker.roster.all()[0].pending == 1).then_some(()))
        .await;
    worker.task.abort();
    let _ = worker.task.await;
    server.restart();
    // As by a start that was killed right after its claim.
    let broker = connect(&server.url(), "worker").await;
    let (instance, gate) = (InstanceId::parse("two").unwrap(), Gate::always_open());
    let lanes = std::sync::Arc::default();
    eventually(DEADLINE, "a bare claim is stored", async || {
        Publisher::claim(&broker, &account, &instance, (grant(1, &gate), &lanes), now(), |_, _| {}).await.ok()
    })
    .await;
    let worker = Running::start(&server.url(), &account, "three", dir.path()).await;
    eventually(DEADLINE, "the edit is published", async || {
        let all = stored(&master, &account).await;
        let mut comments = all.iter().flat_map(|(_, snapshot)| &snapshot.comments);
        comments.any(|comment| comment.text.as_deref() == Some("edited")).then_some(())
    })
    .await;
    worker.stop().await;
}

/// What the pages hand over while the worker stops was once dropped.
#[tokio::test]
async fn what_is_captured_while_stopping_is_published() {
    let (server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    worker.stop.cancel();
    worker.released.cancelled().await;
    worker.see(vec![comment(1)]).await;
    worker.stop().await;
    assert_eq!(told(&stored(&master, &account).await), ["c1"]);
}

/// A window too large for a full once kept its account from publishing at all.
#[tokio::test]
async fn a_window_too_large_for_a_full_still_goes_as_deltas() {
    let (server, master) = broker().await;
    let (account, dir) = (sample::account("demo.a"), tempfile::tempdir().unwrap());
    let worker = Running::start(&server.url(), &account, "one", dir.path()).await;
    // Random text does not compress: some 90 MB against a batch's limit of 64. Outbound, so that nothing but the
    // interval calls for a publish.
    let noise = || (0..8_000).map(|_| fastrand::alphanumeric()).collect::<String>();
    for chunk in 0..6 {
        let outbound = |number| {
            let mut comment = sample::comment(1, number, &noise());
            comment.direction = Direction::Outbound;
            Record::Comment(comment)
        };
        worker.see((chunk * 2_500..(chunk + 1) * 2_500).map(outbound).collect()).await;
    }
    eventually(Duration::from_secs(120), "all of it is published", async || {
        let health = &worker.roster.all()[0];
        (health.pending == 0 && health.window == 15_000).then_some(())
    })
    .await;
    let all = stored(&master, &account).await;
    assert_eq!(comments(&all, SnapshotKind::Delta).len(), 15_000);
    worker.stop().await;
}
