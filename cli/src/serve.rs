//! `openmediatrust serve`

use crate::{background, config::Config, fault::Fault, platform::Platform};
use actix_web::{HttpServer, web};
use omt_api::{ApiState, Dependency};
use omt_kernel::port::Cache;
use std::time::Instant;

/// Serves until SIGTERM or SIGINT, then lets requests under way finish.
pub async fn run(config: Config) -> Result<(), Fault> {
    let started = Instant::now();
    let platform = Platform::open(&config).await?;
    platform.check_defaults(&config).await?;
    let (access, made) = platform.access(&config).await?;
    if let Some(password) = made {
        // Once, and to the terminal only: it is in no log.
        println!("First start. User `admin`, password: {password}");
    }
    let mut dependencies = ApiState::storage_dependencies(platform.database.clone(), platform.blobs.clone());
    let keys = platform.keys.clone();
    dependencies.push(Dependency {
        name: "key_store",
        needed: true,
        check: Box::new(move || {
            let keys = keys.clone();
            Box::pin(async move {
                let unavailable = |e: String| omt_kernel::Error::new(omt_kernel::Kind::Unavailable, "KEY_STORE_UNAVAILABLE", e);
                tokio::task::spawn_blocking(move || keys.check().map_err(|e| unavailable(e.to_string())))
                    .await
                    .map_err(|e| unavailable(e.to_string()))?
            })
        }),
    });
    let (entry, directory) = (access.clone(), !config.auth.ldap.directory.urls.is_empty());
    if directory {
        dependencies.push(Dependency {
            name: "directory",
            needed: true,
            check: Box::new(move || {
                let access = entry.clone();
                Box::pin(async move { access.check_directory().await })
            }),
        });
    }
    let timings = background::timings(&config, &platform)?;
    let background = match background::in_process(&config) {
        true => Some(background::start(&config, &platform, &[]).await?),
        false => None,
    };
    dependencies.extend(background.as_ref().map(background::Background::dependency));
    let state = web::Data::new(ApiState {
        manifests: platform.manifests.clone(),
        jobs: platform.jobs.clone(),
        timings,
        replication: platform.replica.as_ref().map(|replica| replica.describe()),
        workflows: platform.workflows.clone(),
        compliance: platform.compliance.clone(),
        policies: platform.policies.clone(),
        notices: platform.notices.clone(),
        webhooks: platform.webhooks.clone(),
        badges: platform.badges.clone(),
        database: platform.database.clone(),
        telemetry: platform.telemetry.clone(),
        open_metrics: config.metrics.open,
        access,
        audit: platform.audit.clone(),
        clock: platform.clock.clone(),
        entropy: platform.entropy.clone(),
        pki: platform.pki.clone(),
        dependencies,
        public_url: config.public_url(),
        pace: omt_api::Pace::new(config.limits.requests_per_minute, platform.paces(&config)),
        max_upload: config.limits.max_upload_bytes,
        version: env!("CARGO_PKG_VERSION"),
    });
    let settling = state.clone();
    let settling = tokio::spawn(async move {
        if let Some(pace) = &settling.pace {
            pace.settle().await;
        }
    });
    let server = HttpServer::new(move || omt_api::app(state.clone()))
        .workers(config.http_workers())
        .shutdown_timeout(config.http.shutdown_seconds)
        // The bound is each thread's.
        .max_connections((config.http.max_connections / config.http_workers()).max(1))
        .keep_alive(std::time::Duration::from_secs(config.http.keep_alive_seconds))
        .bind(config.http.listen)
        .map_err(|e| Fault::new(format!("cannot listen on {}: {e}", config.http.listen)))?;
    let address = server.addrs().first().map_or_else(|| config.http.listen.to_string(), ToString::to_string);
    println!("OpenMediaTrust {} listening on http://{address}", env!("CARGO_PKG_VERSION"));
    println!("  database   {}", platform.database.describe());
    println!("  blobs      {}", platform.blobs.describe());
    if let Some(replica) = &platform.replica {
        println!("  replica    {}", replica.describe());
    }
    println!(
        "  cache      {}",
        platform.cache.as_ref().map_or_else(|| "memory:".to_owned(), |cache| Cache::describe(cache.as_ref()))
    );
    match &background {
        Some(background) => println!("  jobs       {}", background.describe()),
        None => println!("  jobs       by `openmediatrust worker`"),
    }
    println!("  key store  {}", platform.keys.describe());
    println!("  crypto     {}", config.crypto.provider);
    println!("  API docs   http://{address}/api/docs");
    tracing::info!(%address, elapsed_ms = started.elapsed().as_millis() as u64, "serving");
    server.run().await?;
    settling.abort();
    if let Some(background) = background {
        background.drain().await;
    }
    platform.database.close().await;
    tracing::info!("stopped");
    Ok(())
}
