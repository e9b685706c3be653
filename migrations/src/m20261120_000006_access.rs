//! Users with roles and sources, sessions, roles, group mappings, groups, failed logins; what API keys see and when they were
//! used. The table `users` of older versions stays for replicas that have not been replaced yet.

use crate::column;
use sea_orm_migration::{
    prelude::*,
    schema::*,
    sea_orm::{ConnectionTrait, Statement},
};
use uuid::Uuid;

#[derive(DeriveMigrationName)]
pub struct Migration;

fn table(name: &str) -> TableCreateStatement {
    Table::create().table(column(name)).if_not_exists().take()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                table("accounts")
                    .col(uuid(column("id")).primary_key())
                    .col(text(column("tenant")))
                    .col(big_integer(column("revision")))
                    .col(text(column("username_folded")))
                    .col(text(column("source")))
                    .col(text_null(column("external_id")))
                    .col(text_null(column("identity")))
                    .col(boolean(column("active")))
                    .col(json_binary(column("data")))
                    .take(),
            )
            .await?;
        index(manager, "accounts", "accounts_name", &["tenant", "username_folded"], true).await?;
        index(manager, "accounts", "accounts_identity", &["tenant", "identity"], true).await?;
        index(manager, "accounts", "accounts_external", &["tenant", "external_id"], false).await?;
        index(manager, "accounts", "accounts_list", &["tenant", "id"], false).await?;
        manager
            .create_table(
                table("sessions")
                    .col(uuid(column("id")).primary_key())
                    .col(text(column("tenant")))
                    .col(uuid(column("user_id")))
                    .col(text(column("via")))
                    .col(text_null(column("user_agent")))
                    .col(big_integer(column("created_at")))
                    .col(big_integer(column("last_used_at")))
                    .col(big_integer(column("expires_at")))
                    .col(big_integer_null(column("second_factor_at")))
                    .col(big_integer_null(column("revoked_at")))
                    .take(),
            )
            .await?;
        index(manager, "sessions", "sessions_user", &["tenant", "user_id", "id"], false).await?;
        index(manager, "sessions", "sessions_list", &["tenant", "id"], false).await?;
        index(manager, "sessions", "sessions_end", &["expires_at"], false).await?;
        manager
            .create_table(
                table("roles")
                    .col(text(column("tenant")))
                    .col(text(column("name")))
                    .col(big_integer(column("revision")))
                    .col(json_binary(column("data")))
                    .primary_key(Index::create().col(column("tenant")).col(column("name")))
                    .take(),
            )
            .await?;
        manager
            .create_table(
                table("role_versions").col(text(column("tenant")).primary_key()).col(big_integer(column("version"))).take(),
            )
            .await?;
        manager
            .create_table(
                table("group_mappings")
                    .col(uuid(column("id")).primary_key())
                    .col(text(column("tenant")))
                    .col(json_binary(column("data")))
                    .take(),
            )
            .await?;
        index(manager, "group_mappings", "group_mappings_tenant", &["tenant", "id"], false).await?;
        manager
            .create_table(
                table("groups")
                    .col(uuid(column("id")).primary_key())
                    .col(text(column("tenant")))
                    .col(text(column("name")))
                    .col(json_binary(column("data")))
                    .take(),
            )
            .await?;
        index(manager, "groups", "groups_tenant", &["tenant", "id"], false).await?;
        manager
            .create_table(
                table("group_members")
                    .col(uuid(column("group_id")))
                    .col(uuid(column("user_id")))
                    .primary_key(Index::create().col(column("group_id")).col(column("user_id")))
                    .take(),
            )
            .await?;
        index(manager, "group_members", "group_members_user", &["user_id"], false).await?;
        manager
            .create_table(
                table("login_attempts")
                    .col(text(column("tenant")))
                    .col(text(column("name_sha256")))
                    .col(integer(column("failures")))
                    .col(big_integer(column("last_at")))
                    .primary_key(Index::create().col(column("tenant")).col(column("name_sha256")))
                    .take(),
            )
            .await?;
        for (name, json) in [("reach", true), ("last_used_at", false)] {
            if manager.has_column("api_keys", name).await? {
                continue;
            }
            let mut new = ColumnDef::new(column(name));
            if json {
                new.json_binary()
            } else {
                new.big_integer()
            };
            manager.alter_table(Table::alter().table(column("api_keys")).add_column(new.null().take()).take()).await?;
        }
        index(manager, "verifications", "verifications_list", &["tenant", "id"], false).await?;
        copy_users(manager).await
    }
}

/// Users of older versions, who all had single permissions. Whoever could configure the system administers it.
async fn copy_users(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let backend = manager.get_database_backend();
    let select = "SELECT id, tenant, username, password_hash, permissions, disabled, created_at FROM users";
    for row in connection.query_all_raw(Statement::from_string(backend, select)).await? {
        let (id, tenant, username): (Uuid, String, String) =
            (row.try_get("", "id")?, row.try_get("", "tenant")?, row.try_get("", "username")?);
        let (hash, disabled, created): (String, bool, i64) =
            (row.try_get("", "password_hash")?, row.try_get("", "disabled")?, row.try_get("", "created_at")?);
        let permissions: serde_json::Value = row.try_get("", "permissions")?;
        let administers = permissions.as_array().is_some_and(|all| all.iter().any(|p| p == "admin:system:config"));
        let made = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(created) * 1000)
            .ok()
            .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
            .ok_or_else(|| DbErr::Custom(format!("the user {id} has no proper time of creation")))?;
        let data = serde_json::json!({
            "id": id, "tenant": tenant, "revision": 1, "username": username, "display_name": null, "email": null,
            "source": "local", "external_id": null, "password_hash": hash,
            "roles": if administers { vec!["administrator"] } else { Vec::new() },
            "mapped": { "groups": [], "roles": [], "department": null, "projects": [], "clearance": null, "seen_at": null },
            "reach": { "department": null, "projects": [], "clearance": "top_secret" },
            "active": !disabled, "totp": null, "created_at": made, "updated_at": made,
        });
        let insert = Query::insert()
            .into_table(column("accounts"))
            .columns(["id", "tenant", "revision", "username_folded", "source", "active", "data"].map(column))
            .values_panic([
                id.into(),
                tenant.into(),
                1_i64.into(),
                username.to_lowercase().into(),
                "local".into(),
                (!disabled).into(),
                data.into(),
            ])
            .on_conflict(OnConflict::column(column("id")).do_nothing().to_owned())
            .to_owned();
        connection.execute(&insert).await?;
    }
    Ok(())
}

async fn index(manager: &SchemaManager<'_>, table: &str, name: &str, columns: &[&str], unique: bool) -> Result<(), DbErr> {
    let mut index = Index::create().name(name).table(Alias::new(table)).if_not_exists().take();
    for column in columns {
        index.col(Alias::new(*column));
    }
    if unique {
        index.unique();
    }
    manager.create_index(index).await
}
