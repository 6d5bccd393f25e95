//! What is sealed with the fleet's key: an account's session for the bucket `sessions`, and secret settings.
//!
//! Each is bound to what it is for, so that it opens nowhere else: a session to its account and epoch, a setting to
//! its account and name. Knows neither the broker nor the browser.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chacha20poly1305::XNonce;
use snapfleet_protocol::AccountId;
use snapfleet_protocol::fleet::VALUE_BYTES_MAX;

use super::key::{FleetKey, KeyId};
use super::state::SessionState;

/// The most bytes of a sealed session: well below the broker's max_payload.
pub const SESSION_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a sealed setting begins with.
const SEALED_PREFIX: &str = "sealed:";

/// A sealed session: magic with version, the key's name, the epoch, the nonce; then the ciphertext.
const MAGIC: [u8; 4] = *b"SFS1";
const NONCE_BYTES: usize = 24;
const SESSION_HEAD: usize = MAGIC.len() + 4 + 8 + NONCE_BYTES;
/// A sealed setting: version, the key's name, the nonce; then the ciphertext.
const SETTING_VERSION: u8 = 1;
const SETTING_HEAD: usize = 1 + 4 + NONCE_BYTES;

/// Why something cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// More than is kept.
    #[error("the session takes {bytes} bytes, more than the {SESSION_BYTES_MAX} that are kept")]
    TooLarge {
        /// What it would take.
        bytes: usize,
    },
    /// A setting whose sealed form does not fit into the account's settings.
    #[error(
        "sealed, the value takes {bytes} bytes, more than the {VALUE_BYTES_MAX} of a setting: shorten it"
    )]
    SettingTooLarge {
        /// What it would take.
        bytes: usize,
    },
    /// No random bytes, or the state cannot be written down.
    #[error("it cannot be encrypted: {0}")]
    Failed(&'static str),
}

/// Why something sealed cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another key.
    #[error(
        "it was sealed with key {sealed} and this worker has key {ours}: give it the key that the other workers have"
    )]
    WrongKey {
        /// The name of the key that it was sealed with.
        sealed: KeyId,
        /// The name of ours.
        ours: KeyId,
    },
    /// Not what a worker has sealed, or sealed for something else.
    #[error("it is corrupt ({0})")]
    Corrupt(&'static str),
}

