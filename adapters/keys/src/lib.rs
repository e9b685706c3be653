//! Private keys in an encrypted file: the key store of the embedded default.
//!
//! The file is JSON: a header with the Argon2id parameters and salt, a nonce, and all keys sealed together with AES-256-GCM
//! under a key derived from the passphrase; the header is authenticated with them. Each change writes a whole new file beside
//! the old one and renames it into place, under a lock that other processes of the same data directory honour.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use omt_crypto::{Algorithm, KeyMaterial, KeyStore, KeyStoreError, Provider, SigningKey};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};
use zeroize::Zeroizing;

/// Argon2id cost (RFC 9106 §4, second recommended option: 64 MiB, 3 passes).
const KDF: Kdf = Kdf { memory_kib: 65_536, passes: 3, lanes: 4 };

/// Argon2id parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Kdf {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// What is readable without the passphrase; authenticated as additional data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: String,
    kdf: Kdf,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    header: Header,
    nonce: String,
    ciphertext: String,
}

const FORMAT: &str = "openmediatrust-keystore/1";

#[derive(Serialize, Deserialize)]
struct StoredKey {
    algorithm: Algorithm,
    private: String,
    public: String,
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.private);
    }
}

type StoredKeys = BTreeMap<String, StoredKey>;

struct Loaded {
    algorithm: Algorithm,
    public: Vec<u8>,
    key: Arc<dyn SigningKey>,
}

/// The key store in one encrypted file.
pub struct KeystoreFile {
    path: PathBuf,
    provider: Arc<dyn Provider>,
    header: Header,
    sealing_key: LessSafeKey,
    loaded: RwLock<HashMap<String, Loaded>>,
}

fn device(doing: &str) -> impl FnOnce(std::io::Error) -> KeyStoreError + '_ {
    move |error| KeyStoreError::Device(format!("{doing}: {error}"))
}

impl KeystoreFile {
    /// Opens the file, or makes an empty one. A wrong passphrase is [`KeyStoreError::Locked`].
    pub fn open(path: &Path, passphrase: &str, provider: Arc<dyn Provider>) -> Result<Self, KeyStoreError> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(device("cannot create the key store's directory"))?;
        }
        let _lock = lock(path)?;
        let existing = read_sealed(path)?;
        let header = match &existing {
            Some(sealed) => sealed.header.clone(),
            None => Header { format: FORMAT.into(), kdf: KDF, salt: BASE64.encode(random::<16>()?) },
        };
        if header.format != FORMAT {
            return Err(KeyStoreError::Device(format!("{} is not a key store of this version", path.display())));
        }
        let sealing_key = derive(passphrase, &header)?;
        let store = Self { path: path.to_owned(), provider, header, sealing_key, loaded: RwLock::default() };
        match existing {
            Some(sealed) => store.load_all(&store.unseal(&sealed)?)?,
            None => store.write(&StoredKeys::new())?,
        }
        Ok(store)
    }

    fn unseal(&self, sealed: &Sealed) -> Result<StoredKeys, KeyStoreError> {
        if sealed.header != self.header {
            return Err(KeyStoreError::Locked);
        }
        let nonce = BASE64.decode(&sealed.nonce).map_err(|_| KeyStoreError::Locked)?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| KeyStoreError::Locked)?;
        let mut bytes = Zeroizing::new(BASE64.decode(&sealed.ciphertext).map_err(|_| KeyStoreError::Locked)?);
        let plain = self
            .sealing_key
            .open_in_place(nonce, Aad::from(aad(&self.header)?), &mut bytes)
            .map_err(|_| KeyStoreError::Locked)?;
        serde_json::from_slice(plain).map_err(|_| KeyStoreError::Locked)
    }

    /// Writes beside the file, makes it durable and renames it into place.
    fn write(&self, keys: &StoredKeys) -> Result<(), KeyStoreError> {
        let mut bytes = Zeroizing::new(serde_json::to_vec(keys).map_err(|e| KeyStoreError::Device(e.to_string()))?);
        let nonce = random::<NONCE_LEN>()?;
        let sealed_failed = |_| KeyStoreError::Device("sealing failed".into());
        self.sealing_key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad(&self.header)?), &mut *bytes)
            .map_err(sealed_failed)?;
        let sealed = Sealed { header: self.header.clone(), nonce: BASE64.encode(nonce), ciphertext: BASE64.encode(&*bytes) };
        let text = serde_json::to_vec_pretty(&sealed).map_err(|e| KeyStoreError::Device(e.to_string()))?;
        let temporary = self.path.with_extension("new");
        let mut file = private_file(&temporary).map_err(device("cannot write the key store"))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(device("cannot write the key store"))?;
        fs::rename(&temporary, &self.path).map_err(device("cannot replace the key store"))?;
        if let Some(dir) = self.path.parent() {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            File::open(dir).and_then(|d| d.sync_all()).map_err(device("cannot sync the key store's directory"))?;
        }
        Ok(())
    }

    fn load_all(&self, keys: &StoredKeys) -> Result<(), KeyStoreError> {
        let mut loaded = self.loaded.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (name, stored) in keys {
            if !loaded.contains_key(name) {
                let decode = |text: &str| BASE64.decode(text).map_err(|_| KeyStoreError::Locked);
                let material = KeyMaterial {
                    algorithm: stored.algorithm,
                    private: Zeroizing::new(decode(&stored.private)?),
                    public: decode(&stored.public)?,
                };
                loaded.insert(name.clone(), self.prepare(material)?);
            }
        }
        Ok(())
    }

    fn prepare(&self, material: KeyMaterial) -> Result<Loaded, KeyStoreError> {
        let key = Arc::from(self.provider.load(&material)?);
        Ok(Loaded { algorithm: material.algorithm, public: material.public, key })
    }

    /// Reads what another process may have added.
    fn reload(&self) -> Result<StoredKeys, KeyStoreError> {
        let sealed = read_sealed(&self.path)?.ok_or_else(|| KeyStoreError::Device("the key store's file is gone".into()))?;
        let keys = self.unseal(&sealed)?;
        self.load_all(&keys)?;
        Ok(keys)
    }

    fn find<T>(&self, name: &str, get: impl Fn(&Loaded) -> T) -> Result<Option<T>, KeyStoreError> {
        let look = || self.loaded.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(name).map(&get);
        if let Some(found) = look() {
            return Ok(Some(found));
        }
        self.reload()?;
        Ok(look())
    }
}

