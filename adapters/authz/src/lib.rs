//! What roles may do, decided by Casbin: role-based access control with domains, over the table in `policies/access/`.
//!
//! The policy holds lines of role and permission only, so each tenant's is small, and one set of permissions is compiled for each
//! set of roles that is seen. Everything that is kept is kept by the version of the tenant's roles: what changes is found under
//! another version, in this process and in every other.

use async_trait::async_trait;
use casbin::{CoreApi, DefaultModel, Enforcer, MemoryAdapter, MgmtApi};
use omt_kernel::{
    Error, Permission, Result, TenantId,
    access::RoleRecord,
    port::{Authorizer, RoleTable},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use time::OffsetDateTime;

const MODEL: &str = include_str!("../../../policies/access/model.conf");
const ROLES: &str = include_str!("../../../policies/access/roles.csv");
/// Roles of a tenant at a version of its own roles.
type Key = (TenantId, i64, BTreeSet<String>);

/// Casbin behind the port.
pub struct CasbinAuthorizer {
    lines: Vec<Vec<String>>,
    built_in: Vec<RoleRecord>,
    enforcers: moka::future::Cache<(TenantId, i64), Arc<Enforcer>>,
    sets: moka::future::Cache<Key, BTreeSet<Permission>>,
}

fn fault(error: casbin::Error) -> Error {
    Error::internal("the access policy cannot be evaluated").caused_by(error)
}

impl CasbinAuthorizer {
    /// Reads the table that every tenant has.
    pub fn new() -> Result<Self> {
        let malformed = |line: &str| Error::internal(format!("policies/access/roles.csv: {line}"));
        let (mut lines, mut roles) = (Vec::new(), BTreeMap::<String, BTreeSet<Permission>>::new());
        for line in ROLES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let parts: Vec<&str> = line.split(',').map(str::trim).collect();
            let ["p", role, permission] = parts[..] else { return Err(malformed(line)) };
            roles.entry(role.to_owned()).or_default().insert(permission.parse().map_err(|()| malformed(line))?);
            lines.push(vec![role.to_owned(), permission.to_owned()]);
        }
        let record = |(name, permissions)| RoleRecord {
            tenant: TenantId::default_tenant(),
            name,
            description: String::new(),
            inherits: BTreeSet::new(),
            permissions,
            revision: 0,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        };
        Ok(Self {
            lines,
            built_in: roles.into_iter().map(record).collect(),
            enforcers: moka::future::Cache::new(1_000),
            sets: moka::future::Cache::new(20_000),
        })
    }

    async fn enforcer(&self, table: &RoleTable) -> Result<Arc<Enforcer>> {
        let key = (table.tenant.clone(), table.version);
        let made = self.enforcers.try_get_with(key, async { self.compile(table).await.map(Arc::new) }).await;
        made.map_err(|error: Arc<Error>| error.as_ref().clone())
    }

    async fn compile(&self, table: &RoleTable) -> Result<Enforcer> {
        let model = DefaultModel::from_str(MODEL).await.map_err(fault)?;
        let mut enforcer = Enforcer::new(model, MemoryAdapter::default()).await.map_err(fault)?;
        let (tenant, mut lines, mut links) = (table.tenant.to_string(), self.lines.clone(), Vec::new());
        for role in table.roles.iter() {
            lines.extend(role.permissions.iter().map(|p| vec![role.name.clone(), p.to_string()]));
            links.extend(role.inherits.iter().map(|parent| vec![role.name.clone(), parent.clone(), tenant.clone()]));
        }
        enforcer.add_policies(lines).await.map_err(fault)?;
        if !links.is_empty() {
            enforcer.add_grouping_policies(links).await.map_err(fault)?;
        }
        Ok(enforcer)
    }

    /// One decision, asked of Casbin itself: what the sets are made of.
    pub async fn decide(&self, table: &RoleTable, role: &str, permission: Permission) -> Result<bool> {
        self.enforcer(table).await?.enforce((role, table.tenant.as_str(), permission.as_str())).map_err(fault)
    }
}

#[async_trait]
impl Authorizer for CasbinAuthorizer {
    async fn permissions(&self, table: &RoleTable, roles: &BTreeSet<String>) -> Result<BTreeSet<Permission>> {
        let key = (table.tenant.clone(), table.version, roles.clone());
        if let Some(found) = self.sets.get(&key).await {
            return Ok(found);
        }
        let enforcer = self.enforcer(table).await?;
        let mut set = BTreeSet::new();
        for permission in Permission::ALL {
            for role in roles {
                if enforcer.enforce((role.as_str(), table.tenant.as_str(), permission.as_str())).map_err(fault)? {
                    set.insert(*permission);
                    break;
                }
            }
        }
        self.sets.insert(key, set.clone()).await;
        Ok(set)
    }

