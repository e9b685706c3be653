//! Content that comes and goes without passing through this server: URLs of the blob store, for a short time, for one tenant and
//! one digest.

use super::{Fetched, Manifests, Uploaded};
use crate::cdn::{Cdn, NotCdn};
use omt_kernel::{
    Actor, Error, Kind, ManifestId, OffsetDateTime, Permission, Result,
    manifest::{BlobRef, ManifestRecord, is_sha256},
    port::{DirectDownload, DirectUpload},
    storage::Tier,
};
use std::time::Duration;

/// How long a URL is good.
const EXPIRES: Duration = Duration::from_secs(300);

/// Where content can be fetched without us.
#[derive(Debug)]
pub struct ContentAddress {
    /// The URL.
    pub url: String,
    /// When it ends, if it does.
    pub expires_at: Option<OffsetDateTime>,
    /// Who answers there.
    pub via: Via,
    /// What the content is.
    pub media_type: String,
}

/// Who serves content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The content delivery network.
    Cdn,
    /// The blob store; and why not the network, where there is one.
    Store(Option<NotCdn>),
}

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
    /// A URL for a manifest's content: at the content delivery network where it may be there, else at the blob store.
    pub async fn content_url(&self, actor: &Actor, id: ManifestId) -> Result<Fetched<ContentAddress>> {
        let record = self.get(actor, id).await?;
        let blob = Self::served(&record)?;
        self.touch(&actor.tenant, blob).await?;
        let ends = self.deps.clock.now() + EXPIRES;
        let why_not = match &self.deps.cdn {
            None => None,
            Some(cdn) => match self.cdn_key(actor, cdn, &record, blob).await? {
                Ok(key) => {
                    let expires_at = cdn.signs().then_some(ends);
                    return Ok(Fetched::Now(ContentAddress {
                        url: cdn.url(&key, ends),
                        expires_at,
                        via: Via::Cdn,
                        media_type: record.media_type,
                    }));
                }
                Err(why) => Some(why),
            },
        };
        let wanted = DirectDownload {
            expires: EXPIRES,
            media_type: record.media_type.clone(),
            // Never shown inline under the store's origin.
            disposition: "attachment".to_owned(),
        };
        let url = self.deps.blobs.direct_download(&actor.tenant, blob, &wanted).await;
        let address =
            |url| ContentAddress { url, expires_at: Some(ends), via: Via::Store(why_not), media_type: record.media_type.clone() };
        self.fetched(actor, blob, url.and_then(|url| url.map(address).ok_or_else(unsupported))).await
    }

    /// The object's key, where the network may serve it.
    async fn cdn_key(
        &self,
        actor: &Actor,
        cdn: &Cdn,
        record: &ManifestRecord,
        blob: &BlobRef,
    ) -> Result<std::result::Result<String, NotCdn>> {
        if let Err(why) = cdn.admits(record) {
            return Ok(Err(why));
        }
        // A signed URL ends as soon as the store's own; one without a signature is publication.
        if !cdn.signs() && !self.deps.governance.is_published(record, &self.settings(actor).await?).await? {
            return Ok(Err(NotCdn::NotPublished));
        }
        let stored = self.deps.database.read().await?.blobs().find(&record.tenant, &blob.sha256).await?;
        let key = stored.filter(|stored| stored.tier == Tier::Hot).and_then(|_| self.deps.blobs.object_key(&record.tenant, blob));
        Ok(key.ok_or(NotCdn::OtherTier))
    }

    /// Says which URL is to be purged from the network when a change withdraws content from it: caches know nothing of records.
    pub(super) fn note_withdrawal(&self, old: &ManifestRecord, next: &ManifestRecord) {
        let (Some(cdn), Some(signed)) = (&self.deps.cdn, &old.signed) else { return };
        let stays = cdn.admits(next).is_ok() && next.signed.as_ref().is_some_and(|next| next.asset == signed.asset);
        if cdn.admits(old).is_err() || stays {
            return;
        }
        if let Some(key) = self.deps.blobs.object_key(&old.tenant, &signed.asset) {
            tracing::warn!(manifest = %old.id, url = cdn.place(&key), "content was withdrawn: purge it from the CDN");
        }
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
