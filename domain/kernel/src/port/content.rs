//! Bytes on their way into or out of the blob store.

use bytes::Bytes;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes on their way into or out of the blob store: small ones in memory, large ones in a temporary file.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file that is removed when this is dropped, unless the blob store took it over.
    File(TemporaryFile),
    /// In a file that belongs to somebody else, such as the blob store; read only.
    Stored(StoredFile),
}

/// A file that is removed on drop.
#[derive(Debug)]
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Takes charge of the file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // Already gone when the blob store renamed it into place; nothing else can be done about a failure here.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A file that belongs to somebody else. One that is held can be read whatever becomes of its name.
#[derive(Debug, Clone)]
pub struct StoredFile {
    path: PathBuf,
    held: Option<Arc<File>>,
}

impl StoredFile {
    /// The file at `path`, which whoever says so keeps there.
    pub fn at(path: PathBuf) -> Self {
        Self { path, held: None }
    }

    /// Opens the file at `path`, and holds it; its length besides.
    pub fn hold(path: PathBuf) -> io::Result<(Self, u64)> {
        let file = File::open(&path)?;
        let len = file.metadata()?.len();
        Ok((Self { path, held: Some(Arc::new(file)) }, len))
    }

    /// Where it was.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub fn len(&self) -> io::Result<u64> {
        match &self.held {
            Some(file) => file.metadata(),
            None => std::fs::metadata(&self.path),
        }
        .map(|found| found.len())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// It, from its beginning. Each reader has a place of its own.
    pub fn open(&self) -> io::Result<StoredReader> {
        let file = match &self.held {
            Some(file) => file.clone(),
            None => Arc::new(File::open(&self.path)?),
        };
        Ok(StoredReader { file, at: 0 })
    }
}

/// Reads a file, which others may read at the same time.
#[derive(Debug)]
pub struct StoredReader {
    file: Arc<File>,
    at: u64,
}

impl Read for StoredReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for StoredReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the beginning of a file"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_file_outlives_its_name_and_readers_do_not_meet() {
        let path = std::env::temp_dir().join(format!("omt-held-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, b"0123456789").unwrap();
        let (held, len) = StoredFile::hold(path.clone()).unwrap();
        let (mut one, mut other) = (held.open().unwrap(), held.open().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(StoredFile::at(path).open().is_err());
        let mut text = [0; 3];
        assert_eq!(one.seek(SeekFrom::End(-3)).unwrap(), 7);
        one.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"789");
        other.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"012");
        assert_eq!(other.seek(SeekFrom::Current(-1)).unwrap(), 2);
        assert!(other.seek(SeekFrom::Current(-3)).is_err());
        assert_eq!((len, held.len().unwrap(), one.read(&mut text).unwrap()), (10, 10, 0));
        let mut all = String::new();
        held.open().unwrap().read_to_string(&mut all).unwrap();
        assert_eq!(all, "0123456789");
    }
}
