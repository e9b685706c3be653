//! The audit log.

use crate::{
    Finish, Unit,
    entity::{
        accounts, audit_checkpoints as checkpoints, audit_entries as rows, audit_people as people, audit_places as places,
        audit_retention as retention, audit_waiting as waiting,
    },
    failed, inserted, instant, micros, tenant_id,
};
use async_trait::async_trait;
use omt_kernel::{
    AuditId, Error, Result, TenantId,
    audit::{AuditEntry, AuditFilter, AuditPerson, CheckpointRecord},
    port::{AuditRepository, Page},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait, OnConflict},
};
use std::collections::HashMap;
use uuid::Uuid;

/// How the subjects of users begin.
const USER: &str = "user:";
/// Rows in one statement: SQLite binds at most 32,766 values.
const ROWS: usize = 1000;

fn from_row(row: rows::Model, index: Option<i64>) -> Result<AuditEntry> {
    Ok(AuditEntry {
        id: AuditId(row.id),
        tenant: tenant_id(&row.tenant)?,
        at: instant(row.at)?,
        actor: row.actor,
        action: row.action,
        resource_kind: row.resource_kind,
        resource_id: row.resource_id,
        outcome: row.outcome,
        request_id: row.request_id,
        leaf: row.leaf,
        index: index.map(i64::unsigned_abs),
    })
}

fn person(row: people::Model) -> Result<AuditPerson> {
    Ok(AuditPerson {
        pseudonym: row.pseudonym,
        tenant: tenant_id(&row.tenant)?,
        subject: row.subject,
        name: row.name,
        salt: row.salt,
    })
}

fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::internal("the audit log is too long"))
}

impl<C: Finish> Unit<C> {
    /// The places of entries, where they have one.
    async fn places_of(&self, found: Vec<rows::Model>) -> Result<Vec<AuditEntry>> {
        let mut known = HashMap::new();
        for chunk in found.chunks(ROWS) {
            let ids = chunk.iter().map(|row| row.id);
            let found = places::Entity::find().filter(places::Column::Id.is_in(ids)).all(&self.connection).await;
            known.extend(found.map_err(failed)?.into_iter().map(|place| (place.id, place.place)));
        }
        found
            .into_iter()
            .map(|row| {
                let place = known.get(&row.id).copied();
                from_row(row, place)
            })
            .collect()
    }
}

#[async_trait]
impl<C: Finish> AuditRepository for Unit<C> {
    async fn append(&self, entry: &AuditEntry) -> Result<()> {
        let row = rows::ActiveModel {
            id: Set(entry.id.0),
            tenant: Set(entry.tenant.to_string()),
            at: Set(micros(entry.at)),
            actor: Set(entry.actor.clone()),
            action: Set(entry.action.clone()),
            resource_kind: Set(entry.resource_kind.clone()),
            resource_id: Set(entry.resource_id.clone()),
            outcome: Set(entry.outcome.clone()),
            request_id: Set(entry.request_id.clone()),
            leaf: Set(entry.leaf.clone()),
        };
        self.connection.later(rows::Entity::insert(row)).await.map_err(failed)
    }

    async fn person(&self, tenant: &TenantId, subject: &str) -> Result<Option<AuditPerson>> {
        let found = people::Entity::find()
            .filter(people::Column::Tenant.eq(tenant.as_str()))
            .filter(people::Column::Subject.eq(subject))
            .one(&self.connection)
            .await;
        found.map_err(failed)?.map(person).transpose()
    }

