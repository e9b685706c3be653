//! Users and failed logins.

use crate::{
    Finish, Unit,
    entity::{accounts as rows, group_members, login_attempts, old_users, refresh_tokens, sessions},
    failed, from_json, inserted, instant, micros, to_json,
};
use async_trait::async_trait;
use omt_kernel::{
    Result, TenantId, UserId,
    access::{Attempts, UserFilter, UserRecord},
    port::{Page, UserRepository},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::OnConflict,
};
use time::OffsetDateTime;

fn to_row(user: &UserRecord) -> Result<rows::ActiveModel> {
    Ok(rows::ActiveModel {
        id: Set(user.id.0),
        tenant: Set(user.tenant.to_string()),
        revision: Set(user.revision),
        username_folded: Set(user.username.to_lowercase()),
        source: Set(user.source.as_str().to_owned()),
        external_id: Set(user.external_id.clone()),
        identity: Set(user.identity.clone()),
        active: Set(user.active),
        data: Set(to_json(user)?),
    })
}

fn from_row(row: rows::Model) -> Result<UserRecord> {
    from_json(row.data)
}

#[async_trait]
impl<C: Finish> UserRepository for Unit<C> {
    async fn insert(&self, user: &UserRecord) -> Result<bool> {
        let keep = OnConflict::columns([rows::Column::Tenant, rows::Column::UsernameFolded]).do_nothing().to_owned();
        inserted(rows::Entity::insert(to_row(user)?).on_conflict(keep).exec_without_returning(&self.connection).await)
    }

    async fn get(&self, tenant: &TenantId, id: UserId) -> Result<Option<UserRecord>> {
        let found = rows::Entity::find_by_id(id.0).filter(rows::Column::Tenant.eq(tenant.as_str())).one(&self.connection).await;
        found.map_err(failed)?.map(from_row).transpose()
    }

    async fn by_name(&self, tenant: &TenantId, username: &str) -> Result<Option<UserRecord>> {
        let found = rows::Entity::find()
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .filter(rows::Column::UsernameFolded.eq(username.to_lowercase()))
            .one(&self.connection)
            .await;
        found.map_err(failed)?.map(from_row).transpose()
    }

    async fn update(&self, user: &UserRecord, expected: i64) -> Result<bool> {
        let done = rows::Entity::update_many()
            .set(to_row(user)?)
            .filter(rows::Column::Id.eq(user.id.0))
            .filter(rows::Column::Tenant.eq(user.tenant.as_str()))
            .filter(rows::Column::Revision.eq(expected))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn list(&self, tenant: &TenantId, filter: &UserFilter, page: Page) -> Result<Vec<UserRecord>> {
        let mut query = rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str()));
        if let Some(part) = &filter.username_contains {
            query = query.filter(rows::Column::UsernameFolded.contains(part.as_str()));
        }
        if let Some(name) = &filter.username {
            query = query.filter(rows::Column::UsernameFolded.eq(name.as_str()));
        }
        if let Some(id) = &filter.external_id {
            query = query.filter(rows::Column::ExternalId.eq(id.as_str()));
        }
        if let Some(identity) = &filter.identity {
            query = query.filter(rows::Column::Identity.eq(identity.as_str()));
        }
        if let Some(active) = filter.active {
            query = query.filter(rows::Column::Active.eq(active));
        }
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn delete(&self, tenant: &TenantId, id: UserId) -> Result<bool> {
        // The schema's sixth version copied this table and left it for replicas of then.
        old_users::Entity::delete_many()
            .filter(old_users::Column::Id.eq(id.0))
            .filter(old_users::Column::Tenant.eq(tenant.as_str()))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        let gone = rows::Entity::delete_many()
            .filter(rows::Column::Id.eq(id.0))
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        if gone.rows_affected == 0 {
            return Ok(false);
        }
        let connection = &self.connection;
        sessions::Entity::delete_many().filter(sessions::Column::UserId.eq(id.0)).exec(connection).await.map_err(failed)?;
        refresh_tokens::Entity::delete_many()
            .filter(refresh_tokens::Column::UserId.eq(id.0))
            .exec(connection)
            .await
            .map_err(failed)?;
        group_members::Entity::delete_many()
            .filter(group_members::Column::UserId.eq(id.0))
            .exec(connection)
            .await
            .map_err(failed)?;
        Ok(true)
    }

