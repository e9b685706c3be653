//! `openmediatrust audit`: checks the audit log, with nothing but the public keys where it comes from elsewhere.

use crate::{config::Config, fault::Fault, platform};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use omt_audit::{LogKeys, Proof, TileSource, check_entries, check_one, check_proof, note::VerifierKey, verify};
use omt_kernel::{
    Result,
    error::Context,
    port::{Database, TileStore},
};
use omt_sql::SqlDatabase;
use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

/// Entries of the database compared at once.
const PAGE: u32 = 1024;

/// `audit …`
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check the whole log, or one entry. Exit code: 0 it holds, 2 it does not, 1 error.
    Verify(Verify),
    /// Print the keys that verify the log's tree heads.
    Keys,
}

#[derive(clap::Args)]
struct Verify {
    /// A directory or the URL of a server; the configured blob store and database when absent.
    #[arg(long, value_name = "URL|DIR")]
    from: Option<String>,
    /// A file with verifier keys, one on a line; the configured key store's when absent.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Only the entry at this place.
    #[arg(long, value_name = "INDEX")]
    entry: Option<u64>,
    /// Only the entry of this proof, as GET /api/v1/audit/proof/inclusion gave it; needs nothing else than --keys.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "entry"])]
    proof: Option<PathBuf>,
    /// A file with a bearer credential for the server; OMT_TOKEN when absent.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
}

/// A proof as the server writes it.
#[derive(serde::Deserialize)]
struct ProofFile {
    index: u64,
    size: u64,
    leaf: String,
    hashes: Vec<String>,
    checkpoint: String,
}

impl ProofFile {
    fn decoded(self) -> std::result::Result<Proof, String> {
        let bytes = |text: &str| STANDARD.decode(text).map_err(|e| format!("what should be base64 is not: {e}"));
        let hash = |text: &String| bytes(text)?.try_into().map_err(|_| "a hash has another length than 32 bytes".to_owned());
        Ok(Proof {
            index: self.index,
            size: self.size,
            leaf: bytes(&self.leaf)?,
            hashes: self.hashes.iter().map(hash).collect::<std::result::Result<_, String>>()?,
            checkpoint: self.checkpoint,
        })
    }
}

/// Tiles in a directory.
struct Directory(PathBuf);

#[async_trait]
impl TileSource for Directory {
    async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        match std::fs::read(self.0.join(path)) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error).context("a tile cannot be read"),
        }
    }
}

/// Tiles in the configured blob store.
struct Store(Arc<dyn TileStore>);

#[async_trait]
impl TileSource for Store {
    async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.0.tile(path).await
    }
}

/// Tiles of a server.
struct Server {
    client: reqwest::Client,
    base: String,
    token: String,
}

#[async_trait]
impl TileSource for Server {
    async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        let url = format!("{}/api/v1/audit/{path}", self.base);
        let answer = self.client.get(url).bearer_auth(&self.token).send().await.context("the server does not answer")?;
        if answer.status().as_u16() == 404 {
            return Ok(None);
        }
        let answer = answer.error_for_status().context("the server refuses")?;
        answer.bytes().await.map(Some).context("the server's answer was cut off")
    }
}

