//! Ports of access: users, sessions, roles, groups, keys, directories and issuers.

use super::{Page, UnitOfWork};
use crate::{
    Actor, ApiKeyId, MappingId, Permission, Reach, Result, SessionId, TenantId, UserId,
    access::{Attempts, GroupMapping, GroupRecord, RefreshTokenRecord, RoleRecord, SessionRecord, UserFilter, UserRecord},
    record::ApiKeyRecord,
};
use async_trait::async_trait;
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

/// Users. Every query names the tenant.
#[async_trait]
pub trait UserRepository: Send + Sync {
    /// Adds a user; false when the tenant has one of that login name.
    async fn insert(&self, user: &UserRecord) -> Result<bool>;
    /// Finds a user.
    async fn get(&self, tenant: &TenantId, id: UserId) -> Result<Option<UserRecord>>;
    /// Finds a user by login name, whatever its case.
    async fn by_name(&self, tenant: &TenantId, username: &str) -> Result<Option<UserRecord>>;
    /// Replaces the record if its revision is still `expected`; false when it is not.
    async fn update(&self, user: &UserRecord, expected: i64) -> Result<bool>;
    /// Newest first.
    async fn list(&self, tenant: &TenantId, filter: &UserFilter, page: Page) -> Result<Vec<UserRecord>>;
    /// Removes a user with everything that is theirs, what older versions kept of them too; false when there is none.
    async fn delete(&self, tenant: &TenantId, id: UserId) -> Result<bool>;
    /// How many users; of every tenant when absent.
    async fn count(&self, tenant: Option<&TenantId>) -> Result<u64>;
    /// Failed logins under a name.
    async fn attempts(&self, tenant: &TenantId, name_sha256: &str) -> Result<Attempts>;
    /// Notes failed logins; none forgets them.
    async fn set_attempts(&self, tenant: &TenantId, name_sha256: &str, attempts: Option<Attempts>) -> Result<()>;
    /// Forgets failed logins before; how many names.
    async fn forget_attempts(&self, before: OffsetDateTime) -> Result<u64>;
}

/// Sessions and refresh tokens.
#[async_trait]
pub trait SessionRepository: Send + Sync {
    /// Adds a session.
    async fn insert(&self, session: &SessionRecord) -> Result<()>;
    /// Finds a session.
    async fn get(&self, id: SessionId) -> Result<Option<SessionRecord>>;
    /// Notes a use, and a second factor where one was given.
    async fn touch(&self, id: SessionId, at: OffsetDateTime, second_factor: bool) -> Result<()>;
    /// Live sessions of a tenant, or of one user, newest first.
    async fn list(&self, tenant: &TenantId, user: Option<UserId>, now: OffsetDateTime, page: Page) -> Result<Vec<SessionRecord>>;
    /// Ends a session of the tenant, and of the user where one is named; false when there is no such live one.
    async fn revoke(&self, tenant: &TenantId, user: Option<UserId>, id: SessionId, at: OffsetDateTime) -> Result<bool>;
    /// Ends every session of a user; how many.
    async fn revoke_user(&self, tenant: &TenantId, user: UserId, at: OffsetDateTime) -> Result<u64>;
    /// Adds a refresh token.
    async fn insert_refresh_token(&self, token: &RefreshTokenRecord) -> Result<()>;
    /// Finds a refresh token by its digest.
    async fn refresh_token(&self, token_sha256: &str) -> Result<Option<RefreshTokenRecord>>;
    /// Marks a refresh token as used; false when it was used already.
    async fn use_refresh_token(&self, token_sha256: &str, at: OffsetDateTime) -> Result<bool>;
    /// Forgets refresh tokens and sessions that ended before; how many.
    async fn forget(&self, before: OffsetDateTime) -> Result<u64>;
}

