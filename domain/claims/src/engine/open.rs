//! Opening content as streams.

use crate::{
    guard::ReadSeek,
    media::{self, Media},
};
use omt_kernel::{Error, Result, error::Context as _, port::Content};
use std::{
    fs::File,
    io::{BufReader, Cursor},
    path::Path,
};

/// Content as a stream.
pub(crate) fn open(content: &Content) -> Result<Box<dyn ReadSeek + '_>> {
    let file = |path: &Path| -> Result<Box<dyn ReadSeek>> {
        Ok(Box::new(BufReader::with_capacity(256 << 10, File::open(path).context("cannot open content")?)))
    };
    match content {
        Content::Memory(bytes) => Ok(Box::new(Cursor::new(bytes.as_ref()))),
        Content::File(temporary) => file(temporary.path()),
        Content::Stored(path) => file(path),
    }
}

/// What content is, by its beginning.
pub(crate) fn sniff(content: &Content) -> Result<Media> {
    media::recognise(&mut open(content)?).context("cannot read content")
}

/// Content's number of bytes.
pub(crate) fn len(content: &Content) -> Result<u64> {
    let file =
        |path: &Path| std::fs::metadata(path).map(|m| m.len()).map_err(|e| Error::internal("cannot stat content").caused_by(e));
    match content {
        Content::Memory(bytes) => Ok(bytes.len() as u64),
        Content::File(temporary) => file(temporary.path()),
        Content::Stored(path) => file(path),
    }
}
