//! Badges.

use crate::{Finish, Unit, entity::badges as rows, failed, instant, micros, tenant_id};
use async_trait::async_trait;
use omt_kernel::{
    BadgeId, ManifestId, Result, TenantId,
    badge::{BadgeRecord, Revoked},
    port::BadgeRepository,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};

/// The most badges of one manifest that are listed.
const MOST: u64 = 100;

fn badge(row: rows::Model) -> Result<BadgeRecord> {
    let revoked = match (row.revoked_at, row.revoked_by, row.revoked_reason) {
        (Some(at), Some(by), Some(reason)) => Some(Revoked { at: instant(at)?, by, reason }),
        _ => None,
    };
    Ok(BadgeRecord {
        id: BadgeId(row.id),
        tenant: tenant_id(&row.tenant)?,
        manifest: ManifestId(row.manifest_id),
        content_sha256: row.content_sha256,
        issued_by: row.issued_by,
        issued_at: instant(row.issued_at)?,
        revoked,
    })
}

#[async_trait]
impl<C: Finish> BadgeRepository for Unit<C> {
    async fn insert(&self, badge: &BadgeRecord) -> Result<()> {
        let revoked = badge.revoked.as_ref();
        let row = rows::ActiveModel {
            id: Set(badge.id.0),
            tenant: Set(badge.tenant.to_string()),
            manifest_id: Set(badge.manifest.0),
            content_sha256: Set(badge.content_sha256.clone()),
            issued_by: Set(badge.issued_by.clone()),
            issued_at: Set(micros(badge.issued_at)),
            revoked_at: Set(revoked.map(|revoked| micros(revoked.at))),
            revoked_by: Set(revoked.map(|revoked| revoked.by.clone())),
            revoked_reason: Set(revoked.map(|revoked| revoked.reason.clone())),
        };
        rows::Entity::insert(row).exec_without_returning(&self.connection).await.map(drop).map_err(failed)
    }

    async fn find(&self, id: BadgeId) -> Result<Option<BadgeRecord>> {
        rows::Entity::find_by_id(id.0).one(&self.connection).await.map_err(failed)?.map(badge).transpose()
    }

    async fn of_manifest(&self, tenant: &TenantId, manifest: ManifestId) -> Result<Vec<BadgeRecord>> {
        let found = rows::Entity::find()
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .filter(rows::Column::ManifestId.eq(manifest.0))
            .order_by_desc(rows::Column::IssuedAt)
            .limit(MOST)
            .all(&self.connection)
            .await;
        found.map_err(failed)?.into_iter().map(badge).collect()
    }

    async fn revoke(&self, badge: &BadgeRecord) -> Result<bool> {
        let Some(revoked) = &badge.revoked else { return Ok(false) };
        let done = rows::Entity::update_many()
            .col_expr(rows::Column::RevokedAt, Expr::value(micros(revoked.at)))
            .col_expr(rows::Column::RevokedBy, Expr::value(revoked.by.as_str()))
            .col_expr(rows::Column::RevokedReason, Expr::value(revoked.reason.as_str()))
            .filter(rows::Column::Id.eq(badge.id.0))
            .filter(rows::Column::Tenant.eq(badge.tenant.as_str()))
            .filter(rows::Column::RevokedAt.is_null())
            .exec(&self.connection)
            .await;
        Ok(done.map_err(failed)?.rows_affected == 1)
    }
}
