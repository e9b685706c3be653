//! Peak memory of a server while it signs a large MP4.

use clap::Args;
use reqwest::{Body, Client, multipart};
use std::{io::Write, path::PathBuf, time::Instant};

/// Which server.
#[derive(Args)]
pub struct Arguments {
    /// The server's URL.
    #[arg(long)]
    url: String,
    /// Its process.
    #[arg(long)]
    pid: u32,
    /// A bearer credential.
    #[arg(long)]
    bearer: String,
    /// A small MP4 to grow.
    #[arg(long)]
    seed: PathBuf,
    /// Megabytes of media data.
    #[arg(long, default_value_t = 500)]
    megabytes: u64,
}

/// VmHWM or VmRSS of the process, in MB.
fn memory(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// Writes the seed with its media data grown. Its `mdat` stands before `moov`, so every offset in it stays right.
fn large_mp4(seed: &[u8], megabytes: u64, to: &mut std::fs::File) {
    let mdat = seed.windows(4).position(|w| w == b"mdat").unwrap() - 4;
    let old = u32::from_be_bytes(seed[mdat..mdat + 4].try_into().unwrap()) as usize;
    to.write_all(&seed[..mdat]).unwrap();
    to.write_all(&(old as u32 + (megabytes << 20) as u32).to_be_bytes()).unwrap();
    to.write_all(&seed[mdat + 4..mdat + old]).unwrap();
    let mut block = vec![0u8; 1 << 20];
    let mut state = 1u64;
    for _ in 0..megabytes {
        for chunk in block.chunks_exact_mut(8) {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            chunk.copy_from_slice(&state.to_be_bytes());
        }
        to.write_all(&block).unwrap();
    }
    to.write_all(&seed[mdat + old..]).unwrap();
}

/// Runs it and prints two lines.
pub async fn run(arguments: Arguments) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.mp4");
    large_mp4(&std::fs::read(&arguments.seed).unwrap(), arguments.megabytes, &mut std::fs::File::create(&path).unwrap());
    let client = Client::builder().no_proxy().build().unwrap();
    let before = memory(arguments.pid, "VmRSS");
    let begun = Instant::now();
    let part = multipart::Part::stream(Body::from(tokio::fs::File::open(&path).await.unwrap())).file_name("large.mp4");
    let form = multipart::Form::new().part("file", part).text("sign", "true");
    let answer = client.post(format!("{}/api/v1/manifests", arguments.url)).bearer_auth(&arguments.bearer).multipart(form).send();
    let answer = answer.await.unwrap();
    let (status, record) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{record}");
    let peak = memory(arguments.pid, "VmHWM");
    println!(
        "signing a {} MB MP4: {:.1} s, resident {before:.0} MB before, peak {peak:.0} MB (goal at most 300 MB)",
        arguments.megabytes,
        begun.elapsed().as_secs_f64()
    );
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let begun = Instant::now();
    let body = serde_json::json!({ "manifest_id": record["id"] });
    let answer = client.post(format!("{}/api/v1/verify", arguments.url)).bearer_auth(&arguments.bearer).json(&body).send();
    let report: serde_json::Value = answer.await.unwrap().json().await.unwrap();
    println!(
        "verifying it: {} in {:.1} s, peak {:.0} MB",
        report["validation_state"],
        begun.elapsed().as_secs_f64(),
        memory(arguments.pid, "VmHWM")
    );
}