/// Seals a session for `account` as of `epoch`.
///
/// # Errors
/// [`SealError`]; nothing is ever cut off to fit.
pub fn seal_session(
    key: &FleetKey,
    account: &AccountId,
    epoch: u64,
    state: &SessionState,
) -> Result<Bytes, SealError> {
    let plain = serde_json::to_vec(state).map_err(|_| SealError::Failed("the session is not JSON"))?;
    let (nonce, sealed) =
        key.encrypt(&plain, &session_aad(account, epoch)).ok_or(SealError::Failed("no random bytes"))?;
    let bytes = [&MAGIC[..], &key.id().0, &epoch.to_be_bytes(), &nonce, &sealed].concat();
    if bytes.len() > SESSION_BYTES_MAX {
        return Err(SealError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes.into())
}

/// Opens what [`seal_session`] has sealed for the same account; tells its epoch, which is authentic.
///
/// # Errors
/// [`OpenError`].
pub fn open_session(
    key: &FleetKey,
    account: &AccountId,
    bytes: &[u8],
) -> Result<(u64, SessionState), OpenError> {
    let corrupt = OpenError::Corrupt;
    let (head, sealed) = bytes.split_at_checked(SESSION_HEAD).ok_or(corrupt("it is too short"))?;
    let rest = head.strip_prefix(&MAGIC).ok_or(corrupt("it does not begin as a sealed session"))?;
    let (id, rest) = rest.split_first_chunk().ok_or(corrupt("it is too short"))?;
    let (epoch, nonce) = rest.split_first_chunk().ok_or(corrupt("it is too short"))?;
    same_key(key, *id)?;
    let nonce = XNonce::try_from(nonce).map_err(|_| corrupt("its nonce is cut"))?;
    let epoch = u64::from_be_bytes(*epoch);
    let plain = key
        .decrypt(&nonce, sealed, &session_aad(account, epoch))
        .ok_or(corrupt("it was changed, or sealed for another account or epoch"))?;
    let state = serde_json::from_slice(&plain).map_err(|_| corrupt("what it holds is not a session"))?;
    Ok((epoch, state))
}

fn session_aad(account: &AccountId, epoch: u64) -> Vec<u8> {
    [b"snapfleet session v1\0", account.to_string().as_bytes(), b"\0", &epoch.to_be_bytes()].concat()
}

/// Seals the value of one setting of one account, as text that can stand in its place.
///
/// # Errors
/// [`SealError`] where it would not fit into a setting.
pub fn seal_setting(
    key: &FleetKey,
    account: &AccountId,
    name: &str,
    value: &str,
) -> Result<String, SealError> {
    let (nonce, sealed) = key
        .encrypt(value.as_bytes(), &setting_aad(account, name))
        .ok_or(SealError::Failed("no random bytes"))?;
    let bytes = [&[SETTING_VERSION][..], &key.id().0, &nonce, &sealed].concat();
    let text = format!("{SEALED_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    if text.len() > VALUE_BYTES_MAX {
        return Err(SealError::SettingTooLarge { bytes: text.len() });
    }
    Ok(text)
}

/// Whether a setting's value is sealed.
#[must_use]
pub fn is_sealed(value: &str) -> bool {
    value.starts_with(SEALED_PREFIX)
}

/// Opens the value of the same setting of the same account.
///
/// # Errors
/// [`OpenError`], also where it is not sealed at all.
pub fn open_setting(
    key: &FleetKey,
    account: &AccountId,
    name: &str,
    sealed: &str,
) -> Result<String, OpenError> {
    let corrupt = OpenError::Corrupt;
    let text = sealed.strip_prefix(SEALED_PREFIX).ok_or(corrupt("it is not sealed"))?;
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| corrupt("it is not base64"))?;
    let (head, sealed) = bytes.split_at_checked(SETTING_HEAD).ok_or(corrupt("it is too short"))?;
    let rest = head.strip_prefix(&[SETTING_VERSION]).ok_or(corrupt("its version is unknown"))?;
    let (id, nonce) = rest.split_first_chunk().ok_or(corrupt("it is too short"))?;
    same_key(key, *id)?;
    let nonce = XNonce::try_from(nonce).map_err(|_| corrupt("its nonce is cut"))?;
    let plain = key
        .decrypt(&nonce, sealed, &setting_aad(account, name))
        .ok_or(corrupt("it was changed, or sealed for another account or setting"))?;
    String::from_utf8(plain).map_err(|_| corrupt("what it holds is not text"))
}

fn setting_aad(account: &AccountId, name: &str) -> Vec<u8> {
    format!("snapfleet setting v1\0{account}\0{name}").into_bytes()
}

fn same_key(key: &FleetKey, sealed: [u8; 4]) -> Result<(), OpenError> {
    let (sealed, ours) = (KeyId(sealed), key.id());
    if sealed == ours { Ok(()) } else { Err(OpenError::WrongKey { sealed, ours }) }
}

/// Why an account's settings cannot be read. The value is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// It cannot be opened.
    #[error(
        "setting {name} of {account} cannot be opened: {error}; seal it anew with `snapfleet-worker seal`"
    )]
    Open {
        /// Whose.
        account: AccountId,
        /// Which.
        name: String,
        /// Why.
        error: OpenError,
    },
    /// There is no key.
    #[error(
        "setting {name} of {account} is sealed and this worker has no key: start it with --session-key-file"
    )]
    NoKey {
        /// Whose.
        account: AccountId,
        /// Which.
        name: String,
    },
}

