//! `openmediatrust storage`: the rules that buckets should have.

use crate::{config::Config, fault::Fault};
use clap::{Args, ValueEnum};
use omt_blob::S3BlobStore;
use omt_kernel::storage::Tier;
use std::process::ExitCode;

/// What to do.
#[derive(Args)]
pub struct Arguments {
    /// `apply` writes the lifecycle rules that the buckets should have, and leaves others as they are; `check` fails unless
    /// they are there.
    #[arg(value_enum)]
    action: Action,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    Apply,
    Check,
}

/// The tiers that are buckets, and the replication target if it is one.
pub async fn buckets(config: &Config) -> Result<Vec<(&'static str, S3BlobStore)>, Fault> {
    let mut out = Vec::new();
    let tiers = Tier::ALL.map(|tier| (tier.as_str(), config.tier_url(tier)));
    for (name, url) in tiers.into_iter().chain([("replica", config.replication.url.clone())]) {
        if url.starts_with("s3:") {
            out.push((name, S3BlobStore::open(&url.parse()?, &config.data_dir.join("spool")).await?));
        }
    }
    Ok(out)
}

/// Runs it.
pub async fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Fault> {
    let buckets = buckets(config).await?;
    if buckets.is_empty() {
        println!("nothing is a bucket; directories need no rules");
    }
    let mut complete = true;
    for (tier, bucket) in buckets {
        match arguments.action {
            Action::Apply => println!("{tier:<7} {}: {}", bucket.place(), bucket.apply_rules().await?.join(", ")),
            Action::Check => {
                let missing = bucket.missing_rules().await?;
                complete &= missing.is_empty();
                let words = if missing.is_empty() { "complete".to_owned() } else { format!("missing {}", missing.join(", ")) };
                println!("{tier:<7} {}: {words}", bucket.place());
            }
        }
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
