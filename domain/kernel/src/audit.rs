//! Records of the audit log.

use crate::{AuditId, OffsetDateTime, TenantId};

/// An entry as it was written: its bytes are the leaf's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Identifier, a version 7 UUID.
    pub id: AuditId,
    /// Tenant.
    pub tenant: TenantId,
    /// When, to the microsecond.
    pub at: OffsetDateTime,
    /// The pseudonym of who acted.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// The kind of thing it was done to.
    pub resource_kind: String,
    /// Which one.
    pub resource_id: String,
    /// What came of it.
    pub outcome: String,
    /// The request that it was part of.
    pub request_id: String,
    /// The canonical bytes (JSON) that the Merkle tree holds.
    pub leaf: Vec<u8>,
    /// Its place in the log, once it has one.
    pub index: Option<u64>,
}

/// Who stands behind a pseudonym. Erasing this is what makes an entry anonymous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPerson {
    /// HMAC-SHA-256 of the subject under the salt, hexadecimal.
    pub pseudonym: String,
    /// Tenant.
    pub tenant: TenantId,
    /// The actor's subject.
    pub subject: String,
    /// The actor's name when first seen.
    pub name: String,
    /// 32 random bytes.
    pub salt: Vec<u8>,
}

/// Which entries to find.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only these pseudonyms.
    pub actors: Option<Vec<String>>,
    /// Only this action, or every action that begins so when it ends with `.`.
    pub action: Option<String>,
    /// Only this kind of thing.
    pub resource_kind: Option<String>,
    /// Only this thing.
    pub resource_id: Option<String>,
    /// Only this outcome.
    pub outcome: Option<String>,
    /// At or after.
    pub from: Option<OffsetDateTime>,
    /// Before.
    pub before: Option<OffsetDateTime>,
}

/// A signed tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// How many leaves.
    pub size: u64,
    /// RFC 6962 root hash.
    pub root: [u8; 32],
    /// The signed note (C2SP tlog-checkpoint).
    pub note: String,
    /// When it was made.
    pub at: OffsetDateTime,
}
