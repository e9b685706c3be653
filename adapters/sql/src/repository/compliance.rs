//! Evidence, reports and overrides.

use crate::{
    Finish, Unit,
    entity::{compliance_keys as keys, compliance_overrides as overrides, compliance_reports as reports, evidence as rows},
    failed, instant, micros, tenant_id,
};
use async_trait::async_trait;
use omt_kernel::{
    EvidenceId, ManifestId, OffsetDateTime, Result, TenantId,
    governance::{DueReport, EVIDENCE_KINDS, EvidenceFilter, EvidenceRecord, OverrideRecord, ReportRecord},
    port::{ComplianceRepository, Page},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::OnConflict,
};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The most evidence of one kind about one thing that is looked at, the newest first; and the most overrides.
const MOST: u64 = 100;

fn from_row(row: rows::Model) -> Result<EvidenceRecord> {
    Ok(EvidenceRecord {
        id: EvidenceId(row.id),
        tenant: tenant_id(&row.tenant)?,
        kind: row.kind,
        key: row.about,
        revision: row.revision,
        data: row.data,
        created_by: row.created_by,
        created_at: instant(row.created_at)?,
        updated_at: instant(row.updated_at)?,
    })
}

fn to_row(evidence: &EvidenceRecord) -> rows::ActiveModel {
    rows::ActiveModel {
        id: Set(evidence.id.0),
        tenant: Set(evidence.tenant.to_string()),
        kind: Set(evidence.kind.clone()),
        about: Set(evidence.key.clone()),
        revision: Set(evidence.revision),
        data: Set(evidence.data.clone()),
        created_by: Set(evidence.created_by.clone()),
        created_at: Set(micros(evidence.created_at)),
        updated_at: Set(micros(evidence.updated_at)),
    }
}

fn override_from(row: overrides::Model) -> Result<OverrideRecord> {
    Ok(OverrideRecord {
        id: row.id,
        tenant: tenant_id(&row.tenant)?,
        manifest: ManifestId(row.manifest_id),
        data: row.data,
        created_at: instant(row.created_at)?,
    })
}

#[async_trait]
impl<C: Finish> ComplianceRepository for Unit<C> {
    async fn insert_evidence(&self, evidence: &EvidenceRecord) -> Result<()> {
        rows::Entity::insert(to_row(evidence)).exec_without_returning(&self.connection).await.map(drop).map_err(failed)
    }

    async fn evidence(&self, tenant: &TenantId, id: EvidenceId) -> Result<Option<EvidenceRecord>> {
        let found = rows::Entity::find_by_id(id.0).filter(rows::Column::Tenant.eq(tenant.as_str())).one(&self.connection).await;
        found.map_err(failed)?.map(from_row).transpose()
    }

