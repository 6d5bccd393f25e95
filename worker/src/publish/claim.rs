//! The claim with which a holder's term begins: published after the account's messages were read back, or, where nobody
//! has published since it was last held, at once.

use std::sync::Arc;

use snapfleet_broker::{Broker, DirectGetError, Outgoing, PublishError, publish, read_subject};
use snapfleet_protocol::stream::SNAPSHOTS;
use snapfleet_protocol::{AccountId, InstanceId, Record, SnapshotKind, Topic, UnixMs};
use tokio::sync::watch;

use super::history::{History, read_on};
use super::{Grant, Lanes, Publisher, Resume, message_id};

/// Why an account could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Its messages could not be read back.
    #[error("the account's messages cannot be read back: {0}")]
    Read(#[from] DirectGetError),
    /// The claim was not stored.
    #[error("the claim is not stored: {0}")]
    Publish(#[from] PublishError),
    /// The lease may be somebody else's by now.
    #[error("the lease is in doubt: this worker's heartbeat was not stored in time")]
    InDoubt,
    /// No higher epoch exists: the subject holds the highest of all.
    #[error("the account's subject holds epoch {0}, above which there is none: purge the subject")]
    NoHigherEpoch(u64),
}

impl Publisher {
    /// Reads the account's messages back, giving their records to `restore`, and publishes the claim of a new
    /// term, which is stored only if nobody has published meanwhile. Its epoch is above all on the subject, and at
    /// least the lease's sequence, which orders the holders even where the subject was emptied. Returns the publisher
    /// and the last epoch in which anybody published records.
    ///
    /// # Errors
    /// [`ClaimError`]; the account is then not held, and the caller tries again.
    pub async fn claim(
        broker: &Broker,
        account: &AccountId,
        instance: &InstanceId,
        (grant, lanes): (Grant, &Arc<Lanes>),
        now: UnixMs,
        mut restore: impl FnMut(Record, UnixMs),
    ) -> Result<(Self, u64), ClaimError> {
        let subject = Topic::Snapshot.subject(account);
        let mut history = History::default();
        // Closed never; without a permit it would only be more at once.
        let _lane = lanes.claims.acquire().await.ok();
        read_on(broker, &subject, &mut history, &mut restore).await?;
        let History { epoch, last, full_bytes, delta_bytes, .. } = history;
        let resume = Resume { last, epoch, full_bytes, delta_bytes };
        let (mut publisher, message) = Self::begin(account, instance, (grant, lanes), now, resume)?;
        match publish(broker, &message).await {
            Ok(ack) if !ack.duplicate => publisher.last = ack.seq,
            Ok(_) | Err(PublishError::Conflict(_)) if publisher.stored_claim(broker, &subject).await? => {}
            Ok(_) => return Err(PublishError::Conflict("a message with the claim's id".to_owned()).into()),
            Err(error) => return Err(error.into()),
        }
        Ok((publisher, history.data_epoch))
    }

    /// Claims the account anew without reading anything back, if nobody has published since `resume`; `None` where
    /// somebody has, or that cannot be told: then the window is to be read back.
    ///
    /// # Errors
    /// [`ClaimError`], as for [`Publisher::claim`].
    pub async fn claim_again(
        broker: &Broker,
        account: &AccountId,
        instance: &InstanceId,
        grant_and_lanes: (Grant, &Arc<Lanes>),
        now: UnixMs,
        resume: Resume,
    ) -> Result<Option<Self>, ClaimError> {
        let (mut publisher, message) = Self::begin(account, instance, grant_and_lanes, now, resume)?;
        match publish(broker, &message).await {
            Ok(ack) if !ack.duplicate => publisher.last = ack.seq,
            _ => return Ok(None),
        }
        Ok(Some(publisher))
    }

    /// A publisher of a new term, above all on the subject, and the claim that begins it; nothing is sent yet.
    fn begin(
        account: &AccountId,
        instance: &InstanceId,
        (grant, lanes): (Grant, &Arc<Lanes>),
        now: UnixMs,
        Resume { last, epoch, full_bytes, delta_bytes }: Resume,
    ) -> Result<(Self, Outgoing), ClaimError> {
        let epoch = epoch.checked_add(1).ok_or(ClaimError::NoHigherEpoch(epoch))?.max(grant.lease_seq);
        if !grant.holds() {
            return Err(ClaimError::InDoubt);
        }
        let mut publisher = Self {
            lanes: Arc::clone(lanes),
            trouble: watch::channel(None).0,
            grant,
            account: account.clone(),
            instance: instance.clone(),
            epoch,
            seq: 0,
            last,
            full_bytes,
            delta_bytes,
        };
        let claim = publisher.message(SnapshotKind::Claim, 1, 1, now, Vec::new());
        let (_, mut message) = claim.map_err(|error| PublishError::Failed(error.to_string()))?;
        message.expected_last = Some(last);
        Ok((publisher, message))
    }

    /// Where the subject stands now, for [`Publisher::claim_again`].
    #[must_use]
    pub fn resume(&self) -> Resume {
        let Self { last, epoch, full_bytes, delta_bytes, .. } = *self;
        Resume { last, epoch, full_bytes, delta_bytes }
    }

    /// Whether the subject's newest message is our claim, whose ack was lost.
    async fn stored_claim(&mut self, broker: &Broker, subject: &str) -> Result<bool, DirectGetError> {
        let (messages, _) = read_subject(broker, SNAPSHOTS, subject, self.last + 1).await?;
        let ours = self.snapshot_id().to_string();
        let found = messages.iter().find(|stored| message_id(stored) == Some(ours.as_str()));
        self.last = found.map_or(self.last, |stored| stored.seq);
        Ok(found.is_some())
    }
}
