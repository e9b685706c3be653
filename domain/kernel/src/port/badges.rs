//! The port of badges.

use crate::{BadgeId, ManifestId, Result, TenantId, badge::BadgeRecord};
use async_trait::async_trait;

/// Badges. Each is found by its identifier alone, which nobody can guess: that is what lets everybody look who was given it.
#[async_trait]
pub trait BadgeRepository: Send + Sync {
    /// Adds a badge.
    async fn insert(&self, badge: &BadgeRecord) -> Result<()>;
    /// Finds a badge of any tenant.
    async fn find(&self, id: BadgeId) -> Result<Option<BadgeRecord>>;
    /// A manifest's badges, newest first, at most a hundred.
    async fn of_manifest(&self, tenant: &TenantId, manifest: ManifestId) -> Result<Vec<BadgeRecord>>;
    /// Writes that a badge was taken back; false when it is not there or was taken back before.
    async fn revoke(&self, badge: &BadgeRecord) -> Result<bool>;
}
