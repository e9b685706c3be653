//! Sessions and refresh tokens.

use crate::{
    Finish, Unit,
    entity::{refresh_tokens as tokens, sessions as rows},
    failed, instant, micros, tenant_id,
};
use async_trait::async_trait;
use omt_kernel::{
    Error, Result, SessionId, TenantId, UserId, Via,
    access::{RefreshTokenRecord, SessionRecord},
    port::{Page, SessionRepository},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use time::OffsetDateTime;

fn via(text: &str) -> Result<Via> {
    [Via::Password, Via::Directory, Via::Oidc]
        .into_iter()
        .find(|via| via.as_str() == text)
        .ok_or_else(|| Error::internal("a session came some unknown way"))
}

fn from_row(row: rows::Model) -> Result<SessionRecord> {
    Ok(SessionRecord {
        id: SessionId(row.id),
        tenant: tenant_id(&row.tenant)?,
        user: UserId(row.user_id),
        via: via(&row.via)?,
        user_agent: row.user_agent,
        created_at: instant(row.created_at)?,
        last_used_at: instant(row.last_used_at)?,
        expires_at: instant(row.expires_at)?,
        second_factor_at: row.second_factor_at.map(instant).transpose()?,
        revoked_at: row.revoked_at.map(instant).transpose()?,
    })
}

#[async_trait]
impl<C: Finish> SessionRepository for Unit<C> {
    async fn insert(&self, session: &SessionRecord) -> Result<()> {
        let row = rows::ActiveModel {
            id: Set(session.id.0),
            tenant: Set(session.tenant.to_string()),
            user_id: Set(session.user.0),
            via: Set(session.via.as_str().to_owned()),
            user_agent: Set(session.user_agent.clone()),
            created_at: Set(micros(session.created_at)),
            last_used_at: Set(micros(session.last_used_at)),
            expires_at: Set(micros(session.expires_at)),
            second_factor_at: Set(session.second_factor_at.map(micros)),
            revoked_at: Set(session.revoked_at.map(micros)),
        };
        rows::Entity::insert(row).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn get(&self, id: SessionId) -> Result<Option<SessionRecord>> {
        rows::Entity::find_by_id(id.0).one(&self.connection).await.map_err(failed)?.map(from_row).transpose()
    }

    async fn touch(&self, id: SessionId, at: OffsetDateTime, second_factor: bool) -> Result<()> {
        let mut update = rows::Entity::update_many().col_expr(rows::Column::LastUsedAt, Expr::value(micros(at)));
        if second_factor {
            update = update.col_expr(rows::Column::SecondFactorAt, Expr::value(micros(at)));
        }
        update.filter(rows::Column::Id.eq(id.0)).exec(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn list(&self, tenant: &TenantId, user: Option<UserId>, now: OffsetDateTime, page: Page) -> Result<Vec<SessionRecord>> {
        let mut query = rows::Entity::find()
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .filter(rows::Column::RevokedAt.is_null())
            .filter(rows::Column::ExpiresAt.gt(micros(now)));
        if let Some(user) = user {
            query = query.filter(rows::Column::UserId.eq(user.0));
        }
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn revoke(&self, tenant: &TenantId, user: Option<UserId>, id: SessionId, at: OffsetDateTime) -> Result<bool> {
        let mut update = rows::Entity::update_many()
            .col_expr(rows::Column::RevokedAt, Expr::value(micros(at)))
            .filter(rows::Column::Id.eq(id.0))
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .filter(rows::Column::RevokedAt.is_null());
        if let Some(user) = user {
            update = update.filter(rows::Column::UserId.eq(user.0));
        }
        let done = update.exec(&self.connection).await.map_err(failed)?;
        if done.rows_affected == 1 {
            tokens::Entity::delete_many().filter(tokens::Column::Family.eq(id.0)).exec(&self.connection).await.map_err(failed)?;
        }
        Ok(done.rows_affected == 1)
    }

    async fn revoke_user(&self, tenant: &TenantId, user: UserId, at: OffsetDateTime) -> Result<u64> {
        let done = rows::Entity::update_many()
            .col_expr(rows::Column::RevokedAt, Expr::value(micros(at)))
            .filter(rows::Column::UserId.eq(user.0))
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .filter(rows::Column::RevokedAt.is_null())
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        tokens::Entity::delete_many().filter(tokens::Column::UserId.eq(user.0)).exec(&self.connection).await.map_err(failed)?;
        Ok(done.rows_affected)
    }

    async fn insert_refresh_token(&self, token: &RefreshTokenRecord) -> Result<()> {
        let row = tokens::ActiveModel {
            token_sha256: Set(token.token_sha256.clone()),
            family: Set(token.family),
            user_id: Set(token.user.0),
            expires_at: Set(micros(token.expires_at)),
            used_at: Set(token.used_at.map(micros)),
        };
        tokens::Entity::insert(row).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn refresh_token(&self, token_sha256: &str) -> Result<Option<RefreshTokenRecord>> {
        let found = tokens::Entity::find_by_id(token_sha256).one(&self.connection).await.map_err(failed)?;
        let Some(row) = found else { return Ok(None) };
        Ok(Some(RefreshTokenRecord {
            token_sha256: row.token_sha256,
            family: row.family,
            user: UserId(row.user_id),
            expires_at: instant(row.expires_at)?,
            used_at: row.used_at.map(instant).transpose()?,
        }))
    }

    async fn use_refresh_token(&self, token_sha256: &str, at: OffsetDateTime) -> Result<bool> {
        let done = tokens::Entity::update_many()
            .col_expr(tokens::Column::UsedAt, Expr::value(micros(at)))
            .filter(tokens::Column::TokenSha256.eq(token_sha256))
            .filter(tokens::Column::UsedAt.is_null())
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn forget(&self, before: OffsetDateTime) -> Result<u64> {
        let (at, connection) = (micros(before), &self.connection);
        let tokens = tokens::Entity::delete_many().filter(tokens::Column::ExpiresAt.lt(at)).exec(connection).await;
        let sessions = rows::Entity::delete_many().filter(rows::Column::ExpiresAt.lt(at)).exec(connection).await;
        Ok(tokens.map_err(failed)?.rows_affected + sessions.map_err(failed)?.rows_affected)
    }
}