impl KeyStore for KeystoreFile {
    fn generate(&self, name: &str, algorithm: Algorithm) -> Result<Vec<u8>, KeyStoreError> {
        let material = self.provider.generate(algorithm)?;
        let _lock = lock(&self.path)?;
        let mut keys = self.reload()?;
        if keys.contains_key(name) {
            return Err(KeyStoreError::Exists(name.to_owned()));
        }
        let stored = StoredKey { algorithm, private: BASE64.encode(&*material.private), public: BASE64.encode(&material.public) };
        keys.insert(name.to_owned(), stored);
        self.write(&keys)?;
        let public = material.public.clone();
        let prepared = self.prepare(material)?;
        self.loaded.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(name.to_owned(), prepared);
        Ok(public)
    }

    fn public_key(&self, name: &str) -> Result<Option<(Algorithm, Vec<u8>)>, KeyStoreError> {
        self.find(name, |loaded| (loaded.algorithm, loaded.public.clone()))
    }

    fn sign(&self, name: &str, message: &[u8]) -> Result<Vec<u8>, KeyStoreError> {
        let key = self.find(name, |loaded| loaded.key.clone())?.ok_or_else(|| KeyStoreError::NoSuchKey(name.to_owned()))?;
        Ok(key.sign(message)?)
    }

    fn check(&self) -> Result<(), KeyStoreError> {
        let sealed = read_sealed(&self.path)?.ok_or_else(|| KeyStoreError::Device("the key store's file is gone".into()))?;
        if sealed.header == self.header { Ok(()) } else { Err(KeyStoreError::Locked) }
    }

    fn describe(&self) -> String {
        format!("file:{}", self.path.display())
    }
}

/// Reads the passphrase file of the embedded default, or makes one with a random passphrase, readable by the owner only.
pub fn passphrase_file(path: &Path) -> Result<Zeroizing<String>, KeyStoreError> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(Zeroizing::new(text.trim().to_owned())),
        Ok(_) => return Err(KeyStoreError::Device(format!("{} is empty", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(device("cannot read the passphrase file")(error)),
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(device("cannot create the data directory"))?;
    }
    let passphrase = Zeroizing::new(BASE64.encode(random::<32>()?));
    // Written whole and then linked into place: a crash or a second process never leaves half a passphrase.
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = private_file(&temporary).map_err(device("cannot write the passphrase file"))?;
    writeln!(file, "{}", *passphrase).and_then(|()| file.sync_all()).map_err(device("cannot write the passphrase file"))?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).map_err(device("cannot write the passphrase file"))?;
    match linked {
        Ok(()) => Ok(passphrase),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => passphrase_file(path),
        Err(error) => Err(device("cannot write the passphrase file")(error)),
    }
}

fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Holds other processes off while the file is read and replaced. Freed on drop.
fn lock(path: &Path) -> Result<File, KeyStoreError> {
    let file = private_file(&path.with_extension("lock")).map_err(device("cannot lock the key store"))?;
    file.lock().map_err(device("cannot lock the key store"))?;
    Ok(file)
}

fn read_sealed(path: &Path) -> Result<Option<Sealed>, KeyStoreError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| KeyStoreError::Locked),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(device("cannot read the key store")(error)),
    }
}

fn derive(passphrase: &str, header: &Header) -> Result<LessSafeKey, KeyStoreError> {
    let malformed = || KeyStoreError::Locked;
    let salt = BASE64.decode(&header.salt).map_err(|_| malformed())?;
    let Kdf { memory_kib, passes, lanes } = header.kdf;
    // A file from elsewhere must not make us allocate without bound.
    if memory_kib > 1 << 20 || passes > 64 || lanes > 64 {
        return Err(malformed());
    }
    let parameters = argon2::Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| malformed())?;
    let mut key = Zeroizing::new([0u8; 32]);
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, parameters)
        .hash_password_into(passphrase.as_bytes(), &salt, key.as_mut())
        .map_err(|_| malformed())?;
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).map_err(|_| malformed())?))
}

fn aad(header: &Header) -> Result<Vec<u8>, KeyStoreError> {
    serde_json::to_vec(header).map_err(|e| KeyStoreError::Device(e.to_string()))
}

fn random<const N: usize>() -> Result<[u8; N], KeyStoreError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| KeyStoreError::Crypto(omt_crypto::CryptoError::Randomness))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_crypto::ProviderName;

    fn open(dir: &Path, passphrase: &str, provider: ProviderName) -> Result<KeystoreFile, KeyStoreError> {
        KeystoreFile::open(&dir.join("keys.json"), passphrase, provider.provider())
    }

    #[test]
    fn keys_survive_and_either_provider_continues() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "pass", ProviderName::AwsLc).unwrap();
        let mut keys = Vec::new();
        for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::MlDsa65, Algorithm::SlhDsaSha2_128f] {
            keys.push((algorithm, store.generate(algorithm.name(), algorithm).unwrap()));
        }
        drop(store);
        for provider in ProviderName::ALL {
            let store = open(dir.path(), "pass", provider).unwrap();
            for (algorithm, public) in &keys {
                assert_eq!(store.public_key(algorithm.name()).unwrap(), Some((*algorithm, public.clone())));
                let signature = store.sign(algorithm.name(), b"m").unwrap();
                provider.provider().verify(*algorithm, public, b"m", &signature).unwrap();
            }
        }
    }

    #[test]
    fn wrong_passphrase_and_changed_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), "pass", ProviderName::AwsLc).unwrap().generate("k", Algorithm::Es256).unwrap();
        assert!(matches!(open(dir.path(), "other", ProviderName::AwsLc), Err(KeyStoreError::Locked)));
        let path = dir.path().join("keys.json");
        let text = fs::read_to_string(&path).unwrap();
        for (from, to) in [("\"passes\": 3", "\"passes\": 2"), ("\"ciphertext\": \"", "\"ciphertext\": \"AAAA")] {
            assert!(text.contains(from));
            fs::write(&path, text.replace(from, to)).unwrap();
            assert!(matches!(open(dir.path(), "pass", ProviderName::AwsLc), Err(KeyStoreError::Locked)), "{from}");
        }
    }

    #[test]
    fn a_name_is_never_reused_and_two_processes_see_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (open(dir.path(), "p", ProviderName::AwsLc).unwrap(), open(dir.path(), "p", ProviderName::AwsLc).unwrap());
        a.generate("k", Algorithm::Es256).unwrap();
        assert!(b.sign("k", b"m").is_ok());
        assert!(matches!(b.generate("k", Algorithm::Es256), Err(KeyStoreError::Exists(_))));
        assert!(matches!(b.sign("absent", b"m"), Err(KeyStoreError::NoSuchKey(_))));
        b.generate("l", Algorithm::Es256).unwrap();
        assert!(a.sign("l", b"m").is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn secrets_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let passphrase = passphrase_file(&dir.path().join("passphrase")).unwrap();
        assert_eq!(*passphrase, *passphrase_file(&dir.path().join("passphrase")).unwrap());
        open(dir.path(), &passphrase, ProviderName::AwsLc).unwrap();
        for name in ["passphrase", "keys.json"] {
            assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
}
