//! What the store shows beside what the site has served, and beside its own change log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Key, Records, System, Truths, encode};
use crate::eventually;

/// The least that a page of the demo site fetches: with less it has not been opened yet.
const SERVED_LEAST: usize = 100;

impl System {
    /// Reads the whole change log and checks that it tells the store's story, each change once: cursors without
    /// gap, each record added once and then only updated, each update in exactly the fields that it names, the
    /// last one equal to what the store shows.
    ///
    /// # Panics
    /// With the first change that does not fit.
    pub async fn check_change_log(&self) -> usize {
        let (changes, stores) = self.changes_and_stores().await;
        let mut last: BTreeMap<(String, Key), Value> = BTreeMap::new();
        let mut number = None;
        for change in &changes {
            let text =
                |name: &str| change[name].as_str().unwrap_or_else(|| panic!("{name} in {change}")).to_owned();
            let cursor = text("cursor");
            let n: u64 = cursor.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a numbered cursor");
            assert!(number.is_none_or(|before| n == before + 1), "{cursor} does not follow {number:?}");
            number = Some(n);
            let key = (text("account"), (text("kind"), text("id")));
            let named = change["changed"].as_array().unwrap_or_else(|| panic!("changed in {change}"));
            match last.get(&key) {
                None => assert_eq!((text("operation").as_str(), named.len()), ("added", 0), "{change}"),
                Some(before) => {
                    assert_eq!(text("operation"), "updated", "{change}");
                    let named: BTreeSet<&str> = named.iter().filter_map(Value::as_str).collect();
                    let differ = differing_fields(before, &change["record"]);
                    assert!(!differ.is_empty(), "an update that changed nothing: {change}");
                    assert_eq!(differ, named, "other fields than named differ from {before}: {change}");
                }
            }
            last.insert(key, change["record"].clone());
        }
        for (account, records) in stores {
            for (key, shown) in records {
                let (kind, id) = &key;
                let mut told = last
                    .remove(&(account.clone(), key.clone()))
                    .unwrap_or_else(|| panic!("{kind} {id}: no change"));
                let fields = told.as_object_mut().expect("an object");
                for field in ["account", "kind", "first_seen_at", "updated_at"] {
                    fields.remove(field);
                }
                assert_eq!(told, shown, "{kind} {id}: the last change is not what the store shows");
            }
        }
        changes.len()
    }

    /// The whole change log, and of the same moment what the store shows of each demo account. Pages go on
    /// fetching, and a counter that was never pushed may be stored between two reads.
    async fn changes_and_stores(&self) -> (Vec<Value>, BTreeMap<String, Records>) {
        eventually(Duration::from_secs(30), "the change log rests while the store is read", async || {
            let changes = self.rows("changes").await;
            let mut stores = BTreeMap::new();
            for account in self.setup.workers.concat() {
                let account = format!("demo.{account}");
                let records = self.store(&account).await;
                stores.insert(account, records);
            }
            let newest = encode(changes.last()?["cursor"].as_str()?);
            let more = self.api(&format!("changes?after={newest}&limit=1")).await;
            more["items"].as_array()?.is_empty().then_some((changes, stores))
        })
        .await
    }

    /// What the site has served so far.
    ///
    /// # Panics
    /// If the site does not answer.
    pub async fn truths(&self) -> Truths {
        let mut truths = BTreeMap::new();
        for account in self.setup.workers.concat() {
            truths.insert(account, self.truth(account).await);
        }
        truths
    }

    /// Waits until the store shows exactly what the site has served to each demo account.
    ///
    /// # Panics
    /// With the first differences, when `deadline` has passed.
    pub async fn wait_for_equality(&self, deadline: Duration) -> usize {
        self.wait_until_equal(deadline, async || self.truths().await).await
    }

    /// Waits until the store shows exactly what `served` yields; returns the number of records.
    ///
    /// # Panics
    /// With the first differences, when `deadline` has passed.
    pub async fn wait_until_equal(&self, deadline: Duration, served: impl AsyncFn() -> Truths) -> usize {
        let started = Instant::now();
        loop {
            let (mut total, mut differences) = (0, Vec::new());
            for (account, truth) in served().await {
                let store = self.store(&format!("demo.{account}")).await;
                total += truth.len();
                if truth.len() < SERVED_LEAST {
                    differences
                        .push(format!("{account}: the site has served only {} records yet", truth.len()));
                }
                differences.extend(compare(account, &truth, &store));
            }
            if differences.is_empty() {
                return total;
            }
            let shown = differences.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
            assert!(
                started.elapsed() < deadline,
                "{} differences after {deadline:?}:\n{shown}\n{}",
                differences.len(),
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// The fields that two states of a record do not share.
fn differing_fields<'a>(before: &'a Value, after: &'a Value) -> BTreeSet<&'a str> {
    let fields = [before, after].into_iter().filter_map(Value::as_object).flat_map(|record| record.keys());
    fields.map(String::as_str).filter(|field| before.get(field) != after.get(field)).collect()
}

/// What differs, a line each.
fn compare(account: &str, truth: &Records, store: &Records) -> Vec<String> {
    let mut differences = Vec::new();
    for ((kind, id), record) in truth {
        match store.get(&(kind.clone(), id.clone())) {
            None => differences.push(format!("{account}: {kind} {id} is missing")),
            Some(stored) if stored != record => {
                differences
                    .push(format!("{account}: {kind} {id} differs\n  site  {record}\n  store {stored}"));
            }
            Some(_) => {}
        }
    }
    for (kind, id) in store.keys().filter(|key| !truth.contains_key(*key)) {
        differences.push(format!("{account}: {kind} {id} is extra"));
    }
    differences
}
