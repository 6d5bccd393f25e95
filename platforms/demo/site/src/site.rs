//! The whole site: its accounts, who is logged in, and what happens by itself. A handle that is cheap to clone; the
//! web is a layer over it, and tests may use it directly.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::account::Account;
use crate::codes::{Codes, Confirmation};
use crate::config::Config;
use crate::events::EventKind;
use crate::seed::seeded;
use crate::sessions::{Login, Sessions};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What a push by hand answers.
#[derive(Debug, Clone, Serialize)]
pub struct PushAnswer {
    /// The id of what came or changed, as the platform writes it.
    pub id: String,
    /// Its kind: "direct_message", "comment" or "content".
    pub record: &'static str,
    /// When it happened, in ms since 1970.
    pub pushed_at_ms: i64,
    /// How many open push channels it was handed to; 0 means that only a fetch will show it.
    pub reached: usize,
}

struct Inner {
    config: Config,
    accounts: BTreeMap<String, Mutex<Account>>,
    sessions: Mutex<Sessions>,
    codes: Mutex<Codes>,
    paused: AtomicBool,
}

/// A running site's state.
#[derive(Clone)]
pub struct Site(Arc<Inner>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Site {
    /// A site with the data that `config` asks for.
    ///
    /// # Errors
    /// What [`Config::check`] finds.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let start_ms = config.start_ms.unwrap_or_else(|| now_ms() / DAY_MS * DAY_MS);
        let accounts = config.accounts.iter().enumerate().map(|(number, name)| {
            let data = seeded(&config, name, number, start_ms);
            (name.clone(), Mutex::new(Account::new(data)))
        });
        let accounts = accounts.collect();
        let codes = Codes::new(Duration::from_secs(u64::from(config.qr_valid_s)));
        Ok(Self(Arc::new(Inner {
            config,
            accounts,
            sessions: Mutex::default(),
            codes: Mutex::new(codes),
            paused: AtomicBool::new(false),
        })))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Does something with an account under its lock.
    pub(crate) fn with<T>(&self, account: &str, act: impl FnOnce(&mut Account) -> T) -> Option<T> {
        self.0.accounts.get(account).map(|account| act(&mut locked(account)))
    }

    /// Makes something happen to `account` now. `None` for an unknown account, or if nothing fits (no message that
    /// could be recalled).
    #[must_use]
    pub fn push(&self, account: &str, kind: EventKind) -> Option<PushAnswer> {
        self.with(account, |account| {
            // The moment is read under the lock, so that times rise in the order of the pushes.
            let pushed_at_ms = now_ms();
            let pushed = account.push(kind, pushed_at_ms)?;
            Some(PushAnswer {
                id: pushed.id.to_string(),
                record: pushed.kind,
                pushed_at_ms,
                reached: pushed.reached,
            })
        })?
    }

    /// What was served to `account` so far, as records in five lists sorted by id. `None`: no such account.
    #[must_use]
    pub fn truth(&self, account: &str) -> Option<Value> {
        self.with(account, |account| account.served.to_json())
    }

    /// Every account with the number of records served of each kind.
    #[must_use]
    pub fn truth_counts(&self) -> Value {
        let rows = self.0.accounts.iter().map(|(name, account)| {
            let counts = locked(account).served.counts();
            json!({ "account": name, "served": counts })
        });
        json!({ "accounts": rows.collect::<Vec<_>>(), "paused": self.is_paused() })
    }

    /// Once this returns, nothing happens by itself until [`Site::resume`]. Pushes by hand still work.
    pub fn pause(&self) {
        self.0.paused.store(true, Ordering::SeqCst);
        // What is happening right now holds its account's lock: wait for it.
        for account in self.0.accounts.values() {
            drop(locked(account));
        }
    }

    /// Undoes [`Site::pause`].
    pub fn resume(&self) {
        self.0.paused.store(false, Ordering::SeqCst);
    }

    fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::SeqCst)
    }

    /// Ends every session of `account` and its push channels: the page then shows the login form. Returns how many
    /// sessions ended; `None`: no such account.
    #[must_use]
    pub fn expire(&self, account: &str) -> Option<usize> {
        let ended = locked(&self.0.sessions).end(account, None);
        self.with(account, |account| account.listeners.cut())?;
        Some(ended)
    }

    /// Ends one session of `account`, named as in [`Site::logins`]; the push channels stay. Returns whether it was
    /// open; `None`: no such account.
    #[must_use]
    pub fn expire_session(&self, account: &str, session: &str) -> Option<bool> {
        self.0.accounts.get(account)?;
        Some(locked(&self.0.sessions).end(account, Some(session)) > 0)
    }

    /// The logins of `account`, oldest first. `None`: no such account.
    #[must_use]
    pub fn logins(&self, account: &str) -> Option<Vec<Login>> {
        self.0.accounts.get(account)?;
        Some(locked(&self.0.sessions).of(account))
    }

    /// Checks name and password and opens a session. `None` when they do not fit.
    pub(crate) fn log_in(&self, name: &str, password: &str) -> Option<String> {
        if !self.0.accounts.contains_key(name) || password != self.0.config.password {
            return None;
        }
        Some(locked(&self.0.sessions).log_in(name))
    }

    /// The account of a session, if it is still open, which a request carried from a device and a tab.
    pub(crate) fn session(&self, token: &str, device: Option<&str>, tab: Option<&str>) -> Option<String> {
        locked(&self.0.sessions).seen(token, device, tab)
    }

    /// Notes that the creator page is served to the session with this token.
    pub(crate) fn page_served(&self, token: &str) {
        locked(&self.0.sessions).page_served(token);
    }

    /// Notes that a login page is served.
    pub(crate) fn login_page_served(&self) {
        locked(&self.0.codes).page_served();
    }

    /// A new code to scan for a visitor; those that it was shown before are worth nothing from now on.
    pub(crate) fn show_code(&self, visitor: &str) -> String {
        locked(&self.0.codes).show(visitor)
    }

    /// What has become of a code to scan; the token of a new session once it was confirmed.
    pub(crate) fn redeem_code(&self, token: &str) -> Confirmation {
        let confirmation = locked(&self.0.codes).redeem(token);
        match confirmation {
            Confirmation::By(account) => Confirmation::By(locked(&self.0.sessions).log_in(&account)),
            other => other,
        }
    }

    /// Opens a session for a code that was sent by SMS. `None` when it is not the last one of any account.
    pub(crate) fn verify(&self, code: &str) -> Option<String> {
        let account = locked(&self.0.codes).verify(code)?;
        Some(locked(&self.0.sessions).log_in(&account))
    }

    /// The phone of `account`'s owner scans a code: the one named, or the one that was shown last. Returns its token,
    /// or why it is worth nothing; `None`: no such account.
    #[must_use]
    pub fn scan(&self, account: &str, token: Option<&str>) -> Option<Result<String, &'static str>> {
        self.0.accounts.get(account)?;
        Some(locked(&self.0.codes).scan(account, token))
    }

    /// Sends `account`'s owner a code by SMS, and returns it. `None`: no such account.
    #[must_use]
    pub fn send_sms(&self, account: &str) -> Option<String> {
        self.0.accounts.get(account)?;
        Some(locked(&self.0.codes).send(account))
    }

    /// What is known of the login page: how often it was served to anybody (who asks for it has no account yet), the
    /// code to scan that was shown last, and the codes sent to `account`. `None`: no such account.
    #[must_use]
    pub fn login_page(&self, account: &str) -> Option<Value> {
        self.0.accounts.get(account)?;
        Some(locked(&self.0.codes).to_json(account))
    }

    /// Ends every push channel.
    pub(crate) fn cut_all(&self) {
        for account in self.0.accounts.values() {
            locked(account).listeners.cut();
        }
    }

    /// Lets things happen at the configured rate until `shutdown`; the accounts take turns.
    pub(crate) async fn live(self, shutdown: CancellationToken) {
        let rate = self.0.config.events_per_minute * self.0.accounts.len() as f64;
        if rate <= 0.0 {
            return;
        }
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(60.0 / rate));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for name in self.0.accounts.keys().cycle() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.with(name, |account| {
                // Looked at under the lock, so that nothing happens once `pause` has answered.
                if self.is_paused() {
                    return;
                }
                let kind = EventKind::chosen(&mut account.data);
                if account.push(kind, now_ms()).is_none() {
                    tracing::debug!(account.id = %name, ?kind, "nothing to happen to");
                }
            });
        }
    }
}
