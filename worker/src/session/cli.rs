//! What the commands `key new` and `seal` print. Knows neither arguments nor the terminal.

use anyhow::Context;
use snapfleet_protocol::AccountId;

use super::key::{self, FleetKey};
use super::seal::{is_sealed, seal_setting};

/// A new key's text, for `snapfleet-worker key new`.
///
/// # Errors
/// Where the operating system gives no random bytes.
pub fn key_new() -> anyhow::Result<String> {
    Ok(key::new_key()?)
}

/// The sealed text of a setting's value, for `snapfleet-worker seal ACCOUNT SETTING`. One line's end is taken off
/// `value`, as it comes from a terminal or an `echo`.
///
/// # Errors
/// One line that names what does not fit; it never shows the value.
pub fn seal(key: &FleetKey, account: &str, setting: &str, value: &str) -> anyhow::Result<String> {
    let account: AccountId = account.parse()?;
    let value = value.strip_suffix('\n').unwrap_or(value);
    let value = value.strip_suffix('\r').unwrap_or(value);
    anyhow::ensure!(
        !value.is_empty(),
        "no value was given for setting {setting}: write it to the standard input"
    );
    anyhow::ensure!(!is_sealed(value), "the value given for setting {setting} is sealed already");
    let pair = [(setting.to_owned(), value.to_owned())].into();
    snapfleet_protocol::fleet::check_pairs("setting", &pair)?;
    seal_setting(key, &account, setting, value).with_context(|| format!("setting {setting} of {account}"))
}

#[cfg(test)]
mod tests {
    use super::super::seal::open_setting;
    use super::*;

    #[test]
    fn a_value_from_the_terminal_is_sealed_without_its_line_end() {
        let key = FleetKey::parse(&key_new().unwrap(), "it").unwrap();
        let open =
            |sealed: &str| open_setting(&key, &"demo.ann".parse().unwrap(), "password", sealed).unwrap();
        for typed in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            assert_eq!(open(&seal(&key, "demo.ann", "password", typed).unwrap()), "hunter2");
        }
        assert_eq!(open(&seal(&key, "demo.ann", "password", " two words ").unwrap()), " two words ");
    }

    #[test]
    fn what_cannot_be_sealed_is_named_and_not_shown() {
        let key = FleetKey::parse(&key_new().unwrap(), "it").unwrap();
        for (account, setting, value, named) in [
            ("ann", "password", "hunter2", "ann"),
            ("demo.ann", "pass word", "hunter2", "pass word"),
            ("demo.ann", "password", "\n", "password"),
            ("demo.ann", "password", "hunter2\nhunter2", "password"),
            ("demo.ann", "password", "sealed:hunter2", "password"),
        ] {
            let error = format!("{:#}", seal(&key, account, setting, value).unwrap_err());
            assert!(error.contains(named) && !error.contains("hunter2"), "{error}");
        }
        let error = format!("{:#}", seal(&key, "demo.ann", "password", &"x".repeat(4_000)).unwrap_err());
        assert!(error.contains("setting password of demo.ann") && error.contains("shorten"), "{error}");
    }
}
