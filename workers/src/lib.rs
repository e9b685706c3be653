//! The handlers of background jobs.

mod archive;
mod governance;
mod housekeeping;
mod lifecycle;
mod removal;
mod retention;
mod sweep;

pub use archive::Archive;
pub use governance::{DryRuns, Effects, OldMessages, Recheck, Timers};
pub use housekeeping::Housekeeping;
pub use lifecycle::Lifecycle;
pub use retention::Retention;
pub use sweep::Sweep;
