//! Groups of SCIM clients.

use crate::{
    Finish, Unit,
    entity::{group_members as members, groups as rows},
    failed, from_json, to_json,
};
use async_trait::async_trait;
use omt_kernel::{
    Result, TenantId, UserId,
    access::GroupRecord,
    port::{GroupRepository, Page},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::OnConflict};
use uuid::Uuid;

#[async_trait]
impl<C: Finish> GroupRepository for Unit<C> {
    async fn put(&self, group: &GroupRecord) -> Result<()> {
        let row = rows::ActiveModel {
            id: Set(group.id),
            tenant: Set(group.tenant.to_string()),
            name: Set(group.name.clone()),
            data: Set(to_json(group)?),
        };
        let replace = OnConflict::column(rows::Column::Id).update_columns([rows::Column::Name, rows::Column::Data]).to_owned();
        rows::Entity::insert(row).on_conflict(replace).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }

    async fn get(&self, tenant: &TenantId, id: Uuid) -> Result<Option<GroupRecord>> {
        let found = rows::Entity::find_by_id(id).filter(rows::Column::Tenant.eq(tenant.as_str())).one(&self.connection).await;
        found.map_err(failed)?.map(|row| from_json(row.data)).transpose()
    }

    async fn list(&self, tenant: &TenantId, name: Option<&str>, page: Page) -> Result<Vec<GroupRecord>> {
        let mut query = rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str()));
        if let Some(name) = name {
            query = query.filter(rows::Column::Name.eq(name));
        }
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(|row| from_json(row.data)).collect()
    }

    async fn delete(&self, tenant: &TenantId, id: Uuid) -> Result<bool> {
        let gone = rows::Entity::delete_many()
            .filter(rows::Column::Id.eq(id))
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        if gone.rows_affected == 1 {
            members::Entity::delete_many()
                .filter(members::Column::GroupId.eq(id))
                .exec(&self.connection)
                .await
                .map_err(failed)?;
        }
        Ok(gone.rows_affected == 1)
    }

    async fn members(&self, tenant: &TenantId, id: Uuid) -> Result<Vec<UserId>> {
        if GroupRepository::get(self, tenant, id).await?.is_none() {
            return Ok(Vec::new());
        }
        let found = members::Entity::find()
            .filter(members::Column::GroupId.eq(id))
            .order_by_asc(members::Column::UserId)
            .all(&self.connection)
            .await;
        Ok(found.map_err(failed)?.into_iter().map(|row| UserId(row.user_id)).collect())
    }

    async fn set_members(&self, tenant: &TenantId, id: Uuid, wanted: &[UserId]) -> Result<()> {
        if GroupRepository::get(self, tenant, id).await?.is_none() {
            return Ok(());
        }
        members::Entity::delete_many().filter(members::Column::GroupId.eq(id)).exec(&self.connection).await.map_err(failed)?;
        for chunk in wanted.chunks(500) {
            let rows = chunk.iter().map(|user| members::ActiveModel { group_id: Set(id), user_id: Set(user.0) });
            members::Entity::insert_many(rows).exec_without_returning(&self.connection).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn of_user(&self, tenant: &TenantId, user: UserId) -> Result<Vec<GroupRecord>> {
        let memberships =
            members::Entity::find().filter(members::Column::UserId.eq(user.0)).all(&self.connection).await.map_err(failed)?;
        let mut out = Vec::new();
        for membership in memberships {
            out.extend(GroupRepository::get(self, tenant, membership.group_id).await?);
        }
        Ok(out)
    }
}
