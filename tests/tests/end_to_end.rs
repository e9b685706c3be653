//! End-to-end tests over the real binary. One test binary, so that the workspace links once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

/// Ends a test where an earlier combination has the same behind the ports that it depends on: `depends_on!(Database)`, or
/// `depends_on!()` for one of HTTP, rules, formats or commands, which means the same on all of them. A test that says nothing runs
/// on every combination.
macro_rules! depends_on {
    ($($port:ident),*) => {
        if omt_tests::combination::is_repeated(&[$(omt_tests::combination::Port::$port),*]) {
            return;
        }
    };
}

mod access;
mod archive;
mod audit;
mod audit_retention;
mod authorization;
mod badges;
mod caches;
mod cdn;
mod chains;
mod command_line;
mod compliance;
mod compliance_turns;
mod corpus;
mod crash;
mod decisions;
mod definitions;
mod deputies;
mod diagnoses;
mod directory;
mod document;
mod failing_s3;
mod faults;
mod hostile;
mod hybrid;
mod idempotency;
mod jobs;
mod life;
mod locks;
mod manifests;
mod oidc;
mod persons;
mod policies;
mod public_key_infrastructure;
mod publishing;
mod refusals;
mod removal;
mod replica;
mod replication;
mod retention;
mod schedules;
mod scim;
mod storage;
mod stores;
mod tenants;
mod timestamps;
mod users;
mod webhooks;
mod workflow;
