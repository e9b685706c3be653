//! The roles that a tenant has: its own, and those that every tenant has.

use omt_kernel::{
    Result, TenantId,
    access::RoleRecord,
    port::{Authorizer, RoleTable, UnitOfWork},
};
use std::sync::Arc;

/// Tenants' own roles, kept by the version of their table.
pub(crate) struct Tables {
    authorizer: Arc<dyn Authorizer>,
    kept: moka::future::Cache<(TenantId, i64), Arc<Vec<RoleRecord>>>,
}

impl Tables {
    pub(crate) fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer, kept: moka::future::Cache::new(1_000) }
    }

    /// The tenant's own roles.
    pub(crate) async fn own(&self, read: &dyn UnitOfWork, tenant: &TenantId) -> Result<RoleTable> {
        let version = read.roles().version(tenant).await?;
        let key = (tenant.clone(), version);
        let roles = match self.kept.get(&key).await {
            Some(found) => found,
            None => {
                let found = Arc::new(read.roles().list(tenant).await?);
                self.kept.insert(key, found.clone()).await;
                found
            }
        };
        Ok(RoleTable { tenant: tenant.clone(), version, roles })
    }

    /// Every role that somebody of the tenant can have.
    pub(crate) fn all(&self, table: &RoleTable) -> Vec<RoleRecord> {
        self.authorizer.built_in().into_iter().chain(table.roles.iter().cloned()).collect()
    }
}