    async fn add_person(&self, person: &AuditPerson) -> Result<()> {
        let row = people::ActiveModel {
            pseudonym: Set(person.pseudonym.clone()),
            tenant: Set(person.tenant.to_string()),
            subject: Set(person.subject.clone()),
            name: Set(person.name.clone()),
            salt: Set(person.salt.clone()),
        };
        let keep = OnConflict::columns([people::Column::Tenant, people::Column::Subject]).do_nothing().to_owned();
        inserted(people::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.connection).await)?;
        Ok(())
    }

    async fn people(&self, pseudonyms: &[String]) -> Result<Vec<AuditPerson>> {
        let wanted = pseudonyms.iter().map(String::as_str);
        let found = people::Entity::find().filter(people::Column::Pseudonym.is_in(wanted)).all(&self.connection).await;
        found.map_err(failed)?.into_iter().map(person).collect()
    }

    async fn erase_person(&self, tenant: &TenantId, subject: &str) -> Result<bool> {
        let gone = people::Entity::delete_many()
            .filter(people::Column::Tenant.eq(tenant.as_str()))
            .filter(people::Column::Subject.eq(subject))
            .exec(&self.connection)
            .await
            .map_err(failed)?;
        Ok(gone.rows_affected == 1)
    }

    async fn waiting(&self, limit: u32) -> Result<Vec<AuditEntry>> {
        let ids = waiting::Entity::find()
            .order_by_asc(waiting::Column::Id)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await
            .map_err(failed)?;
        let mut out = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(ROWS) {
            let ids = chunk.iter().map(|row| row.id);
            let found = rows::Entity::find().filter(rows::Column::Id.is_in(ids)).order_by_asc(rows::Column::Id);
            for row in found.all(&self.connection).await.map_err(failed)? {
                out.push(from_row(row, None)?);
            }
        }
        Ok(out)
    }

    async fn place(&self, first: u64, entries: &[AuditEntry]) -> Result<()> {
        for (n, chunk) in entries.chunks(ROWS).enumerate() {
            let mut placed = Vec::with_capacity(chunk.len());
            for (place, entry) in (first + (n * ROWS) as u64..).zip(chunk) {
                placed.push(places::ActiveModel { place: Set(signed(place)?), id: Set(entry.id.0) });
            }
            places::Entity::insert_many(placed).exec_without_returning(&self.connection).await.map_err(failed)?;
            waiting::Entity::delete_many()
                .filter(waiting::Column::Id.is_in(chunk.iter().map(|entry| entry.id.0)))
                .exec(&self.connection)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    async fn placed(&self, from: u64, limit: u32) -> Result<Vec<AuditEntry>> {
        let found = places::Entity::find()
            .filter(places::Column::Place.gte(signed(from)?))
            .order_by_asc(places::Column::Place)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await
            .map_err(failed)?;
        let mut entries = HashMap::new();
        for chunk in found.chunks(ROWS) {
            let ids = chunk.iter().map(|place| place.id);
            let rows = rows::Entity::find().filter(rows::Column::Id.is_in(ids)).all(&self.connection).await.map_err(failed)?;
            entries.extend(rows.into_iter().map(|row| (row.id, row)));
        }
        // A row that is missing leaves a gap between the places, which whoever reads them looks at.
        let row = |place: places::Model| entries.remove(&place.id).map(|row| from_row(row, Some(place.place)));
        found.into_iter().filter_map(row).collect()
    }

    async fn expire(&self, below: u64, limit: u32) -> Result<u64> {
        let old = places::Entity::find()
            .filter(places::Column::Place.lt(signed(below)?))
            .order_by_asc(places::Column::Place)
            .limit(u64::from(limit))
            .all(&self.connection)
            .await
            .map_err(failed)?;
        for chunk in old.chunks(ROWS) {
            let ids = || chunk.iter().map(|place| place.id);
            rows::Entity::delete_many().filter(rows::Column::Id.is_in(ids())).exec(&self.connection).await.map_err(failed)?;
            places::Entity::delete_many().filter(places::Column::Id.is_in(ids())).exec(&self.connection).await.map_err(failed)?;
        }
        Ok(old.len() as u64)
    }

    async fn kept_for(&self) -> Result<u32> {
        let found = retention::Entity::find().one(&self.connection).await.map_err(failed)?;
        Ok(found.and_then(|row| u32::try_from(row.days).ok()).unwrap_or(0))
    }

    async fn forget_unmentioned(&self) -> Result<u64> {
        let mentioned = rows::Entity::find()
            .select_only()
            .expr(Expr::val(1))
            .filter(Expr::col((rows::Entity, rows::Column::Tenant)).equals((people::Entity, people::Column::Tenant)))
            .filter(Expr::col((rows::Entity, rows::Column::Actor)).equals((people::Entity, people::Column::Pseudonym)))
            .into_query();
        let unmentioned = people::Entity::find()
            .filter(people::Column::Subject.starts_with(USER))
            .filter(Expr::exists(mentioned).not())
            .order_by_asc(people::Column::Pseudonym)
            .limit(ROWS as u64);
        let (mut after, mut forgotten) = (String::new(), 0);
        loop {
            let page = unmentioned.clone().filter(people::Column::Pseudonym.gt(after.as_str())).all(&self.connection).await;
            let page = page.map_err(failed)?;
            let Some(last) = page.last() else { return Ok(forgotten) };
            after.clone_from(&last.pseudonym);
            // Who can still act may be about to.
            let id = |person: &people::Model| person.subject.strip_prefix(USER).and_then(|id| id.parse::<Uuid>().ok());
            let here = accounts::Entity::find().filter(accounts::Column::Id.is_in(page.iter().filter_map(id)));
            let here = here.all(&self.connection).await.map_err(failed)?;
            let gone = page.iter().filter(|person| here.iter().all(|account| Some(account.id) != id(person)));
            let gone = people::Column::Pseudonym.is_in(gone.map(|person| person.pseudonym.as_str()));
            let gone = people::Entity::delete_many().filter(gone).exec(&self.connection).await.map_err(failed)?;
            forgotten += gone.rows_affected;
        }
    }

    async fn find(&self, tenant: &TenantId, id: AuditId) -> Result<Option<AuditEntry>> {
        let found = rows::Entity::find_by_id(id.0).filter(rows::Column::Tenant.eq(tenant.as_str())).all(&self.connection).await;
        Ok(self.places_of(found.map_err(failed)?).await?.pop())
    }

    async fn search(&self, tenant: &TenantId, filter: &AuditFilter, page: Page) -> Result<Vec<AuditEntry>> {
        let mut query = rows::Entity::find().filter(rows::Column::Tenant.eq(tenant.as_str()));
        if let Some(actors) = &filter.actors {
            query = query.filter(rows::Column::Actor.is_in(actors.iter().map(String::as_str)));
        }
        if let Some(action) = &filter.action {
            query = match action.strip_suffix('.') {
                Some(_) => query.filter(rows::Column::Action.starts_with(action.as_str())),
                None => query.filter(rows::Column::Action.eq(action.as_str())),
            };
        }
        let exact = [
            (rows::Column::ResourceKind, &filter.resource_kind),
            (rows::Column::ResourceId, &filter.resource_id),
            (rows::Column::Outcome, &filter.outcome),
        ];
        for (column, value) in exact {
            if let Some(value) = value {
                query = query.filter(column.eq(value.as_str()));
            }
        }
        if let Some(from) = filter.from {
            query = query.filter(rows::Column::At.gte(micros(from)));
        }
        if let Some(before) = filter.before {
            query = query.filter(rows::Column::At.lt(micros(before)));
        }
        if let Some(after) = page.after {
            query = query.filter(rows::Column::Id.lt(after));
        }
        let found = query.order_by_desc(rows::Column::Id).limit(u64::from(page.limit)).all(&self.connection).await;
        self.places_of(found.map_err(failed)?).await
    }

    async fn checkpoint(&self) -> Result<Option<CheckpointRecord>> {
        let found = checkpoints::Entity::find().order_by_desc(checkpoints::Column::Size).one(&self.connection).await;
        let Some(row) = found.map_err(failed)? else { return Ok(None) };
        let root = row.root.try_into().map_err(|_| Error::internal("a root hash in the database has another length"))?;
        Ok(Some(CheckpointRecord { size: row.size.unsigned_abs(), root, note: row.note, at: instant(row.at)? }))
    }

    async fn add_checkpoint(&self, checkpoint: &CheckpointRecord) -> Result<()> {
        let row = checkpoints::ActiveModel {
            size: Set(signed(checkpoint.size)?),
            root: Set(checkpoint.root.to_vec()),
            note: Set(checkpoint.note.clone()),
            at: Set(micros(checkpoint.at)),
        };
        checkpoints::Entity::insert(row).exec_without_returning(&self.connection).await.map_err(failed)?;
        Ok(())
    }
}
