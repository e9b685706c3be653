//! `openmediatrust`: the server and the command line.

mod audit;
mod background;
mod config;
mod doctor;
mod fault;
mod migrate;
mod offline;
mod platform;
mod serve;
mod storage;
mod transport;

use clap::{Parser, Subcommand};
use config::{Config, LogFormat};
use fault::Fault;
use std::{path::PathBuf, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Much of the work is many small values that live for one request; this allocator takes a good part less time for them (`make bench`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Signs, stores, verifies and governs C2PA manifests with post-quantum protection.
#[derive(Parser)]
#[command(name = "openmediatrust", version)]
struct Arguments {
    /// Configuration file (TOML); config.default.toml lists every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct WorkerArguments {
    /// Only jobs of these kinds, separated by commas; all when absent.
    #[arg(long, value_delimiter = ',', value_name = "KIND,…")]
    queues: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the HTTP API.
    Serve,
    /// Work on background jobs.
    Worker(WorkerArguments),
    /// Sign a file with the data directory's PKI.
    Sign(offline::SignArguments),
    /// Verify files. Exit code: 0 valid or trusted, 2 invalid, 3 no manifest, 1 error.
    Verify(offline::VerifyArguments),
    /// Show or change the database's schema.
    Migrate(migrate::Arguments),
    /// Check configuration, database, blob store, keys, certificates and clock, and say how to mend what fails.
    Doctor,
    /// Write or check the lifecycle rules of the buckets.
    Storage(storage::Arguments),
    /// Check the audit log.
    Audit(audit::Arguments),
    /// Print the version.
    Version,
    /// Print the OpenAPI document.
    #[command(hide = true)]
    Openapi,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Printing to a closed terminal fails, and then nobody reads it anyway.
            let _ = error.print();
            // Clap's own code for a usage error, 2, means an invalid manifest here.
            return if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS };
        }
    };
    match run(arguments) {
        Ok(code) => code,
        Err(fault) => {
            eprintln!("openmediatrust: {fault}");
            ExitCode::from(1)
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Fault> {
    match &arguments.command {
        Command::Version => {
            println!("openmediatrust {}", env!("CARGO_PKG_VERSION"));
            return Ok(ExitCode::SUCCESS);
        }
        Command::Openapi => {
            println!("{}", serde_json::to_string_pretty(&omt_api::openapi_document())?);
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    // Only an installed provider twice is an error, and this is the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Config::load(arguments.config.as_deref())?;
    start_logging(&config, matches!(arguments.command, Command::Serve | Command::Worker(_)))?;
    actix_web::rt::System::new().block_on(async move {
        match arguments.command {
            Command::Serve => serve::run(config).await.map(|()| ExitCode::SUCCESS),
            Command::Worker(arguments) => background::run(config, &arguments.queues).await.map(|()| ExitCode::SUCCESS),
            Command::Sign(arguments) => offline::sign(&config, arguments).await.map(|()| ExitCode::SUCCESS),
            Command::Verify(arguments) => offline::verify(&config, &arguments).await,
            Command::Migrate(arguments) => migrate::run(&config, &arguments).await,
            Command::Storage(arguments) => storage::run(&config, &arguments).await,
            Command::Audit(arguments) => audit::run(&config, arguments).await,
            Command::Doctor => doctor::run(&config).await,
            Command::Version | Command::Openapi => Ok(ExitCode::SUCCESS),
        }
    })
}

/// Logs go to standard error: all that the configuration asks for when serving, warnings otherwise.
fn start_logging(config: &Config, serving: bool) -> Result<(), Fault> {
    let level = if serving { config.log.level.as_str() } else { "warn" };
    let filter = EnvFilter::try_new(level).map_err(|e| Fault::new(format!("log.level: {e}")))?;
    // The engine warns of every thumbnail it does not make and the database logs every statement.
    let filter = ["c2pa=error", "sqlx=warn", "sea_orm_migration=warn"]
        .into_iter()
        .try_fold(filter, |filter, directive| directive.parse().map(|d| filter.add_directive(d)))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
