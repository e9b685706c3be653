//! The calendar in which times can be kept and written.

use time::{OffsetDateTime, UtcOffset};

/// Whether a time lies in the years that can be kept and written, 0 to 9999. One that is written with an offset may lie outside
/// of them in UTC.
pub fn is_in_calendar(at: OffsetDateTime) -> bool {
    at.checked_to_offset(UtcOffset::UTC).is_some_and(|at| at.year() >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::format_description::well_known::Rfc3339;

    #[test]
    fn years_are_those_of_utc() {
        let at = |text: &str| is_in_calendar(OffsetDateTime::parse(text, &Rfc3339).unwrap());
        for inside in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59+01:00", "0000-01-01T00:00:00Z", "0000-01-01T00:00:00-01:00"] {
            assert!(at(inside), "{inside}");
        }
        for beyond in ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01"] {
            assert!(!at(beyond), "{beyond}");
        }
    }
}
