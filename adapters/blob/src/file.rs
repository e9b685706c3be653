//! The blob store in a directory: `ROOT/<tenant>/<first two digits>/<sha256>`.
//!
//! A blob is written aside and renamed into place, and `put` returns when it is on disk. Writers share the syncs.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use omt_kernel::{
    Error, Kind, OffsetDateTime, Result, TenantId,
    error::{Context, not_written},
    gate::SyncGate,
    manifest::BlobRef,
    port::{BlobStock, BlobStore, ByteStream, Content, Listed, Put, StoredFile, TemporaryFile},
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{BufReader, ErrorKind, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const CHUNK: usize = 256 << 10;

/// Blobs in a directory.
pub struct FileBlobStore {
    pub(crate) root: PathBuf,
    pub(crate) spool: PathBuf,
    pub(crate) gate: SyncGate,
}

impl FileBlobStore {
    /// Opens or makes the directory. Temporary files that a crash left behind are removed.
    pub fn open(root: &Path) -> Result<Self> {
        let spool = root.join(".spool");
        fs::create_dir_all(&spool).context("cannot create the blob directory")?;
        let directory = File::open(root).context("cannot open the blob directory")?;
        let sync = move || Ok(rustix::fs::syncfs(&directory)?);
        let gate = SyncGate::start("blob directory", sync).context("cannot start syncing the blob directory")?;
        let store = Self { root: root.to_owned(), spool, gate };
        store.sweep();
        Ok(store)
    }

    /// Removes temporary files older than a day; younger ones may belong to another process.
    fn sweep(&self) {
        let day = std::time::Duration::from_secs(86_400);
        let old = |entry: &fs::DirEntry| {
            entry.metadata().and_then(|m| m.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > day))
        };
        for entry in fs::read_dir(&self.spool).into_iter().flatten().flatten().filter(old) {
            // A file that cannot be removed now is tried again at the next start.
            let _ = fs::remove_file(entry.path());
        }
    }

    fn path(&self, tenant: &TenantId, blob: &BlobRef) -> Result<PathBuf> {
        let digest = blob.sha256.as_str();
        // Names come from our own records; a wrong one must never become a path.
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::internal("a blob's name is not a digest"));
        }
        Ok(self.root.join(tenant.as_str()).join(&digest[..2]).join(digest))
    }
}

/// Waits for file work off the executor's threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a file task ended early")?
}

fn unmounted() -> Error {
    Error::new(Kind::Unavailable, "BLOB_STORE_MISSING", "the blob directory is not there").retry_after(60)
}

pub(crate) fn write_error(error: std::io::Error) -> Error {
    not_written("cannot write a blob")(error)
}

/// Gives a whole file its name. Not durable yet: that is the gate's part.
pub(crate) fn publish(from: &Path, to: &Path) -> std::io::Result<()> {
    let Some(directory) = to.parent() else { return Err(ErrorKind::InvalidInput.into()) };
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            fs::rename(from, to)
        }
        other => other,
    }
}

/// The names in a directory, in order, that may hold something after the key.
fn names(directory: &Path, after: &str) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(directory)?
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    // Hidden ones are ours: the spool, and other tiers.
    names.retain(|name| !name.starts_with('.') && name.as_str() >= after);
    names.sort();
    Ok(names)
}

fn list(root: &Path, after: &str, limit: usize) -> std::io::Result<Vec<Listed>> {
    let mut out = Vec::new();
    let mut parts = after.splitn(3, '/').map(str::to_owned);
    let (after_tenant, after_shard) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for tenant in names(root, &after_tenant)? {
        let Ok(id) = TenantId::parse(&tenant) else { continue };
        let shard_after = if tenant == after_tenant { after_shard.as_str() } else { "" };
        for shard in names(&root.join(&tenant), shard_after)? {
            for digest in names(&root.join(&tenant).join(&shard), "")? {
                let key = format!("{tenant}/{shard}/{digest}");
                // As directories are walked, and not as texts compare: `acme-2` comes after all of `acme`.
                if key.split('/').cmp(after.split('/')).is_le() || !crate::is_name(&shard, &digest) {
                    continue;
                }
                // One that went away meanwhile is not listed.
                let Ok(found) = fs::metadata(root.join(&key)) else { continue };
                let blob = BlobRef { sha256: digest, size: found.len() };
                out.push(Listed { key, tenant: id.clone(), blob, modified: found.modified()?.into() });
                if out.len() == limit {
                    return Ok(out);
                }
            }
        }
    }
    Ok(out)
}

/// Whether the file holds what its name says. One that a power failure left behind may have the right size only.
fn is_intact(path: &Path, blob: &BlobRef) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    if !file.metadata().is_ok_and(|m| m.len() == blob.size) {
        return false;
    }
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hex::encode(hash.finalize()) == blob.sha256,
            Ok(n) => hash.update(&buffer[..n]),
            Err(_) => return false,
        }
    }
}

