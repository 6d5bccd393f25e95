//! One account while this worker holds it: its pages or a generator, its task, its commands, from the lease to the
//! giving back.

use std::path::PathBuf;
use std::sync::Arc;

use snapfleet_broker::Broker;
use snapfleet_protocol::{AccountConfig, AccountId, AccountState, Erasures, InstanceId, PlatformName};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use crate::account::{self, AccountTask, Ended, Sighting};
use crate::browser::SharedBrowser;
use crate::control;
use crate::drive;
use crate::pages::{Desk, desk};
use crate::platform::Shelf;
use crate::publish::{Grant, Lanes};
use crate::roster::Roster;
use crate::session::{self, FleetKey, SessionTask};
use crate::simulate::{self, Simulation};
use crate::steering::{Helm, Steering};

/// Sightings that wait for an account's task, at most; beyond that the mapping waits.
const SIGHTINGS_MAX: usize = 64;
/// After this it is shown that an account waits for its sessions.
const SESSION_LATE: std::time::Duration = std::time::Duration::from_secs(5);
/// Commands that wait for an account's task, at most.
const ASKS_MAX: usize = 16;

/// The platform of simulated accounts.
const SIMULATED: &str = "sim";

/// Where sightings come from.
pub(crate) enum Source {
    /// Pages in a browser, of these platforms.
    Browser {
        /// What is known of them now, and what they become.
        shelf: Shelf,
        /// The one browser.
        browser: SharedBrowser,
    },
    /// A generator.
    Simulation(Arc<Simulation>),
}

impl Source {
    /// The platforms whose accounts it can show.
    pub(crate) fn platforms(&self) -> Vec<PlatformName> {
        match self {
            Self::Browser { shelf, .. } => shelf.names(),
            Self::Simulation(_) => PlatformName::parse(SIMULATED).into_iter().collect(),
        }
    }

    /// What is wrong with them.
    pub(crate) fn problems(&self) -> Vec<String> {
        match self {
            Self::Browser { shelf, .. } => shelf.problems(),
            Self::Simulation(_) => Vec::new(),
        }
    }
}

/// What every tenure of this worker is made with.
pub(crate) struct Crew {
    pub(crate) broker: Broker,
    pub(crate) instance: InstanceId,
    pub(crate) roster: Roster,
    pub(crate) gate: Gate,
    pub(crate) outbox_dir: PathBuf,
    pub(crate) source: Source,
    pub(crate) lanes: Arc<Lanes>,
    /// The fleet's key, if there is one.
    pub(crate) key: Option<Arc<FleetKey>>,
}

/// What becomes of the lease when a tenure has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is given back.
    GiveBack,
    /// The account is taken anew: its settings changed, or a part of it died.
    TakeAnew,
    /// It is somebody else's already.
    Lost,
}

/// A held account.
pub(crate) struct Tenure {
    pub(crate) config: AccountConfig,
    /// The lease's sequence, and the gate's term, of the last grant.
    pub(crate) lease_seq: u64,
    pub(crate) term: u64,
    /// What becomes of the lease; `None` while the account is held.
    pub(crate) fate: Option<Fate>,
    pub(crate) pages: u32,
    grants: watch::Sender<Option<Grant>>,
    erasures: watch::Sender<Arc<Erasures>>,
    stop: CancellationToken,
    pub(crate) task: JoinHandle<Ended>,
}

impl Tenure {
    /// Begins to hold an account whose lease was taken under `lease_seq`.
    pub(crate) fn begin(
        crew: &Arc<Crew>,
        account: &AccountId,
        config: &AccountConfig,
        (lease_seq, term): (u64, u64),
        erasures: Arc<Erasures>,
    ) -> Self {
        crew.roster.add(account);
        let grant = Grant { lease_seq, term, gate: crew.gate.clone() };
        let (grants, granted) = watch::channel(Some(grant));
        let (erasures, erased) = watch::channel(erasures);
        let stop = CancellationToken::new();
        let part = Part {
            crew: crew.clone(),
            account: account.clone(),
            config: config.clone(),
            grants: granted,
            erasures: erased,
            stop: stop.clone(),
        };
        let (task, pages) = part.start();
        Self {
            config: config.clone(),
            lease_seq,
            term,
            fate: None,
            pages,
            grants,
            erasures,
            stop,
            task: tokio::spawn(task),
        }
    }

    /// The lease was taken again, after it was in doubt.
    pub(crate) fn granted_anew(&mut self, gate: &Gate, lease_seq: u64, term: u64) {
        (self.lease_seq, self.term) = (lease_seq, term);
        self.grants.send_replace(Some(Grant { lease_seq, term, gate: gate.clone() }));
    }

    /// Persons whose records are not taken in.
    pub(crate) fn erased(&self, erasures: &Arc<Erasures>) {
        self.erasures.send_if_modified(|known| {
            let changed = known != erasures;
            known.clone_from(erasures);
            changed
        });
    }

    /// Lets the account go; to be waited for. One that is lost publishes nothing more.
    pub(crate) fn end(&mut self, fate: Fate) {
        if fate == Fate::Lost {
            self.grants.send_replace(None);
        }
        // A loss is not undone by a wish to give back.
        if self.fate != Some(Fate::Lost) {
            self.fate = Some(fate);
        }
        self.stop.cancel();
    }
}

/// The parts of a tenure before they start.
struct Part {
    crew: Arc<Crew>,
    account: AccountId,
    config: AccountConfig,
    grants: watch::Receiver<Option<Grant>>,
    erasures: watch::Receiver<Arc<Erasures>>,
    stop: CancellationToken,
}

