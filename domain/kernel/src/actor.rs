//! Who acts, and what they may do. Nothing is allowed unless a permission says so.

use crate::{
    Error, Kind, Result, SessionId, TenantId,
    manifest::{Classification, ManifestRecord},
    once::Claim,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};
use time::OffsetDateTime;

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// A single right. API keys carry these as scopes; roles give sets of them.
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
    /// Start a workflow.
    WorkflowInitiate = "workflow:initiate",
    /// Review in a workflow.
    WorkflowReview = "workflow:review",
    /// Approve in a workflow.
    WorkflowApprove = "workflow:approve",
    /// Reject in a workflow.
    WorkflowReject = "workflow:reject",
    /// Check compliance.
    ComplianceCheck = "compliance:check",
    /// Override a compliance verdict.
    ComplianceOverride = "compliance:override",
    /// Read the audit log.
    AuditRead = "audit:read",
    /// Take a copy of the audit log.
    AuditExport = "audit:export",
    /// See users, their sessions and why they may do what they may.
    AdminUserRead = "admin:user:read",
    /// Make, change and remove users, and end their sessions.
    AdminUsers = "admin:user:manage",
    /// See roles and group mappings.
    AdminRoleRead = "admin:role:read",
    /// Make, change and remove roles and group mappings.
    AdminRoles = "admin:role:manage",
    /// Change policies.
    AdminPolicies = "admin:policy:manage",
    /// Make, list and revoke API keys.
    AdminApiKeys = "admin:api-key:manage",
    /// Give out and erase what is known of a person.
    AdminPrivacy = "admin:privacy:manage",
    /// See what storage is used.
    AdminStorage = "admin:storage:read",
    /// See jobs.
    AdminJobRead = "admin:job:read",
    /// Replay and cancel jobs.
    AdminJobs = "admin:job:manage",
    /// Read the platform's metrics.
    MetricsRead = "metrics:read",
    /// Configure the system. In the tenant that runs the platform, act for other tenants too.
    AdminSystem = "admin:system:config",
}

impl Permission {
    /// One of these at least has whoever takes part in workflows.
    pub const WORKFLOW: &'static [Self] =
        &[Self::WorkflowInitiate, Self::WorkflowReview, Self::WorkflowApprove, Self::WorkflowReject];
    /// Who may look at how a tenant is configured: those who do it, and auditors.
    pub const SEE_CONFIGURATION: &'static [Self] = &[Self::AdminSystem, Self::AuditRead];
    /// Who may look at records of evidence: those who decide by them, and auditors.
    pub const SEE_EVIDENCE: &'static [Self] = &[Self::ComplianceCheck, Self::AuditRead];
    /// One of these at least has whoever says what content is.
    pub const DECLARE: &'static [Self] = &[Self::ManifestCreate, Self::ManifestUpdate, Self::ComplianceCheck];
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
    /// A password kept here.
    Password,
    /// A password that a directory checked.
    Directory,
    /// A token of a trusted issuer.
    Oidc,
    /// An API key.
    ApiKey,
    /// The command line on the machine that holds the data directory.
    CommandLine,
    /// The platform itself, in a background job.
    System,
    /// Not at all.
    Nothing,
}

impl Via {
    /// The name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Directory => "directory",
            Self::Oidc => "oidc",
            Self::ApiKey => "api_key",
            Self::CommandLine => "command_line",
            Self::System => "system",
            Self::Nothing => "nothing",
        }
    }
}

/// Which of the tenant's content somebody can see at all. What lies outside does not exist for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Only this department's content, and content of no department; everything when absent.
    pub department: Option<String>,
    /// Only these projects' content, and content of no project; everything when empty.
    #[serde(default)]
    pub projects: BTreeSet<String>,
    /// The most sensitive classification.
    pub clearance: Classification,
}

impl Reach {
    /// Everything.
    pub const ALL: Self = Self { department: None, projects: BTreeSet::new(), clearance: Classification::TopSecret };

    /// Whether a manifest is inside.
    pub fn sees(&self, record: &ManifestRecord) -> bool {
        self.covers(record.department.as_deref(), record.project.as_deref(), record.classification)
    }

    /// Whether content of this department, project and classification is inside.
    pub fn covers(&self, department: Option<&str>, project: Option<&str>, classification: Classification) -> bool {
        let departments = self.department.is_none() || department.is_none() || self.department.as_deref() == department;
        let projects = self.projects.is_empty() || project.is_none_or(|project| self.projects.contains(project));
        departments && projects && classification <= self.clearance
    }

