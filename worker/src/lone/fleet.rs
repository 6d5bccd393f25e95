//! What the fleet keeps of one account, read once through the broker.

use std::time::Duration;

use anyhow::Context;
use snapfleet_broker::{Broker, last_per_subject};
use snapfleet_protocol::stream::{ACCOUNTS_PREFIX, ACCOUNTS_STREAM};
use snapfleet_protocol::{AccountEntry, AccountId};
use tokio_util::sync::CancellationToken;

use crate::config::LoneArgs;
use crate::platform::Settings;
use crate::session::FleetKey;
use crate::session::store::{self, Kept};

/// How long the broker may take to answer before it is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The broker, and the key of what it keeps.
pub(crate) struct Fleet {
    pub(crate) broker: Broker,
    pub(crate) key: FleetKey,
}

impl Fleet {
    /// Connects as a worker.
    ///
    /// # Errors
    /// One line that names what is missing, or the broker that does not answer within 15 s.
    pub(crate) async fn connect(args: &LoneArgs, stop: &CancellationToken) -> anyhow::Result<Self> {
        let key = args.key.load()?.context("give the fleet's key with --session-key-file")?;
        let config = args.broker.config()?;
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, Broker::connect(&config, stop)).await;
        let broker = connecting.map_err(|_| {
            let limit_s = CONNECT_TIMEOUT.as_secs();
            anyhow::anyhow!(
                "broker {} does not answer within {limit_s} s: start it, or correct NATS_URL",
                config.url
            )
        })??;
        Ok(Self { broker, key })
    }

    /// The account's settings as they are kept, sealed ones sealed.
    ///
    /// # Errors
    /// One line that says what the account is instead.
    pub(crate) async fn settings(&self, account: &AccountId) -> anyhow::Result<Settings> {
        let subject = format!("{ACCOUNTS_PREFIX}{account}");
        let found = last_per_subject(&self.broker, ACCOUNTS_STREAM, &subject)
            .await
            .with_context(|| format!("the entry of account {account} cannot be read"))?;
        let entry = found.into_iter().rfind(|message| !message.is_gone()).with_context(|| {
            format!("account {account} is not configured: add it with `snapfleet-master accounts add`")
        })?;
        let entry: AccountEntry = serde_json::from_slice(&entry.payload)
            .with_context(|| format!("the entry of account {account} cannot be read"))?;
        let config = entry.config().with_context(|| {
            format!("account {account} was removed: add it again with `snapfleet-master accounts add`")
        })?;
        Ok(config.settings.clone())
    }

    /// What is kept of its sessions.
    ///
    /// # Errors
    /// One line that names the account.
    pub(crate) async fn sessions(&self, account: &AccountId) -> anyhow::Result<Kept> {
        store::load(&self.broker, account)
            .await
            .with_context(|| format!("the stored sessions of {account} cannot be read"))
    }
}