/// An account's settings with the sealed ones opened: what its platform takes.
///
/// # Errors
/// [`SettingError`] for the first that cannot be opened.
pub fn open_settings(
    key: Option<&FleetKey>,
    account: &AccountId,
    settings: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, SettingError> {
    let mut open = settings.clone();
    for (name, value) in open.iter_mut().filter(|(_, value)| is_sealed(value)) {
        let (account, named) = (account.clone(), name.clone());
        let Some(key) = key else { return Err(SettingError::NoKey { account, name: named }) };
        *value = open_setting(key, &account, name, value).map_err(|error| SettingError::Open {
            account,
            name: named,
            error,
        })?;
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::key::new_key;

    fn key() -> FleetKey {
        FleetKey::parse(&new_key().unwrap(), "it").unwrap()
    }

    fn account(text: &str) -> AccountId {
        text.parse().unwrap()
    }

    fn state() -> SessionState {
        let mut state = SessionState::default();
        state.local.insert("https://a.example".into(), "[[\"token\",\"hunter2\"]]".into());
        state
    }

    #[test]
    fn a_session_opens_with_its_key_for_its_account_alone() {
        let (key, ann) = (key(), account("demo.ann"));
        let sealed = seal_session(&key, &ann, 7, &state()).unwrap();
        assert_eq!(open_session(&key, &ann, &sealed), Ok((7, state())));
        assert!(!String::from_utf8_lossy(&sealed).contains("hunter2"));
        assert_ne!(seal_session(&key, &ann, 7, &state()).unwrap(), sealed, "each has a nonce of its own");
        let other = open_session(&key, &account("demo.bob"), &sealed);
        assert!(matches!(other, Err(OpenError::Corrupt(_))), "{other:?}");
        let wrong = open_session(&self::key(), &ann, &sealed);
        assert!(matches!(wrong, Err(OpenError::WrongKey { .. })), "{wrong:?}");
        assert!(wrong.unwrap_err().to_string().contains(&key.id().to_string()));
    }

    #[test]
    fn no_bit_of_a_session_can_be_changed_and_none_cut() {
        let (key, ann) = (key(), account("demo.ann"));
        let sealed = seal_session(&key, &ann, 7, &state()).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open_session(&key, &ann, &changed).is_err(), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert!(open_session(&key, &ann, &sealed[..len]).is_err(), "cut to {len}");
        }
        // The epoch stands in clear, and another one does not open.
        let mut later = sealed.to_vec();
        later[8..16].copy_from_slice(&8_u64.to_be_bytes());
        assert!(matches!(open_session(&key, &ann, &later), Err(OpenError::Corrupt(_))));
    }

    #[test]
    fn a_session_that_is_too_large_is_refused_whole() {
        let mut state = state();
        state.local.insert("https://b.example".into(), "x".repeat(SESSION_BYTES_MAX - 1_000));
        assert!(seal_session(&key(), &account("demo.ann"), 1, &state).is_ok());
        state.local.insert("https://b.example".into(), "x".repeat(SESSION_BYTES_MAX));
        let error = seal_session(&key(), &account("demo.ann"), 1, &state).unwrap_err();
        assert!(matches!(error, SealError::TooLarge { bytes } if bytes > SESSION_BYTES_MAX));
    }

    #[test]
    fn a_setting_opens_for_its_account_and_name_alone() {
        let (key, ann) = (key(), account("demo.ann"));
        let sealed = seal_setting(&key, &ann, "password", "pässword 1!").unwrap();
        assert!(is_sealed(&sealed) && !is_sealed("password"));
        let config = snapfleet_protocol::AccountConfig {
            settings: [("password".to_owned(), sealed.clone()), ("user".into(), "ann".into())].into(),
            ..Default::default()
        };
        config.check().unwrap();
        let open = open_settings(Some(&key), &ann, &config.settings).unwrap();
        assert_eq!((open["password"].as_str(), open["user"].as_str()), ("pässword 1!", "ann"));
        assert!(open_setting(&key, &account("demo.bob"), "password", &sealed).is_err());
        assert!(open_setting(&key, &ann, "pin", &sealed).is_err());
        assert!(open_setting(&key, &ann, "password", "sealed:").is_err());
        let error = open_settings(Some(&self::key()), &ann, &config.settings).unwrap_err().to_string();
        assert!(error.contains("setting password of demo.ann") && error.contains("key"), "{error}");
        let error = open_settings(None, &ann, &config.settings).unwrap_err().to_string();
        assert!(error.contains("--session-key-file"), "{error}");
        let mut changed = sealed.into_bytes();
        *changed.last_mut().unwrap() ^= 1;
        assert!(open_setting(&key, &ann, "password", &String::from_utf8(changed).unwrap()).is_err());
        assert!(seal_setting(&key, &ann, "password", &"x".repeat(VALUE_BYTES_MAX)).is_err());
    }
}
