//! Tenants, identities, manifests, verification results, stored answers and certificates.

use crate::column;
use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

fn id(name: &str) -> ColumnDef {
    uuid(Alias::new(name)).take()
}

fn table(name: &str) -> TableCreateStatement {
    Table::create().table(Alias::new(name)).if_not_exists().take()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table("tenants")
                    .col(text(column("id")).primary_key())
                    .col(json_binary(column("settings")))
                    .col(big_integer(column("created_at")))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                table("users")
                    .col(id("id").primary_key())
                    .col(text(column("tenant")))
                    .col(text(column("username")).unique_key())
                    .col(text(column("password_hash")))
                    .col(json_binary(column("permissions")))
                    .col(boolean(column("disabled")))
                    .col(big_integer(column("created_at")))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                table("api_keys")
                    .col(id("id").primary_key())
                    .col(text(column("tenant")))
                    .col(text(column("name")))
                    .col(text(column("key_sha256")).unique_key())
                    .col(json_binary(column("scopes")))
                    .col(text(column("created_by")))
                    .col(text(column("managed_by")))
                    .col(big_integer(column("created_at")))
                    .col(big_integer_null(column("expires_at")))
                    .col(big_integer_null(column("revoked_at")))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                table("refresh_tokens")
                    .col(text(column("token_sha256")).primary_key())
                    .col(id("family"))
                    .col(id("user_id"))
                    .col(big_integer(column("expires_at")))
                    .col(big_integer_null(column("used_at")))
                    .take(),
            )
            .await?;
        index(manager, "refresh_tokens", "refresh_tokens_family", &["family"]).await?;
        manager
            .create_table(
                table("manifests")
                    .col(id("id").primary_key())
                    .col(text(column("tenant")))
                    .col(big_integer(column("revision")))
                    .col(text(column("state")))
                    .col(text(column("title")))
                    // The title in lower case: databases differ in what they fold.
                    .col(text(column("title_folded")))
                    .col(text(column("creator")))
                    .col(text_null(column("department")))
                    .col(text_null(column("project")))
                    .col(text_null(column("organization")))
                    .col(text(column("classification")))
                    .col(text(column("media_type")))
                    .col(text_null(column("file_name")))
                    .col(text(column("source_sha256")))
                    .col(big_integer(column("source_size")))
                    .col(boolean(column("source_kept")))
                    .col(json_binary(column("definition")))
                    .col(json_binary(column("metadata")))
                    .col(json_binary(column("ingredients")))
                    .col(json_binary_null(column("signed")))
                    .col(text(column("created_by")))
                    .col(big_integer(column("created_at")))
                    .col(big_integer(column("updated_at")))
                    .col(big_integer_null(column("archived_at")))
                    .col(big_integer_null(column("retain_until")))
                    .take(),
            )
            .await?;
        // Identifiers rise with time, so (tenant, …, id) serves both the filter and the order of every list.
        for filter in ["state", "department", "project", "organization", "creator", "classification"] {
            index(manager, "manifests", &format!("manifests_{filter}"), &["tenant", filter, "id"]).await?;
        }
        index(manager, "manifests", "manifests_tenant", &["tenant", "id"]).await?;
        manager
            .create_table(
                table("verifications")
                    .col(id("id").primary_key())
                    .col(text(column("tenant")))
                    .col(id("manifest_id"))
                    .col(text(column("state")))
                    .col(text(column("trust_level")))
                    .col(json_binary(column("report")))
                    .col(text(column("verified_by")))
                    .col(big_integer(column("created_at")))
                    .take(),
            )
            .await?;
        index(manager, "verifications", "verifications_manifest", &["tenant", "manifest_id", "id"]).await?;
        manager
            .create_table(
                table("idempotency")
                    .col(text(column("tenant")))
                    .col(text(column("subject")))
                    .col(text(column("key")))
                    .col(text(column("fingerprint")))
                    .col(small_integer(column("status")))
                    .col(json_binary(column("body")))
                    .col(big_integer(column("created_at")))
                    .primary_key(Index::create().col(column("tenant")).col(column("subject")).col(column("key")))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                table("certificates")
                    .col(text(column("serial")).primary_key())
                    .col(text(column("role")))
                    .col(text(column("key_name")))
                    .col(binary(column("der")))
                    .col(big_integer(column("not_after")))
                    .col(big_integer(column("created_at")))
                    .take(),
            )
            .await?;
        index(manager, "certificates", "certificates_role", &["role", "created_at"]).await
    }
}

async fn index(manager: &SchemaManager<'_>, table: &str, name: &str, columns: &[&str]) -> Result<(), DbErr> {
    let mut index = Index::create().name(name).table(Alias::new(table)).if_not_exists().take();
    for column in columns {
        index.col(Alias::new(*column));
    }
    manager.create_index(index).await
}
