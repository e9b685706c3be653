//! What goes over the wire.

mod parse;

pub use parse::{choice, clearance, flag, given, named, reach, time, unfit, word};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use omt_kernel::{
    Error, Result, SessionId,
    access::{SessionRecord, UserRecord},
    manifest::{ManifestRecord, Relationship},
    port::Page,
    record::{ApiKeyRecord, VerificationRecord},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The most items of one page.
const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;

/// Where a list continues.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items on the page, 1 to 200; 50 when absent.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// Checks and decodes.
    pub fn page(&self) -> Result<Page> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Error::invalid_field("INVALID_QUERY", "limit", "must be 1 to 200"));
        }
        let bad = || Error::invalid_field("INVALID_CURSOR", "cursor", "is not a cursor of this list");
        let after = self.cursor.as_deref().map(|c| {
            let bytes = URL_SAFE_NO_PAD.decode(c).map_err(|_| bad())?;
            Uuid::from_slice(&bytes).map_err(|_| bad())
        });
        // One more than asked for tells whether there is a next page.
        Ok(Page { after: after.transpose()?, limit: limit + 1 })
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Paged<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

impl<T> Paged<T> {
    /// A page of `records`, read with the extra one of [`PageQuery::page`], each turned into an item.
    pub fn of<R>(mut records: Vec<R>, page: Page, id: impl Fn(&R) -> Uuid, item: impl Fn(R) -> T) -> Self {
        let more = records.len() == page.limit as usize;
        if more {
            records.pop();
        }
        let next_cursor = records.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(id(last).as_bytes()));
        Self { items: records.into_iter().map(item).collect(), next_cursor }
    }
}

/// An ingredient of a manifest.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ingredient {
    /// Its title.
    pub title: String,
    /// Its media type.
    pub media_type: String,
    /// `parentOf`, `componentOf` or `inputTo`.
    #[schema(value_type = String)]
    pub relationship: Relationship,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What signing produced.
#[derive(Debug, Serialize, ToSchema)]
pub struct Signature {
    /// The algorithm.
    #[schema(example = "hybrid-es256-ml-dsa-65")]
    pub algorithm: String,
    /// The active manifest's label.
    pub manifest_label: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub signed_at: time::OffsetDateTime,
    /// Whether the asset carries the manifest; else it is beside it.
    pub embedded: bool,
    /// SHA-256 of the signed asset, hexadecimal.
    pub asset_sha256: String,
    /// Size of the signed asset in bytes.
    pub asset_size: u64,
}

/// Where to go from here.
#[derive(Debug, Serialize, ToSchema)]
pub struct Links {
    /// The content.
    pub content: String,
    /// The manifest store alone.
    pub manifest_store: String,
    /// The verification report.
    pub report: String,
    /// C2PA crJSON.
    pub crjson: String,
}

/// A manifest.
#[derive(Debug, Serialize, ToSchema)]
pub struct Manifest {
    /// Identifier.
    pub id: Uuid,
    /// Tenant.
    pub tenant: String,
    /// `draft`, `signed` or `archived`.
    pub state: &'static str,
    /// Rises with every change; the same as the `ETag`.
    pub revision: i64,
    /// Title.
    pub title: String,
    /// Who made the content.
    pub creator: String,
    /// Department.
    pub department: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// Organisation.
    pub organization: Option<String>,
    /// `public`, `internal`, `confidential`, `secret` or `top_secret`.
    pub classification: &'static str,
    /// Media type, by the content's bytes.
    pub media_type: String,
    /// The uploaded file's name.
    pub file_name: Option<String>,
    /// Size of the upload in bytes.
    pub size: u64,
    /// SHA-256 of the upload, hexadecimal.
    pub sha256: String,
    /// What the claim says.
    #[schema(value_type = Object)]
    pub definition: Value,
    /// Metadata found in the content, and the personal data among it.
    #[schema(value_type = Object)]
    pub metadata: Value,
    /// Ingredients.
    pub ingredients: Vec<Ingredient>,
    /// What signing produced; null for a draft.
    pub signature: Option<Signature>,
    /// Who created it.
    pub created_by: String,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: time::OffsetDateTime,
    /// Last change.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: time::OffsetDateTime,
    /// When it was archived.
    #[serde(with = "time::serde::rfc3339::option")]
    pub archived_at: Option<time::OffsetDateTime>,
    /// Until when archived content is kept at least.
    #[serde(with = "time::serde::rfc3339::option")]
    pub retain_until: Option<time::OffsetDateTime>,
    /// Why the content must not be deleted; null without a legal hold.
    pub legal_hold: Option<Hold>,
    /// When the content was deleted, its retention having ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub content_deleted_at: Option<time::OffsetDateTime>,
    /// Where to go from here, relative to this server.
    pub links: Links,
}

