//! Time-stamp tokens (RFC 3161, with RFC 5816): asking an authority for one, reading it, and whom to believe it.

mod asn1;
mod exchange;
mod token;
mod verify;

pub use exchange::{Imprint, Refusal, request, token_in};
pub use token::{Token, TstInfo};
pub use verify::{Stamp, verify};

/// Why a token says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// It is no token, or not as RFC 3161 wants it.
    #[error("the time-stamp is malformed: {0}")]
    Malformed(&'static str),
    /// It is about something else.
    #[error("the time-stamp is about something else")]
    Mismatch,
    /// It was not signed by whom it names.
    #[error("the time-stamp's signature does not hold: {0}")]
    Signature(&'static str),
}
