//! Manifests and verification results.

use crate::{
    Finish, Unit,
    entity::{manifests as rows, verifications},
    failed, from_json, instant, micros, to_json, word,
};
use async_trait::async_trait;
use omt_kernel::{
    ManifestId, Reach, Result, TenantId, VerificationId,
    manifest::{Archived, BlobRef, Classification, Heading, ManifestFilter, ManifestRecord, ManifestState},
    port::{ManifestRepository, Page, VerificationRepository},
    record::VerificationRecord,
    search,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

fn to_row(record: &ManifestRecord) -> Result<rows::ActiveModel> {
    Ok(rows::ActiveModel {
        id: Set(record.id.0),
        tenant: Set(record.tenant.to_string()),
        revision: Set(record.revision),
        state: Set(record.state.to_string()),
        title: Set(record.title.clone()),
        title_folded: Set(record.title.to_lowercase()),
        search_text: Set(search::document(&record.into())),
        creator: Set(record.creator.clone()),
        department: Set(record.department.clone()),
        project: Set(record.project.clone()),
        organization: Set(record.organization.clone()),
        classification: Set(record.classification.to_string()),
        media_type: Set(record.media_type.clone()),
        file_name: Set(record.file_name.clone()),
        source_sha256: Set(record.source.sha256.clone()),
        source_size: Set(record.source.size as i64),
        source_kept: Set(record.source_kept),
        definition: Set(record.definition.clone()),
        metadata: Set(record.metadata.clone()),
        ingredients: Set(to_json(&record.ingredients)?),
        signed: Set(record.signed.as_ref().map(to_json).transpose()?),
        created_by: Set(record.created_by.clone()),
        created_at: Set(micros(record.created_at)),
        updated_at: Set(micros(record.updated_at)),
        archived_at: Set(record.archived.map(|a| micros(a.at))),
        retain_until: Set(record.archived.map(|a| micros(a.retain_until))),
        legal_hold: Set(record.legal_hold.as_ref().map(to_json).transpose()?),
        content_deleted_at: Set(record.content_deleted_at.map(micros)),
    })
}

fn from_row(row: rows::Model) -> Result<ManifestRecord> {
    let archived = match (row.archived_at, row.retain_until) {
        (Some(at), Some(until)) => Some(Archived { at: instant(at)?, retain_until: instant(until)? }),
        _ => None,
    };
    Ok(ManifestRecord {
        id: ManifestId(row.id),
        tenant: TenantId::parse(&row.tenant).map_err(omt_kernel::Error::internal)?,
        revision: row.revision,
        state: word(&row.state)?,
        title: row.title,
        creator: row.creator,
        department: row.department,
        project: row.project,
        organization: row.organization,
        classification: word(&row.classification)?,
        media_type: row.media_type,
        file_name: row.file_name,
        source: BlobRef { sha256: row.source_sha256, size: row.source_size as u64 },
        source_kept: row.source_kept,
        definition: row.definition,
        metadata: row.metadata,
        ingredients: from_json(row.ingredients)?,
        signed: row.signed.map(from_json).transpose()?,
        created_by: row.created_by,
        created_at: instant(row.created_at)?,
        updated_at: instant(row.updated_at)?,
        archived,
        legal_hold: row.legal_hold.map(from_json).transpose()?,
        content_deleted_at: row.content_deleted_at.map(instant).transpose()?,
    })
}

/// The smallest version 7 UUID of a moment (RFC 9562 §5.7): its milliseconds, and nothing.
fn first_id(at: OffsetDateTime) -> uuid::Uuid {
    let millis = u128::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    uuid::Uuid::from_u128(millis << 80)
}

/// Rows of content within reach, by the columns that say whose it is.
pub(super) fn reached<C: ColumnTrait>(reach: &Reach, department: C, project: C, classification: C) -> Condition {
    let mut all = Condition::all();
    if let Some(own) = &reach.department {
        all = all.add(Condition::any().add(department.is_null()).add(department.eq(own.as_str())));
    }
    if !reach.projects.is_empty() {
        all = all.add(Condition::any().add(project.is_null()).add(project.is_in(reach.projects.iter().map(String::as_str))));
    }
    if reach.clearance < Classification::TopSecret {
        let cleared = Classification::ALL.iter().filter(|c| **c <= reach.clearance).map(|c| c.as_str());
        all = all.add(classification.is_in(cleared));
    }
    all
}

/// Manifests within reach.
pub(super) fn within(reach: &Reach) -> Condition {
    reached(reach, rows::Column::Department, rows::Column::Project, rows::Column::Classification)
}

impl<C: Finish> Unit<C> {
    /// Manifests that a filter lets through, in no order.
    async fn filtered(&self, tenant: &TenantId, filter: &ManifestFilter) -> Result<Select<rows::Entity>> {
        let mut query = rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str()));
        let exact = [
            (rows::Column::Organization, &filter.organization),
            (rows::Column::Department, &filter.department),
            (rows::Column::Creator, &filter.creator),
            (rows::Column::Project, &filter.project),
            (rows::Column::CreatedBy, &filter.created_by),
        ];
        for (column, value) in exact {
            if let Some(value) = value {
                query = query.filter(column.eq(value.as_str()));
            }
        }
        if let Some(classification) = filter.classification {
            query = query.filter(rows::Column::Classification.eq(classification.as_str()));
        }
        if let Some(reach) = &filter.reach {
            query = query.filter(within(reach));
        }
        query = match filter.state {
            Some(state) => query.filter(rows::Column::State.eq(state.as_str())),
            None => query.filter(rows::Column::State.ne(ManifestState::Archived.as_str())),
        };
        if let Some(text) = &filter.search {
            query = query.filter(self.searched(text).await?);
        }
        if let Some(from) = filter.created_from {
            query = query.filter(rows::Column::CreatedAt.gte(micros(from)));
        }
        if let Some(before) = filter.created_before {
            query = query.filter(rows::Column::CreatedAt.lt(micros(before)));
        }
        Ok(query)
    }
}

