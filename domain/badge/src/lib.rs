//! Badges: what a publisher shows beside content, and what anybody may ask about it.
//!
//! A badge says that this platform signed exactly these bytes, and whether that still stands. Whoever has its address may look, so it
//! tells nothing of content that is not public but its digest. It is issued in the transaction that publishes, and stands no longer
//! than the manifest does.

mod model;
mod picture;
mod service;

pub use model::{Shown, Standing, shown, standing};
pub use picture::picture;
pub use service::{Badges, Dependencies};
