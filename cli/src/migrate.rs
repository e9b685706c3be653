//! `openmediatrust migrate`

use crate::{config::Config, fault::Fault};
use clap::{Args, ValueEnum};
use omt_sql::SqlDatabase;
use std::process::ExitCode;

/// What to do.
#[derive(Args)]
pub struct Arguments {
    /// `up` applies what is pending, `status` counts, `check` fails unless the schema is this build's.
    #[arg(value_enum, default_value_t = Action::Status)]
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    Up,
    Status,
    Check,
}

/// Runs it.
pub async fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Fault> {
    if config.database.url.is_empty() {
        std::fs::create_dir_all(&config.data_dir)?;
    }
    let database = SqlDatabase::connect(&config.database_url()).await?;
    let before = database.schema_status().await?;
    if arguments.action == Action::Up {
        if before.unknown > 0 {
            return Err(Fault::new("the database was migrated by a newer version"));
        }
        database.migrate().await?;
        if database.keep_audit_for(config.audit.retention_days).await? {
            println!("the audit log is kept for {} days (0: for ever)", config.audit.retention_days);
        }
    }
    let now = database.schema_status().await?;
    println!(
        "{}: {} applied, {} pending, {} unknown to this version",
        database.describe(),
        now.applied,
        now.pending,
        now.unknown
    );
    database.close().await;
    let current = now.pending == 0 && now.unknown == 0;
    Ok(if arguments.action == Action::Check && !current { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
