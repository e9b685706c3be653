//! The handlers of background jobs.

mod archive;
mod audit_expiry;
mod governance;
mod housekeeping;
mod lifecycle;
mod locking;
mod partitions;
mod removal;
mod replicate;
mod restore;
mod retention;
mod sweep;
mod telling;

pub use archive::Archive;
pub use audit_expiry::AuditExpiry;
pub use governance::{DryRuns, Effects, Look, Recheck, Remeasure, Timers};
pub use housekeeping::Housekeeping;
pub use lifecycle::Lifecycle;
pub use locking::ObjectLocks;
pub use partitions::Partitions;
pub use replicate::Replicate;
pub use restore::Restores;
pub use retention::Retention;
pub use sweep::Sweep;
pub use telling::{Deliveries, Letters, Mailings, OldMessages};
