//! What an account's settings must be before they are written, and how those that may be secrets are shown.

use std::collections::{BTreeMap, BTreeSet};

use snapfleet_protocol::{AccountConfig, ConfigError, Heartbeat, PlatformName};

/// What a value begins with that `snapfleet-worker seal` made: only workers can open it.
pub(super) const SEALED_PREFIX: &str = "sealed:";
/// What is shown in place of a secret; given back in a change, it stands for the value that is stored.
pub(super) const MASK: &str = "***";
/// What is shown in place of a sealed value.
pub(super) const MASK_SEALED: &str = "sealed:***";

/// What the names of settings contain whose values are secrets.
const SECRET_WORDS: [&str; 10] =
    ["pass", "pwd", "token", "secret", "cookie", "key", "credential", "session", "proxy", "authorization"];
/// Words of such names that are parts of harmless words as well.
const SECRET_WHOLE_WORDS: [&str; 4] = ["pin", "otp", "auth", "oauth"];

/// Why an account's settings are not taken. Each names the setting and the remedy, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Out of range, too many, too long.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A secret in plain text, which broker and backups would keep readable.
    #[error(
        "setting {0:?} looks like a secret and is not sealed: seal it with snapfleet-worker seal ACCOUNT {0}, or \
         allow it with --plain-secrets (plain_secrets: true)"
    )]
    PlainSecret(String),
    /// An address with a user or password in it, in plain text.
    #[error(
        "setting {0:?} has a user or password in its address and is not sealed: seal it with snapfleet-worker seal \
         ACCOUNT {0}, or allow it with --plain-secrets (plain_secrets: true)"
    )]
    PlainAddress(String),
    /// The mark of a hidden value, where no value is stored.
    #[error("setting {0:?} is given as a hidden value, and none is stored: give the value itself")]
    NothingHidden(String),
    /// No worker that is online could hold it.
    #[error("no online worker knows platform {platform}: {known}")]
    Platform {
        /// The platform.
        platform: PlatformName,
        /// Those that are known, in words.
        known: String,
    },
}

/// Whether a setting's value is a secret, by its name.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word)) || has_secret_word(name)
}

/// Goes through a name's words, as they are told apart in `user_pin`, `user-pin`, `userPin` and `PIN2`.
fn has_secret_word(name: &str) -> bool {
    let spread: String = name
        .char_indices()
        .flat_map(|(at, c)| {
            let begins = c.is_ascii_uppercase() && name[..at].ends_with(|c: char| c.is_ascii_lowercase());
            [begins.then_some('_'), Some(c.to_ascii_lowercase())]
        })
        .flatten()
        .collect();
    spread.split(|c: char| !c.is_ascii_alphabetic()).any(|word| SECRET_WHOLE_WORDS.contains(&word))
}