/// Runs it.
pub async fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Fault> {
    match arguments.command {
        Command::Keys => {
            let keys = LogKeys::open(platform::open_keys(config)?, &config.audit.origin)?;
            keys.verifiers.iter().for_each(|key| println!("{key}"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify(arguments) => check(config, arguments).await,
    }
}

async fn check(config: &Config, arguments: Verify) -> Result<ExitCode, Fault> {
    let keys = match &arguments.keys {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Fault::new(format!("{}: {e}", path.display())))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let keys: std::result::Result<Vec<_>, _> = lines.map(VerifierKey::parse).collect();
            keys.map_err(|e| Fault::new(format!("{}: {e}", path.display())))?
        }
        None if arguments.from.is_some() || arguments.proof.is_some() => {
            return Err(Fault::new("a log from elsewhere is checked with its own keys: --keys FILE (GET /api/v1/audit/keys)"));
        }
        None => LogKeys::open(platform::open_keys(config)?, &config.audit.origin)?.verifiers,
    };
    let provider = config.crypto.provider.provider();
    if let Some(path) = &arguments.proof {
        let bad_file = |e: &dyn std::fmt::Display| Fault::new(format!("{}: {e}", path.display()));
        let text = std::fs::read(path).map_err(|e| bad_file(&e))?;
        let proof = serde_json::from_slice::<ProofFile>(&text).map_err(|e| bad_file(&e))?.decoded().map_err(|e| bad_file(&e))?;
        return Ok(match check_proof(&proof, &keys, provider.as_ref()) {
            Ok(()) => {
                println!("entry {} is in the signed log", proof.index);
                println!("{}", String::from_utf8_lossy(&proof.leaf));
                ExitCode::SUCCESS
            }
            Err(finding) => bad(&finding),
        });
    }
    let source: Box<dyn TileSource> = match arguments.from.as_deref() {
        None => Box::new(Store(Arc::new(platform::open_tiers(config).await?))),
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            let token = match &arguments.token {
                Some(path) => std::fs::read_to_string(path).map_err(|e| Fault::new(format!("{}: {e}", path.display())))?,
                None => std::env::var("OMT_TOKEN").unwrap_or_default(),
            };
            let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build();
            let client = client.map_err(|e| Fault::new(format!("no HTTP client can be made: {e}")))?;
            Box::new(Server { client, base: url.trim_end_matches('/').to_owned(), token: token.trim().to_owned() })
        }
        Some(directory) => Box::new(Directory(PathBuf::from(directory))),
    };
    if let Some(index) = arguments.entry {
        return match check_one(source.as_ref(), &keys, provider.as_ref(), index).await? {
            Ok(entry) => {
                println!("entry {index} is in the signed log");
                println!("{}", String::from_utf8_lossy(&entry));
                Ok(ExitCode::SUCCESS)
            }
            Err(finding) => Ok(bad(&finding)),
        };
    }
    let bar = indicatif::ProgressBar::new(0);
    let progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let summary = verify(source.as_ref(), &keys, provider.as_ref(), progress).await?;
    bar.finish_and_clear();
    let summary = match summary {
        Ok(summary) => summary,
        Err(finding) => return Ok(bad(&finding)),
    };
    let size = summary.checkpoint.size;
    println!("the log {} holds: {size} entries, every tile, {} signatures", summary.checkpoint.origin, keys.len());
    if summary.expired > 0 {
        println!("of the first {} the hashes are left: they have expired, as an entry says", summary.expired);
    }
    if arguments.from.is_none() {
        let database = SqlDatabase::connect(&config.database_url()).await?;
        // What has expired goes from the tiles first and from the database after.
        let first = database.read().await?.audit().placed(0, 1).await?.first().and_then(|entry| entry.index);
        let first = first.unwrap_or(size).min(summary.expired);
        let mut at = first;
        while at < size {
            let left = u32::try_from(size - at).unwrap_or(PAGE).min(PAGE);
            let entries = database.read().await?.audit().placed(at, left).await;
            let entries = match entries {
                Ok(entries) => entries,
                // A row that cannot be read, or is not there, is what we look for.
                Err(error) => {
                    println!("BAD   entries {at} to {}: {error}", at + u64::from(left) - 1);
                    return Ok(ExitCode::from(2));
                }
            };
            if let Some(finding) = check_entries(&summary.leaves, at, &entries) {
                return Ok(bad(&finding));
            }
            if entries.is_empty() {
                println!("BAD   entry {at}: it is missing from the database");
                return Ok(ExitCode::from(2));
            }
            at += entries.len() as u64;
        }
        println!("the database holds the same {} entries", size - first);
    }
    Ok(ExitCode::SUCCESS)
}

fn bad(finding: &omt_audit::Finding) -> ExitCode {
    println!("BAD   {finding}");
    ExitCode::from(2)
}
