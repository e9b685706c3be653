//! Hours in which people work, so that what is due after four hours on a Friday afternoon is due on Monday.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use time::{Date, Duration, OffsetDateTime, Time, UtcOffset, Weekday, macros::format_description};

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl From<Weekday> for Day {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Mon,
            Weekday::Tuesday => Self::Tue,
            Weekday::Wednesday => Self::Wed,
            Weekday::Thursday => Self::Thu,
            Weekday::Friday => Self::Fri,
            Weekday::Saturday => Self::Sat,
            Weekday::Sunday => Self::Sun,
        }
    }
}

/// Working hours. Times are `HH:MM` at a fixed offset from UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// Working days.
    pub days: BTreeSet<Day>,
    /// When work begins.
    pub from: String,
    /// When it ends; `24:00` is midnight.
    pub to: String,
    /// The offset from UTC, such as `+08:00`.
    pub utc_offset: String,
    /// Days, `YYYY-MM-DD`, on which nobody works.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub holidays: BTreeSet<String>,
}

/// The same, understood.
struct Hours {
    days: BTreeSet<Day>,
    from: Duration,
    to: Duration,
    offset: UtcOffset,
    holidays: BTreeSet<Date>,
}

fn clock(text: &str) -> Result<Duration, String> {
    if text == "24:00" {
        return Ok(Duration::hours(24));
    }
    let parsed = Time::parse(text, format_description!("[hour]:[minute]"));
    parsed.map(|time| time - Time::MIDNIGHT).map_err(|_| format!("{text:?} is not a time such as 09:00"))
}

impl Calendar {
    fn hours(&self) -> Result<Hours, String> {
        let (from, to) = (clock(&self.from)?, clock(&self.to)?);
        if self.days.is_empty() || from >= to {
            return Err("has no working hours".into());
        }
        let offset = UtcOffset::parse(&self.utc_offset, format_description!("[offset_hour sign:mandatory]:[offset_minute]"))
            .map_err(|_| format!("{:?} is not an offset such as +08:00", self.utc_offset))?;
        if self.holidays.len() > 1_000 {
            return Err("has more than 1000 holidays".into());
        }
        let day = |text: &String| {
            Date::parse(text, format_description!("[year]-[month]-[day]"))
                .map_err(|_| format!("{text:?} is not a day such as 2026-12-25"))
        };
        let holidays = self.holidays.iter().map(day).collect::<Result<_, _>>()?;
        Ok(Hours { days: self.days.clone(), from, to, offset, holidays })
    }

    /// Refuses what is not understood.
    pub fn validate(&self) -> Result<(), String> {
        self.hours().map(|_| ())
    }

    /// The moment after so much working time.
    pub fn after(&self, start: OffsetDateTime, work: Duration) -> OffsetDateTime {
        // A calendar that does not parse was refused when it came; if one is there all the same, every hour counts.
        let Ok(hours) = self.hours() else { return start + work };
        let mut left = work;
        let mut date = start.to_offset(hours.offset).date();
        // Ten years of days at most: a calendar whose every working day is a holiday ends too.
        for _ in 0..3_660 {
            if hours.days.contains(&date.weekday().into()) && !hours.holidays.contains(&date) {
                let midnight = date.midnight().assume_offset(hours.offset);
                let (open, close) = ((midnight + hours.from).max(start), midnight + hours.to);
                if open < close {
                    if open + left <= close {
                        return (open + left).to_offset(UtcOffset::UTC);
                    }
                    left -= close - open;
                }
            }
            let Some(next) = date.next_day() else { break };
            date = next;
        }
        start + work
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn office() -> Calendar {
        Calendar {
            days: [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri].into(),
            from: "09:00".into(),
            to: "17:00".into(),
            utc_offset: "+08:00".into(),
            holidays: ["2026-11-24".to_owned()].into(),
        }
    }

    #[test]
    fn hours_skip_nights_weekends_and_holidays() {
        let office = office();
        let h = Duration::hours;
        // Friday 15:00 in Singapore: two hours are left, Monday has eight, Tuesday is a holiday.
        let friday = datetime!(2026-11-20 15:00 +8);
        assert_eq!(office.after(friday, h(1)), datetime!(2026-11-20 16:00 +8));
        assert_eq!(office.after(friday, h(2)), datetime!(2026-11-20 17:00 +8));
        assert_eq!(office.after(friday, h(4)), datetime!(2026-11-23 11:00 +8));
        assert_eq!(office.after(friday, h(11)), datetime!(2026-11-25 10:00 +8));
        assert_eq!(office.after(datetime!(2026-11-21 03:00 +8), h(1)), datetime!(2026-11-23 10:00 +8));
    }

    #[test]
    fn what_is_no_calendar_is_refused() {
        let with = |change: fn(&mut Calendar)| {
            let mut calendar = office();
            change(&mut calendar);
            calendar.validate()
        };
        assert!(with(|c| c.from = "9".into()).is_err());
        assert!(with(|c| c.to = "09:00".into()).is_err());
        assert!(with(|c| c.utc_offset = "SGT".into()).is_err());
        assert!(with(|c| c.days.clear()).is_err());
        assert!(with(|c| c.holidays = ["Christmas".to_owned()].into()).is_err());
        assert!(with(|c| c.to = "24:00".into()).is_ok());
    }
}