/// Whether a value is an address with a user or password in it, such as `http://user:password@host`.
fn holds_login(value: &str) -> bool {
    let rests = value.split("://").skip(1);
    rests.into_iter().any(|rest| rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')))
}

/// Whether a setting's value is a secret that everybody who has the bucket can read.
#[must_use]
pub(super) fn is_plain_secret(name: &str, value: &str) -> bool {
    !value.starts_with(SEALED_PREFIX) && (is_secret_name(name) || holds_login(value))
}

/// Whether settings can be written; secrets must be sealed unless `plain_secrets`, or stored so in `before`.
///
/// # Errors
/// [`SettingsError`] for the first that cannot.
pub fn check(
    config: &AccountConfig,
    before: Option<&AccountConfig>,
    plain_secrets: bool,
) -> Result<(), SettingsError> {
    config.check()?;
    for (name, value) in &config.settings {
        if value == MASK || value == MASK_SEALED {
            return Err(SettingsError::NothingHidden(name.clone()));
        }
        let stored_so = before.and_then(|before| before.settings.get(name)) == Some(value);
        if is_plain_secret(name, value) && !plain_secrets && !stored_so {
            let by_name = is_secret_name(name);
            let refused = if by_name { SettingsError::PlainSecret } else { SettingsError::PlainAddress };
            return Err(refused(name.clone()));
        }
    }
    Ok(())
}

/// Whether an online worker knows the platform. `None` where nobody is online, so that it cannot be told.
///
/// # Errors
/// [`SettingsError::Platform`], naming the platforms that are known.
pub fn check_platform(platform: &PlatformName, workers: &[Heartbeat]) -> Result<Option<()>, SettingsError> {
    if workers.is_empty() {
        return Ok(None);
    }
    let known: BTreeSet<&PlatformName> = workers.iter().flat_map(|worker| &worker.platforms).collect();
    if known.contains(platform) {
        return Ok(Some(()));
    }
    let names: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
    let known = match names.is_empty() {
        true => "they know none; see --platforms of snapfleet-worker".to_owned(),
        false => format!("known are {}", names.join(", ")),
    };
    Err(SettingsError::Platform { platform: platform.clone(), known })
}

/// The settings as they may be shown: sealed values and secrets hidden.
#[must_use]
pub fn masked(settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = |name: &str, value: &str| {
        if value.starts_with(SEALED_PREFIX) {
            MASK_SEALED.to_owned()
        } else if is_plain_secret(name, value) {
            MASK.to_owned()
        } else {
            value.to_owned()
        }
    };
    settings.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
}

/// Puts the stored values in the place of the marks of hidden ones, where what was shown comes back changed.
pub fn unmask(config: &mut AccountConfig, before: &AccountConfig) {
    let shown = masked(&before.settings);
    for (name, value) in &mut config.settings {
        let hidden = value == MASK || value == MASK_SEALED;
        if hidden && shown.get(name) == Some(value) {
            value.clone_from(&before.settings[name]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapfleet_protocol::{InstanceId, WorkerId};

    fn with(settings: &[(&str, &str)]) -> AccountConfig {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        AccountConfig { settings, ..AccountConfig::default() }
    }

    #[test]
    fn secrets_are_sealed_or_allowed_and_never_named_by_value() {
        for name in [
            "password",
            "API_Key",
            "cookie-jar",
            "authToken",
            "client_secret",
            "pwd",
            "userPass",
            "loginPin",
            "PIN2",
            "otp",
            "OTP_SEED",
            "auth",
            "session",
            "http_proxy",
        ] {
            let error = check(&with(&[(name, "hunter2")]), None, false).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("snapfleet-worker seal"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
            assert!(check(&with(&[(name, "hunter2")]), None, true).is_ok());
            assert!(check(&with(&[(name, "sealed:abc")]), None, false).is_ok());
        }
        for harmless in ["user", "author", "spinner", "shipping_url", "option", "adopted"] {
            assert!(check(&with(&[(harmless, "someone")]), None, false).is_ok(), "{harmless}");
        }
        assert!(check(&with(&[("user", MASK)]), None, true).is_err());
    }

    #[test]
    fn an_address_with_a_login_is_a_secret_under_any_name() {
        for address in ["http://me:hunter2@host/x", "socks5://hunter2@host:1", "direct,http://me:hunter2@h"] {
            let config = with(&[("base_url", address)]);
            let error = check(&config, None, false).unwrap_err().to_string();
            assert!(error.contains("base_url") && !error.contains("hunter2"), "{error}");
            assert_eq!(masked(&config.settings)["base_url"], MASK);
            let mut back = with(&[("base_url", MASK)]);
            unmask(&mut back, &config);
            assert_eq!((&back, check(&back, Some(&config), false)), (&config, Ok(())));
            assert!(check(&config, None, true).is_ok());
        }
        for harmless in ["http://host/@me", "http://host?mail=a@b", "me@host", "https://host:8090"] {
            assert_eq!(check(&with(&[("base_url", harmless)]), None, false), Ok(()), "{harmless}");
        }
    }

    #[test]
    fn what_was_hidden_comes_back_as_it_was() {
        let before = with(&[("password", "sealed:abc"), ("token", "plain"), ("user", "u")]);
        let mut back = with(&[]);
        back.settings = masked(&before.settings);
        assert_eq!(back, with(&[("password", MASK_SEALED), ("token", MASK), ("user", "u")]));
        unmask(&mut back, &before);
        assert_eq!(back, before);
        assert!(check(&back, Some(&before), false).is_ok());
        // Nothing is stored under this name.
        let mut wrong = with(&[("cookie", MASK)]);
        unmask(&mut wrong, &before);
        assert_eq!(check(&wrong, Some(&before), true), Err(SettingsError::NothingHidden("cookie".into())));
    }

    #[test]
    fn a_platform_is_known_by_some_worker_or_refused_with_those_that_are() {
        let name = |name| PlatformName::parse(name).unwrap();
        let mut worker = Heartbeat::new(InstanceId::parse("i").unwrap(), WorkerId::parse("w").unwrap());
        assert_eq!(check_platform(&name("demo"), &[]), Ok(None));
        assert!(check_platform(&name("demo"), &[worker.clone()]).is_err());
        worker.platforms = vec![name("demo"), name("b")];
        assert_eq!(check_platform(&name("demo"), &[worker.clone()]), Ok(Some(())));
        let error = check_platform(&name("dmeo"), &[worker]).unwrap_err().to_string();
        assert!(error.contains("dmeo") && error.contains("b, demo"), "{error}");
    }
}
