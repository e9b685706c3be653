//! The other records that repositories keep.

use crate::{ApiKeyId, ManifestId, Permission, Reach, TenantId, VerificationId};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// An API key; only its digest is kept.
#[derive(Debug, Clone)]
pub struct ApiKeyRecord {
    /// Public identifier.
    pub id: ApiKeyId,
    /// The tenant it acts for.
    pub tenant: TenantId,
    /// A name for people.
    pub name: String,
    /// SHA-256 of the key, hexadecimal.
    pub key_sha256: String,
    /// What it may do.
    pub scopes: BTreeSet<Permission>,
    /// Which content it sees.
    pub reach: Reach,
    /// The actor's subject that made it.
    pub created_by: String,
    /// The tenant whose administrator made it and may list and revoke it.
    pub managed_by: TenantId,
    /// Creation.
    pub created_at: OffsetDateTime,
    /// End of validity.
    pub expires_at: Option<OffsetDateTime>,
    /// The last use that was noted, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// One verification's kept result.
#[derive(Debug, Clone)]
pub struct VerificationRecord {
    /// Identifier, a version 7 UUID.
    pub id: VerificationId,
    /// Tenant.
    pub tenant: TenantId,
    /// The manifest verified.
    pub manifest: ManifestId,
    /// The validation state's name.
    pub state: String,
    /// The trust level's name.
    pub trust_level: String,
    /// The whole report.
    pub report: serde_json::Value,
    /// The actor's subject.
    pub verified_by: String,
    /// When.
    pub created_at: OffsetDateTime,
}

/// The stored answer to a request that carried an `Idempotency-Key`.
#[derive(Debug, Clone)]
pub struct IdempotencyRecord {
    /// Tenant.
    pub tenant: TenantId,
    /// The actor's subject: keys of different callers never meet.
    pub subject: String,
    /// The caller's key.
    pub key: String,
    /// SHA-256 over method, path and body, hexadecimal.
    pub fingerprint: String,
    /// Status of the answer.
    pub status: u16,
    /// Body of the answer.
    pub body: serde_json::Value,
    /// When.
    pub created_at: OffsetDateTime,
}

/// A certificate of the platform's own PKI.
#[derive(Debug, Clone)]
pub struct CertificateRecord {
    /// What it is for: `root`, `issuer`, `leaf` with the hierarchy and algorithm, such as `pq/leaf/ml-dsa-65`.
    pub role: String,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// The key's name in the key store.
    pub key_name: String,
    /// The certificate.
    pub der: Vec<u8>,
    /// End of validity.
    pub not_after: OffsetDateTime,
    /// Creation.
    pub created_at: OffsetDateTime,
}
