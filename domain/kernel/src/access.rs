//! Records of users, sessions, roles and group mappings.

use crate::{MappingId, Permission, Reach, SessionId, TenantId, UserId, Via, manifest::Classification};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

/// Who vouches for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserSource {
    /// We do: the password is kept here.
    Local,
    /// An LDAP directory.
    Ldap,
    /// An OpenID Connect issuer.
    Oidc,
    /// A SCIM client made the user; an issuer or directory checks who logs in.
    Scim,
}

impl UserSource {
    /// The name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Ldap => "ldap",
            Self::Oidc => "oidc",
            Self::Scim => "scim",
        }
    }
}

/// What group mappings or an issuer's claims give a user, as last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// Groups, as their source names them.
    pub groups: BTreeSet<String>,
    /// Roles that they give.
    pub roles: BTreeSet<String>,
    /// Department that they give.
    pub department: Option<String>,
    /// Projects that they give.
    pub projects: BTreeSet<String>,
    /// Clearance that they give.
    pub clearance: Option<Classification>,
    /// When the source was last asked.
    #[serde(with = "time::serde::timestamp::option")]
    pub seen_at: Option<OffsetDateTime>,
}

/// A time-based one-time password (RFC 6238) of a user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Totp {
    /// The shared secret, encrypted.
    pub sealed: Vec<u8>,
    /// The time step of the last code taken: no code counts twice.
    pub last_step: u64,
    /// SHA-256 of recovery codes that are left, hexadecimal.
    pub recovery: BTreeSet<String>,
}

/// A user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserRecord {
    /// Identifier.
    pub id: UserId,
    /// Tenant.
    pub tenant: TenantId,
    /// Rises with each change.
    pub revision: i64,
    /// Login name, unique in the tenant whatever its case.
    pub username: String,
    /// Name for people.
    pub display_name: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// Who vouches for the user.
    pub source: UserSource,
    /// A SCIM client's own name for the user. It proves nothing.
    pub external_id: Option<String>,
    /// Who the user is where they log in: `ldap:` and a distinguished name, or `oidc:`, issuer and subject. Written only after
    /// the source vouched for it, and unique in the tenant.
    #[serde(default)]
    pub identity: Option<String>,
    /// Login names that the user had before.
    #[serde(default)]
    pub former_names: BTreeSet<String>,
    /// Argon2id PHC string, of local users.
    pub password_hash: Option<String>,
    /// The same of the password that the configuration named when it was last looked at, of the first user: only another one is
    /// taken over.
    #[serde(default)]
    pub configured_password: Option<String>,
    /// Roles given here.
    pub roles: BTreeSet<String>,
    /// What groups give besides.
    pub mapped: Mapped,
    /// Which content the user sees, as set here; groups may say otherwise.
    pub reach: Reach,
    /// Inactive users cannot log in.
    pub active: bool,
    /// Whether messages go to the address besides.
    #[serde(default = "yes")]
    pub wants_mail: bool,
    /// Second factor.
    pub totp: Option<Totp>,
    /// One that waits for its first code.
    #[serde(default)]
    pub totp_pending: Option<Totp>,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Last change.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

fn yes() -> bool {
    true
}