/// A tenant's own roles, and what groups give.
#[async_trait]
pub trait RoleRepository: Send + Sync {
    /// A tenant's roles, by name.
    async fn list(&self, tenant: &TenantId) -> Result<Vec<RoleRecord>>;
    /// Adds a role; false when there is one of that name.
    async fn insert(&self, role: &RoleRecord) -> Result<bool>;
    /// Replaces a role if its revision is still `expected`; false when it is not.
    async fn update(&self, role: &RoleRecord, expected: i64) -> Result<bool>;
    /// Removes a role; false when there is none.
    async fn delete(&self, tenant: &TenantId, name: &str) -> Result<bool>;
    /// A number that changes whenever the tenant's roles do.
    async fn version(&self, tenant: &TenantId) -> Result<i64>;
    /// Changes that number.
    async fn bump(&self, tenant: &TenantId) -> Result<()>;
    /// A tenant's group mappings.
    async fn mappings(&self, tenant: &TenantId) -> Result<Vec<GroupMapping>>;
    /// Adds or replaces a mapping.
    async fn put_mapping(&self, mapping: &GroupMapping) -> Result<()>;
    /// Removes a mapping; false when there is none.
    async fn delete_mapping(&self, tenant: &TenantId, id: MappingId) -> Result<bool>;
}

/// Groups that SCIM clients made.
#[async_trait]
pub trait GroupRepository: Send + Sync {
    /// Adds or replaces a group.
    async fn put(&self, group: &GroupRecord) -> Result<()>;
    /// Finds a group.
    async fn get(&self, tenant: &TenantId, id: Uuid) -> Result<Option<GroupRecord>>;
    /// A tenant's groups, newest first.
    async fn list(&self, tenant: &TenantId, name: Option<&str>, page: Page) -> Result<Vec<GroupRecord>>;
    /// Removes a group; false when there is none.
    async fn delete(&self, tenant: &TenantId, id: Uuid) -> Result<bool>;
    /// Its members.
    async fn members(&self, tenant: &TenantId, id: Uuid) -> Result<Vec<UserId>>;
    /// Replaces its members.
    async fn set_members(&self, tenant: &TenantId, id: Uuid, members: &[UserId]) -> Result<()>;
    /// The groups that a user is in.
    async fn of_user(&self, tenant: &TenantId, user: UserId) -> Result<Vec<GroupRecord>>;
}

/// API keys.
#[async_trait]
pub trait ApiKeyRepository: Send + Sync {
    /// Adds an API key.
    async fn insert(&self, key: &ApiKeyRecord) -> Result<()>;
    /// Finds an API key by its digest.
    async fn by_digest(&self, key_sha256: &str) -> Result<Option<ApiKeyRecord>>;
    /// API keys that this tenant's administrators manage, newest first.
    async fn list(&self, managed_by: &TenantId, page: Page) -> Result<Vec<ApiKeyRecord>>;
    /// An API key that this tenant's administrators manage.
    async fn get(&self, managed_by: &TenantId, id: ApiKeyId) -> Result<Option<ApiKeyRecord>>;
    /// An API key that acts for this tenant, whoever manages it.
    async fn acting(&self, tenant: &TenantId, id: ApiKeyId) -> Result<Option<ApiKeyRecord>>;
    /// API keys that this subject of the tenant made, revoked ones too, newest first.
    async fn made_by(&self, managed_by: &TenantId, subject: &str, page: Page) -> Result<Vec<ApiKeyRecord>>;
    /// Revokes an API key; false when there is no such unrevoked key.
    async fn revoke(&self, managed_by: &TenantId, id: ApiKeyId, at: OffsetDateTime) -> Result<bool>;
    /// Notes a use.
    async fn touch(&self, id: ApiKeyId, at: OffsetDateTime) -> Result<()>;
}

/// What a role may do, by the platform's table and the tenant's own roles.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Every permission that these roles give in a tenant whose own roles, at this version, are these. Unknown roles give
    /// nothing.
    async fn permissions(&self, table: &RoleTable, roles: &BTreeSet<String>) -> Result<BTreeSet<Permission>>;
    /// Why a role gives a permission: the chain of roles down to the one that has the line; none when it does not give it.
    async fn because(&self, table: &RoleTable, role: &str, permission: Permission) -> Result<Option<Vec<String>>>;
    /// The roles that every tenant has.
    fn built_in(&self) -> Vec<RoleRecord>;
}