/// What shows an account.
enum Show {
    Pages(Box<drive::Plan>, SharedBrowser),
    Generator(Arc<Simulation>),
}

impl Part {
    /// The tenure as one future, and how many pages it has.
    fn start(self) -> (std::pin::Pin<Box<dyn Future<Output = Ended> + Send>>, u32) {
        match self.show() {
            Ok(show) => {
                let pages = match &show {
                    Show::Pages(plan, _) => u32::try_from(plan.page_count()).unwrap_or(u32::MAX),
                    Show::Generator(_) => 0,
                };
                (Box::pin(self.hold(show)), pages)
            }
            Err(error) => {
                let reason = format!("{error:#}");
                tracing::warn!(account.id = %self.account, reason, "the account's settings cannot be used");
                (Box::pin(self.idle(reason)), 0)
            }
        }
    }

    fn show(&self) -> anyhow::Result<Show> {
        self.config.check()?;
        match &self.crew.source {
            Source::Browser { shelf, browser } => {
                let mut versions = shelf
                    .watch(&self.account.platform)
                    .ok_or_else(|| anyhow::anyhow!("this worker does not know its platform"))?;
                let platform = versions.borrow_and_update().clone();
                let settings =
                    session::open_settings(self.crew.key.as_deref(), &self.account, &self.config.settings)?;
                let plan = drive::Plan::new(&platform, &self.account, &settings)?.with_versions(versions);
                Ok(Show::Pages(Box::new(plan), browser.clone()))
            }
            Source::Simulation(simulation) => Ok(Show::Generator(simulation.clone())),
        }
    }

    /// Holds an account that cannot be driven, so that its state says why, until its settings or its platform change.
    async fn idle(self, reason: String) -> Ended {
        self.crew.roster.set_state(&self.account, AccountState::Failing, Some(reason));
        let mended = async {
            let versions = match &self.crew.source {
                Source::Browser { shelf, .. } => shelf.watch(&self.account.platform),
                Source::Simulation(_) => None,
            };
            let changed = async { versions?.changed().await.ok() };
            if changed.await.is_none() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => Ended::Stopped,
            () = mended => Ended::Broken("its platform's file was changed".to_owned()),
        }
    }

    async fn hold(self, show: Show) -> Ended {
        let Self { crew, account, config, grants, erasures, stop } = self;
        let (sightings_in, sightings) = mpsc::channel(SIGHTINGS_MAX);
        let (asks_in, asks) = mpsc::channel(ASKS_MAX);
        let (bell, desk) = desk();
        let helm = Helm::new(crew.gate.clone());
        let steering = helm.steering();
        let released = CancellationToken::new();
        let task = AccountTask {
            broker: crew.broker.clone(),
            account: account.clone(),
            interval: std::time::Duration::from_secs(config.interval_s),
            instance: crew.instance.clone(),
            outbox_dir: crew.outbox_dir.clone(),
            roster: crew.roster.clone(),
            grants,
            sightings,
            pages: match &show {
                Show::Pages(plan, _) => plan.page_count(),
                Show::Generator(_) => 1,
            },
            lanes: crew.lanes.clone(),
            asks,
            erasures,
            helm,
            stop,
            released: released.clone(),
        };
        let listening = tokio::spawn(control::listen(crew.broker.clone(), account.clone(), asks_in, bell));
        let showing = tokio::spawn(run_show(
            crew,
            account,
            config,
            show,
            sightings_in,
            (steering, desk),
            released.clone(),
        ));
        let ended = tokio::spawn(account::run(task)).await;
        listening.abort();
        released.cancel();
        if let Err(error) = showing.await {
            tracing::error!(%error, "the task that drives an account's pages died");
        }
        ended.unwrap_or_else(|error| Ended::Broken(format!("its task died ({error})")))
    }
}

async fn run_show(
    crew: Arc<Crew>,
    account: AccountId,
    config: AccountConfig,
    show: Show,
    sightings: mpsc::Sender<Sighting>,
    (steering, desk): (Steering, Desk),
    released: CancellationToken,
) {
    tokio::select! {
        () = steering.may_drive() => {}
        () = released.cancelled() => return,
    }
    match show {
        Show::Pages(plan, browser) => {
            let plan = plan.with_steering(steering.clone()).with_desk(desk);
            let Some(key) = crew.key.clone() else {
                return drive::run(plan, browser, sightings, released).await;
            };
            let stop = released.clone();
            let task =
                SessionTask { broker: crew.broker.clone(), key, account: account.clone(), steering, stop };
            let opening = session::open(task);
            tokio::pin!(opening);
            let opened = tokio::select! {
                opened = &mut opening => opened,
                () = tokio::time::sleep(SESSION_LATE) => {
                    let problem = "the stored sessions cannot be read, so its pages are not opened: see the worker's log";
                    crew.roster.note_problem(&account, "session", Some(problem.to_owned()));
                    opening.await
                }
            };
            let Some((exchange, keeper)) = opened else { return };
            // Beside the state: an older session may do.
            crew.roster.note_problem(&account, "session", exchange.problem().map(str::to_owned));
            let keeping = tokio::spawn(keeper.run());
            drive::run(plan.with_session(exchange), browser, sightings, released).await;
            if let Err(error) = keeping.await {
                tracing::error!(%error, "the task that keeps an account's session died");
            }
        }
        Show::Generator(simulation) => {
            // Nobody serves there.
            drop(desk);
            let interval = std::time::Duration::from_secs(config.interval_s);
            simulate::run(account, simulation, interval, sightings, steering, released).await;
        }
    }
}
