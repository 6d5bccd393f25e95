//! One account looked after outside of the fleet, by a person at this machine: what is known of it, and a browser of its
//! own.
//!
//! What is known comes from the command line, or from the broker's buckets, which are only read here. Whoever holds the
//! account meanwhile is not disturbed. Knows nothing of what is done with the account.

mod fleet;
mod own_browser;

use std::sync::Arc;

use snapfleet_protocol::fleet::check_pairs;
use snapfleet_protocol::{AccountId, PlatformName};

use crate::config::{LoneArgs, SettingArg};
use crate::drive;
use crate::pages::AccountPlan;
use crate::platform::{self, Platform, Settings};
use crate::session::{self, FleetKey, SessionExchange, SessionState};

pub(crate) use fleet::Fleet;
pub(crate) use own_browser::OwnBrowser;

/// Stands for a secret setting that is not given, where nothing is typed into a form.
const NOT_GIVEN: &str = "-";

/// An account and what is known of it.
pub(crate) struct Lone {
    pub(crate) account: AccountId,
    pub(crate) platform: Arc<Platform>,
    settings: Settings,
    /// Sessions to try, newest first.
    sessions: Vec<SessionState>,
    /// Whether somebody logs in by hand: the form is left alone.
    by_hand: bool,
}

impl Lone {
    /// Reads the platform's folder.
    ///
    /// # Errors
    /// One line that names the folder, the file or the setting.
    pub(crate) fn new(args: &LoneArgs, account: AccountId) -> anyhow::Result<Self> {
        let dir = platform::find_folder(args.platforms.as_deref())?.join(account.platform.as_str());
        anyhow::ensure!(
            dir.join("platform.toml").is_file(),
            "there is no platform {} ({} has no platform.toml): correct the name, or give the folder of platforms with --platforms",
            account.platform,
            dir.display()
        );
        let platform = Arc::new(Platform::load(&dir)?);
        Ok(Self { account, platform, settings: Settings::new(), sessions: Vec::new(), by_hand: false })
    }

    /// The same with settings from the command line. Where a secret one is missing, somebody is to log in by hand.
    ///
    /// # Errors
    /// One line that names the setting, and never shows its value.
    pub(crate) fn with_settings(
        mut self,
        given: &[SettingArg],
        key: Option<&FleetKey>,
    ) -> anyhow::Result<Self> {
        for SettingArg { name, value } in given {
            anyhow::ensure!(
                self.settings.insert(name.clone(), value.clone()).is_none(),
                "--setting {name} is given twice"
            );
        }
        check_pairs("setting", &self.settings)?;
        self.settings = session::open_settings(key, &self.account, &self.settings)?;
        Ok(self)
    }

    /// The same with the settings and the sessions that the fleet keeps.
    ///
    /// # Errors
    /// One line that names the setting or the account and the remedy.
    pub(crate) fn with_entry(mut self, settings: &Settings, key: &FleetKey) -> anyhow::Result<Self> {
        self.settings = session::open_settings(Some(key), &self.account, settings)?;
        Ok(self)
    }

    /// The same with sessions to try before logging in.
    pub(crate) fn with_sessions(self, sessions: Vec<SessionState>) -> Self {
        Self { sessions, ..self }
    }

    /// Sessions that are tried before logging in.
    pub(crate) fn sessions(&self) -> &[SessionState] {
        &self.sessions
    }

    /// The same with the login form left to a person.
    pub(crate) fn by_hand(self) -> Self {
        Self { by_hand: true, ..self }
    }

    /// Whether a secret setting is missing, so that the form cannot be filled in.
    pub(crate) fn lacks_secret(&self) -> bool {
        self.platform.secret_settings().any(|name| self.settings.get(name).is_none_or(String::is_empty))
    }

    /// The values of its secret settings.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let value = |name| self.settings.get(name).map(String::as_str);
        self.platform.secret_settings().filter_map(value).filter(|value| !value.is_empty())
    }

    /// What is driven for it; the session that the pages have comes out of the exchange in it.
    ///
    /// # Errors
    /// One line that names the account and the setting that does not fit.
    pub(crate) fn plan(&self) -> anyhow::Result<(AccountPlan, session::Exported)> {
        let (mut settings, by_hand) = (self.settings.clone(), self.by_hand || self.lacks_secret());
        if by_hand {
            for name in self.platform.secret_settings() {
                settings.insert(name.to_owned(), NOT_GIVEN.to_owned());
            }
        }
        let mut plan = drive::Plan::new(&self.platform, &self.account, &settings)?.account_plan();
        if let Some(login) = plan.login.as_mut().filter(|_| by_hand) {
            (login.submit, login.fill) = (None, Vec::new());
        }
        let (exchange, exported) = SessionExchange::new(self.sessions.clone(), None);
        plan.session = exchange;
        Ok((plan, exported))
    }
}

/// An account of a platform, given in full (`demo.shop-a`) or by its own name (`shop-a`).
///
/// # Errors
/// One line that names what was given.
pub(crate) fn account_of(platform: &str, account: &str) -> anyhow::Result<AccountId> {
    let platform = PlatformName::parse(platform)?;
    let id: AccountId = match account.contains('.') {
        true => account.parse()?,
        false => format!("{platform}.{account}").parse()?,
    };
    anyhow::ensure!(id.platform == platform, "account {id} is of another platform than {platform}");
    Ok(id)
}
