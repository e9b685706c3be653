//! Tenants, for those who run the platform.

use crate::{Access, password, rules, users::audited};
use omt_audit::Event;
use omt_jobs::NewJob;
use omt_kernel::{
    Actor, Error, Kind, Permission, Reach, Result, TenantId, TenantSettings, UserId,
    access::{UserRecord, UserSource},
    governance::{BY_SETTINGS, REMEASURE},
    port::{Stale, UnitOfWork},
};
use time::OffsetDateTime;

fn not_the_platform() -> Error {
    Error::new(Kind::Forbidden, "FORBIDDEN", "this is for those who run the platform")
}

impl Access {
    fn require_platform(&self, actor: &Actor) -> Result<()> {
        actor.require(Permission::AdminSystem)?;
        if actor.runs_platform() {
            return Ok(());
        }
        Err(not_the_platform())
    }

    /// Tenants by name, after one of them.
    pub async fn tenants(&self, actor: &Actor, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, OffsetDateTime)>> {
        actor.require_one(Permission::SEE_CONFIGURATION)?;
        if actor.tenant != TenantId::default_tenant() {
            return Err(not_the_platform());
        }
        self.deps.database.replica().await?.tenants().list(after, limit).await
    }

    /// A tenant's settings. Whoever configures a tenant sees its own.
    pub async fn tenant(&self, actor: &Actor, tenant: &TenantId) -> Result<TenantSettings> {
        actor.require_one(Permission::SEE_CONFIGURATION)?;
        if *tenant != actor.tenant && actor.tenant != TenantId::default_tenant() {
            return Err(Error::not_found("tenant"));
        }
        let found = self.deps.database.read().await?.tenants().settings(tenant).await?;
        found.ok_or_else(|| Error::not_found("tenant"))
    }

    /// Makes a tenant, and its first administrator where one is named (login name and password).
    pub async fn create_tenant(
        &self,
        actor: &Actor,
        tenant: TenantId,
        settings: TenantSettings,
        administrator: Option<(String, String)>,
    ) -> Result<()> {
        self.require_platform(actor)?;
        self.require_step_up(actor).await?;
        let now = self.deps.clock.now();
        let first = match administrator {
            Some((username, password)) => {
                rules::check_username(&username)?;
                rules::check_password(&password, &username, self.settings.password_min)?;
                let hash = self.deps.pool.run(move || password::hash(&password)).await?;
                Some(UserRecord {
                    roles: [rules::ADMINISTRATOR.to_owned()].into(),
                    password_hash: Some(hash),
                    reach: Reach::ALL,
                    ..UserRecord::new(UserId(self.deps.entropy.uuid_v7(now)), tenant.clone(), username, UserSource::Local, now)
                })
            }
            None => None,
        };
        self.transaction(async |unit| {
            unit.lock("tenants").await?;
            if unit.tenants().settings(&tenant).await?.is_some() {
                return Err(Error::new(Kind::Conflict, "TENANT_EXISTS", "there is a tenant of this name"));
            }
            unit.tenants().put(&tenant, &settings, now).await?;
            if let Some(user) = &first {
                unit.users().insert(user).await?;
                self.deps.audit.append(unit, actor, Event::new("user.create", "user", user.id).after(&audited(user))).await?;
            }
            self.deps.audit.append(unit, actor, Event::new("tenant.create", "tenant", &tenant).after(&settings)).await
        })
        .await
    }

    /// Has compliance look again at what it said of the tenant's content, where it may say something else by new settings.
    pub(crate) async fn remeasure(
        &self,
        unit: &dyn UnitOfWork,
        tenant: &TenantId,
        old: &TenantSettings,
        new: &TenantSettings,
    ) -> Result<()> {
        if !new.measures_otherwise(old) {
            return Ok(());
        }
        let now = self.deps.clock.now();
        let job = NewJob {
            tenant: Some(tenant.clone()),
            kind: REMEASURE,
            payload: serde_json::json!({ "key": BY_SETTINGS }),
            // One for each change: one that runs already may have looked before it.
            unique_key: Some(format!("{REMEASURE}:{tenant}:{BY_SETTINGS}:{}", now.unix_timestamp_nanos())),
            priority: 0,
            run_at: now,
            max_attempts: 8,
        };
        omt_jobs::enqueue(unit, self.deps.clock.as_ref(), self.deps.entropy.as_ref(), job).await.map(drop)
    }

    /// Replaces a tenant's settings. Those of the default tenant are the configuration's.
    pub async fn update_tenant(&self, actor: &Actor, tenant: &TenantId, settings: TenantSettings) -> Result<()> {
        self.require_platform(actor)?;
        self.require_step_up(actor).await?;
        if *tenant == TenantId::default_tenant() {
            let words = "the default tenant's settings come from [tenant_defaults] of the configuration";
            return Err(Error::new(Kind::Conflict, "CONFIGURED_TENANT", words));
        }
        let now = self.deps.clock.now();
        self.transaction(async |unit| {
            let old = unit.tenants().settings(tenant).await?.ok_or_else(|| Error::not_found("tenant"))?;
            unit.tenants().put(tenant, &settings, now).await?;
            self.remeasure(unit, tenant, &old, &settings).await?;
            let event = Event::new("tenant.update", "tenant", tenant).before(&old).after(&settings);
            self.deps.audit.append(unit, actor, event).await
        })
        .await?;
        self.deps.broadcast.tell(Stale::Settings(tenant.clone())).await;
        Ok(())
    }
}
