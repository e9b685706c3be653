//! When recurring jobs are due: after a period each time, or at the times of a cron expression. Pure.

use crate::model::Schedule;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use omt_kernel::OffsetDateTime;
use std::fmt;
use time::macros::datetime;

/// The most characters of an expression.
const MAX_TEXT: usize = 100;
/// Expressions name no years, so what has no time after this has none at all.
const LONG_AGO: OffsetDateTime = datetime!(2000-01-01 00:00 UTC);

/// A cron expression in a time zone: five fields, six with seconds before them, or a name such as `@hourly`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    zone: Tz,
    pattern: croner::Cron,
}

impl Cron {
    /// Reads an expression. One that never fires is none.
    pub fn parse(text: &str, zone: &str) -> Result<Self, String> {
        let zone: Tz = zone.parse().map_err(|_| format!("there is no time zone {zone:?}; a name is like Europe/Berlin"))?;
        let text = text.trim();
        if text.len() > MAX_TEXT || !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(format!("an expression has at most {MAX_TEXT} characters of ASCII"));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let pattern = parser.parse(text).map_err(|error| format!("{text:?} is no cron expression: {error}"))?;
        let cron = Self { text: text.to_owned(), zone, pattern };
        match cron.next(LONG_AGO) {
            Some(_) => Ok(cron),
            None => Err(format!("{text:?} never fires")),
        }
    }

    /// The first time after `now`.
    pub fn next(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        from_zone(&self.pattern.find_next_occurrence(&self.local(now)?, false).ok()?)
    }

    /// The last time that is not after `now`.
    pub fn last(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        from_zone(&self.pattern.find_previous_occurrence(&self.local(now)?, true).ok()?)
    }

    /// The whole second in the expression's zone: fractions fire nothing.
    fn local(&self, at: OffsetDateTime) -> Option<DateTime<Tz>> {
        Some(DateTime::<Utc>::from_timestamp(at.unix_timestamp(), 0)?.with_timezone(&self.zone))
    }
}

fn from_zone(at: &DateTime<Tz>) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.timestamp()).ok()
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.zone)
    }
}

/// How the times of a recurring job are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timing {
    /// Once in each period; in the one that is under way when it is seen first, too.
    Every(Schedule),
    /// At these times; the first is the next one after it is seen first.
    Cron(Box<Cron>),
}

/// A time at which a recurring job is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// What it is known by over all replicas: the period's number, or the second since 1970 at which the expression fires.
    pub slot: i64,
    /// When.
    pub at: OffsetDateTime,
}

impl Timing {
    /// The tick that `now` belongs to: the last one.
    pub fn last(&self, now: OffsetDateTime) -> Option<Tick> {
        match self {
            Self::Every(schedule) => {
                let slot = schedule.slot(now);
                Some(Tick { slot, at: schedule.begin(slot)? })
            }
            Self::Cron(cron) => cron.last(now).map(|at| Tick { slot: at.unix_timestamp(), at }),
        }
    }

    /// When the next one is due.
    pub fn next(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        match self {
            Self::Every(schedule) => schedule.begin(schedule.slot(now).checked_add(1)?),
            Self::Cron(cron) => cron.next(now),
        }
    }

