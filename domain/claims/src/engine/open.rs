//! Opening content as streams.

use crate::{
    guard::ReadSeek,
    media::{self, Media},
};
use omt_kernel::{Error, Result, error::Context as _, port::Content};
use std::{
    fs::File,
    io::{BufReader, Cursor},
};

/// How much is read from a file at once.
const BUFFER: usize = 256 << 10;

/// Content as a stream.
pub(crate) fn open(content: &Content) -> Result<Box<dyn ReadSeek + '_>> {
    Ok(match content {
        Content::Memory(bytes) => Box::new(Cursor::new(bytes.as_ref())),
        Content::File(temporary) => {
            Box::new(BufReader::with_capacity(BUFFER, File::open(temporary.path()).context("cannot open content")?))
        }
        Content::Stored(file) => Box::new(BufReader::with_capacity(BUFFER, file.open().context("cannot open content")?)),
    })
}

/// What content is, by its beginning.
pub(crate) fn sniff(content: &Content) -> Result<Media> {
    media::recognise(&mut open(content)?).context("cannot read content")
}

/// Content's number of bytes.
pub(crate) fn len(content: &Content) -> Result<u64> {
    let len = match content {
        Content::Memory(bytes) => return Ok(bytes.len() as u64),
        Content::File(temporary) => std::fs::metadata(temporary.path()).map(|found| found.len()),
        Content::Stored(file) => file.len(),
    };
    len.map_err(|e| Error::internal("cannot stat content").caused_by(e))
}
