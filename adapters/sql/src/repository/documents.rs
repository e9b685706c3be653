//! Documents in versions. Workflow definitions have a table of their own; the policies of compliance share one with the
//! organisation's, where their names begin with `compliance/`, which no other name can.

use crate::{
    Finish, Unit,
    entity::{policies, workflow_definitions},
    failed, inserted, instant, micros, tenant_id,
};
use async_trait::async_trait;
use omt_kernel::{
    Result, TenantId,
    document::{DocumentKind, VersionRecord},
    port::DocumentRepository,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::OnConflict};
use std::collections::BTreeMap;

const COMPLIANCE: &str = "compliance/";

/// The name in the table.
fn stored(kind: DocumentKind, name: &str) -> String {
    match kind {
        DocumentKind::CompliancePolicy => format!("{COMPLIANCE}{name}"),
        _ => name.to_owned(),
    }
}

/// The name outside, if the row is of this kind.
fn named(kind: DocumentKind, stored: &str) -> Option<&str> {
    let foreign = stored.strip_prefix(COMPLIANCE);
    match kind {
        DocumentKind::WorkflowDefinition => Some(stored),
        DocumentKind::Policy => foreign.is_none().then_some(stored),
        DocumentKind::CompliancePolicy => foreign,
    }
}

/// A row of either table.
struct Row {
    tenant: String,
    name: String,
    version: i32,
    data: serde_json::Value,
    created_by: String,
    created_at: i64,
}

impl Row {
    fn read(self, kind: DocumentKind) -> Option<Result<VersionRecord>> {
        let name = named(kind, &self.name)?.to_owned();
        let read = || {
            Ok(VersionRecord {
                kind,
                tenant: tenant_id(&self.tenant)?,
                name,
                version: u32::try_from(self.version).unwrap_or(0),
                data: self.data,
                created_by: self.created_by,
                created_at: instant(self.created_at)?,
            })
        };
        Some(read())
    }
}

/// The queries over one of the two tables, which have the same columns.
macro_rules! table {
    ($name:ident, $entity:ident) => {
        mod $name {
            use super::*;

            fn row(row: $entity::Model) -> Row {
                let $entity::Model { tenant, name, version, data, created_by, created_at } = row;
                Row { tenant, name, version, data, created_by, created_at }
            }

            pub(super) async fn insert<C: Finish>(unit: &Unit<C>, record: &VersionRecord, name: String) -> Result<bool> {
                let row = $entity::ActiveModel {
                    tenant: Set(record.tenant.to_string()),
                    name: Set(name),
                    version: Set(record.version as i32),
                    data: Set(record.data.clone()),
                    created_by: Set(record.created_by.clone()),
                    created_at: Set(micros(record.created_at)),
                };
                let keep = OnConflict::new().do_nothing().to_owned();
                inserted($entity::Entity::insert(row).on_conflict(keep).exec_without_returning(&unit.connection).await)
            }

            /// Newest first; of one name, or of one version of it.
            pub(super) async fn find<C: Finish>(
                unit: &Unit<C>,
                tenant: &TenantId,
                name: Option<String>,
                version: Option<u32>,
                most: Option<u64>,
            ) -> Result<Vec<Row>> {
                let mut query = $entity::Entity::find().filter($entity::Column::Tenant.eq(tenant.as_str()));
                if let Some(name) = name {
                    query = query.filter($entity::Column::Name.eq(name));
                }
                if let Some(version) = version {
                    query = query.filter($entity::Column::Version.eq(version as i32));
                }
                let found = query.order_by_desc($entity::Column::Version).limit(most).all(&unit.connection).await;
                Ok(found.map_err(failed)?.into_iter().map(row).collect())
            }

            pub(super) async fn newest<C: Finish>(unit: &Unit<C>, tenant: &TenantId, name: String) -> Result<Option<i32>> {
                $entity::Entity::find()
                    .select_only()
                    .column($entity::Column::Version)
                    .filter($entity::Column::Tenant.eq(tenant.as_str()))
                    .filter($entity::Column::Name.eq(name))
                    .order_by_desc($entity::Column::Version)
                    .into_tuple()
                    .one(&unit.connection)
                    .await
                    .map_err(failed)
            }
        }
    };
}

table!(definition_table, workflow_definitions);
table!(policy_table, policies);

impl<C: Finish> Unit<C> {
    async fn rows(
        &self,
        kind: DocumentKind,
        tenant: &TenantId,
        name: Option<&str>,
        version: Option<u32>,
        most: Option<u64>,
    ) -> Result<Vec<VersionRecord>> {
        let name = name.map(|name| stored(kind, name));
        let rows = match kind {
            DocumentKind::WorkflowDefinition => definition_table::find(self, tenant, name, version, most).await?,
            _ => policy_table::find(self, tenant, name, version, most).await?,
        };
        rows.into_iter().filter_map(|row| row.read(kind)).collect()
    }
}

#[async_trait]
impl<C: Finish> DocumentRepository for Unit<C> {
    async fn insert(&self, record: &VersionRecord) -> Result<bool> {
        let name = stored(record.kind, &record.name);
        match record.kind {
            DocumentKind::WorkflowDefinition => definition_table::insert(self, record, name).await,
            _ => policy_table::insert(self, record, name).await,
        }
    }

    async fn get(
        &self,
        kind: DocumentKind,
        tenant: &TenantId,
        name: &str,
        version: Option<u32>,
    ) -> Result<Option<VersionRecord>> {
        Ok(self.rows(kind, tenant, Some(name), version, Some(1)).await?.pop())
    }

    async fn newest(&self, kind: DocumentKind, tenant: &TenantId, name: &str) -> Result<Option<u32>> {
        let name = stored(kind, name);
        let found = match kind {
            DocumentKind::WorkflowDefinition => definition_table::newest(self, tenant, name).await?,
            _ => policy_table::newest(self, tenant, name).await?,
        };
        Ok(found.map(|version| u32::try_from(version).unwrap_or(0)))
    }

    async fn list(&self, kind: DocumentKind, tenant: &TenantId) -> Result<Vec<VersionRecord>> {
        let mut newest = BTreeMap::new();
        for record in self.rows(kind, tenant, None, None, None).await? {
            newest.entry(record.name.clone()).or_insert(record);
        }
        Ok(newest.into_values().collect())
    }

    async fn versions(&self, kind: DocumentKind, tenant: &TenantId, name: &str) -> Result<Vec<VersionRecord>> {
        self.rows(kind, tenant, Some(name), None, None).await
    }
}
