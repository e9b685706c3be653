//! End-to-end tests over the real binary. One test binary, so that the workspace links once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod access;
mod audit;
mod authorization;
mod command_line;
mod compliance;
mod corpus;
mod crash;
mod directory;
mod document;
mod faults;
mod hybrid;
mod jobs;
mod life;
mod manifests;
mod oidc;
mod public_key_infrastructure;
mod publishing;
mod refusals;
mod removal;
mod scim;
mod storage;
mod users;
mod webhooks;
mod workflow;