/// Copies a file by its name, which the kernel does quickest; or what is held of it, where it was moved away meanwhile.
fn copy(file: &StoredFile, to: &Path) -> std::io::Result<u64> {
    match fs::copy(file.path(), to) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut from = BufReader::with_capacity(CHUNK, file.open()?);
            std::io::copy(&mut from, &mut File::create_new(to)?)
        }
        done => done,
    }
}

#[async_trait]
impl BlobStore for FileBlobStore {
    async fn put(&self, tenant: &TenantId, blob: &BlobRef, content: Content) -> Result<Put> {
        let target = self.path(tenant, blob)?;
        let wanted = blob.clone();
        let aside = TemporaryFile::new(self.spool.join(format!("put-{}", uuid::Uuid::new_v4())));
        let spool = self.spool.clone();
        let put = blocking(move || {
            // A file system that was unmounted leaves an empty directory, which is not to be filled.
            if !spool.is_dir() {
                return Err(unmounted());
            }
            if target.exists() && is_intact(&target, &wanted) {
                return Ok(Put::Present);
            }
            match &content {
                Content::Memory(bytes) => {
                    let mut file = File::create_new(aside.path()).map_err(write_error)?;
                    file.write_all(bytes).map_err(write_error)?;
                    publish(aside.path(), &target).map_err(write_error)
                }
                Content::File(temporary) => match publish(temporary.path(), &target) {
                    // Another store's spool may be on another file system.
                    Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                        fs::copy(temporary.path(), aside.path()).map_err(write_error)?;
                        publish(aside.path(), &target).map_err(write_error)
                    }
                    published => published.map_err(write_error),
                },
                Content::Stored(file) if file.path() == target => Ok(()),
                Content::Stored(file) => {
                    copy(file, aside.path()).map_err(write_error)?;
                    publish(aside.path(), &target).map_err(write_error)
                }
            }
            .map(|()| Put::Written)
        })
        .await?;
        // What was present may have been written just now by somebody who still waits here.
        self.gate.pass().await?;
        Ok(put)
    }

    async fn read(&self, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Result<ByteStream> {
        let path = self.path(tenant, blob)?;
        let mut file = tokio::fs::File::open(&path).await.context("cannot open a blob")?;
        file.seek(std::io::SeekFrom::Start(range.start)).await.context("cannot seek in a blob")?;
        let left = range.end.saturating_sub(range.start);
        let chunks = stream::unfold((file, left), |(mut file, left)| async move {
            if left == 0 {
                return None;
            }
            let mut chunk = vec![0; left.min(CHUNK as u64) as usize];
            let item = match file.read(&mut chunk).await {
                Ok(0) => Err(Error::internal("a blob is shorter than its record says")),
                Ok(n) => {
                    chunk.truncate(n);
                    Ok(Bytes::from(chunk))
                }
                Err(error) => Err(Error::internal("cannot read a blob").caused_by(error)),
            };
            let left = match &item {
                Ok(bytes) => left - bytes.len() as u64,
                Err(_) => 0,
            };
            Some((item, (file, left)))
        });
        Ok(chunks.boxed())
    }

    async fn open(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Content> {
        let path = self.path(tenant, blob)?;
        let wanted = blob.size;
        // Held, so that a move which removes it from here does not take it from whoever reads it.
        blocking(move || match StoredFile::hold(path) {
            Ok((file, len)) if len == wanted => Ok(Content::Stored(file)),
            Ok(_) => Err(Error::internal("a blob has another size than its record says")),
            Err(error) => Err(Error::internal("a blob is missing").caused_by(error)),
        })
        .await
    }

    async fn exists(&self, tenant: &TenantId, blob: &BlobRef) -> Result<bool> {
        let path = self.path(tenant, blob)?;
        let size = blob.size;
        blocking(move || Ok(fs::metadata(path).is_ok_and(|m| m.len() == size))).await
    }

    async fn check(&self) -> Result<()> {
        let probe = TemporaryFile::new(self.spool.join(format!("probe-{}", uuid::Uuid::new_v4())));
        blocking(move || match fs::write(probe.path(), b"ok") {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(unmounted().caused_by(error)),
            written => written.map_err(write_error),
        })
        .await
    }

    fn spool_dir(&self) -> &Path {
        &self.spool
    }

    fn describe(&self) -> String {
        format!("file:{}", self.root.display())
    }
}

#[async_trait]
impl BlobStock for FileBlobStore {
    async fn delete(&self, tenant: &TenantId, blob: &BlobRef) -> Result<()> {
        let path = self.path(tenant, blob)?;
        blocking(move || match fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::internal("cannot remove a blob").caused_by(error)),
        })
        .await
    }

    async fn modified(&self, tenant: &TenantId, blob: &BlobRef) -> Result<Option<OffsetDateTime>> {
        let path = self.path(tenant, blob)?;
        blocking(move || match fs::metadata(path).and_then(|m| m.modified()) {
            Ok(at) => Ok(Some(at.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::internal("cannot stat a blob").caused_by(error)),
        })
        .await
    }

    async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<Listed>> {
        let (root, after) = (self.root.clone(), after.unwrap_or_default().to_owned());
        blocking(move || list(&root, &after, limit as usize).context("cannot list the blob directory")).await
    }

    async fn abort_uploads(&self, before: OffsetDateTime) -> Result<u64> {
        let spool = self.spool.clone();
        blocking(move || {
            let mut aborted = 0;
            for entry in fs::read_dir(spool).context("cannot list the spool directory")?.flatten() {
                let old = entry.metadata().and_then(|m| m.modified()).is_ok_and(|at| OffsetDateTime::from(at) < before);
                aborted += u64::from(old && fs::remove_file(entry.path()).is_ok());
            }
            Ok(aborted)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;

    fn blob(bytes: &[u8]) -> BlobRef {
        BlobRef { sha256: hex::encode(sha2::Sha256::digest(bytes)), size: bytes.len() as u64 }
    }

    async fn all(store: &FileBlobStore, tenant: &TenantId, blob: &BlobRef, range: Range<u64>) -> Vec<u8> {
        let chunks: Vec<Bytes> = store.read(tenant, blob, range).await.unwrap().try_collect().await.unwrap();
        chunks.concat()
    }

    #[tokio::test]
    async fn stores_reads_ranges_and_separates_tenants() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileBlobStore::open(dir.path()).unwrap();
        let (a, b) = (TenantId::parse("a").unwrap(), TenantId::parse("b").unwrap());
        let bytes: Vec<u8> = (0..700_000u32).map(|n| n as u8).collect();
        let blob = blob(&bytes);
        for _ in 0..2 {
            store.put(&a, &blob, Content::Memory(bytes.clone().into())).await.unwrap();
        }
        assert_eq!(all(&store, &a, &blob, 0..blob.size).await, bytes);
        assert_eq!(all(&store, &a, &blob, 299_999..600_001).await, bytes[299_999..600_001]);
        assert!(!store.exists(&b, &blob).await.unwrap());
        let Content::Stored(file) = store.open(&a, &blob).await.unwrap() else { panic!() };
        assert_eq!(fs::read(file.path()).unwrap(), bytes);
        store.delete(&a, &blob).await.unwrap();
        store.delete(&a, &blob).await.unwrap();
        // Whoever opened it reads on, and may store it elsewhere.
        assert_eq!(store.put(&b, &blob, Content::Stored(file.clone())).await.unwrap(), Put::Written);
        assert_eq!(all(&store, &b, &blob, 0..blob.size).await, bytes);
        store.delete(&b, &blob).await.unwrap();
        let mut read = Vec::new();
        file.open().unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert!(!store.exists(&a, &blob).await.unwrap());
    }

    #[tokio::test]
    async fn takes_over_temporary_files_and_leaves_none_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileBlobStore::open(dir.path()).unwrap();
        let tenant = TenantId::default_tenant();
        let path = store.spool_dir().join("upload-1");
        fs::write(&path, b"hello").unwrap();
        store.put(&tenant, &blob(b"hello"), Content::File(TemporaryFile::new(path))).await.unwrap();
        assert!(store.exists(&tenant, &blob(b"hello")).await.unwrap());
        store.check().await.unwrap();
        assert_eq!(fs::read_dir(store.spool_dir()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_blob_that_a_power_failure_spoiled_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileBlobStore::open(dir.path()).unwrap();
        let tenant = TenantId::default_tenant();
        let blob = blob(b"hello");
        store.put(&tenant, &blob, Content::Memory(Bytes::from_static(b"hello"))).await.unwrap();
        let Content::Stored(file) = store.open(&tenant, &blob).await.unwrap() else { panic!() };
        let path = file.path();
        fs::write(path, [0; 5]).unwrap();
        store.put(&tenant, &blob, Content::Memory(Bytes::from_static(b"hello"))).await.unwrap();
        assert_eq!(fs::read(path).unwrap(), b"hello");
    }

    #[tokio::test]
    async fn a_name_that_is_not_a_digest_is_never_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileBlobStore::open(dir.path()).unwrap();
        let evil = BlobRef { sha256: "../".repeat(21) + "x", size: 1 };
        assert!(store.exists(&TenantId::default_tenant(), &evil).await.is_err());
    }
}
