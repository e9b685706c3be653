//! A load over HTTP with a fixed number of connections.

use crate::quantile;
use clap::{Args, ValueEnum};
use reqwest::{Client, multipart};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// What to send where.
#[derive(Args)]
pub struct Arguments {
    /// What to measure.
    #[arg(long, value_enum)]
    operation: Operation,
    /// The URL of the operation.
    #[arg(long)]
    url: String,
    /// The file to send.
    #[arg(long)]
    file: PathBuf,
    /// A bearer credential.
    #[arg(long)]
    bearer: Option<String>,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Seconds to measure, after two of warm-up.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Requests to send in all, instead of going on for some seconds.
    #[arg(long)]
    requests: Option<usize>,
    /// Put a different trailer after the file each time, so that no cache can answer.
    #[arg(long)]
    unique: bool,
    /// A name for the printed line.
    #[arg(long)]
    name: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// Upload and sign.
    Sign,
    /// Verify.
    Verify,
}

/// Runs it and prints one line.
pub async fn run(arguments: Arguments) {
    let body = std::fs::read(&arguments.file).unwrap();
    let client = Client::builder().no_proxy().pool_max_idle_per_host(arguments.connections).build().unwrap();
    let arguments = Arc::new(arguments);
    let counter = Arc::new(AtomicUsize::new(0));
    // Another load sent other bytes.
    let run = uuid::Uuid::new_v4();
    let started = Instant::now();
    let (warm, end) = (Duration::from_secs(2), Duration::from_secs(2 + arguments.seconds));
    let tasks: Vec<_> = (0..arguments.connections)
        .map(|_| {
            let (client, body, arguments, counter) = (client.clone(), body.clone(), arguments.clone(), counter.clone());
            tokio::spawn(async move {
                let (mut times, mut failed) = (Vec::new(), 0usize);
                loop {
                    let number = counter.fetch_add(1, Ordering::Relaxed);
                    if arguments.requests.map_or_else(|| started.elapsed() >= end, |all| number >= all) {
                        break;
                    }
                    let mut bytes = body.clone();
                    if arguments.unique {
                        bytes.extend(run.as_bytes());
                        bytes.extend(number.to_be_bytes());
                    }
                    let part = multipart::Part::bytes(bytes).file_name("bench.jpg");
                    let mut form = multipart::Form::new().part("file", part);
                    if arguments.operation == Operation::Sign {
                        form = form.text("sign", "true").text("title", "bench");
                    }
                    let mut request = client.post(&arguments.url).multipart(form);
                    if let Some(bearer) = &arguments.bearer {
                        request = request.bearer_auth(bearer);
                    }
                    let begun = Instant::now();
                    let answer = request.send().await;
                    let good = match answer {
                        Ok(answer) => {
                            let status = answer.status();
                            answer.bytes().await.is_ok() && status.is_success()
                        }
                        Err(_) => false,
                    };
                    if begun.duration_since(started) >= warm {
                        if good {
                            times.push(begun.elapsed().as_secs_f64() * 1e3);
                        } else {
                            failed += 1;
                        }
                    }
                }
                (times, failed)
            })
        })
        .collect();
    let (mut times, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (some, bad) = task.await.unwrap();
        times.extend(some);
        failed += bad;
    }
    // Those that were under way at the end were begun in time, and count as in the seconds that were asked for.
    let measured = arguments.requests.map_or(end - warm, |_| started.elapsed().saturating_sub(warm));
    times.sort_by(f64::total_cmp);
    if times.is_empty() {
        println!("{}: every request failed ({failed})", arguments.name);
        return;
    }
    println!(
        "{}: {:.0}/s, p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, {failed} failed",
        arguments.name,
        times.len() as f64 / measured.as_secs_f64(),
        quantile(&times, 0.5),
        quantile(&times, 0.95),
        quantile(&times, 0.99)
    );
}
