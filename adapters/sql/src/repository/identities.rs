//! Users, API keys and refresh tokens.

use crate::{
    Finish, Unit,
    entity::{api_keys, refresh_tokens, users},
    failed, from_json, instant, micros, to_json,
};
use async_trait::async_trait;
use omt_kernel::{
    ApiKeyId, Permission, Result, TenantId, UserId,
    port::{IdentityRepository, Page},
    record::{ApiKeyRecord, RefreshTokenRecord, UserRecord},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

fn tenant(text: &str) -> Result<TenantId> {
    TenantId::parse(text).map_err(omt_kernel::Error::internal)
}

fn user(row: users::Model) -> Result<UserRecord> {
    Ok(UserRecord {
        id: UserId(row.id),
        tenant: tenant(&row.tenant)?,
        username: row.username,
        password_hash: row.password_hash,
        permissions: from_json(row.permissions)?,
        disabled: row.disabled,
        created_at: instant(row.created_at)?,
    })
}

fn api_key(row: api_keys::Model) -> Result<ApiKeyRecord> {
    Ok(ApiKeyRecord {
        id: ApiKeyId(row.id),
        tenant: tenant(&row.tenant)?,
        name: row.name,
        key_sha256: row.key_sha256,
        scopes: from_json(row.scopes)?,
        created_by: row.created_by,
        managed_by: tenant(&row.managed_by)?,
        created_at: instant(row.created_at)?,
        expires_at: row.expires_at.map(instant).transpose()?,
        revoked_at: row.revoked_at.map(instant).transpose()?,
    })
}

#[async_trait]
impl<C: Finish> IdentityRepository for Unit<C> {
    async fn insert_user(&self, record: &UserRecord) -> Result<()> {
        let row = users::ActiveModel {
            id: Set(record.id.0),
            tenant: Set(record.tenant.to_string()),
            username: Set(record.username.clone()),
            password_hash: Set(record.password_hash.clone()),
            permissions: Set(to_json(&record.permissions)?),
            disabled: Set(record.disabled),
            created_at: Set(micros(record.created_at)),
        };
        users::Entity::insert(row).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn user_by_name(&self, username: &str) -> Result<Option<UserRecord>> {
        let found = users::Entity::find().filter(users::Column::Username.eq(username)).one(&self.connection).await;
        found.map_err(failed)?.map(user).transpose()
    }

    async fn user(&self, id: UserId) -> Result<Option<UserRecord>> {
        users::Entity::find_by_id(id.0).one(&self.connection).await.map_err(failed)?.map(user).transpose()
    }

    async fn set_permissions(&self, id: UserId, permissions: &BTreeSet<Permission>) -> Result<()> {
        users::Entity::update_many()
            .col_expr(users::Column::Permissions, Expr::value(to_json(permissions)?))
            .filter(users::Column::Id.eq(id.0))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn set_password(&self, id: UserId, password_hash: &str) -> Result<()> {
        users::Entity::update_many()
            .col_expr(users::Column::PasswordHash, Expr::value(password_hash))
            .filter(users::Column::Id.eq(id.0))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn insert_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        let row = api_keys::ActiveModel {
            id: Set(key.id.0),
            tenant: Set(key.tenant.to_string()),
            name: Set(key.name.clone()),
            key_sha256: Set(key.key_sha256.clone()),
            scopes: Set(to_json(&key.scopes)?),
            created_by: Set(key.created_by.clone()),
            managed_by: Set(key.managed_by.to_string()),
            created_at: Set(micros(key.created_at)),
            expires_at: Set(key.expires_at.map(micros)),
            revoked_at: Set(key.revoked_at.map(micros)),
        };
        api_keys::Entity::insert(row).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn api_key_by_digest(&self, key_sha256: &str) -> Result<Option<ApiKeyRecord>> {
        let found = api_keys::Entity::find().filter(api_keys::Column::KeySha256.eq(key_sha256)).one(&self.connection).await;
        found.map_err(failed)?.map(api_key).transpose()
    }

    async fn list_api_keys(&self, managed_by: &TenantId, page: Page) -> Result<Vec<ApiKeyRecord>> {
        let mut query = api_keys::Entity::find().filter(api_keys::Column::ManagedBy.eq(managed_by.as_str()));
        if let Some(after) = page.after {
            query = query.filter(api_keys::Column::Id.lt(after));
        }
        let found =
            query.order_by_desc(api_keys::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await.map_err(failed)?;
        found.into_iter().map(api_key).collect()
    }

    async fn revoke_api_key(&self, managed_by: &TenantId, id: ApiKeyId, at: OffsetDateTime) -> Result<bool> {
        let done = api_keys::Entity::update_many()
            .col_expr(api_keys::Column::RevokedAt, Expr::value(micros(at)))
            .filter(api_keys::Column::Id.eq(id.0))
            .filter(api_keys::Column::ManagedBy.eq(managed_by.as_str()))
            .filter(api_keys::Column::RevokedAt.is_null())
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn insert_refresh_token(&self, token: &RefreshTokenRecord) -> Result<()> {
        let row = refresh_tokens::ActiveModel {
            token_sha256: Set(token.token_sha256.clone()),
            family: Set(token.family),
            user_id: Set(token.user.0),
            expires_at: Set(micros(token.expires_at)),
            used_at: Set(token.used_at.map(micros)),
        };
        refresh_tokens::Entity::insert(row).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn refresh_token(&self, token_sha256: &str) -> Result<Option<RefreshTokenRecord>> {
        let found = refresh_tokens::Entity::find_by_id(token_sha256).one(&self.connection).await.map_err(failed)?;
        found
            .map(|row| {
                Ok(RefreshTokenRecord {
                    token_sha256: row.token_sha256,
                    family: row.family,
                    user: UserId(row.user_id),
                    expires_at: instant(row.expires_at)?,
                    used_at: row.used_at.map(instant).transpose()?,
                })
            })
            .transpose()
    }

    async fn use_refresh_token(&self, token_sha256: &str, at: OffsetDateTime) -> Result<bool> {
        let done = refresh_tokens::Entity::update_many()
            .col_expr(refresh_tokens::Column::UsedAt, Expr::value(micros(at)))
            .filter(refresh_tokens::Column::TokenSha256.eq(token_sha256))
            .filter(refresh_tokens::Column::UsedAt.is_null())
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn revoke_family(&self, family: Uuid) -> Result<()> {
        refresh_tokens::Entity::delete_many()
            .filter(refresh_tokens::Column::Family.eq(family))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn forget_refresh_tokens(&self, before: OffsetDateTime) -> Result<u64> {
        let gone = refresh_tokens::Entity::delete_many()
            .filter(refresh_tokens::Column::ExpiresAt.lt(micros(before)))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(gone.rows_affected)
    }
}
