//! How are credentials sealed, and with which key? The file of the document alone opens nothing.
//!
//! XChaCha20-Poly1305 with a random nonce a value and the credential's name as associated data, so
//! that no value can be moved under another name. The key lies elsewhere: with the service manager, in
//! what a command says, else in a file in the folder of the store.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::passphrase::passphrase;

/// The file with the key in the folder of the store.
const KEY_FILE: &str = "credentials.key";
/// The key as the service manager gives it.
const KEY_OF_SERVICE: &str = "sess.key";
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// A key of the service manager must have so many bytes: it is random, and hashed as it is.
const SERVICE_KEY_BYTES_MIN: usize = 16;
/// The most that a file with a key may say.
const SAID_BYTES_MAX: u64 = 4_096;
/// Where the key may lie.
#[derive(Debug, Clone, Default)]
pub struct KeyPlaces {
    /// `$CREDENTIALS_DIRECTORY` of the service manager.
    pub service: Option<PathBuf>,
    /// The folder of the store; without it, nothing can be sealed.
    pub data: Option<PathBuf>,
}

type Key = Zeroizing<[u8; KEY_BYTES]>;

/// What seals and opens.
pub(super) struct Vault {
    places: KeyPlaces,
    /// The key, and the command that said it.
    key: Mutex<Option<(Key, Option<String>)>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Vault").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Vault {
    pub(super) fn new(places: KeyPlaces) -> Self {
        Self { places, key: Mutex::new(None) }
    }

    /// Seals a value under its name.
    pub(super) fn seal(
        &self,
        name: &str,
        value: &str,
        command: Option<String>,
    ) -> Result<String, String> {
        let key = self.key(command)?;
        let mut sealed = vec![0; NONCE_BYTES];
        getrandom::fill(&mut sealed).map_err(|err| format!("no randomness: {err}"))?;
        let payload = Payload { msg: value.as_bytes(), aad: name.as_bytes() };
        let text = cipher(&key)
            .encrypt(&nonce(&sealed), payload)
            .map_err(|_| format!("the credential `{name}` is too long"))?;
        sealed.extend_from_slice(&text);
        Ok(STANDARD.encode(sealed))
    }

    /// Opens what was sealed under this name. What is wrong names the credential.
    pub(super) fn open(
        &self,
        name: &str,
        sealed: &str,
        command: Option<String>,
    ) -> Result<Zeroizing<String>, String> {
        let key = self.key(command)?;
        let damaged = || {
            format!(
                "the credential `{name}` cannot be opened: it is damaged, or sealed with another key"
            )
        };
        let sealed = STANDARD.decode(sealed).map_err(|_| damaged())?;
        if sealed.len() < NONCE_BYTES {
            return Err(damaged());
        }
        let payload = Payload { msg: &sealed[NONCE_BYTES..], aad: name.as_bytes() };
        let opened = cipher(&key).decrypt(&nonce(&sealed), payload).map_err(|_| damaged())?;
        String::from_utf8(opened).map(Zeroizing::new).map_err(|_| damaged())
    }

    fn key(&self, command: Option<String>) -> Result<Key, String> {
        let mut held = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((key, from)) = &*held
            && *from == command
        {
            return Ok(key.clone());
        }
        let key = self.find_key(command.as_deref())?;
        *held = Some((key.clone(), command));
        Ok(key)
    }

