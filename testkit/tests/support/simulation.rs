//! What the store of a simulated fleet must show in the end: from the generator itself, which makes it from account,
//! seed and step alone.

use std::time::Duration;

use snapfleet_protocol::AccountId;
use snapfleet_testkit::fleet::{Fleet, Simulated, Stored};
use snapfleet_worker::simulate::{Simulation, truth};

/// How long the store may take to show the end, after nothing changes any more.
pub(crate) const STORED_WITHIN: Duration = Duration::from_secs(120);

/// All records of all accounts as of the last step.
pub(crate) fn end_of(fleet: &Fleet, simulated: Simulated) -> Stored {
    let Simulated { accounts: _, records, change_rate, seed, steps } = simulated;
    let simulation = Simulation { records, change_rate, seed, since_ms: None, steps };
    let mut stored = Stored::new();
    for id in fleet.accounts() {
        let account = AccountId::parse(&id).unwrap();
        for record in truth(&account, &simulation, steps) {
            let key = (id.clone(), record.kind().as_str().to_owned(), record.id().as_str().to_owned());
            stored.insert(key, serde_json::to_value(record).unwrap());
        }
    }
    stored
}
