//! Records of badges.

use crate::{BadgeId, ManifestId, OffsetDateTime, TenantId};

/// A badge: that the platform signed these bytes, for whoever has its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadgeRecord {
    /// Identifier, a version 4 UUID: its address is known to those to whom it was given.
    pub id: BadgeId,
    /// Tenant.
    pub tenant: TenantId,
    /// The manifest.
    pub manifest: ManifestId,
    /// SHA-256 of the signed asset, hexadecimal.
    pub content_sha256: String,
    /// The subject that issued it.
    pub issued_by: String,
    /// When.
    pub issued_at: OffsetDateTime,
    /// Whether it was taken back.
    pub revoked: Option<Revoked>,
}

/// That a badge was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// When.
    pub at: OffsetDateTime,
    /// The subject that did.
    pub by: String,
    /// Why, for those who see the content.
    pub reason: String,
}