    async fn count(&self, tenant: Option<&TenantId>) -> Result<u64> {
        let mut query = rows::Entity::find();
        if let Some(tenant) = tenant {
            query = query.filter(rows::Column::Tenant.eq(tenant.as_str()));
        }
        query.count(&self.connection).await.map_err(failed)
    }

    async fn attempts(&self, tenant: &TenantId, name_sha256: &str) -> Result<Attempts> {
        let key = (tenant.to_string(), name_sha256.to_owned());
        let found = login_attempts::Entity::find_by_id(key).one(&self.connection).await.map_err(failed)?;
        let Some(row) = found else { return Ok(Attempts::default()) };
        Ok(Attempts { failures: row.failures.unsigned_abs(), last_at: Some(instant(row.last_at)?) })
    }

    async fn set_attempts(&self, tenant: &TenantId, name_sha256: &str, attempts: Option<Attempts>) -> Result<()> {
        let Some(Attempts { failures, last_at: Some(at) }) = attempts else {
            let key = (tenant.to_string(), name_sha256.to_owned());
            login_attempts::Entity::delete_by_id(key).exec(&self.connection).await.map_err(failed)?;
            return Ok(());
        };
        let row = login_attempts::ActiveModel {
            tenant: Set(tenant.to_string()),
            name_sha256: Set(name_sha256.to_owned()),
            failures: Set(i32::try_from(failures).unwrap_or(i32::MAX)),
            last_at: Set(micros(at)),
        };
        let replace = OnConflict::columns([login_attempts::Column::Tenant, login_attempts::Column::NameSha256])
            .update_columns([login_attempts::Column::Failures, login_attempts::Column::LastAt])
            .to_owned();
        login_attempts::Entity::insert(row)
            .on_conflict(replace)
            .exec_without_returning(&self.connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn forget_attempts(&self, before: OffsetDateTime) -> Result<u64> {
        let gone = login_attempts::Entity::delete_many()
            .filter(login_attempts::Column::LastAt.lt(micros(before)))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(gone.rows_affected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqlDatabase;
    use omt_kernel::{access::UserSource, port::Database};
    use sea_orm::{ConnectionTrait, Statement};

    #[tokio::test]
    async fn what_older_versions_kept_of_a_user_goes_too() {
        let dir = tempfile::tempdir().unwrap();
        let database = SqlDatabase::connect(&format!("sqlite:{}", dir.path().join("db").display())).await.unwrap();
        database.migrate().await.unwrap();
        let run = async |sql: &str| {
            let backend = database.write.get_database_backend();
            database.write.execute_raw(Statement::from_string(backend, sql)).await.unwrap();
        };
        let old = async || old_users::Entity::find().count(&database.write).await.unwrap();
        let (here, gone) = (UserId(uuid::Uuid::now_v7()), UserId(uuid::Uuid::now_v7()));
        for (id, name) in [(here, "alice"), (gone, "bob")] {
            run(&format!(
                "INSERT INTO users (id, tenant, username, password_hash, permissions, disabled, created_at) \
                 VALUES (X'{}', 'default', '{name}', 'hash', '[]', false, 0)",
                id.0.simple()
            ))
            .await;
        }
        let tenant = TenantId::default_tenant();
        let at = OffsetDateTime::UNIX_EPOCH;
        let unit = database.begin().await.unwrap();
        let alice = UserRecord::new(here, tenant.clone(), "alice".into(), UserSource::Local, at);
        assert!(unit.users().insert(&alice).await.unwrap());
        // Another tenant takes nothing away.
        assert!(!unit.users().delete(&TenantId::parse("acme").unwrap(), here).await.unwrap());
        assert!(unit.users().delete(&tenant, here).await.unwrap());
        unit.commit().await.unwrap();
        assert_eq!(old().await, 1);
        // Who was removed by an older version has no account any more, and is forgotten all the same.
        let unit = database.begin().await.unwrap();
        assert!(!unit.users().delete(&tenant, gone).await.unwrap());
        unit.commit().await.unwrap();
        assert_eq!(old().await, 0);
    }
}
