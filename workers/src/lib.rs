//! The handlers of background jobs.

mod archive;
mod governance;
mod housekeeping;
mod lifecycle;
mod removal;
mod retention;
mod sweep;
mod telling;

pub use archive::Archive;
pub use governance::{DryRuns, Effects, Recheck, Timers};
pub use housekeeping::Housekeeping;
pub use lifecycle::Lifecycle;
pub use retention::Retention;
pub use sweep::Sweep;
pub use telling::{Deliveries, Letters, Mailings, OldMessages};
