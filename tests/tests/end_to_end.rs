//! End-to-end tests over the real binary. One test binary, so that the workspace links once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod audit;
mod audit_retention;
mod authorization;
mod badges;
mod command_line;
mod compliance;
mod compliance_turns;
mod corpus;
mod crash;
mod decisions;
mod definitions;
mod deputies;
mod directory;
mod document;
mod faults;
mod hybrid;
mod idempotency;
mod jobs;
mod life;
mod manifests;
mod oidc;
mod persons;
mod policies;
mod public_key_infrastructure;
mod publishing;
mod refusals;
mod removal;
mod scim;
mod storage;
mod tenants;
mod users;
mod webhooks;
mod workflow;
