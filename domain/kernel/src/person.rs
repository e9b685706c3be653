//! Who is behind what is done: API keys act for whoever made them.

use crate::{Result, TenantId, port::UnitOfWork};

/// A key may be made with a key, and so on for so many. More are made only to tire whoever follows them.
pub const MAKERS: usize = 64;

/// Who is behind what a subject of the tenant does: the same subject, or whoever made the first of the keys that made this one.
/// A key that was revoked is followed like any other, since its successor may have been made with it. None when there is no such
/// key, or when there are too many.
pub async fn behind(read: &dyn UnitOfWork, tenant: &TenantId, subject: &str) -> Result<Option<(TenantId, String)>> {
    let (mut tenant, mut subject) = (tenant.clone(), subject.to_owned());
    for _ in 0..=MAKERS {
        let Some(id) = subject.strip_prefix("key:") else { return Ok(Some((tenant, subject))) };
        let Ok(id) = id.parse() else { return Ok(None) };
        let Some(key) = read.api_keys().acting(&tenant, id).await? else { return Ok(None) };
        (tenant, subject) = (key.managed_by, key.created_by);
    }
    Ok(None)
}

/// The person behind a subject of the tenant; the subject itself where none is found. For comparing people: identifiers of users are
/// unique over all tenants.
pub async fn person(read: &dyn UnitOfWork, tenant: &TenantId, subject: &str) -> Result<String> {
    Ok(behind(read, tenant, subject).await?.map_or_else(|| subject.to_owned(), |(_, person)| person))
}