#[async_trait]
impl<C: Finish> ManifestRepository for Unit<C> {
    async fn insert(&self, record: &ManifestRecord) -> Result<()> {
        self.connection.later(rows::Entity::insert(to_row(record)?)).await.map_err(failed)
    }

    async fn get(&self, tenant: &TenantId, id: ManifestId) -> Result<Option<ManifestRecord>> {
        rows::Entity::find_by_id(id.0)
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .one(&self.connection)
            .await
            .map_err(failed)?
            .map(from_row)
            .transpose()
    }

    async fn revision(&self, tenant: &TenantId, id: ManifestId) -> Result<Option<i64>> {
        rows::Entity::find_by_id(id.0)
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .select_only()
            .column(rows::Column::Revision)
            .into_tuple()
            .one(&self.connection)
            .await
            .map_err(failed)
    }

    async fn update(&self, record: &ManifestRecord, expected: i64) -> Result<bool> {
        let done = rows::Entity::update_many()
            .set(to_row(record)?)
            .filter(rows::Column::Id.eq(record.id.0))
            .filter(rows::Column::Tenant.eq(record.tenant.as_str()))
            .filter(rows::Column::Revision.eq(expected))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn list(&self, tenant: &TenantId, filter: &ManifestFilter, page: Page) -> Result<Vec<ManifestRecord>> {
        let mut query = self.filtered(tenant, filter).await?;
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found =
            query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await.map_err(failed)?;
        found.into_iter().map(from_row).collect()
    }

    async fn headings(&self, tenant: &TenantId, ids: &[ManifestId]) -> Result<BTreeMap<ManifestId, Heading>> {
        let found: Vec<(Uuid, String, Option<String>)> = rows::Entity::find()
            .filter(rows::Column::Tenant.eq(tenant.as_str()))
            .filter(rows::Column::Id.is_in(ids.iter().map(|id| id.0)))
            .select_only()
            .columns([rows::Column::Id, rows::Column::Title, rows::Column::Project])
            .into_tuple()
            .all(&self.connection)
            .await
            .map_err(failed)?;
        Ok(found.into_iter().map(|(id, title, project)| (ManifestId(id), Heading { title, project })).collect())
    }

    async fn count(&self, tenant: &TenantId, since: Option<OffsetDateTime>) -> Result<u64> {
        let mut query = rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str()));
        if let Some(since) = since {
            // Identifiers rise with time, and are indexed.
            query = query.filter(rows::Column::Id.gte(first_id(since)));
        }
        query.count(&self.connection).await.map_err(failed)
    }

    async fn count_where(&self, tenant: &TenantId, filter: &ManifestFilter) -> Result<u64> {
        self.filtered(tenant, filter).await?.count(&self.connection).await.map_err(failed)
    }

    async fn expired(&self, now: OffsetDateTime, limit: u32) -> Result<Vec<ManifestRecord>> {
        let found = rows::Entity::find()
            .filter(rows::Column::State.eq(ManifestState::Archived.as_str()))
            .filter(rows::Column::RetainUntil.lt(micros(now)))
            .filter(rows::Column::LegalHold.is_null())
            .filter(rows::Column::ContentDeletedAt.is_null())
            .order_by_asc(rows::Column::RetainUntil)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await
            .map_err(failed)?;
        found.into_iter().map(from_row).collect()
    }
}

#[async_trait]
impl<C: Finish> VerificationRepository for Unit<C> {
    async fn insert(&self, record: &VerificationRecord) -> Result<()> {
        let row = verifications::ActiveModel {
            id: Set(record.id.0),
            tenant: Set(record.tenant.to_string()),
            manifest_id: Set(record.manifest.0),
            state: Set(record.state.clone()),
            trust_level: Set(record.trust_level.clone()),
            report: Set(record.report.clone()),
            verified_by: Set(record.verified_by.clone()),
            created_at: Set(micros(record.created_at)),
        };
        self.connection.later(verifications::Entity::insert(row)).await.map_err(failed)
    }

    async fn count(&self, tenant: &TenantId, since: OffsetDateTime) -> Result<u64> {
        verifications::Entity::find()
            .filter(verifications::Column::Tenant.eq(tenant.as_str()))
            .filter(verifications::Column::Id.gte(first_id(since)))
            .count(&self.connection)
            .await
            .map_err(failed)
    }

    async fn history(&self, tenant: &TenantId, manifest: ManifestId, page: Page) -> Result<Vec<VerificationRecord>> {
        let mut query = verifications::Entity::find()
            .filter(verifications::Column::Tenant.eq(tenant.as_str()))
            .filter(verifications::Column::ManifestId.eq(manifest.0));
        if let Some(after) = page.after {
            query = query.filter(verifications::Column::Id.lt(after));
        }
        let found = query
            .order_by_desc(verifications::Column::Id)
            .limit(u64::from(page.limit))
            .all(&self.connection)
            .await
            .map_err(failed)?;
        found
            .into_iter()
            .map(|row| {
                Ok(VerificationRecord {
                    id: VerificationId(row.id),
                    tenant: tenant.clone(),
                    manifest: ManifestId(row.manifest_id),
                    state: row.state,
                    trust_level: row.trust_level,
                    report: row.report,
                    verified_by: row.verified_by,
                    created_at: instant(row.created_at)?,
                })
            })
            .collect()
    }
}