/// A tenant's own roles.
#[derive(Debug, Clone)]
pub struct RoleTable {
    /// Tenant.
    pub tenant: TenantId,
    /// Changes whenever they do.
    pub version: i64,
    /// They.
    pub roles: std::sync::Arc<Vec<RoleRecord>>,
}

/// A user as a directory knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryUser {
    /// A name that never changes: the distinguished name, or a unique attribute.
    pub external_id: String,
    /// Login name.
    pub username: String,
    /// Name for people.
    pub display_name: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// Groups, nested ones too, as distinguished names.
    pub groups: BTreeSet<String>,
}

/// A directory of people.
#[async_trait]
pub trait Directory: Send + Sync {
    /// Checks a password; none when there is no such user or it is wrong. Fails when the directory does not answer.
    async fn authenticate(&self, username: &str, password: &str) -> Result<Option<DirectoryUser>>;
    /// Looks a user up again; none when they are gone.
    async fn lookup(&self, external_id: &str) -> Result<Option<DirectoryUser>>;
    /// Does it answer? For readiness.
    async fn check(&self) -> Result<()>;
    /// What and where it is; no secret.
    fn describe(&self) -> String;
}

/// Fetches what trusted issuers publish.
#[async_trait]
pub trait IssuerClient: Send + Sync {
    /// Gets a JSON document of bounded size within bounded time.
    async fn get(&self, url: &str) -> Result<serde_json::Value>;
    /// Posts a form and gets a JSON document (RFC 6749 §4.1.3).
    async fn post_form(&self, url: &str, form: &[(&str, &str)]) -> Result<serde_json::Value>;
}

/// Somebody as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The actor's subject.
    pub subject: String,
    /// Roles, those that they inherit from too.
    pub roles: BTreeSet<String>,
    /// Permissions.
    pub permissions: BTreeSet<Permission>,
    /// Groups, in lower case.
    pub groups: BTreeSet<String>,
    /// Address, where there is one.
    pub email: Option<String>,
    /// Whether they want mail.
    pub mail: bool,
    /// Which content they see.
    pub reach: Reach,
}

impl Person {
    /// Everything that is addressed to them: themselves, their roles, their groups.
    pub fn audience(&self) -> BTreeSet<String> {
        let roles = self.roles.iter().map(|role| format!("role:{role}"));
        let groups = self.groups.iter().map(|group| format!("group:{group}"));
        std::iter::once(self.subject.clone()).chain(roles).chain(groups).collect()
    }

    /// Whether any of these is addressed to them.
    pub fn is_among(&self, audience: &BTreeSet<String>) -> bool {
        self.audience().intersection(audience).next().is_some()
    }
}

/// Which people are wanted.
pub type Wanted = dyn for<'a> Fn(&'a Person) -> bool + Send + Sync;

/// Who people are and what they may do at this moment. Asked within the caller's transaction: one that waited for a second
/// connection could wait for itself.
#[async_trait]
pub trait People: Send + Sync {
    /// The actor, with roles that theirs inherit from, and groups.
    async fn actor(&self, unit: &dyn UnitOfWork, actor: &Actor) -> Result<Person>;
    /// A user of the tenant by subject; none when they are gone or closed out.
    async fn find(&self, unit: &dyn UnitOfWork, tenant: &TenantId, subject: &str) -> Result<Option<Person>>;
    /// A user of the tenant by login name.
    async fn by_name(&self, unit: &dyn UnitOfWork, tenant: &TenantId, username: &str) -> Result<Option<Person>>;
    /// Those of the tenant's users that any of these names (subjects, `role:…`, `group:…`) and that are wanted; `most` at most.
    async fn among(
        &self,
        unit: &dyn UnitOfWork,
        tenant: &TenantId,
        audience: &BTreeSet<String>,
        most: usize,
        wanted: &Wanted,
    ) -> Result<Vec<Person>>;
    /// Every role of the tenant: those that every tenant has, and its own.
    async fn roles(&self, unit: &dyn UnitOfWork, tenant: &TenantId) -> Result<Vec<RoleRecord>>;
}