    async fn because(&self, table: &RoleTable, role: &str, permission: Permission) -> Result<Option<Vec<String>>> {
        if !self.decide(table, role, permission).await? {
            return Ok(None);
        }
        // The nearest role that has the line itself.
        let all: BTreeMap<&str, &RoleRecord> =
            self.built_in.iter().chain(table.roles.iter()).map(|role| (role.name.as_str(), role)).collect();
        let mut paths = vec![vec![role.to_owned()]];
        for _ in 0..=all.len() {
            let mut longer = Vec::new();
            for path in paths {
                let Some(at) = path.last().and_then(|name| all.get(name.as_str())) else { continue };
                if at.permissions.contains(&permission) {
                    return Ok(Some(path));
                }
                longer.extend(at.inherits.iter().map(|parent| [path.as_slice(), std::slice::from_ref(parent)].concat()));
            }
            paths = longer;
        }
        Err(Error::internal("the access policy gives a permission for no reason"))
    }

    fn built_in(&self) -> Vec<RoleRecord> {
        self.built_in.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, inherits: &[&str], permissions: &[Permission]) -> RoleRecord {
        RoleRecord {
            tenant: TenantId::parse("acme").unwrap(),
            name: name.into(),
            description: String::new(),
            inherits: inherits.iter().map(|r| (*r).to_owned()).collect(),
            permissions: permissions.iter().copied().collect(),
            revision: 1,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn table(tenant: &str, version: i64, roles: Vec<RoleRecord>) -> RoleTable {
        RoleTable { tenant: TenantId::parse(tenant).unwrap(), version, roles: Arc::new(roles) }
    }

    fn roles(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[tokio::test]
    async fn built_in_roles_have_exactly_their_permissions() {
        let authorizer = CasbinAuthorizer::new().unwrap();
        let table = table("acme", 0, Vec::new());
        let of = async |role: &str| {
            let set = authorizer.permissions(&table, &roles(&[role])).await.unwrap();
            set.into_iter().map(|p| p.as_str()).collect::<BTreeSet<_>>()
        };
        let list = |text: &'static str| text.split(' ').collect::<BTreeSet<_>>();
        assert_eq!(of("creator").await, list("manifest:create manifest:read workflow:initiate"));
        assert_eq!(of("reviewer").await, list("manifest:read workflow:review workflow:reject compliance:check"));
        assert_eq!(of("approver").await, list("manifest:read manifest:sign workflow:approve workflow:reject compliance:check"));
        assert_eq!(of("editor").await, list("manifest:create manifest:read manifest:update workflow:initiate"));
        let manager: BTreeSet<_> = Permission::ALL
            .iter()
            .map(|p| p.as_str())
            .filter(|p| p.starts_with("manifest:") || p.starts_with("workflow:") || p.starts_with("compliance:"))
            .collect();
        assert_eq!(of("manager").await, manager);
        assert_eq!(of("administrator").await, Permission::ALL.iter().map(|p| p.as_str()).collect());
        for permission in of("auditor").await {
            assert!(permission.ends_with(":read") || permission == "audit:export", "{permission} changes something");
        }
        assert!(of("nobody").await.is_empty() && authorizer.permissions(&table, &roles(&[])).await.unwrap().is_empty());
        assert_eq!(authorizer.built_in().len(), 8);
    }

    #[tokio::test]
    async fn own_roles_inherit_and_stay_in_their_tenant() {
        let authorizer = CasbinAuthorizer::new().unwrap();
        let own = vec![role("desk", &["editor"], &[Permission::ManifestHold]), role("lead", &["desk"], &[])];
        let acme = table("acme", 1, own.clone());
        let set = authorizer.permissions(&acme, &roles(&["lead"])).await.unwrap();
        assert!(set.contains(&Permission::ManifestHold) && set.contains(&Permission::ManifestUpdate));
        assert!(!set.contains(&Permission::ManifestSign));
        assert_eq!(
            authorizer.because(&acme, "lead", Permission::ManifestUpdate).await.unwrap().unwrap(),
            ["lead", "desk", "editor"]
        );
        assert_eq!(authorizer.because(&acme, "lead", Permission::ManifestSign).await.unwrap(), None);
        let other = table("other", 1, Vec::new());
        assert!(authorizer.permissions(&other, &roles(&["lead"])).await.unwrap().is_empty());
        // Another version is another policy.
        let changed = table("acme", 2, vec![role("lead", &[], &[Permission::ManifestRead])]);
        let set = authorizer.permissions(&changed, &roles(&["lead"])).await.unwrap();
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [Permission::ManifestRead]);
        let both = authorizer.permissions(&acme, &roles(&["creator", "reviewer"])).await.unwrap();
        assert!(both.contains(&Permission::ManifestCreate) && both.contains(&Permission::WorkflowReview));
    }
}
