//! Organisational policies and messages to people.

use super::manifests::within;
use crate::{
    Finish, Unit,
    entity::{manifests, notification_reads as reads, notifications, policies},
    failed, inserted, instant, micros, tenant_id,
};
use async_trait::async_trait;
use omt_kernel::{
    ManifestId, NotificationId, Reach, Result, TenantId,
    governance::{NotificationRecord, PolicyRecord},
    port::{NotificationRepository, Page, PolicyRepository},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationDef,
    sea_query::OnConflict,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use time::OffsetDateTime;
use uuid::Uuid;

fn policy(row: policies::Model) -> Result<PolicyRecord> {
    Ok(PolicyRecord {
        tenant: tenant_id(&row.tenant)?,
        name: row.name,
        version: u32::try_from(row.version).unwrap_or(0),
        data: row.data,
        created_by: row.created_by,
        created_at: instant(row.created_at)?,
    })
}

#[async_trait]
impl<C: Finish> PolicyRepository for Unit<C> {
    async fn insert(&self, policy: &PolicyRecord) -> Result<bool> {
        let row = policies::ActiveModel {
            tenant: Set(policy.tenant.to_string()),
            name: Set(policy.name.clone()),
            version: Set(policy.version as i32),
            data: Set(policy.data.clone()),
            created_by: Set(policy.created_by.clone()),
            created_at: Set(micros(policy.created_at)),
        };
        let keep = OnConflict::new().do_nothing().to_owned();
        inserted(policies::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.connection).await)
    }

    async fn get(&self, tenant: &TenantId, name: &str, version: Option<u32>) -> Result<Option<PolicyRecord>> {
        let mut query =
            policies::Entity::find().filter(policies::Column::Tenant.eq(tenant.as_str())).filter(policies::Column::Name.eq(name));
        if let Some(version) = version {
            query = query.filter(policies::Column::Version.eq(version as i32));
        }
        let found = query.order_by_desc(policies::Column::Version).limit(1).one(&self.connection).await;
        found.map_err(failed)?.map(policy).transpose()
    }

    async fn list(&self, tenant: &TenantId) -> Result<Vec<PolicyRecord>> {
        let found = policies::Entity::find()
            .filter(policies::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(policies::Column::Version)
            .all(&self.connection)
            .await;
        let newest: BTreeMap<String, policies::Model> =
            found.map_err(failed)?.into_iter().map(|row| (row.name.clone(), row)).collect();
        newest.into_values().map(policy).collect()
    }

    async fn versions(&self, tenant: &TenantId, name: &str) -> Result<Vec<PolicyRecord>> {
        let found = policies::Entity::find()
            .filter(policies::Column::Tenant.eq(tenant.as_str()))
            .filter(policies::Column::Name.eq(name))
            .order_by_desc(policies::Column::Version)
            .all(&self.connection)
            .await;
        found.map_err(failed)?.into_iter().map(policy).collect()
    }
}

/// From a message to the manifest that it is about.
fn to_manifest() -> RelationDef {
    notifications::Entity::belongs_to(manifests::Entity).from(notifications::Column::ManifestId).to(manifests::Column::Id).into()
}

fn notification(row: notifications::Model) -> Result<NotificationRecord> {
    Ok(NotificationRecord {
        id: NotificationId(row.id),
        tenant: tenant_id(&row.tenant)?,
        audience: row.audience,
        kind: row.kind,
        data: row.data,
        manifest: ManifestId(row.manifest_id),
        created_at: instant(row.created_at)?,
    })
}

impl<C: Finish> Unit<C> {
    async fn read_by(&self, ids: Vec<Uuid>, subject: &str) -> Result<HashSet<Uuid>> {
        let found = reads::Entity::find()
            .filter(reads::Column::NotificationId.is_in(ids))
            .filter(reads::Column::Subject.eq(subject))
            .all(&self.connection)
            .await;
        Ok(found.map_err(failed)?.into_iter().map(|row| row.notification_id).collect())
    }
}

#[async_trait]
impl<C: Finish> NotificationRepository for Unit<C> {
    async fn insert(&self, notification: &NotificationRecord) -> Result<()> {
        let row = notifications::ActiveModel {
            id: Set(notification.id.0),
            tenant: Set(notification.tenant.to_string()),
            audience: Set(notification.audience.clone()),
            kind: Set(notification.kind.clone()),
            data: Set(notification.data.clone()),
            manifest_id: Set(notification.manifest.0),
            created_at: Set(micros(notification.created_at)),
        };
        notifications::Entity::insert(row).exec_without_returning(&self.connection).await.map(drop).map_err(failed)
    }

    async fn list(
        &self,
        tenant: &TenantId,
        audience: &BTreeSet<String>,
        reach: &Reach,
        subject: &str,
        unread: bool,
        page: Page,
    ) -> Result<Vec<(NotificationRecord, bool)>> {
        let (mut out, mut after) = (Vec::new(), page.after);
        // What was read is left out after it was found, so a page may need several looks; not for ever.
        for _ in 0..20 {
            let mut query = notifications::Entity::find()
                .filter(notifications::Column::Tenant.eq(tenant.as_str()))
                .filter(notifications::Column::Audience.is_in(audience.iter().map(String::as_str)))
                .join(JoinType::InnerJoin, to_manifest())
                .filter(within(reach));
            if let Some(after) = after {
                query = query.filter(notifications::Column::Id.lt(after));
            }
            let query = query.order_by_desc(notifications::Column::Id).limit(u64::from(page.limit));
            let found = query.all(&self.connection).await.map_err(failed)?;
            let last = found.len() < page.limit as usize;
            after = found.last().map(|row| row.id);
            let read = self.read_by(found.iter().map(|row| row.id).collect(), subject).await?;
            for row in found {
                let seen = read.contains(&row.id);
                if !(unread && seen) {
                    out.push((notification(row)?, seen));
                }
            }
            if last || out.len() >= page.limit as usize {
                break;
            }
        }
        out.truncate(page.limit as usize);
        Ok(out)
    }

    async fn get(&self, tenant: &TenantId, id: NotificationId) -> Result<Option<NotificationRecord>> {
        let found = notifications::Entity::find_by_id(id.0).filter(notifications::Column::Tenant.eq(tenant.as_str()));
        found.one(&self.connection).await.map_err(failed)?.map(notification).transpose()
    }

    async fn read(&self, id: NotificationId, subject: &str, at: OffsetDateTime) -> Result<()> {
        let row = reads::ActiveModel { notification_id: Set(id.0), subject: Set(subject.to_owned()), at: Set(micros(at)) };
        let keep = OnConflict::new().do_nothing().to_owned();
        inserted(reads::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.connection).await).map(drop)
    }

    async fn forget(&self, before: OffsetDateTime) -> Result<u64> {
        let old: Vec<Uuid> = notifications::Entity::find()
            .select_only()
            .column(notifications::Column::Id)
            .filter(notifications::Column::CreatedAt.lt(micros(before)))
            .limit(1_000)
            .into_tuple()
            .all(&self.connection)
            .await
            .map_err(failed)?;
        if old.is_empty() {
            return Ok(0);
        }
        let seen = reads::Entity::delete_many().filter(reads::Column::NotificationId.is_in(old.clone()));
        seen.exec(&self.connection).await.map_err(failed)?;
        let gone = notifications::Entity::delete_many().filter(notifications::Column::Id.is_in(old));
        Ok(gone.exec(&self.connection).await.map_err(failed)?.rows_affected)
    }
}