    /// Whether the last tick is due, when the kind's slot was last taken then. Of the times that passed while nothing worked on
    /// jobs only the last is made up for; a cron expression that is new makes up for nothing.
    pub fn is_due(&self, tick: Tick, last_taken: Option<OffsetDateTime>) -> bool {
        match self {
            Self::Every(_) => true,
            Self::Cron(_) => last_taken.is_some_and(|taken| taken < tick.at),
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(schedule) if schedule.every.whole_seconds() == 1 => f.write_str("every second"),
            Self::Every(schedule) => write!(f, "every {} seconds", schedule.every.whole_seconds()),
            Self::Cron(cron) => cron.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::Duration;

    fn cron(text: &str, zone: &str) -> Cron {
        Cron::parse(text, zone).unwrap()
    }

    #[test]
    fn expressions_fire_when_they_say() {
        let at = datetime!(2026-11-21 14:30:15 UTC);
        for (text, zone, last, next) in [
            ("0 3 * * *", "UTC", datetime!(2026-11-21 03:00 UTC), datetime!(2026-11-22 03:00 UTC)),
            ("0 3 * * *", "Asia/Singapore", datetime!(2026-11-20 19:00 UTC), datetime!(2026-11-21 19:00 UTC)),
            ("*/15 * * * *", "UTC", datetime!(2026-11-21 14:30 UTC), datetime!(2026-11-21 14:45 UTC)),
            ("*/5 * * * * *", "UTC", datetime!(2026-11-21 14:30:15 UTC), datetime!(2026-11-21 14:30:20 UTC)),
            ("0 9 * * MON-FRI", "UTC", datetime!(2026-11-20 09:00 UTC), datetime!(2026-11-23 09:00 UTC)),
            ("0 0 29 2 *", "UTC", datetime!(2024-02-29 00:00 UTC), datetime!(2028-02-29 00:00 UTC)),
            ("@hourly", "UTC", datetime!(2026-11-21 14:00 UTC), datetime!(2026-11-21 15:00 UTC)),
            ("@daily", "UTC", datetime!(2026-11-21 00:00 UTC), datetime!(2026-11-22 00:00 UTC)),
            ("@monthly", "UTC", datetime!(2026-11-01 00:00 UTC), datetime!(2026-12-01 00:00 UTC)),
            ("0 0 L * *", "UTC", datetime!(2026-10-31 00:00 UTC), datetime!(2026-11-30 00:00 UTC)),
        ] {
            let cron = cron(text, zone);
            assert_eq!((cron.last(at), cron.next(at)), (Some(last), Some(next)), "{text} {zone}");
        }
        // Fractions of a second neither come too early nor fire twice.
        let cron = cron("*/5 * * * * *", "UTC");
        assert_eq!(cron.last(datetime!(2026-11-21 14:30:14.999 UTC)), Some(datetime!(2026-11-21 14:30:10 UTC)));
        assert_eq!(cron.last(datetime!(2026-11-21 14:30:15.999 UTC)), Some(at));
        assert_eq!(cron.next(datetime!(2026-11-21 14:30:14.999 UTC)), Some(at));
    }

    #[test]
    fn a_time_that_the_clock_skips_or_repeats_fires_once() {
        // In Berlin 02:30 is missing on 2027-03-28 and comes twice on 2026-10-25.
        for (from, to) in [
            (datetime!(2027-03-27 12:00 UTC), datetime!(2027-03-28 12:00 UTC)),
            (datetime!(2026-10-24 12:00 UTC), datetime!(2026-10-25 12:00 UTC)),
        ] {
            let cron = cron("30 2 * * *", "Europe/Berlin");
            let first = cron.next(from).unwrap();
            assert!(first < to && cron.next(first).unwrap() > to, "{first}");
            assert_eq!(cron.last(to), Some(first));
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "x",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "@reboot",
            "@sometimes",
            "0 0 1 1 * 2030 *",
            "0 0 0 1 1 * 2030",
            "ä * * * *",
            "5-1 * * * *",
            "* * * * *\n* * * * *",
        ] {
            assert!(Cron::parse(text, "UTC").is_err(), "{text:?}");
        }
        assert!(Cron::parse(&"*,".repeat(100), "UTC").is_err());
        for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 31 2 *"] {
            assert!(Cron::parse(text, "UTC").unwrap_err().contains("never fires"), "{text}");
        }
        assert!(Cron::parse("@daily", "Mars/Olympus").unwrap_err().contains("time zone"));
    }

    #[test]
    fn missed_times_are_made_up_for_once_and_new_ones_waited_for() {
        let daily = Timing::Cron(Box::new(cron("0 3 * * *", "UTC")));
        let now = datetime!(2026-11-21 14:00 UTC);
        let tick = daily.last(now).unwrap();
        assert_eq!(tick, Tick { slot: tick.at.unix_timestamp(), at: datetime!(2026-11-21 03:00 UTC) });
        assert!(!daily.is_due(tick, None), "a new schedule waits for its time");
        assert!(daily.is_due(tick, Some(datetime!(2026-11-18 03:00 UTC))), "days are missed, and the last of them is due");
        assert!(!daily.is_due(tick, Some(datetime!(2026-11-21 03:00:01 UTC))));
        let hourly = Timing::Every(Schedule { every: Duration::hours(1), offset: Duration::minutes(7) });
        let tick = hourly.last(now).unwrap();
        assert_eq!(tick.at, datetime!(2026-11-21 13:07 UTC));
        assert_eq!(hourly.next(now), Some(datetime!(2026-11-21 14:07 UTC)));
        assert!(hourly.is_due(tick, None));
        assert_eq!((daily.to_string(), hourly.to_string()), ("0 3 * * * UTC".into(), "every 3600 seconds".into()));
    }

    fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
        prop_oneof![
            3 => Just("*".to_owned()),
            2 => (low..=high).prop_map(|n| n.to_string()),
            1 => (2u32..=9).prop_map(|n| format!("*/{n}")),
            1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    }

    proptest! {
        #[test]
        fn times_follow_each_other_and_match(
            fields in (field(0, 59), field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
            seconds in 1_700_000_000i64..2_000_000_000,
        ) {
            let (second, minute, hour, day, month, weekday) = fields;
            let cron = Cron::parse(&format!("{second} {minute} {hour} {day} {month} {weekday}"), zone).unwrap();
            let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let next = cron.next(now).unwrap();
            prop_assert!(next > now);
            // What fires next is what fired last once its time has come, and not a moment before.
            prop_assert_eq!(cron.last(next), Some(next));
            let before = cron.last(next - Duration::SECOND).unwrap();
            prop_assert!(before <= now, "{} lies between {} and {}", before, now, next);
            prop_assert_eq!(cron.next(before), Some(next));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[ -~]{0,40}", zone in "[A-Za-z/]{0,12}") {
            let _ = Cron::parse(&text, &zone);
            let _ = Cron::parse(&text, "UTC");
        }
    }
}