    /// Whether everything in `other` is inside.
    pub fn includes(&self, other: &Self) -> bool {
        let departments = self.department.is_none() || self.department == other.department;
        let projects = self.projects.is_empty() || (!other.projects.is_empty() && other.projects.is_subset(&self.projects));
        departments && projects && other.clearance <= self.clearance
    }
}

/// Who acts.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The only tenant whose data this actor can reach.
    pub tenant: TenantId,
    /// A stable name: `user:<id>`, `key:<id>`, `cli` or `system`.
    pub subject: String,
    /// Words for records and manifests: the user's or the key's name.
    pub name: String,
    /// Roles, of which the permissions come. API keys have none.
    pub roles: BTreeSet<String>,
    /// What is allowed.
    pub permissions: BTreeSet<Permission>,
    /// Which content is within reach.
    pub reach: Reach,
    /// How they proved it.
    pub via: Via,
    /// The login that this descends from.
    pub session: Option<SessionId>,
    /// When a second factor was last given in this session.
    pub second_factor_at: Option<OffsetDateTime>,
    /// The request that this is part of.
    pub request_id: String,
    /// What makes the request act once, where it bears a key.
    pub claim: Option<Arc<Claim>>,
}

impl Actor {
    /// The platform itself, in a tenant.
    pub fn system(tenant: TenantId) -> Self {
        Self {
            tenant,
            subject: "system".into(),
            name: "system".into(),
            roles: BTreeSet::new(),
            permissions: Permission::ALL.iter().copied().collect(),
            reach: Reach::ALL,
            via: Via::System,
            session: None,
            second_factor_at: None,
            request_id: String::new(),
            claim: None,
        }
    }

    /// Whoever has not proved who they are: may do nothing, and is only written down.
    pub fn anonymous(tenant: TenantId, request_id: String) -> Self {
        Self {
            subject: "anonymous".into(),
            name: "anonymous".into(),
            permissions: BTreeSet::new(),
            reach: Reach { clearance: Classification::Public, ..Reach::ALL },
            via: Via::Nothing,
            request_id,
            ..Self::system(tenant)
        }
    }

    /// Whether the actor holds `permission`.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Refuses with 403 `FORBIDDEN` unless the actor holds `permission`.
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.may(permission) {
            return Ok(());
        }
        Err(Error::new(Kind::Forbidden, "FORBIDDEN", format!("this needs the permission {permission}")))
    }

    /// Refuses with 403 `FORBIDDEN` unless the actor holds one of these.
    pub fn require_one(&self, any: &[Permission]) -> Result<()> {
        if any.iter().any(|permission| self.may(*permission)) {
            return Ok(());
        }
        let names: Vec<&str> = any.iter().map(|permission| permission.as_str()).collect();
        Err(Error::new(Kind::Forbidden, "FORBIDDEN", format!("this needs one of the permissions {}", names.join(", "))))
    }

    /// Whether the actor runs the platform: may configure the system, in the tenant that runs it.
    pub fn runs_platform(&self) -> bool {
        self.tenant.as_str() == TenantId::DEFAULT && self.may(Permission::AdminSystem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(department: Option<&str>, projects: &[&str], clearance: Classification) -> Reach {
        Reach { department: department.map(Into::into), projects: projects.iter().map(|p| (*p).to_owned()).collect(), clearance }
    }

    #[test]
    fn reach_ends_where_it_says() {
        let news = reach(Some("news"), &["a", "b"], Classification::Internal);
        assert!(news.covers(Some("news"), Some("a"), Classification::Public));
        assert!(news.covers(None, None, Classification::Internal));
        assert!(!news.covers(Some("legal"), Some("a"), Classification::Public));
        assert!(!news.covers(Some("news"), Some("c"), Classification::Public));
        assert!(!news.covers(Some("news"), Some("a"), Classification::Confidential));
        assert!(Reach::ALL.covers(Some("x"), Some("y"), Classification::TopSecret));
        assert!(Reach::ALL.includes(&news) && news.includes(&news) && !news.includes(&Reach::ALL));
        assert!(news.includes(&reach(Some("news"), &["a"], Classification::Public)));
        assert!(!news.includes(&reach(Some("news"), &[], Classification::Public)));
        assert!(!news.includes(&reach(Some("legal"), &["a"], Classification::Public)));
    }
}
