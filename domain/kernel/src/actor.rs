//! Who acts, and what they may do. Nothing is allowed unless a permission says so.

use crate::{Error, Kind, Result, TenantId};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// A single right. API keys carry these as scopes; roles will map to sets of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Permission { $($(#[$doc])* $name),+ }

        impl Permission {
            /// Every permission there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
            /// The permission's name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
        impl FromStr for Permission {
            type Err = ();
            fn from_str(s: &str) -> std::result::Result<Self, ()> {
                match s { $($text => Ok(Self::$name),)+ _ => Err(()) }
            }
        }
    };
}

permissions! {
    /// Upload content and make a draft.
    ManifestCreate = "manifest:create",
    /// Read records, content and reports, and verify.
    ManifestRead = "manifest:read",
    /// Change a draft.
    ManifestUpdate = "manifest:update",
    /// Archive a manifest.
    ManifestDelete = "manifest:delete",
    /// Sign a manifest.
    ManifestSign = "manifest:sign",
    /// Place and release legal holds.
    ManifestHold = "manifest:hold",
    /// Make, list and revoke API keys.
    AdminApiKeys = "admin:api-key:manage",
    /// See what storage is used.
    AdminStorage = "admin:storage:read",
    /// See jobs, replay and cancel them.
    AdminJobs = "admin:job:manage",
    /// Read the platform's metrics.
    MetricsRead = "metrics:read",
    /// Act for tenants other than one's own where an operation takes a tenant.
    AdminSystem = "admin:system:config",
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Permission {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let s = String::deserialize(d)?;
        s.parse().map_err(|()| serde::de::Error::custom(format!("unknown permission {s:?}")))
    }
}

/// How the actor proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// A user's access token.
    AccessToken,
    /// An API key.
    ApiKey,
    /// The command line on the machine that holds the data directory.
    CommandLine,
}

/// Who acts.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The only tenant whose data this actor can reach.
    pub tenant: TenantId,
    /// A stable name: `user:<id>`, `key:<id>` or `cli`.
    pub subject: String,
    /// Words for records and manifests: the user's or the key's name.
    pub name: String,
    /// What is allowed.
    pub permissions: BTreeSet<Permission>,
    /// How they proved it.
    pub via: Via,
}

impl Actor {
    /// Refuses with 403 `FORBIDDEN` unless the actor holds `permission`.
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.permissions.contains(&permission) {
            return Ok(());
        }
        Err(Error::new(Kind::Forbidden, "FORBIDDEN", format!("this needs the permission {permission}")))
    }
}
