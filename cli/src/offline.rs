//! `openmediatrust sign` and `openmediatrust verify`: the same engine, without a server.

use crate::{
    config::Config,
    fault::Fault,
    platform::{self, Platform, SystemClock},
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use omt_claims::{
    Engine, VerificationReport, VerifyRequest,
    definition::{ClaimDefinition, CustomAssertion},
    media, rules,
    service::Uploaded,
};
use omt_kernel::{
    manifest::BlobRef,
    port::{Clock, Content, StoredFile},
};
use omt_pki::AnchorSource;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Files from this size on get a progress bar.
const PROGRESS_FROM: u64 = 20 << 20;

/// Arguments of `sign`.
#[derive(Args)]
pub struct SignArguments {
    /// The file to sign.
    input: PathBuf,
    /// Where to write the signed file; for formats without embedding, where to write the manifest store.
    #[arg(short, long)]
    output: PathBuf,
    /// How to sign.
    #[arg(long, default_value = "hybrid-es256-ml-dsa-65")]
    algorithm: String,
    /// Further assertions: a file with a JSON array of {label, data}.
    #[arg(long, value_name = "F.json")]
    assertions: Option<PathBuf>,
    /// Title; the file's name when absent.
    #[arg(long)]
    title: Option<String>,
    /// What was done.
    #[arg(long)]
    action: Option<String>,
    /// IPTC or C2PA digital source type URI.
    #[arg(long)]
    digital_source_type: Option<String>,
}

/// Arguments of `verify`.
#[derive(Args)]
pub struct VerifyArguments {
    /// The files to verify. A manifest store beside a file (FILE.c2pa, or the same name with .c2pa) counts for formats
    /// without embedding.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Further trust anchors.
    #[arg(long, value_name = "PEM")]
    trust_anchors: Vec<PathBuf>,
    /// Further post-quantum trust anchors.
    #[arg(long, value_name = "PEM")]
    pq_trust_anchors: Vec<PathBuf>,
    /// Print the whole reports as JSON lines.
    #[arg(long)]
    json: bool,
}

/// Reads a file once for its digest, with a progress bar when it is large.
fn uploaded(path: &Path) -> Result<Uploaded, Fault> {
    let name = |e: std::io::Error| Fault::new(format!("{}: {e}", path.display()));
    let mut file = File::open(path).map_err(name)?;
    let size = file.metadata().map_err(name)?.len();
    let bar = if size > PROGRESS_FROM { ProgressBar::new(size) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{msg:10} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}") {
        bar.set_style(style);
    }
    bar.set_message("reading");
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(name)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bar.inc(read as u64);
    }
    bar.finish_and_clear();
    let file_name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let blob = BlobRef { sha256: hex::encode(hash.finalize()), size };
    Ok(Uploaded { content: Content::Stored(StoredFile::at(path.to_owned())), blob, file_name, declared_type: None })
}

