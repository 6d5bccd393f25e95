//! The broker, as a test looks into it.

use snapfleet_broker::{Broker, BrokerConfig};
use snapfleet_testkit::TestBroker;
use snapfleet_testkit::system::System;
use tokio_util::sync::CancellationToken;

/// The broker as the workers see it.
pub(crate) async fn as_worker(system: &System) -> Broker {
    let config = BrokerConfig {
        url: system.broker.url(),
        user: "worker".to_owned(),
        password: TestBroker::password("worker").to_owned(),
        name: "test".to_owned(),
    };
    Broker::connect(&config, &CancellationToken::new()).await.unwrap()
}
