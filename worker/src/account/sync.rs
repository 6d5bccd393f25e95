//! A command to capture and publish now: the pages load anew, what they show is published, and the asker is told.

use std::collections::BTreeSet;
use std::time::Duration;

use snapfleet_protocol::{AccountState, CommandAnswer};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Account, Sighting};

/// How long loading and capturing may take.
const CAPTURE_TIMEOUT: Duration = Duration::from_secs(20);
/// Nothing more has come for this long after a page has loaded: that was all.
const QUIET_AFTER: Duration = Duration::from_millis(1_500);
/// How long publishing may take after that.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(6);
/// How often the progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Those who may wait for one answer.
const ASKERS_MAX: usize = 16;

/// A command, and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// Where to answer; nobody may wait any more.
    pub answer: oneshot::Sender<CommandAnswer>,
}

/// A sync under way.
#[derive(Debug)]
pub(super) struct Syncing {
    askers: Vec<oneshot::Sender<CommandAnswer>>,
    since: Instant,
    /// The pages that have loaded.
    loaded: BTreeSet<String>,
    /// When something last came.
    last_sign: Instant,
    captured: u64,
    records: u64,
    /// Since when what was captured is being published, and up to which change.
    publishing: Option<(Instant, u64)>,
    next_look: Instant,
}

impl Syncing {
    pub(super) fn note(&mut self, sighting: &Sighting) {
        match sighting {
            // A state of the page that was read again and is the same is no sign that something still comes.
            Sighting::Records { records, refused: 0, .. } if records.is_empty() => return,
            Sighting::Records { .. } => self.captured += 1,
            Sighting::PageLoaded { page, .. } => drop(self.loaded.insert(page.clone())),
            // Told of page state again and again, also where nothing more comes.
            Sighting::Alive(_) | Sighting::CaptureFailed => return,
            _ => {}
        }
        self.last_sign = Instant::now();
    }

    pub(super) fn published(&mut self, records: usize) {
        self.records += records as u64;
    }

    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    fn finish(self, answer: &CommandAnswer) {
        for asker in self.askers {
            // Who asked may have gone.
            let _ = asker.send(answer.clone());
        }
    }
}

fn refused(reason: impl Into<String>) -> CommandAnswer {
    CommandAnswer::Refused { reason: reason.into() }
}

impl Account {
    pub(super) fn asked(&mut self, ask: Ask) {
        if let Some(syncing) = &mut self.syncing {
            if syncing.askers.len() < ASKERS_MAX {
                syncing.askers.push(ask.answer);
            } else {
                let _ = ask.answer.send(refused("too many wait for it already: ask again later"));
            }
            return;
        }
        if let Some(reason) = self.why_not() {
            let _ = ask.answer.send(refused(reason));
            return;
        }
        self.task.helm.refresh();
        let now = Instant::now();
        self.syncing = Some(Syncing {
            askers: vec![ask.answer],
            since: now,
            loaded: BTreeSet::new(),
            last_sign: now,
            captured: 0,
            records: 0,
            publishing: None,
            next_look: now + LOOK_EVERY,
        });
    }

    /// Why nothing can be captured and published at the moment.
    fn why_not(&self) -> Option<String> {
        if self.used.is_none() || self.epoch == 0 {
            return Some("the account is not held at the moment: try again in a few seconds".to_owned());
        }
        match self.health.state() {
            (AccountState::LoggedOut | AccountState::Failing | AccountState::CutOff, reason) => {
                Some(reason.unwrap_or_else(|| "the account does not work: see its state".to_owned()))
            }
            _ => None,
        }
    }

    pub(super) fn look_at_sync(&mut self) {
        let failure = self.why_not();
        let Some(syncing) = &mut self.syncing else { return };
        syncing.next_look = Instant::now() + LOOK_EVERY;
        let mut answer = failure.map(refused);
        if answer.is_none() {
            let loaded = syncing.loaded.len() >= self.task.pages;
            let at_rest = syncing.last_sign.elapsed() >= QUIET_AFTER;
            let late = syncing.since.elapsed() >= CAPTURE_TIMEOUT;
            answer = match syncing.publishing {
                // A page to which something comes all the time never comes to rest.
                None if loaded && (at_rest || late) => {
                    syncing.publishing = Some((Instant::now(), self.window.newest_change()));
                    self.due = (self.window.pending_len() > 0).then(Instant::now);
                    None
                }
                None if late => {
                    let seconds = CAPTURE_TIMEOUT.as_secs();
                    Some(refused(format!("its pages have not all loaded within {seconds} s")))
                }
                None => None,
                Some((_, change)) if self.window.is_published_up_to(change) && self.publisher.is_some() => {
                    let stream_seq = self.publisher.as_ref().map_or(0, crate::publish::Publisher::last);
                    Some(CommandAnswer::Synced {
                        instance: self.task.instance.clone(),
                        records: syncing.records,
                        stream_seq,
                        captured: syncing.captured,
                    })
                }
                Some((since, _)) if since.elapsed() >= PUBLISH_TIMEOUT => {
                    let pending = self.window.pending_len();
                    Some(refused(format!("captured, but {pending} records are not acked by the broker yet")))
                }
                Some(_) => None,
            };
        }
        if let Some(answer) = answer
            && let Some(syncing) = self.syncing.take()
        {
            syncing.finish(&answer);
        }
    }
}
