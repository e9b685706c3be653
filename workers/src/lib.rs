//! The handlers of background jobs.

mod archive;
mod housekeeping;
mod lifecycle;
mod removal;
mod retention;
mod sweep;

pub use archive::Archive;
pub use housekeeping::Housekeeping;
pub use lifecycle::Lifecycle;
pub use retention::Retention;
pub use sweep::Sweep;
