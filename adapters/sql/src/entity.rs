//! Rows.

use sea_orm::{ConnectionTrait, DbErr, Statement, entity::prelude::*};

macro_rules! entity {
    ($module:ident, $table:literal, { $($body:tt)* }) => {
        pub(crate) mod $module {
            use sea_orm::entity::prelude::*;

            #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub struct Model { $($body)* }

            #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }
    };
}

entity!(tenants, "tenants", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub settings: Json,
    pub created_at: i64,
});

entity!(accounts, "accounts", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub revision: i64,
    pub username_folded: String,
    pub source: String,
    pub external_id: Option<String>,
    pub identity: Option<String>,
    pub active: bool,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
});

// Users as versions before 6 of the schema kept them. Nothing is read of it any more.
entity!(old_users, "users", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
});

entity!(login_attempts, "login_attempts", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name_sha256: String,
    pub failures: i32,
    pub last_at: i64,
});

entity!(sessions, "sessions", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub user_id: Uuid,
    pub via: String,
    pub user_agent: Option<String>,
    pub created_at: i64,
    pub last_used_at: i64,
    pub expires_at: i64,
    pub second_factor_at: Option<i64>,
    pub revoked_at: Option<i64>,
});

entity!(roles, "roles", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub revision: i64,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
});

entity!(role_versions, "role_versions", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    pub version: i64,
});

entity!(group_mappings, "group_mappings", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
});

entity!(groups, "groups", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub name: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
});

entity!(group_members, "group_members", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_id: Uuid,
});

entity!(audit_entries, "audit_entries", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub at: i64,
    pub actor: String,
    pub action: String,
    pub resource_kind: String,
    pub resource_id: String,
    pub outcome: String,
    pub request_id: String,
    pub leaf: Vec<u8>,
});

entity!(audit_waiting, "audit_waiting", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
});

entity!(audit_places, "audit_places", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub place: i64,
    pub id: Uuid,
});

entity!(audit_people, "audit_people", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub pseudonym: String,
    pub tenant: String,
    pub subject: String,
    pub name: String,
    pub salt: Vec<u8>,
});

entity!(audit_checkpoints, "audit_checkpoints", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub size: i64,
    pub root: Vec<u8>,
    pub note: String,
    pub at: i64,
});

entity!(api_keys, "api_keys", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub name: String,
    pub key_sha256: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub scopes: Json,
    pub created_by: String,
    pub managed_by: String,
    pub created_at: i64,
    pub expires_at: Option<i64>,
    pub revoked_at: Option<i64>,
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub reach: Option<Json>,
    pub last_used_at: Option<i64>,
});

entity!(refresh_tokens, "refresh_tokens", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub token_sha256: String,
    pub family: Uuid,
    pub user_id: Uuid,
    pub expires_at: i64,
    pub used_at: Option<i64>,
});

entity!(manifests, "manifests", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub revision: i64,
    pub state: String,
    pub title: String,
    pub title_folded: String,
    pub search_text: String,
    pub creator: String,
    pub department: Option<String>,
    pub project: Option<String>,
    pub organization: Option<String>,
    pub classification: String,
    pub media_type: String,
    pub file_name: Option<String>,
    pub source_sha256: String,
    pub source_size: i64,
    pub source_kept: bool,
    #[sea_orm(column_type = "JsonBinary")]
    pub definition: Json,
    #[sea_orm(column_type = "JsonBinary")]
    pub metadata: Json,
    #[sea_orm(column_type = "JsonBinary")]
    pub ingredients: Json,
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub signed: Option<Json>,
    pub created_by: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub archived_at: Option<i64>,
    pub retain_until: Option<i64>,
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub legal_hold: Option<Json>,
    pub content_deleted_at: Option<i64>,
});

entity!(secrets, "secrets", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub value: Vec<u8>,
    pub created_at: i64,
});

entity!(blobs, "blobs", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sha256: String,
    pub size: i64,
    pub tier: String,
    pub created_at: i64,
    pub last_used_at: i64,
    pub replicated_at: Option<i64>,
});

entity!(doomed_blobs, "doomed_blobs", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub sha256: String,
    pub place: String,
    pub until: i64,
});

entity!(replication, "replication", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    pub target: String,
    pub since: i64,
});

