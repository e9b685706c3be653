//! Secrets that replicas share and that no caller ever sees.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table(Alias::new("secrets"))
                    .if_not_exists()
                    .col(text(Alias::new("name")).primary_key())
                    .col(binary(Alias::new("value")))
                    .col(big_integer(Alias::new("created_at")))
                    .take(),
            )
            .await
    }
}
