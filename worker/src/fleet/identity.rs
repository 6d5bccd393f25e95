//! Who this worker is: through all its starts, and in this one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use snapfleet_broker::{Broker, Stored, last_per_subject};
use snapfleet_protocol::stream::{HEARTBEAT_EVERY_MS, HEARTBEAT_TTL_S, WORKERS_PREFIX, WORKERS_STREAM};
use snapfleet_protocol::{Heartbeat, IdError, InstanceId, UnixMs, WorkerId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::roster::now;

/// How long the heartbeat of an earlier start may still be there.
const TWIN_TIMEOUT: Duration = Duration::from_secs(HEARTBEAT_TTL_S + 2);
const TWIN_POLL: Duration = Duration::from_millis(300);
/// For so long the heartbeat of the former start is watched, if there is one: it must not be renewed.
const FORMER_WATCHED: Duration = Duration::from_millis(HEARTBEAT_EVERY_MS + 700);

/// Who this worker is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// This start.
    pub instance: InstanceId,
    /// The worker through all its starts.
    pub worker: WorkerId,
    /// The start before, from the same state_dir: it is over, because that folder is locked by a running worker.
    pub former: Option<InstanceId>,
    /// The host's name.
    pub host: String,
    /// When it started.
    pub started_at: UnixMs,
    /// The most accounts that it takes.
    pub max_accounts: u32,
    /// What it offers to accounts that ask for labels.
    pub labels: BTreeMap<String, String>,
}

/// Why this worker cannot be who it says.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another running worker has the same id.
    #[error(
        "worker id {worker} is in use by the worker with process id {pid} on host {host}: give each worker its own \
         --worker-id and --state-dir"
    )]
    Twin {
        /// The id.
        worker: WorkerId,
        /// The other one's host.
        host: String,
        /// The other one's process.
        pid: u32,
    },
    /// The folder cannot be used.
    #[error("state_dir {path}: {error}; check the disk and the rights")]
    StateDir {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// What the folder holds, or the host is called, is no name.
    #[error(transparent)]
    Name(#[from] IdError),
}

impl IdentityError {
    pub(crate) fn twin(other: &Heartbeat) -> Self {
        Self::Twin { worker: other.worker.clone(), host: other.host.clone(), pid: other.pid }
    }
}

impl Identity {
    /// A new start of the worker whose state is in `state_dir`, which must be locked by the caller. Its id is `id`, or
    /// what the folder says, or a new one made of the host's name and a random end, which the folder then keeps.
    ///
    /// # Errors
    /// [`IdentityError`], naming the folder.
    pub fn new(state_dir: &Path, id: Option<WorkerId>) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::StateDir { path: state_dir.display().to_string(), error };
        let read = |name: &str| match std::fs::read_to_string(state_dir.join(name)) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let worker = match (id, read("worker-id")?) {
            (Some(given), _) => given,
            (None, Some(known)) => WorkerId::parse(&known)?,
            (None, None) => {
                let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
                let name: String = host.chars().take(40).map(plain).collect();
                WorkerId::parse(&format!("{name}-{:06x}", fastrand::u32(..0x0100_0000)))?
            }
        };
        std::fs::write(state_dir.join("worker-id"), worker.as_str()).map_err(failed)?;
        let instance = InstanceId::parse(&format!("{:016x}", fastrand::u64(..)))?;
        // A file that was torn by a kill names nobody.
        let former = read("instance")?.and_then(|text| InstanceId::parse(&text).ok());
        std::fs::write(state_dir.join("instance"), instance.as_str()).map_err(failed)?;
        Ok(Self {
            instance,
            worker,
            former,
            host,
            started_at: now(),
            max_accounts: 0,
            labels: BTreeMap::new(),
        })
    }

    /// Whether an instance is the earlier start of this worker.
    #[must_use]
    pub fn is_former(&self, instance: &InstanceId) -> bool {
        self.former.as_ref() == Some(instance)
    }

    /// Whether a heartbeat is of another running worker with the same id.
    #[must_use]
    pub fn is_twin(&self, other: &Heartbeat) -> bool {
        other.worker == self.worker && other.instance != self.instance && !self.is_former(&other.instance)
    }

    /// Waits until nobody else runs under this id. An earlier start's heartbeat, which this worker cannot know to be
    /// over because its state_dir is a new one, has gone after a few seconds; that of the start which the state_dir
    /// names may be there, but not be renewed: then the folder was copied from a worker that runs.
    ///
    /// # Errors
    /// [`IdentityError::Twin`] where somebody goes on to.
    pub async fn wait_for_twin(
        &self,
        broker: &Broker,
        shutdown: &CancellationToken,
    ) -> Result<(), IdentityError> {
        let started = Instant::now();
        let (mut told, mut former_seq) = (false, None);
        loop {
            let stored = last_per_subject(broker, WORKERS_STREAM, &format!("{WORKERS_PREFIX}*")).await;
            let waits_for = match &stored {
                Ok(stored) => self.twin_in(stored, &mut former_seq)?,
                Err(error) if started.elapsed() >= TWIN_TIMEOUT => {
                    tracing::warn!(%error, "whether another worker runs under this id cannot be told; going on");
                    return Ok(());
                }
                Err(error) => {
                    tracing::debug!(%error, "who else runs cannot be read yet");
                    None
                }
            };
            let former_rests = former_seq.is_none() || started.elapsed() >= FORMER_WATCHED;
            match waits_for {
                None if stored.is_ok() && former_rests => return Ok(()),
                Some(twin) if started.elapsed() >= TWIN_TIMEOUT => return Err(IdentityError::twin(&twin)),
                Some(twin) if !std::mem::replace(&mut told, true) => {
                    tracing::info!(worker.id = %self.worker, worker.instance = %twin.instance, "waiting for another start with this worker id to be gone");
                }
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(TWIN_POLL) => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Another worker with this id among the heartbeats, to be waited for. Fails at once where the former start's
    /// heartbeat was renewed since the last look.
    fn twin_in(
        &self,
        stored: &[Stored],
        former_seq: &mut Option<u64>,
    ) -> Result<Option<Heartbeat>, IdentityError> {
        let mut found = None;
        for message in stored.iter().filter(|message| !message.is_gone()) {
            let Ok(other) = serde_json::from_slice::<Heartbeat>(&message.payload) else { continue };
            if self.is_former(&other.instance)
                && former_seq.replace(message.seq).is_some_and(|seq| seq != message.seq)
            {
                return Err(IdentityError::twin(&other));
            }
            if self.is_twin(&other) {
                found = Some(other);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_the_same_worker_and_knows_its_earlier_start() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::new(dir.path(), None).unwrap();
        assert_eq!(first.former, None);
        let second = Identity::new(dir.path(), None).unwrap();
        assert_eq!(second.worker, first.worker);
        assert_ne!(second.instance, first.instance);
        assert!(second.is_former(&first.instance));
        let heartbeat =
            |identity: &Identity| Heartbeat::new(identity.instance.clone(), identity.worker.clone());
        assert!(!second.is_twin(&heartbeat(&first)), "a restart is no twin");
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Identity::new(elsewhere.path(), Some(first.worker.clone())).unwrap();
        assert!(second.is_twin(&heartbeat(&other)) && other.is_twin(&heartbeat(&second)));
    }
}
