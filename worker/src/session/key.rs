//! The fleet's key: the one secret with which workers seal what the broker keeps for them. Neither the master nor
//! the broker ever sees it.
//!
//! Reads the key's file or takes its text; it must not know what is sealed with it, nor read the environment.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

/// A key's length, in bytes.
const KEY_BYTES: usize = 32;
/// More than any way of writing a key, in bytes.
const FILE_BYTES_MAX: u64 = 4_096;
/// What group and others must not be able to do with the key's file.
const MODE_OTHERS: u32 = 0o077;
/// What the key's name is made from.
const ID_LABEL: &[u8] = b"snapfleet key id v1";
/// How to make a key, for messages.
const MAKE_ONE: &str = "make one with `snapfleet-worker key new`";

/// Why there is no key. Each is one line with the remedy; none shows anything of the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("session key file {path}: {error}: give the file that all workers share, or {MAKE_ONE}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// Others than its owner may use the file.
    #[error("session key file {path} is open to others (mode {mode:03o}): chmod 600 {path}")]
    OpenToOthers {
        /// Which file.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// Not a key.
    #[error(
        "{from} is not a key of {KEY_BYTES} bytes, written as 64 hex digits or as base64: correct it, or {MAKE_ONE}"
    )]
    Malformed {
        /// The file or variable that it came from.
        from: String,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    NoRandom(String),
}

/// Names a key without telling anything of it: two workers with the same have the same key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub(super) [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key that is ready for use; its bytes are kept in the cipher alone and wiped with it.
#[derive(Clone)]
pub struct FleetKey {
    cipher: XChaCha20Poly1305,
    id: KeyId,
}

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FleetKey {
    /// Reads the key from a file of its owner's own.
    ///
    /// # Errors
    /// [`KeyError`] where the file is missing, open to group or others in any way, or holds no key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let shown = path.display().to_string();
        let unreadable = |error| KeyError::Unreadable { path: shown.clone(), error };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        // Of the file that was opened, whatever the path names by now.
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
        if mode & MODE_OTHERS != 0 {
            return Err(KeyError::OpenToOthers { path: shown, mode });
        }
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
        let from = format!("session key file {shown}");
        match std::str::from_utf8(&text) {
            Ok(text) => Self::parse(text, &from),
            Err(_) => Err(KeyError::Malformed { from }),
        }
    }

    /// Takes the key's text: 64 hex digits, or base64. `from` says where it came from, for the message.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn parse(text: &str, from: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let bytes = hex_bytes(text).or_else(|| STANDARD.decode(text).ok()?.try_into().ok());
        let bytes: [u8; KEY_BYTES] = bytes.ok_or_else(|| KeyError::Malformed { from: from.to_owned() })?;
        Self::of(&Key::from(bytes)).ok_or_else(|| KeyError::Malformed { from: from.to_owned() })
    }

    fn of(key: &Key) -> Option<Self> {
        let cipher = XChaCha20Poly1305::new(key);
        // The tag of a message under a nonce that no other message has: it is all that is told of the key.
        let tag = cipher.encrypt(&XNonce::default(), Payload { msg: &[], aad: ID_LABEL }).ok()?;
        Some(Self { id: KeyId(*tag.first_chunk()?), cipher })
    }

    /// The key's name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// A fresh nonce and the ciphertext; `None` where the system gives no random bytes.
    pub(super) fn encrypt(&self, plain: &[u8], aad: &[u8]) -> Option<(XNonce, Vec<u8>)> {
        let nonce = XNonce::try_generate().ok()?;
        let sealed = self.cipher.encrypt(&nonce, Payload { msg: plain, aad }).ok()?;
        Some((nonce, sealed))
    }

    /// The plain text, if the ciphertext was made with this key for the same `aad` and is whole.
    pub(super) fn decrypt(&self, nonce: &XNonce, sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
        self.cipher.decrypt(nonce, Payload { msg: sealed, aad }).ok()
    }
}

/// The text of a new random key, as 64 hex digits.
///
/// # Errors
/// [`KeyError::NoRandom`].
pub fn new_key() -> Result<String, KeyError> {
    let key = Key::try_generate().map_err(|error| KeyError::NoRandom(error.to_string()))?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn hex_bytes(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; KEY_BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_reads_the_same_as_hex_and_as_base64_and_is_named_without_being_shown() {
        let text = new_key().unwrap();
        let key = FleetKey::parse(&format!("  {text}\n"), "it").unwrap();
        let base64 = STANDARD.encode(hex_bytes(&text).unwrap());
        assert_eq!(FleetKey::parse(&base64, "it").unwrap().id(), key.id());
        assert_ne!(FleetKey::parse(&new_key().unwrap(), "it").unwrap().id(), key.id());
        let id = key.id().to_string();
        assert_eq!(id.len(), 8);
        assert!(!text.contains(&id), "the name is no part of the key");
        assert!(!format!("{key:?}").contains(&text[..8]));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let key = new_key().unwrap();
        for bad in ["", "secret!", &key[1..], &format!("{key}00"), &key.replace(&key[..1], "g"), "c2hvcnQ="] {
            let error = FleetKey::parse(bad, "SNAPFLEET_SESSION_KEY").unwrap_err().to_string();
            assert!(error.contains("SNAPFLEET_SESSION_KEY") && error.contains("key new"), "{error}");
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn a_key_file_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let error = FleetKey::read(&path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("No such file"), "{error}");
        std::fs::write(&path, new_key().unwrap()).unwrap();
        for (mode, open) in
            [(0o600, false), (0o400, false), (0o640, true), (0o604, true), (0o620, true), (0o601, true)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = FleetKey::read(&path);
            assert_eq!(matches!(read, Err(KeyError::OpenToOthers { .. })), open, "{mode:o}: {read:?}");
            assert_eq!(read.is_ok(), !open, "{mode:o}");
        }
        let error = FleetKey::read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && !error.contains('\n'), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, [0xff; 32]).unwrap();
        assert!(matches!(FleetKey::read(&path), Err(KeyError::Malformed { .. })));
    }
}
