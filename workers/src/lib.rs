//! The handlers of background jobs.

mod housekeeping;
mod lifecycle;
mod removal;
mod retention;
mod sweep;

pub use housekeeping::Housekeeping;
pub use lifecycle::Lifecycle;
pub use retention::Retention;
pub use sweep::Sweep;