entity!(blob_uses, "blob_uses", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sha256: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub manifest_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub role: String,
});

entity!(verifications, "verifications", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub manifest_id: Uuid,
    pub state: String,
    pub trust_level: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub report: Json,
    pub verified_by: String,
    pub created_at: i64,
});

entity!(idempotency, "idempotency", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    pub fingerprint: String,
    pub status: i16,
    #[sea_orm(column_type = "JsonBinary")]
    pub body: Json,
    pub created_at: i64,
});

entity!(certificates, "certificates", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub serial: String,
    pub role: String,
    pub key_name: String,
    pub der: Vec<u8>,
    pub not_after: i64,
    pub created_at: i64,
});

entity!(jobs, "jobs", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: Option<String>,
    pub kind: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub payload: Json,
    pub unique_key: Option<String>,
    pub priority: i16,
    pub state: String,
    pub attempts: i32,
    pub max_attempts: i32,
    pub run_at: i64,
    pub announced_at: Option<i64>,
    pub lease_until: Option<i64>,
    pub worker: Option<String>,
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub progress: Option<Json>,
    pub error: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
    pub finished_at: Option<i64>,
});

entity!(job_slots, "job_slots", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub slot: i64,
    pub taken_at: i64,
});

entity!(workflow_definitions, "workflow_definitions", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
    pub created_by: String,
    pub created_at: i64,
});

entity!(policies, "policies", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
    pub created_by: String,
    pub created_at: i64,
});

entity!(workflows, "workflows", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub manifest_id: Uuid,
    pub definition: String,
    pub state: String,
    pub open: bool,
    pub revision: i64,
    pub created_by: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub pending_since: Option<i64>,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
});

entity!(workflow_events, "workflow_events", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub workflow_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    pub tenant: String,
    pub at: i64,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
});

entity!(workflow_tasks, "workflow_tasks", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub workflow_id: Uuid,
    pub manifest_id: Uuid,
    pub due_at: Option<i64>,
    pub next_at: Option<i64>,
    pub created_at: i64,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
});

entity!(workflow_candidates, "workflow_candidates", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub candidate: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub task_id: Uuid,
    pub project: Option<String>,
    pub due_at: Option<i64>,
});

entity!(evidence, "evidence", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub kind: String,
    pub about: String,
    pub revision: i64,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
    pub created_by: String,
    pub created_at: i64,
    pub updated_at: i64,
});

entity!(compliance_reports, "compliance_reports", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub manifest_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub policy: String,
    pub tenant: String,
    pub status: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
    pub at: i64,
    pub turns_at: Option<i64>,
});

entity!(compliance_keys, "compliance_keys", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub about: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub manifest_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub policy: String,
});

entity!(compliance_overrides, "compliance_overrides", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub manifest_id: Uuid,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
    pub created_at: i64,
});

entity!(notifications, "notifications", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub audience: String,
    pub kind: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
    pub manifest_id: Uuid,
    pub created_at: i64,
});

entity!(notification_reads, "notification_reads", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub notification_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: String,
    pub at: i64,
});

entity!(audit_retention, "audit_retention", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    pub days: i64,
});

entity!(badges, "badges", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub manifest_id: Uuid,
    pub content_sha256: String,
    pub issued_by: String,
    pub issued_at: i64,
    pub revoked_at: Option<i64>,
    pub revoked_by: Option<String>,
    pub revoked_reason: Option<String>,
});

entity!(webhook_endpoints, "webhook_endpoints", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub revision: i64,
    pub enabled: bool,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
    pub created_by: String,
    pub created_at: i64,
    pub updated_at: i64,
});

entity!(webhook_deliveries, "webhook_deliveries", {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub tenant: String,
    pub endpoint_id: Uuid,
    pub message_id: Uuid,
    pub event: String,
    pub state: String,
    pub manifest_id: Option<Uuid>,
    pub department: Option<String>,
    pub project: Option<String>,
    pub classification: Option<String>,
    #[sea_orm(column_type = "JsonBinary")]
    pub data: Json,
    pub created_at: i64,
    pub updated_at: i64,
});

/// Names of the migrations that were applied.
pub(crate) async fn applied_migrations(connection: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let statement = Statement::from_string(connection.get_database_backend(), "SELECT version FROM seaql_migrations");
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get::<String>("", "version")).collect()
}
