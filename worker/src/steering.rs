//! Whether an account's pages may be driven at this instant, and when they are asked to load anew: the account's
//! task says so, its pages obey. Knows neither of them.

use tokio::sync::watch;

use crate::fleet::gate::Gate;

/// What the account's task holds of it.
#[derive(Debug)]
pub struct Helm {
    /// The epoch, and the gate's term in which its lease was taken.
    held: watch::Sender<Option<(u64, u64)>>,
    refreshes: watch::Sender<u64>,
    gate: Gate,
}

/// What its pages hold of it. Clones obey the same.
#[derive(Debug, Clone)]
pub struct Steering {
    held: watch::Receiver<Option<(u64, u64)>>,
    refreshes: watch::Receiver<u64>,
    gate: Gate,
}

impl Helm {
    /// Of an account that is not held yet.
    #[must_use]
    pub fn new(gate: Gate) -> Self {
        Self { held: watch::channel(None).0, refreshes: watch::channel(0).0, gate }
    }

    /// The other side.
    #[must_use]
    pub fn steering(&self) -> Steering {
        Steering {
            held: self.held.subscribe(),
            refreshes: self.refreshes.subscribe(),
            gate: self.gate.clone(),
        }
    }

    /// The account is held in this epoch, by a lease of this term of the gate; or it is not at the moment.
    pub fn held(&self, epoch_and_term: Option<(u64, u64)>) {
        self.held.send_replace(epoch_and_term);
    }

    /// Asks the pages to load anew.
    pub fn refresh(&self) {
        self.refreshes.send_modify(|count| *count += 1);
    }
}

impl Steering {
    /// For pages that nothing holds back.
    #[must_use]
    pub fn free() -> Self {
        let helm = Helm::new(Gate::always_open());
        helm.held(Some((1, helm.gate.term())));
        helm.steering()
    }

    /// The epoch in which the account is held, if it is at this instant. To be asked right before each act.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        let held = *self.held.borrow();
        held.filter(|(_, term)| self.gate.is_open_in(*term)).map(|(epoch, _)| epoch)
    }

    /// Returns once the pages may be driven; at once if they may. Never, once the account's task has ended.
    pub async fn may_drive(&self) {
        let mut held = self.held.clone();
        loop {
            if self.epoch().is_some() {
                return;
            }
            // A term that is over does not come back: the account is held anew first.
            if held.changed().await.is_err() {
                // A free one, whose other side is gone, was let through above.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The same, for which what was asked so far is done.
    #[must_use]
    pub fn from_now_on(&self) -> Self {
        let mut steering = self.clone();
        steering.refreshes.borrow_and_update();
        steering
    }

    /// Returns when the pages are asked to load anew; at once if they were since [`Steering::from_now_on`] or the last
    /// return.
    pub async fn refresh(&mut self) {
        if self.refreshes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fleet::gate::Moment;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn pages_wait_while_the_account_is_not_held() {
        let helm = Helm::new(Gate::always_open());
        helm.refresh();
        let mut steering = helm.steering().from_now_on();
        assert!(tokio::time::timeout(SOON, steering.may_drive()).await.is_err());
        helm.held(Some((7, 1)));
        steering.may_drive().await;
        assert_eq!(steering.epoch(), Some(7));
        assert!(tokio::time::timeout(SOON, steering.refresh()).await.is_err());
        helm.refresh();
        steering.refresh().await;
        helm.held(None);
        assert!(tokio::time::timeout(SOON, steering.may_drive()).await.is_err());
        let free = Steering::free();
        free.may_drive().await;
        let gate = Gate::new();
        gate.renewed(Moment::now());
        let helm = Helm::new(gate.clone());
        helm.held(Some((7, gate.term())));
        assert_eq!(helm.steering().epoch(), Some(7));
        gate.shut();
        gate.renewed(Moment::now());
        assert_eq!(helm.steering().epoch(), None, "the lease was taken in an earlier term");
    }
}
