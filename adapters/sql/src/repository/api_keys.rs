//! API keys.

use crate::{Finish, Unit, entity::api_keys as rows, failed, from_json, instant, micros, tenant_id, to_json};
use async_trait::async_trait;
use omt_kernel::{
    ApiKeyId, Reach, Result, TenantId,
    port::{ApiKeyRepository, Page},
    record::ApiKeyRecord,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use time::OffsetDateTime;

fn from_row(row: rows::Model) -> Result<ApiKeyRecord> {
    Ok(ApiKeyRecord {
        id: ApiKeyId(row.id),
        tenant: tenant_id(&row.tenant)?,
        name: row.name,
        key_sha256: row.key_sha256,
        scopes: from_json(row.scopes)?,
        // Keys older than reach see everything that they saw before.
        reach: row.reach.map(from_json).transpose()?.unwrap_or(Reach::ALL),
        created_by: row.created_by,
        managed_by: tenant_id(&row.managed_by)?,
        created_at: instant(row.created_at)?,
        expires_at: row.expires_at.map(instant).transpose()?,
        last_used_at: row.last_used_at.map(instant).transpose()?,
        revoked_at: row.revoked_at.map(instant).transpose()?,
    })
}

#[async_trait]
impl<C: Finish> ApiKeyRepository for Unit<C> {
    async fn insert(&self, key: &ApiKeyRecord) -> Result<()> {
        let row = rows::ActiveModel {
            id: Set(key.id.0),
            tenant: Set(key.tenant.to_string()),
            name: Set(key.name.clone()),
            key_sha256: Set(key.key_sha256.clone()),
            scopes: Set(to_json(&key.scopes)?),
            reach: Set(Some(to_json(&key.reach)?)),
            created_by: Set(key.created_by.clone()),
            managed_by: Set(key.managed_by.to_string()),
            created_at: Set(micros(key.created_at)),
            expires_at: Set(key.expires_at.map(micros)),
            last_used_at: Set(key.last_used_at.map(micros)),
            revoked_at: Set(key.revoked_at.map(micros)),
        };
        rows::Entity::insert(row).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn by_digest(&self, key_sha256: &str) -> Result<Option<ApiKeyRecord>> {
        let found = rows::Entity::find().filter(rows::Column::KeySha256.eq(key_sha256)).one(&self.connection).await;
        found.map_err(failed)?.map(from_row).transpose()
    }

    async fn list(&self, managed_by: &TenantId, page: Page) -> Result<Vec<ApiKeyRecord>> {
        let mut query = rows::Entity::find().filter(rows::Column::ManagedBy.eq(managed_by.as_str()));
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn get(&self, managed_by: &TenantId, id: ApiKeyId) -> Result<Option<ApiKeyRecord>> {
        let query = rows::Entity::find_by_id(id.0).filter(rows::Column::ManagedBy.eq(managed_by.as_str()));
        query.one(&self.connection).await.map_err(failed)?.map(from_row).transpose()
    }

    async fn acting(&self, tenant: &TenantId, id: ApiKeyId) -> Result<Option<ApiKeyRecord>> {
        let query = rows::Entity::find_by_id(id.0).filter(rows::Column::Tenant.eq(tenant.as_str()));
        query.one(&self.connection).await.map_err(failed)?.map(from_row).transpose()
    }

    async fn made_by(&self, managed_by: &TenantId, subject: &str, page: Page) -> Result<Vec<ApiKeyRecord>> {
        let mut query = rows::Entity::find()
            .filter(rows::Column::ManagedBy.eq(managed_by.as_str()))
            .filter(rows::Column::CreatedBy.eq(subject));
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn revoke(&self, managed_by: &TenantId, id: ApiKeyId, at: OffsetDateTime) -> Result<bool> {
        let done = rows::Entity::update_many()
            .col_expr(rows::Column::RevokedAt, Expr::value(micros(at)))
            .filter(rows::Column::Id.eq(id.0))
            .filter(rows::Column::ManagedBy.eq(managed_by.as_str()))
            .filter(rows::Column::RevokedAt.is_null())
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn touch(&self, id: ApiKeyId, at: OffsetDateTime) -> Result<()> {
        rows::Entity::update_many()
            .col_expr(rows::Column::LastUsedAt, Expr::value(micros(at)))
            .filter(rows::Column::Id.eq(id.0))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }
}
