//! Measures what the project promises, each beside its baseline in the same run.

// A benchmark may stop at the first thing that goes wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod engine;
mod governance;
mod lists;
mod load;
mod memory;
mod moves;
mod queue;
mod world;

use clap::{Parser, Subcommand};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// In process: hybrid signing and verifying against the c2pa crate's own ES256.
    Engine {
        /// The file to sign.
        #[arg(long)]
        file: std::path::PathBuf,
        /// Pairs of runs.
        #[arg(long, default_value_t = 300)]
        rounds: usize,
    },
    /// Over HTTP: requests a second and their latencies, of one server.
    Load(load::Arguments),
    /// Lists and searches over many manifests.
    Lists(lists::Arguments),
    /// Moving blobs between tiers.
    Moves(moves::Arguments),
    /// Background jobs that do nothing.
    Queue(queue::Arguments),
    /// Decisions of the access policy, and entries of the audit log.
    Access(access::Arguments),
    /// Transitions of workflows, evaluations of policies.
    Governance(governance::Arguments),
    /// Peak memory of a server while it signs a large MP4.
    Memory(memory::Arguments),
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Arguments::parse().command {
        Command::Engine { file, rounds } => engine::run(&file, rounds).await,
        Command::Load(arguments) => load::run(arguments).await,
        Command::Lists(arguments) => lists::run(arguments).await,
        Command::Queue(arguments) => queue::run(arguments).await,
        Command::Access(arguments) => access::run(arguments).await,
        Command::Moves(arguments) => moves::run(arguments).await,
        Command::Governance(arguments) => governance::run(arguments).await,
        Command::Memory(arguments) => memory::run(arguments).await,
    }
}

/// The value at a fraction of sorted samples.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

/// The median.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    quantile(&samples, 0.5)
}
