//! Content that comes and goes without passing through this server: URLs of the blob store, for a short time, for one tenant and
//! one digest.

use super::{Manifests, Uploaded};
use omt_kernel::{
    Actor, Error, Kind, ManifestId, OffsetDateTime, Permission, Result,
    manifest::{BlobRef, is_sha256},
    port::{DirectDownload, DirectUpload},
};
use std::time::Duration;

/// How long a URL is good.
const EXPIRES: Duration = Duration::from_secs(300);

fn unsupported() -> Error {
    Error::new(Kind::Conflict, "NO_DIRECT_ACCESS", "this blob store has no URLs of its own; fetch and upload through this API")
}

fn check_digest(field: &str, sha256: &str) -> Result<()> {
    if is_sha256(sha256) {
        Ok(())
    } else {
        Err(Error::unprocessable_field("INVALID_FIELD", field, "must be a SHA-256, 64 lower-case hexadecimal digits"))
    }
}

impl Manifests {
    /// A URL for a manifest's content, and when it ends.
    pub async fn content_url(&self, actor: &Actor, id: ManifestId) -> Result<(String, OffsetDateTime)> {
        let record = self.get(actor, id).await?;
        let blob = Self::served(&record)?;
        self.touch(&actor.tenant, blob).await?;
        let wanted = DirectDownload {
            expires: EXPIRES,
            media_type: record.media_type.clone(),
            // Never shown inline under the store's origin.
            disposition: "attachment".to_owned(),
        };
        let ends = self.deps.clock.now() + EXPIRES;
        let url = self.deps.blobs.direct_download(&actor.tenant, blob, &wanted).await?;
        url.map(|url| (url, ends)).ok_or_else(unsupported)
    }

    /// A request by which content of this digest and size can be uploaded, and when it ends.
    pub async fn begin_upload(&self, actor: &Actor, blob: BlobRef, max: u64) -> Result<(DirectUpload, OffsetDateTime)> {
        actor.require(Permission::ManifestCreate)?;
        check_digest("sha256", &blob.sha256)?;
        if blob.size == 0 {
            return Err(Error::unprocessable_field("EMPTY_FILE", "size", "the file is empty"));
        }
        if blob.size > max {
            return Err(Error::new(Kind::TooLarge, "CONTENT_TOO_LARGE", format!("the upload is over the limit of {max} bytes")));
        }
        let ends = self.deps.clock.now() + EXPIRES;
        let upload = self.deps.blobs.direct_upload(&actor.tenant, &blob, EXPIRES).await?;
        upload.map(|upload| (upload, ends)).ok_or_else(unsupported)
    }

    /// Content that was uploaded directly.
    pub async fn uploaded(&self, actor: &Actor, sha256: &str, file_name: Option<String>, max: u64) -> Result<Uploaded> {
        actor.require(Permission::ManifestCreate)?;
        check_digest("upload", sha256)?;
        let found = self.deps.blobs.uploaded(&actor.tenant, sha256, max).await?;
        let missing = || Error::unprocessable_field("UPLOAD_MISSING", "upload", "nothing was uploaded with this SHA-256");
        let (blob, content) = found.ok_or_else(missing)?;
        Ok(Uploaded { content, blob, file_name, declared_type: None })
    }

    /// Drops an upload that became a manifest. What stays behind is swept.
    pub async fn drop_uploaded(&self, actor: &Actor, sha256: &str) {
        if let Err(error) = self.deps.blobs.drop_uploaded(&actor.tenant, sha256).await {
            tracing::warn!(%error, "a direct upload could not be dropped");
        }
    }
}
