//! One error type for the whole domain: a kind (what a caller may do about it), a stable code, and words.

use std::fmt;
use std::sync::Arc;

/// What went wrong, coarsely. The API maps each kind to exactly one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is malformed (400).
    Invalid,
    /// No valid credential was presented (401).
    Unauthenticated,
    /// The credential does not allow this (403).
    Forbidden,
    /// It does not exist, or the caller may not know that it does (404).
    NotFound,
    /// It exists, but takes other methods (405).
    MethodNotAllowed,
    /// It exists but its state does not allow this (409).
    Conflict,
    /// It was there, and is gone for good (410).
    Gone,
    /// `If-Match` named another version (412).
    PreconditionFailed,
    /// The content is larger than the limit (413).
    TooLarge,
    /// The body's type is not the one this operation takes (415).
    UnsupportedMediaType,
    /// Well-formed, but its meaning is refused (422).
    Unprocessable,
    /// `If-Match` is needed (428).
    PreconditionRequired,
    /// Too many requests (429).
    TooMany,
    /// A dependency or a bounded queue cannot take this now (503).
    Unavailable,
    /// A fault of ours (500). The message stays in the log; callers see only the code.
    Internal,
}

/// One field of the request that is wrong, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldError {
    /// The field's name as the caller sent it.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

/// An error of the domain.
#[derive(Debug, Clone)]
pub struct Error {
    /// The coarse kind.
    pub kind: Kind,
    /// A stable, upper-case code that programs may match on.
    pub code: &'static str,
    /// Words for a person. Never contains a secret.
    pub message: String,
    /// Which fields are wrong, when that is the cause.
    pub fields: Vec<FieldError>,
    /// Seconds after which a retry may succeed.
    pub retry_after: Option<u32>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// A result with the domain's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a stable `code`.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), fields: Vec::new(), retry_after: None, source: None }
    }
    /// 400 for one field.
    pub fn invalid_field(code: &'static str, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::field(Kind::Invalid, code, field, reason)
    }
    /// 422 for one field.
    pub fn unprocessable_field(code: &'static str, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::field(Kind::Unprocessable, code, field, reason)
    }
    fn field(kind: Kind, code: &'static str, field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) = (field.into(), reason.into());
        let mut error = Self::new(kind, code, format!("{field}: {reason}"));
        error.fields.push(FieldError { field, reason });
        error
    }
    /// 404: there is no such thing, or none the caller may know of.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, "NOT_FOUND", format!("there is no such {what}"))
    }
    /// 500 with the cause kept for the log.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, "INTERNAL", message)
    }
    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
    /// Adds a `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Refuses what was decided from another revision of a thing than the one that is now, where the caller says which one they saw.
pub fn check_revision(what: &str, now: i64, seen: Option<i64>) -> Result<()> {
    if seen.is_none_or(|seen| seen == now) {
        return Ok(());
    }
    let words = format!("the {what} is at revision {now}; read it again");
    Err(Error::new(Kind::PreconditionFailed, "REVISION_MISMATCH", words))
}

/// Turns any lower error into an [`Error`] of kind [`Kind::Internal`] with what was being done.
pub trait Context<T> {
    /// Says what was being done when the error came.
    fn context(self, doing: &str) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: &str) -> Result<T> {
        self.map_err(|error| Error::internal(doing.to_owned()).caused_by(error))
    }
}

/// What it means that a file could not be written. No room (503 `STORAGE_FULL`) and a file system that can only be read (503
/// `STORAGE_READ_ONLY`) are the operator's to mend, and the same may succeed then; anything else is a fault of ours.
pub fn not_written(doing: &str) -> impl FnOnce(std::io::Error) -> Error + '_ {
    use std::io::ErrorKind;
    move |error| {
        let (code, why) = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ("STORAGE_FULL", "there is no room"),
            ErrorKind::ReadOnlyFilesystem => ("STORAGE_READ_ONLY", "the file system can only be read"),
            _ => return Error::internal(doing.to_owned()).caused_by(error),
        };
        Error::new(Kind::Unavailable, code, format!("{doing}: {why}")).retry_after(60).caused_by(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_says_who_can_mend_it() {
        use std::io::Write;
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = not_written("cannot write in the spool directory")(full.write_all(b"x").unwrap_err());
        assert_eq!((error.kind, error.code, error.retry_after), (Kind::Unavailable, "STORAGE_FULL", Some(60)), "{error}");
        let error = not_written("cannot write a blob")(std::io::ErrorKind::ReadOnlyFilesystem.into());
        assert_eq!((error.kind, error.code), (Kind::Unavailable, "STORAGE_READ_ONLY"), "{error}");
        assert_eq!(not_written("cannot write a blob")(std::io::ErrorKind::NotFound.into()).kind, Kind::Internal);
    }

    #[test]
    fn only_who_saw_another_revision_is_refused() {
        assert!(check_revision("user", 3, None).is_ok() && check_revision("user", 3, Some(3)).is_ok());
        for seen in [2, 4, -1] {
            let refused = check_revision("user", 3, Some(seen)).unwrap_err();
            assert_eq!((refused.kind, refused.code), (Kind::PreconditionFailed, "REVISION_MISMATCH"));
            assert!(refused.message.contains("user is at revision 3"), "{refused}");
        }
    }
}
