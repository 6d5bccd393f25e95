//! Every key and value of every table of a store's file, as bytes: what is to be gone must be in none.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, Value};

/// Whether any row of the file holds `needle`. The store must be closed.
pub(crate) fn holds(path: &Path, needle: &str) -> bool {
    let database = Database::open(path).unwrap();
    let txn = database.begin_read().unwrap();
    let mut names: Vec<String> = txn.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    let mut found = false;
    macro_rules! scan {
        ($($name:literal: $key:ty => $value:ty;)*) => {
            $(
                let table = txn.open_table(TableDefinition::<$key, $value>::new($name)).unwrap();
                for entry in table.iter().unwrap() {
                    let (key, value) = entry.unwrap();
                    let (key, value) = (key.value(), value.value());
                    found |= within(<$key as Value>::as_bytes(&key).as_ref(), needle);
                    found |= within(<$value as Value>::as_bytes(&value).as_ref(), needle);
                }
                names.retain(|name| name != $name);
            )*
        };
    }
    scan! {
        "meta-1": &str => &str;
        "state-1": () => &[u8];
        "account-numbers-1": &str => u32;
        "accounts-1": u32 => &[u8];
        "records-1": (u32, u8, &str, i64, &str) => (i64, i64, &[u8]);
        "record-keys-1": (u32, u8, &str) => (u128, i64, &str);
        "threads-1": (u32, u8, &str) => &[u8];
        "threads-by-time-1": (u32, i64, u8, &str) => ();
        "changes-1": u64 => (i64, u32, u8, u8, &str, &[u8]);
        "dead-letters-1": u64 => (i64, u64, u64, &str, &str, &str, &[u8]);
        "standings-1": &str => (u8, i64, u64, u64, i64, u64, u64);
        "erasing-1": (u32, &str) => ();
        "erasures-1": (&str, u128) => (i64, bool);
        "erased-records-1": (u32, u128) => i64;
        "purges-1": &str => (u64, u64, i64);
    }
    assert!(names.is_empty(), "tables that are not looked through: {names:?}");
    found
}

fn within(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}