    fn find_key(&self, command: Option<&str>) -> Result<Key, String> {
        if let Some(folder) = &self.places.service {
            let path = folder.join(KEY_OF_SERVICE);
            match read_limited(&path) {
                Ok(said) if said.len() >= SERVICE_KEY_BYTES_MIN => return Ok(hash(&said)),
                Ok(_) => return Err(format!("the key `{}` is too short", path.display())),
                Err(err) if err.kind() == ErrorKind::NotFound => {}
                Err(err) => return Err(format!("the key `{}`: {err}", path.display())),
            }
        }
        let folder = self.places.data.as_deref().ok_or("there is no place for a key")?;
        let own = key_file(&folder.join(KEY_FILE))?;
        let Some(command) = command else { return Ok(own) };
        let said = passphrase(command)?;
        let mut key = Key::default();
        // The random key of the file is the salt: the passphrase alone opens nothing either.
        argon2::Argon2::default()
            .hash_password_into(&said, &*own, &mut *key)
            .map_err(|err| format!("the passphrase cannot be used: {err}"))?;
        Ok(key)
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new_from_slice(&**key).expect("the key has the cipher's length")
}

fn nonce(sealed: &[u8]) -> XNonce {
    let bytes: [u8; NONCE_BYTES] = *sealed.first_chunk().expect("its length was looked at");
    bytes.into()
}

fn hash(said: &[u8]) -> Key {
    Zeroizing::new(Sha256::digest(said).into())
}

fn read_limited(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut said = Zeroizing::new(Vec::new());
    File::open(path)?.take(SAID_BYTES_MAX).read_to_end(&mut said)?;
    Ok(said)
}

/// The key in this file, which is made at the first use.
fn key_file(path: &Path) -> Result<Key, String> {
    let trouble = |what: &dyn std::fmt::Display| format!("the key `{}`: {what}", path.display());
    match read_limited(path) {
        Ok(said) => {
            let mode = fs::metadata(path).map_err(|err| trouble(&err))?.mode() & 0o077;
            if mode != 0 {
                return Err(trouble(&"it is open to others; close it with `chmod 600`"));
            }
            let key: [u8; KEY_BYTES] =
                said[..].try_into().map_err(|_| trouble(&"it is damaged; restore it"))?;
            Ok(Zeroizing::new(key))
        }
        Err(err) if err.kind() == ErrorKind::NotFound => {
            let mut key = Key::default();
            getrandom::fill(&mut *key).map_err(|err| trouble(&err))?;
            write_key(path, &key).map_err(|err| trouble(&err))?;
            Ok(key)
        }
        Err(err) => Err(trouble(&err)),
    }
}

/// On disk when it returns: what is sealed with it must never outlive it.
fn write_key(path: &Path, key: &Key) -> std::io::Result<()> {
    let unfinished = path.with_extension(format!("key.{}.tmp", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&**key)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(path.parent().expect("a key lies in a folder"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(folder: &Path) -> Vault {
        Vault::new(KeyPlaces { service: None, data: Some(folder.to_owned()) })
    }

    #[test]
    fn what_is_sealed_opens_under_its_name_with_its_key_and_never_else() {
        let temp = tempfile::tempdir().unwrap();
        let vault = vault(temp.path());
        let sealed = vault.seal("a", "hush", None).unwrap();
        assert_ne!(sealed, vault.seal("a", "hush", None).unwrap());
        assert_eq!(*vault.open("a", &sealed, None).unwrap(), "hush");
        assert!(vault.open("b", &sealed, None).unwrap_err().contains("`b`"));
        let bytes = STANDARD.decode(&sealed).unwrap();
        for place in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[place] ^= 1;
            assert!(vault.open("a", &STANDARD.encode(bad), None).unwrap_err().contains("`a`"));
        }
        for bad in ["", "?", "aGk="] {
            vault.open("a", bad, None).unwrap_err();
        }

        let path = temp.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(*self::vault(temp.path()).open("a", &sealed, None).unwrap(), "hush");
        fs::remove_file(&path).unwrap();
        self::vault(temp.path()).open("a", &sealed, None).unwrap_err();
        fs::write(&path, "short").unwrap();
        self::vault(temp.path()).open("a", &sealed, None).unwrap_err();
    }

    #[test]
    fn the_key_is_the_service_managers_else_a_passphrases_else_the_files() {
        let temp = tempfile::tempdir().unwrap();
        let file = vault(temp.path());
        let by_file = file.seal("a", "hush", None).unwrap();
        let say = |it: &str| Some(format!("echo {it}"));
        let by_phrase = file.seal("a", "hush", say("open sesame")).unwrap();
        assert_eq!(*file.open("a", &by_phrase, say("open sesame")).unwrap(), "hush");
        file.open("a", &by_phrase, say("close")).unwrap_err();
        file.open("a", &by_phrase, None).unwrap_err();
        assert!(
            file.open("a", &by_file, Some("exit 3".into())).unwrap_err().contains("key_command")
        );
        assert!(file.seal("a", "x", Some("true".into())).unwrap_err().contains("says nothing"));

        let service = tempfile::tempdir().unwrap();
        fs::write(service.path().join(KEY_OF_SERVICE), [7; 32]).unwrap();
        let with = |folder: &Path| {
            Vault::new(KeyPlaces { service: Some(folder.into()), data: Some(temp.path().into()) })
        };
        let by_service = with(service.path()).seal("a", "hush", say("x")).unwrap();
        assert_eq!(*with(service.path()).open("a", &by_service, None).unwrap(), "hush");
        file.open("a", &by_service, None).unwrap_err();
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(*with(empty.path()).open("a", &by_file, None).unwrap(), "hush");
    }
}
