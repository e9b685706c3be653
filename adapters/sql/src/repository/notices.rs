//! Messages to people.

use super::manifests::within;
use crate::{
    Finish, Unit,
    entity::{manifests, notification_reads as reads, notifications},
    failed, inserted, instant, micros, tenant_id,
};
use async_trait::async_trait;
use omt_kernel::{
    ManifestId, NotificationId, Reach, Result, TenantId,
    governance::NotificationRecord,
    port::{NotificationRepository, Page},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationDef,
    sea_query::OnConflict,
};
use std::collections::{BTreeSet, HashSet};
use time::OffsetDateTime;
use uuid::Uuid;

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
