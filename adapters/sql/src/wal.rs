//! Durable commits on SQLite that share their syncs.
//!
//! With `synchronous = NORMAL` a commit in WAL mode appends to the write-ahead log and does not sync it (SQLite syncs the log before
//! each checkpoint, so the database file stays sound). A transaction counts as committed here when the log was synced after
//! that; by then the next may have written already, and one sync serves all that wait. What a transaction could see of another stands
//! before it in the log, so that no durable change rests on one that is not.

use omt_kernel::gate::SyncGate;
use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A gate for the log of this database.
pub(crate) fn gate(database: &Path) -> io::Result<SyncGate> {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let mut log = Log { path: name.into(), known: None, failed: false };
    SyncGate::start("write-ahead log", move || log.sync())
}

struct Log {
    path: PathBuf,
    /// The file whose name is durable, by device and inode.
    known: Option<(u64, u64)>,
    failed: bool,
}

impl Log {
    fn sync(&mut self) -> io::Result<()> {
        if self.failed {
            // The kernel forgets what it could not write: later syncs would succeed over a log with a hole in it.
            return Err(io::Error::other("an earlier sync failed; restart to read what is on disk"));
        }
        let synced = self.sync_now();
        self.failed = synced.is_err();
        synced
    }

    fn sync_now(&mut self) -> io::Result<()> {
        // Opened each time: SQLite removes the log, all of it in the database by then, when its last connection closes.
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        file.sync_data()?;
        let found = file.metadata()?;
        let id = (found.dev(), found.ino());
        if self.known != Some(id) {
            let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
            self.known = Some(id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_what_is_there_and_stays_failed_after_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db-wal");
        let mut log = Log { path: path.clone(), known: None, failed: false };
        log.sync().unwrap();
        assert_eq!(log.known, None, "there is no log before the first change");
        std::fs::write(&path, b"frames").unwrap();
        log.sync().unwrap();
        assert!(log.known.is_some());
        log.path = dir.path().join("db-wal/none");
        assert!(log.sync().is_err());
        log.path = path;
        assert!(log.sync().is_err(), "what was lost is not forgotten");
    }
}