/// A spinner with the elapsed time while large content is worked on.
fn working(size: u64, doing: &'static str) -> ProgressBar {
    if size <= PROGRESS_FROM {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{msg:10} {spinner} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(doing);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Signs a file.
pub async fn sign(config: &Config, arguments: SignArguments) -> Result<(), Fault> {
    let scheme = rules::parse_scheme(&arguments.algorithm)?;
    rules::check_scheme(scheme, &config.tenant_defaults)?;
    let mut definition = ClaimDefinition { digital_source_type: arguments.digital_source_type, ..Default::default() };
    if let Some(action) = arguments.action {
        definition.action = action;
        definition.action_given = true;
    }
    if let Some(path) = &arguments.assertions {
        let text = std::fs::read(path).map_err(|e| Fault::new(format!("{}: {e}", path.display())))?;
        definition.assertions = serde_json::from_slice::<Vec<CustomAssertion>>(&text)
            .map_err(|e| Fault::new(format!("{}: must be an array of {{label, data}}: {e}", path.display())))?;
    }
    let file = uploaded(&arguments.input)?;
    let title = arguments.title.or_else(|| file.file_name.clone()).unwrap_or_else(|| "untitled".into());
    rules::check_text("title", &title)?;
    let platform = Platform::open(config).await?;
    let identity = platform.pki.identity(scheme).await?;
    let bar = working(file.blob.size, "signing");
    let thumbnails = config.tenant_defaults.thumbnails;
    let signed = platform.manifests.sign_offline(file, &title, &definition, identity, thumbnails);
    bar.finish_and_clear();
    let signed = signed?;
    match signed.asset {
        Some(Content::Memory(bytes)) => write_whole(&arguments.output, |to| std::fs::write(to, &bytes))?,
        Some(Content::File(temporary)) => write_whole(&arguments.output, |to| std::fs::copy(temporary.path(), to).map(|_| ()))?,
        Some(Content::Stored(file)) => write_whole(&arguments.output, |to| std::fs::copy(file.path(), to).map(|_| ()))?,
        None => {
            write_whole(&arguments.output, |to| std::fs::write(to, &signed.manifest_store))?;
            eprintln!("{} carries no manifest; {} is its manifest store", signed.media.mime, arguments.output.display());
        }
    }
    platform.database.close().await;
    Ok(())
}

/// Writes beside the target and renames, so that a failure leaves no half file and never the input damaged.
fn write_whole(target: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), Fault> {
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let aside = omt_kernel::port::TemporaryFile::new(target.with_file_name(name));
    write(aside.path())
        .and_then(|()| std::fs::rename(aside.path(), target))
        .map_err(|e| Fault::new(format!("cannot write {}: {e}", target.display())))
}

/// Verifies files.
pub async fn verify(config: &Config, arguments: &VerifyArguments) -> Result<ExitCode, Fault> {
    // A machine that never signed has no PKI; verifying must not make one.
    let platform = if config.keystore_path().exists() { Some(Platform::open(config).await?) } else { None };
    let mut trust = platform::trust_lists(config, platform.as_ref().map(|p| p.pki.as_ref()))?;
    for (paths, list) in [(&arguments.trust_anchors, &mut trust.signers), (&arguments.pq_trust_anchors, &mut trust.post_quantum)]
    {
        for path in paths {
            let pem = std::fs::read(path).map_err(|e| Fault::new(format!("{}: {e}", path.display())))?;
            list.add_pem(&pem, AnchorSource::Tenant).map_err(|e| Fault::new(format!("{}: {e}", path.display())))?;
        }
    }
    let engine = Engine::new(config.crypto.provider.provider(), std::sync::Arc::new(NoKeys), std::env::temp_dir())?;
    let mut worst = 0u8;
    for path in &arguments.files {
        let code = match verify_one(&engine, path, &trust, config) {
            Ok(report) => {
                show(path, &report, arguments.json)?;
                match (report.manifest_present, report.valid) {
                    (_, true) => 0,
                    (true, false) => 2,
                    (false, false) => 3,
                }
            }
            Err(fault) => {
                eprintln!("openmediatrust: {fault}");
                1
            }
        };
        // Of several files the gravest counts: error, invalid, no manifest.
        let rank = |code: u8| [0, 3, 2, 1].iter().position(|c| *c == code);
        if rank(code) > rank(worst) {
            worst = code;
        }
    }
    if let Some(platform) = platform {
        platform.database.close().await;
    }
    Ok(ExitCode::from(worst))
}

fn verify_one(
    engine: &Engine,
    path: &Path,
    trust: &omt_claims::TrustLists,
    config: &Config,
) -> Result<VerificationReport, Fault> {
    let name = |e: std::io::Error| Fault::new(format!("{}: {e}", path.display()));
    let mut head = Vec::new();
    let file = File::open(path).map_err(name)?;
    let size = file.metadata().map_err(name)?.len();
    file.take(media::SNIFF_LEN as u64).read_to_end(&mut head).map_err(name)?;
    let media = media::sniff(&head);
    let bar = working(size, "verifying");
    let content = Content::Stored(StoredFile::at(path.to_owned()));
    let request = |sidecar| VerifyRequest {
        content: &content,
        media,
        sidecar,
        trust,
        post_quantum: config.tenant_defaults.post_quantum,
        now: SystemClock.now(),
        detail: false,
    };
    let mut report = engine.verify(&request(None))?.report;
    if !report.manifest_present {
        let mut appended = path.as_os_str().to_os_string();
        appended.push(".c2pa");
        let beside = [PathBuf::from(appended), path.with_extension("c2pa")];
        if let Some(store) = beside.iter().filter(|p| *p != path).find_map(|p| std::fs::read(p).ok()) {
            report = engine.verify(&request(Some(store.as_slice())))?.report;
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

fn show(path: &Path, report: &VerificationReport, as_json: bool) -> Result<(), Fault> {
    if as_json {
        let mut line = serde_json::to_value(report)?;
        line["file"] = json!(path.display().to_string());
        println!("{line}");
        return Ok(());
    }
    if !report.manifest_present {
        println!("{}: no manifest", path.display());
        return Ok(());
    }
    println!("{}: {} (trust level {})", path.display(), report.validation_state.as_str(), report.trust_level.as_str());
    if let Some(signer) = &report.signer {
        println!("  signer        {} ({})", signer.subject, signer.algorithm);
    }
    let post_quantum = serde_json::to_value(report.post_quantum.state)?;
    let algorithm = report.post_quantum.algorithm.as_deref().map(|a| format!(" ({a})")).unwrap_or_default();
    println!("  post-quantum  {}{algorithm}", post_quantum.as_str().unwrap_or_default());
    for (mark, list) in [("issue  ", &report.issues), ("warning", &report.warnings)] {
        for status in list {
            println!("  {mark}       {}: {}", status.code, status.explanation.as_deref().unwrap_or_default());
        }
    }
    Ok(())
}

/// Verification needs no keys.
struct NoKeys;

impl omt_crypto::KeyStore for NoKeys {
    fn generate(&self, name: &str, _: omt_crypto::Algorithm) -> Result<Vec<u8>, omt_crypto::KeyStoreError> {
        Err(omt_crypto::KeyStoreError::NoSuchKey(name.to_owned()))
    }
    fn public_key(&self, _: &str) -> Result<Option<(omt_crypto::Algorithm, Vec<u8>)>, omt_crypto::KeyStoreError> {
        Ok(None)
    }
    fn sign(&self, name: &str, _: &[u8]) -> Result<Vec<u8>, omt_crypto::KeyStoreError> {
        Err(omt_crypto::KeyStoreError::NoSuchKey(name.to_owned()))
    }
    fn check(&self) -> Result<(), omt_crypto::KeyStoreError> {
        Ok(())
    }
    fn describe(&self) -> String {
        "none".into()
    }
}
