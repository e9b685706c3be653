//! Identifiers. Each is its own type, so that one cannot stand where another is meant.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(s).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A manifest's record. A version 7 UUID, so that order of identifiers is order of creation.
    ManifestId
);
uuid_id!(
    /// A user.
    UserId
);
uuid_id!(
    /// An API key's public identifier (not the key).
    ApiKeyId
);
uuid_id!(
    /// One kept verification result.
    VerificationId
);
uuid_id!(
    /// Work for later.
    JobId
);
uuid_id!(
    /// A login and what descends from it.
    SessionId
);
uuid_id!(
    /// A rule that gives roles to the members of a group.
    MappingId
);
uuid_id!(
    /// An entry of the audit log, before it has its place.
    AuditId
);
uuid_id!(
    /// A workflow in progress.
    WorkflowId
);
uuid_id!(
    /// Something that waits for somebody in a workflow.
    TaskId
);
uuid_id!(
    /// A record of evidence: a consent, a clearance, rights.
    EvidenceId
);
uuid_id!(
    /// A message to somebody.
    NotificationId
);

uuid_id!(
    /// A badge. A version 4 UUID, since whoever knows it may look at the badge.
    BadgeId
);
uuid_id!(
    /// A place that is told of events: a webhook's endpoint.
    EndpointId
);
uuid_id!(
    /// An event on its way to one endpoint.
    DeliveryId
);

/// A tenant: 1 to 63 characters of `a-z 0-9 -`, beginning and ending with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TenantId(String);

impl TenantId {
    /// The tenant that exists from the first start on.
    pub const DEFAULT: &'static str = "default";

    /// Parses a tenant's name; the error is the reason.
    pub fn parse(s: &str) -> Result<Self, &'static str> {
        let ok = !s.is_empty()
            && s.len() <= 63
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !s.starts_with('-')
            && !s.ends_with('-');
        if ok { Ok(Self(s.to_owned())) } else { Err("1 to 63 characters of a-z, 0-9 and inner hyphens") }
    }
    /// The default tenant.
    pub fn default_tenant() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        Self::parse(&s).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_path_safe() {
        for good in ["default", "a", "acme-2", "0"] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a/b", "..", "-a", "a-", "a b", "ä", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }
}
