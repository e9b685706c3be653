//! Roles and group mappings.

use crate::{
    Finish, Unit,
    entity::{group_mappings as mappings, role_versions, roles as rows},
    failed, from_json, inserted, to_json,
};
use async_trait::async_trait;
use omt_kernel::{
    MappingId, Result, TenantId,
    access::{GroupMapping, RoleRecord},
    port::RoleRepository,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, ExprTrait, OnConflict},
};

#[async_trait]
impl<C: Finish> RoleRepository for Unit<C> {
    async fn list(&self, tenant: &TenantId) -> Result<Vec<RoleRecord>> {
        let found = rows::Entity::find()
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(rows::Column::Name)
            .all(&self.connection)
            .await;
        found.map_err(failed)?.into_iter().map(|row| from_json(row.data)).collect()
    }

    async fn insert(&self, role: &RoleRecord) -> Result<bool> {
        let row = rows::ActiveModel {
            tenant: Set(role.tenant.to_string()),
            name: Set(role.name.clone()),
            revision: Set(role.revision),
            data: Set(to_json(role)?),
        };
        let keep = OnConflict::columns([rows::Column::Tenant, rows::Column::Name]).do_nothing().to_owned();
        inserted(rows::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.connection).await)
    }

    async fn update(&self, role: &RoleRecord, expected: i64) -> Result<bool> {
        let done = rows::Entity::update_many()
            .col_expr(rows::Column::Revision, Expr::value(role.revision))
            .col_expr(rows::Column::Data, Expr::value(to_json(role)?))
            .filter(rows::Column::Tenant.eq(role.tenant.as_str()))
            .filter(rows::Column::Name.eq(role.name.as_str()))
            .filter(rows::Column::Revision.eq(expected))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn delete(&self, tenant: &TenantId, name: &str) -> Result<bool> {
        let key = (tenant.to_string(), name.to_owned());
        Ok(rows::Entity::delete_by_id(key).exec(&self.connection).await.map_err(failed)?.rows_affected == 1)
    }

    async fn version(&self, tenant: &TenantId) -> Result<i64> {
        let found = role_versions::Entity::find_by_id(tenant.as_str()).one(&self.connection).await.map_err(failed)?;
        Ok(found.map_or(0, |row| row.version))
    }

    async fn bump(&self, tenant: &TenantId) -> Result<()> {
        let row = role_versions::ActiveModel { tenant: Set(tenant.to_string()), version: Set(1) };
        let column = (role_versions::Entity, role_versions::Column::Version);
        let next = OnConflict::column(role_versions::Column::Tenant)
            .value(role_versions::Column::Version, Expr::col(column).add(1))
            .to_owned();
        role_versions::Entity::insert(row).on_conflict(next).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn mappings(&self, tenant: &TenantId) -> Result<Vec<GroupMapping>> {
        let found = mappings::Entity::find()
            .filter(mappings::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(mappings::Column::Id)
            .all(&self.connection)
            .await;
        found.map_err(failed)?.into_iter().map(|row| from_json(row.data)).collect()
    }

    async fn put_mapping(&self, mapping: &GroupMapping) -> Result<()> {
        let row = mappings::ActiveModel {
            id: Set(mapping.id.0),
            tenant: Set(mapping.tenant.to_string()),
            data: Set(to_json(mapping)?),
        };
        let replace = OnConflict::column(mappings::Column::Id).update_column(mappings::Column::Data).to_owned();
        mappings::Entity::insert(row).on_conflict(replace).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn delete_mapping(&self, tenant: &TenantId, id: MappingId) -> Result<bool> {
        let done = mappings::Entity::delete_many()
            .filter(mappings::Column::Id.eq(id.0))
            .filter(mappings::Column::Tenant.eq(tenant.as_str()))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }
}
