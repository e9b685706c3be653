//! Serving blobs: ranges (RFC 9110 §14), entity tags and safe headers.

use crate::problem::Problem;
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header};
use futures_util::TryStreamExt;
use omt_claims::service::{Fetched, Manifests, Restoring};
use omt_kernel::{Actor, OffsetDateTime, manifest::BlobRef, storage::ARCHIVED};
use serde::Serialize;
use std::ops::Range;
use utoipa::ToSchema;
use uuid::Uuid;

/// How a blob is to be served.
pub struct Serving<'a> {
    /// The blob.
    pub blob: &'a BlobRef,
    /// `Content-Type`.
    pub mime: &'a str,
    /// The name to save it under.
    pub file_name: String,
    /// A `Link` header.
    pub link: Option<String>,
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Everything,
    Part(Range<u64>),
    Unsatisfiable,
}

/// Reads a `Range` of one byte range; several, or another unit, mean everything (RFC 9110 §14.2 allows ignoring them).
fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else { return Wanted::Everything };
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else { return Wanted::Everything };
    let (first, last) = (first.trim(), last.trim());
    let range = if first.is_empty() {
        match last.parse::<u64>() {
            Ok(0) => return Wanted::Unsatisfiable,
            Ok(suffix) => size.saturating_sub(suffix)..size,
            Err(_) => return Wanted::Everything,
        }
    } else {
        let Ok(first) = first.parse::<u64>() else { return Wanted::Everything };
        let end = match last {
            "" => size,
            last => match last.parse::<u64>() {
                Ok(last) if last >= first => last.saturating_add(1).min(size),
                _ => return Wanted::Everything,
            },
        };
        first..end
    };
    if range.start >= size { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

/// Serves a blob.
pub async fn serve(
    manifests: &Manifests,
    actor: &Actor,
    request: &HttpRequest,
    serving: Serving<'_>,
) -> Result<HttpResponse, Problem> {
    let size = serving.blob.size;
    let tag = format!("\"{}\"", serving.blob.sha256);
    let get = |name: header::HeaderName| request.headers().get(name).and_then(|v| v.to_str().ok());
    let seen = get(header::IF_NONE_MATCH).is_some_and(|list| list.split(',').any(|t| t.trim() == tag || t.trim() == "*"));
    // A range of another version would be mixed with this one's.
    let range_allowed = get(header::IF_RANGE).is_none_or(|t| t.trim() == tag);
    let wanted = wanted(get(header::RANGE).filter(|_| range_allowed), size);
    let (status, range) = match wanted {
        _ if seen => (StatusCode::NOT_MODIFIED, 0..0),
        Wanted::Everything => (StatusCode::OK, 0..size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0..0),
    };
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::ETAG, tag))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CACHE_CONTROL, "private, no-cache"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Content is somebody else's: opened in a browser it may show, but not act.
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        ));
    if let Some(link) = serving.link {
        response.insert_header((header::LINK, link));
    }
    match status {
        StatusCode::NOT_MODIFIED => return Ok(response.finish()),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            return Ok(response.insert_header((header::CONTENT_RANGE, format!("bytes */{size}"))).finish());
        }
        StatusCode::PARTIAL_CONTENT => {
            response.insert_header((header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start, range.end - 1)));
        }
        _ => {}
    }
    let stream = match manifests.read(actor, serving.blob, range.clone()).await? {
        Fetched::Now(stream) => stream,
        Fetched::Later(restoring) => return Ok(later(&restoring)),
    };
    response
        .insert_header((header::CONTENT_TYPE, serving.mime))
        .insert_header((header::CONTENT_DISPOSITION, disposition(&serving.file_name)))
        .no_chunking(range.end - range.start);
    Ok(response.streaming(stream.map_err(Problem)))
}

/// Content that is in an archive and on its way out of it.
#[derive(Serialize, ToSchema)]
pub struct Restore {
    /// Always `CONTENT_ARCHIVED`.
    #[schema(example = "CONTENT_ARCHIVED")]
    code: &'static str,
    /// What happens, in words.
    detail: &'static str,
    /// The job that has it restored.
    job: Uuid,
    /// Where that stands: `queued` or `running`.
    #[schema(example = "queued")]
    state: &'static str,
    /// When it was first asked for.
    #[serde(with = "time::serde::rfc3339")]
    requested_at: OffsetDateTime,
    /// Seconds after which it should be there, as in `Retry-After`; asking earlier does no harm.
    #[schema(example = 43200)]
    retry_after: u32,
}

/// 202: the same request will do when the content is restored.
pub fn later(restoring: &Restoring) -> HttpResponse {
    let body = Restore {
        code: ARCHIVED,
        detail: "the content is in an archive and is being restored; ask again after retry_after seconds",
        job: restoring.job.0,
        state: restoring.state.as_str(),
        requested_at: restoring.requested_at,
        retry_after: restoring.retry_after,
    };
    HttpResponse::Accepted()
        .insert_header((header::RETRY_AFTER, restoring.retry_after))
        .insert_header((header::LOCATION, format!("/api/v1/admin/jobs/{}", restoring.job)))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(body)
}

/// `attachment` with the name in both spellings of RFC 6266.
fn disposition(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "._- ".contains(c) { c } else { '_' }).collect();
    let encoded: String = name
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b"._-".contains(&b) { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(wanted(None, 10), Wanted::Everything);
        assert_eq!(wanted(Some("bytes=0-3"), 10), Wanted::Part(0..4));
        assert_eq!(wanted(Some("bytes=4-"), 10), Wanted::Part(4..10));
        assert_eq!(wanted(Some("bytes=-3"), 10), Wanted::Part(7..10));
        assert_eq!(wanted(Some("bytes=-30"), 10), Wanted::Part(0..10));
        assert_eq!(wanted(Some("bytes=4-400"), 10), Wanted::Part(4..10));
        assert_eq!(wanted(Some("bytes=10-"), 10), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=-0"), 10), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=3-1"), 10), Wanted::Everything);
        assert_eq!(wanted(Some("bytes=0-1,3-4"), 10), Wanted::Everything);
        assert_eq!(wanted(Some("bytes=0-18446744073709551615"), 10), Wanted::Part(0..10));
    }

    #[test]
    fn names_cannot_break_the_header() {
        assert_eq!(disposition("a\"\r\nb.jpg"), "attachment; filename=\"a___b.jpg\"; filename*=UTF-8''a%22%0D%0Ab.jpg");
    }
}