    async fn update_evidence(&self, evidence: &EvidenceRecord, expected: i64) -> Result<bool> {
        let done = rows::Entity::update_many()
            .set(to_row(evidence))
            .filter(rows::Column::Id.eq(evidence.id.0))
            .filter(rows::Column::Tenant.eq(evidence.tenant.as_str()))
            .filter(rows::Column::Revision.eq(expected))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected == 1)
    }

    async fn list_evidence(&self, tenant: &TenantId, filter: &EvidenceFilter, page: Page) -> Result<Vec<EvidenceRecord>> {
        let mut query = rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str()));
        if let Some(kind) = &filter.kind {
            query = query.filter(rows::Column::Kind.eq(kind.as_str()));
        }
        if let Some(key) = &filter.key {
            query = query.filter(rows::Column::About.eq(key.as_str()));
        }
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn brought_by(&self, tenant: &TenantId, subject: &str, page: Page) -> Result<Vec<EvidenceRecord>> {
        let mut query =
            rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str())).filter(rows::Column::CreatedBy.eq(subject));
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(from_row).collect()
    }

    async fn about(&self, tenant: &TenantId, keys: &BTreeSet<String>) -> Result<Vec<EvidenceRecord>> {
        let mut out = Vec::new();
        for key in keys {
            // Each kind by itself: much of one must not hide the other.
            for kind in EVIDENCE_KINDS {
                let found = rows::Entity::find()
                    .filter(rows::Column::Tenant.eq(tenant.as_str()))
                    .filter(rows::Column::About.eq(key.as_str()))
                    .filter(rows::Column::Kind.eq(kind))
                    .order_by_desc(rows::Column::Id)
                    .limit(MOST)
                    .all(&self.connection)
                    .await;
                for row in found.map_err(failed)? {
                    out.push(from_row(row)?);
                }
            }
        }
        Ok(out)
    }

    async fn put_report(&self, report: &ReportRecord) -> Result<()> {
        let row = reports::ActiveModel {
            manifest_id: Set(report.manifest.0),
            policy: Set(report.policy.clone()),
            tenant: Set(report.tenant.to_string()),
            status: Set(report.status.clone()),
            data: Set(report.data.clone()),
            at: Set(micros(report.at)),
            turns_at: Set(report.turns_at.map(micros)),
        };
        let replace = OnConflict::columns([reports::Column::ManifestId, reports::Column::Policy])
            .update_columns([reports::Column::Status, reports::Column::Data, reports::Column::At, reports::Column::TurnsAt])
            .to_owned();
        reports::Entity::insert(row).on_conflict(replace).exec_without_returning(&self.connection).await.map_err(failed)?;
        let old = keys::Entity::delete_many()
            .filter(keys::Column::ManifestId.eq(report.manifest.0))
            .filter(keys::Column::Policy.eq(report.policy.as_str()));
        old.exec(&self.connection).await.map_err(failed)?;
        if report.keys.is_empty() {
            return Ok(());
        }
        let key = |about: &String| keys::ActiveModel {
            tenant: Set(report.tenant.to_string()),
            about: Set(about.clone()),
            manifest_id: Set(report.manifest.0),
            policy: Set(report.policy.clone()),
        };
        let new = keys::Entity::insert_many(report.keys.iter().map(key));
        let keep = OnConflict::new().do_nothing().to_owned();
        new.on_conflict(keep).exec_without_returning(&self.connection).await.map(drop).map_err(failed)
    }

    async fn reports(&self, tenant: &TenantId, manifest: ManifestId) -> Result<Vec<ReportRecord>> {
        let found = reports::Entity::find()
            .filter(reports::Column::ManifestId.eq(manifest.0))
            .filter(reports::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(reports::Column::Policy)
            .all(&self.connection)
            .await;
        let report = |row: reports::Model| {
            Ok(ReportRecord {
                tenant: tenant_id(&row.tenant)?,
                manifest: ManifestId(row.manifest_id),
                policy: row.policy,
                status: row.status,
                keys: BTreeSet::new(),
                data: row.data,
                at: instant(row.at)?,
                turns_at: row.turns_at.map(instant).transpose()?,
            })
        };
        found.map_err(failed)?.into_iter().map(report).collect()
    }

    async fn due_reports(&self, now: OffsetDateTime, after: Option<&DueReport>, limit: u32) -> Result<Vec<DueReport>> {
        let mut query = reports::Entity::find()
            .select_only()
            .columns([reports::Column::Tenant, reports::Column::ManifestId, reports::Column::TurnsAt])
            .filter(reports::Column::TurnsAt.lte(micros(now)));
        if let Some(last) = after {
            let at = micros(last.turns_at);
            let later =
                Condition::all().add(reports::Column::TurnsAt.eq(at)).add(reports::Column::ManifestId.gt(last.manifest.0));
            query = query.filter(Condition::any().add(reports::Column::TurnsAt.gt(at)).add(later));
        }
        let query =
            query.order_by_asc(reports::Column::TurnsAt).order_by_asc(reports::Column::ManifestId).limit(u64::from(limit));
        let found: Vec<(String, Uuid, i64)> = query.into_tuple().all(&self.connection).await.map_err(failed)?;
        let due = |(tenant, manifest, at): (String, Uuid, i64)| {
            Ok(DueReport { tenant: tenant_id(&tenant)?, manifest: ManifestId(manifest), turns_at: instant(at)? })
        };
        found.into_iter().map(due).collect()
    }

    async fn dependents(&self, tenant: &TenantId, key: &str, page: Page) -> Result<Vec<ManifestId>> {
        let mut query = keys::Entity::find()
            .select_only()
            .column(keys::Column::ManifestId)
            .distinct()
            .filter(keys::Column::Tenant.eq(tenant.as_str()))
            .filter(keys::Column::About.eq(key));
        if let Some(after) = page.after {
            query = query.filter(keys::Column::ManifestId.gt(after));
        }
        let query = query.order_by_asc(keys::Column::ManifestId).limit(u64::from(page.limit));
        let found: Vec<Uuid> = query.into_tuple().all(&self.connection).await.map_err(failed)?;
        Ok(found.into_iter().map(ManifestId).collect())
    }

    async fn put_override(&self, record: &OverrideRecord) -> Result<()> {
        let row = overrides::ActiveModel {
            id: Set(record.id),
            tenant: Set(record.tenant.to_string()),
            manifest_id: Set(record.manifest.0),
            data: Set(record.data.clone()),
            created_at: Set(micros(record.created_at)),
        };
        let replace = OnConflict::column(overrides::Column::Id).update_columns([overrides::Column::Data]).to_owned();
        let done = overrides::Entity::insert(row).on_conflict(replace).exec_without_returning(&self.connection).await;
        done.map(drop).map_err(failed)
    }

    async fn get_override(&self, tenant: &TenantId, id: Uuid) -> Result<Option<OverrideRecord>> {
        let found =
            overrides::Entity::find_by_id(id).filter(overrides::Column::Tenant.eq(tenant.as_str())).one(&self.connection).await;
        found.map_err(failed)?.map(override_from).transpose()
    }

    async fn overrides(&self, tenant: &TenantId, manifest: ManifestId) -> Result<Vec<OverrideRecord>> {
        let found = overrides::Entity::find()
            .filter(overrides::Column::ManifestId.eq(manifest.0))
            .filter(overrides::Column::Tenant.eq(tenant.as_str()))
            .order_by_asc(overrides::Column::Id)
            .limit(MOST)
            .all(&self.connection)
            .await;
        found.map_err(failed)?.into_iter().map(override_from).collect()
    }
}