/// A legal hold.
#[derive(Debug, Serialize, ToSchema)]
pub struct Hold {
    /// Why.
    pub reason: String,
    /// Who placed it.
    pub placed_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub placed_at: time::OffsetDateTime,
}

impl From<&ManifestRecord> for Manifest {
    fn from(record: &ManifestRecord) -> Self {
        let link = |part: &str| format!("/api/v1/manifests/{}/{part}", record.id);
        Self {
            id: record.id.0,
            tenant: record.tenant.to_string(),
            state: record.state.as_str(),
            revision: record.revision,
            title: record.title.clone(),
            creator: record.creator.clone(),
            department: record.department.clone(),
            project: record.project.clone(),
            organization: record.organization.clone(),
            classification: record.classification.as_str(),
            media_type: record.media_type.clone(),
            file_name: record.file_name.clone(),
            size: record.source.size,
            sha256: record.source.sha256.clone(),
            definition: record.definition.clone(),
            metadata: record.metadata.clone(),
            ingredients: record
                .ingredients
                .iter()
                .map(|i| Ingredient {
                    title: i.title.clone(),
                    media_type: i.media_type.clone(),
                    relationship: i.relationship,
                    sha256: i.blob.sha256.clone(),
                    size: i.blob.size,
                })
                .collect(),
            signature: record.signed.as_ref().map(|s| Signature {
                algorithm: s.algorithm.clone(),
                manifest_label: s.manifest_label.clone(),
                signed_at: s.signed_at,
                embedded: s.embedded,
                asset_sha256: s.asset.sha256.clone(),
                asset_size: s.asset.size,
            }),
            created_by: record.created_by.clone(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            legal_hold: record.legal_hold.as_ref().map(|hold| Hold {
                reason: hold.reason.clone(),
                placed_by: hold.placed_by.clone(),
                placed_at: hold.placed_at,
            }),
            content_deleted_at: record.content_deleted_at,
            archived_at: record.archived.map(|a| a.at),
            retain_until: record.archived.map(|a| a.retain_until),
            links: Links {
                content: link("content"),
                manifest_store: link("manifest.c2pa"),
                report: link("report"),
                crjson: link("crjson"),
            },
        }
    }
}

/// A record as a JSON body.
pub fn manifest_json(record: &ManifestRecord) -> Value {
    serde_json::to_value(Manifest::from(record)).unwrap_or_default()
}

/// One kept verification result.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryEntry {
    /// Identifier.
    pub id: Uuid,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub verified_at: time::OffsetDateTime,
    /// Who asked.
    pub verified_by: String,
    /// The validation state.
    pub validation_state: String,
    /// The trust level.
    pub trust_level: String,
    /// The whole report.
    #[schema(value_type = Object)]
    pub report: Value,
}

impl From<VerificationRecord> for HistoryEntry {
    fn from(record: VerificationRecord) -> Self {
        Self {
            id: record.id.0,
            verified_at: record.created_at,
            verified_by: record.verified_by,
            validation_state: record.state,
            trust_level: record.trust_level,
            report: record.report,
        }
    }
}

