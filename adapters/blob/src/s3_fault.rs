//! What it means that a service did not do as it was asked.

use crate::S3BlobStore;
use aws_sdk_s3::{
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    primitives::{DateTime, DateTimeFormat},
};
use omt_kernel::{Error, Kind, OffsetDateTime};

/// S3 refuses requests whose time differs from its own by more (15 minutes); a second is lost in rounding.
const REFUSED_SKEW_SECONDS: i64 = 15 * 60 - 1;

/// A fault that callers and operators can tell from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    NoBucket,
    OtherRegion,
    Clock,
    Damaged,
    Refused,
    Unavailable,
}

impl Fault {
    fn describe(self) -> (&'static str, &'static str, u32) {
        match self {
            Self::NoBucket => ("BLOB_STORE_MISSING", "the bucket does not exist", 60),
            Self::OtherRegion => ("BLOB_STORE_REGION", "the bucket is in another region", 60),
            Self::Clock => ("BLOB_STORE_CLOCK", "this server's clock differs from the blob store's", 60),
            Self::Damaged => ("BLOB_DAMAGED", "content was changed on its way to the blob store", 5),
            Self::Refused => ("BLOB_STORE_REFUSED", "the blob store refuses this server's credentials", 60),
            Self::Unavailable => ("BLOB_STORE_UNAVAILABLE", "the blob store does not answer as it should", 5),
        }
    }

    fn error<E>(self, doing: &str, cause: &SdkError<E>) -> Error
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let (code, words, wait) = self.describe();
        let cause = std::io::Error::other(DisplayErrorContext(cause).to_string());
        Error::new(Kind::Unavailable, code, format!("cannot {doing}: {words}")).retry_after(wait).caused_by(cause)
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

fn header<'a, E>(error: &'a SdkError<E>, name: &str) -> Option<&'a str> {
    error.raw_response()?.headers().get(name)
}

/// The code of an error. Answers to `HEAD` have no body to say it in; MinIO says it in a header.
fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Option<&str> {
    // What the SDK makes of a 404 without a body.
    error.code().filter(|code| *code != "NotFound").or_else(|| header(error, "x-minio-error-code"))
}

/// Whether S3 says that there is no such object. `HEAD` has no body, so only the status tells.
pub(crate) fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match code(error) {
        Some("NoSuchKey") => true,
        Some("NoSuchBucket") => false,
        _ => status(error) == Some(404),
    }
}

pub(crate) fn fault<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Fault {
    match (code(error), status(error)) {
        (Some("NoSuchBucket"), _) => Fault::NoBucket,
        (Some("PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed"), _) | (_, Some(301 | 307)) => {
            Fault::OtherRegion
        }
        (Some("RequestTimeTooSkewed"), _) => Fault::Clock,
        (Some("BadDigest" | "XAmzContentSHA256Mismatch" | "InvalidPart"), _) => Fault::Damaged,
        (Some("ExpiredToken" | "InvalidToken"), _) | (_, Some(401 | 403)) => Fault::Refused,
        _ => Fault::Unavailable,
    }
}

/// What a failed call means. The service's own words go to the log, not to the caller.
pub(crate) fn failed<E>(doing: &str, error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fault(error).error(doing, error)
}

impl S3BlobStore {
    /// What a failed `HEAD` means: as [`failed`], and where nothing says it, by what else the answer tells.
    pub(crate) fn head_failed<E>(&self, doing: &str, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.head_fault(error).error(doing, error)
    }

    pub(crate) fn head_fault<E: ProvideErrorMetadata>(&self, error: &SdkError<E>) -> Fault {
        let refused = matches!(status(error), Some(400 | 401 | 403));
        match fault(error) {
            known if code(error).is_some() => known,
            // Of a bucket: objects that are missing are none of our faults.
            _ if status(error) == Some(404) => Fault::NoBucket,
            _ if refused && skew(error).is_some_and(|seconds| seconds.abs() > REFUSED_SKEW_SECONDS) => Fault::Clock,
            _ if status(error) == Some(400) && self.other_region(error).is_some() => Fault::OtherRegion,
            // There is nothing else in the request that could be wrong.
            _ if refused => Fault::Refused,
            other => other,
        }
    }

    /// The bucket's region, where the answer says that it is not the one that we sign for.
    pub(crate) fn other_region<'a, E>(&self, error: &'a SdkError<E>) -> Option<&'a str> {
        let ours = self.client.config().region().map(|region| region.as_ref());
        header(error, "x-amz-bucket-region").filter(|theirs| Some(*theirs) != ours)
    }
}

/// By how many seconds this clock is ahead of the service's, as far as an answer tells.
pub(crate) fn skew<E>(error: &SdkError<E>) -> Option<i64> {
    let theirs = DateTime::from_str(header(error, "date")?, DateTimeFormat::HttpDate).ok()?;
    Some(OffsetDateTime::now_utc().unix_timestamp() - theirs.secs())
}
