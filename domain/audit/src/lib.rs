//! The audit log: who did what, provably unchanged.
//!
//! An entry is written in the transaction of the change that it tells of. A worker then gives entries their places in one Merkle
//! tree (RFC 6962), writes the tree as tiles (C2SP tlog-tiles) into the blob store and signs its head (C2SP tlog-checkpoint) with
//! Ed25519 and ML-DSA-44. Entries name people by pseudonyms, so that a person can be forgotten without touching the log.

mod integrate;
pub mod merkle;
pub mod model;
pub mod note;
mod retention;
mod service;
pub mod tiles;
mod verify;

pub use integrate::Integrator;
pub use model::{Event, Level, Outcome};
pub use retention::{Expiry, Removed};
pub use service::{AuditTrail, Found, Inclusion, LogKeys};
pub use verify::{Finding, Proof, Summary, TileSource, check_entries, check_one, check_proof, verify};