/// An API key, without the key.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiKey {
    /// Identifier.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// The tenant it acts for.
    pub tenant: String,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    pub scopes: Vec<&'static str>,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: time::OffsetDateTime,
    /// Only this department's content, and content of none.
    pub department: Option<String>,
    /// Only these projects' content, and content of none; everything when empty.
    pub projects: Vec<String>,
    /// The most sensitive classification.
    pub clearance: String,
    /// End of validity.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<time::OffsetDateTime>,
    /// Last use, to the minute.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<time::OffsetDateTime>,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<time::OffsetDateTime>,
}

impl From<ApiKeyRecord> for ApiKey {
    fn from(record: ApiKeyRecord) -> Self {
        Self {
            id: record.id.0,
            name: record.name,
            tenant: record.tenant.to_string(),
            scopes: record.scopes.iter().map(|s| s.as_str()).collect(),
            created_at: record.created_at,
            department: record.reach.department,
            projects: record.reach.projects.into_iter().collect(),
            clearance: record.reach.clearance.to_string(),
            expires_at: record.expires_at,
            last_used_at: record.last_used_at,
            revoked_at: record.revoked_at,
        }
    }
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    /// Identifier.
    pub id: Uuid,
    /// Tenant.
    pub tenant: String,
    /// Login name.
    pub username: String,
    /// Name for people.
    pub display_name: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// Who vouches for the user: `local`, `ldap`, `oidc` or `scim`.
    #[schema(value_type = String)]
    pub source: &'static str,
    /// Roles given here.
    pub roles: Vec<String>,
    /// Groups that the user was last seen in.
    pub groups: Vec<String>,
    /// Roles that groups give.
    pub group_roles: Vec<String>,
    /// Only this department's content, and content of none.
    pub department: Option<String>,
    /// Only these projects' content, and content of none; everything when empty.
    pub projects: Vec<String>,
    /// The most sensitive classification.
    pub clearance: String,
    /// Whether the user may log in.
    pub active: bool,
    /// Whether a second factor protects the user.
    pub second_factor: bool,
    /// Rises with each change; the entity tag.
    pub revision: i64,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: time::OffsetDateTime,
    /// Last change.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: time::OffsetDateTime,
}

impl From<UserRecord> for User {
    fn from(user: UserRecord) -> Self {
        let (reach, second_factor) = (user.effective_reach(), user.has_second_factor());
        Self {
            id: user.id.0,
            tenant: user.tenant.to_string(),
            username: user.username,
            display_name: user.display_name,
            email: user.email,
            source: user.source.as_str(),
            roles: user.roles.into_iter().collect(),
            groups: user.mapped.groups.into_iter().collect(),
            group_roles: user.mapped.roles.into_iter().collect(),
            department: reach.department,
            projects: reach.projects.into_iter().collect(),
            clearance: reach.clearance.to_string(),
            active: user.active,
            second_factor,
            revision: user.revision,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub struct Session {
    /// Identifier.
    pub id: Uuid,
    /// Whose it is.
    pub user: Uuid,
    /// How the user proved who they are.
    #[schema(value_type = String)]
    pub via: &'static str,
    /// The program that logged in, as it calls itself.
    pub user_agent: Option<String>,
    /// Whether this very request belongs to it.
    pub current: bool,
    /// Login.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: time::OffsetDateTime,
    /// Last use, to the minute.
    #[serde(with = "time::serde::rfc3339")]
    pub last_used_at: time::OffsetDateTime,
    /// It ends then at the latest.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: time::OffsetDateTime,
}

impl Session {
    /// A session, seen from another.
    pub fn of(session: SessionRecord, current: Option<SessionId>) -> Self {
        Self {
            id: session.id.0,
            user: session.user.0,
            via: session.via.as_str(),
            user_agent: session.user_agent,
            current: current == Some(session.id),
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
        }
    }
}
