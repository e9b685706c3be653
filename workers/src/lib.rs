//! The handlers of background jobs.

mod housekeeping;

pub use housekeeping::Housekeeping;