impl UserRecord {
    /// A new active user without roles who sees what is public and internal.
    pub fn new(id: UserId, tenant: TenantId, username: String, source: UserSource, now: OffsetDateTime) -> Self {
        Self {
            id,
            tenant,
            revision: 1,
            username,
            display_name: None,
            email: None,
            source,
            external_id: None,
            identity: None,
            former_names: BTreeSet::new(),
            password_hash: None,
            configured_password: None,
            roles: BTreeSet::new(),
            mapped: Mapped::default(),
            reach: Reach { clearance: Classification::Internal, ..Reach::ALL },
            active: true,
            wants_mail: true,
            totp: None,
            totp_pending: None,
            created_at: now,
            updated_at: now,
        }
    }
    /// The actor's subject.
    pub fn subject(&self) -> String {
        format!("user:{}", self.id)
    }
    /// Roles given here and by groups.
    pub fn all_roles(&self) -> BTreeSet<String> {
        self.roles.union(&self.mapped.roles).cloned().collect()
    }
    /// What the user sees: groups win where they say something.
    pub fn effective_reach(&self) -> Reach {
        Reach {
            department: self.mapped.department.clone().or_else(|| self.reach.department.clone()),
            projects: if self.mapped.projects.is_empty() { self.reach.projects.clone() } else { self.mapped.projects.clone() },
            clearance: self.mapped.clearance.unwrap_or(self.reach.clearance),
        }
    }
    /// Whether a second factor protects the user.
    pub fn has_second_factor(&self) -> bool {
        self.totp.is_some()
    }
}

/// Which users to list.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Part of the login name, in lower case.
    pub username_contains: Option<String>,
    /// Exact login name, in lower case.
    pub username: Option<String>,
    /// Exact name that a SCIM client has for the user.
    pub external_id: Option<String>,
    /// Exact identity.
    pub identity: Option<String>,
    /// Only active or only inactive ones.
    pub active: Option<bool>,
}

/// A login and what descends from it.
#[derive(Debug, Clone)]
pub struct SessionRecord {
    /// Identifier.
    pub id: SessionId,
    /// Tenant.
    pub tenant: TenantId,
    /// Whose it is.
    pub user: UserId,
    /// How the user proved who they are.
    pub via: Via,
    /// The program that logged in, as it calls itself.
    pub user_agent: Option<String>,
    /// Login.
    pub created_at: OffsetDateTime,
    /// Last use that was noted.
    pub last_used_at: OffsetDateTime,
    /// It ends then, whatever happens.
    pub expires_at: OffsetDateTime,
    /// When a second factor was last given.
    pub second_factor_at: Option<OffsetDateTime>,
    /// When it was ended.
    pub revoked_at: Option<OffsetDateTime>,
}

/// A refresh token; only its digest is kept. All tokens that descend from one login share a family, its session.
#[derive(Debug, Clone)]
pub struct RefreshTokenRecord {
    /// SHA-256 of the token, hexadecimal.
    pub token_sha256: String,
    /// The session.
    pub family: Uuid,
    /// Whose it is.
    pub user: UserId,
    /// End of validity.
    pub expires_at: OffsetDateTime,
    /// When it was exchanged for the next one. A second exchange is theft.
    pub used_at: Option<OffsetDateTime>,
}

/// A tenant's own role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRecord {
    /// Tenant.
    pub tenant: TenantId,
    /// Its name: lower-case letters, digits and inner hyphens.
    pub name: String,
    /// Words for people.
    pub description: String,
    /// Roles whose permissions it has too.
    pub inherits: BTreeSet<String>,
    /// Permissions of its own.
    pub permissions: BTreeSet<Permission>,
    /// Rises with each change.
    pub revision: i64,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// Last change.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// What membership in a group gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMapping {
    /// Identifier.
    pub id: MappingId,
    /// The tenant in which it counts.
    pub tenant: TenantId,
    /// The group: a distinguished name, or the name that an issuer or SCIM client gives it. Case does not matter.
    pub group: String,
    /// Roles.
    pub roles: BTreeSet<String>,
    /// Department.
    pub department: Option<String>,
    /// Projects.
    #[serde(default)]
    pub projects: BTreeSet<String>,
    /// Clearance.
    pub clearance: Option<Classification>,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A group of a SCIM client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Identifier.
    pub id: Uuid,
    /// Tenant.
    pub tenant: TenantId,
    /// Its name, which group mappings name.
    pub name: String,
    /// The client's own name for it.
    pub external_id: Option<String>,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Failed logins under a name, whether or not there is such a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Since the last success.
    pub failures: u32,
    /// When the last one was.
    pub last_at: Option<OffsetDateTime>,
}
