//! Whether we may use it: a recorded right, or what IPTC, XMP and PLUS say.

use super::{Finding, Input, day};
use crate::{
    countries,
    model::{Evidence, Rights, RuleName, RuleResult, Status},
};
use omt_claims::metadata::Extracted;
use omt_kernel::{EvidenceId, OffsetDateTime, calendar::is_in_calendar};
use std::collections::BTreeSet;
use time::{Date, Duration, Month, format_description::well_known::Rfc3339};

/// Metadata that names who holds the rights. Whom it is to be credited to (`photoshop:Credit`) need not hold any.
const HOLDERS: [&str; 6] = [
    "dc:rights",
    "xmpRights:Owner",
    "plus:CopyrightOwnerName",
    "Iptc4xmpCore:CopyrightNotice",
    "tiff:Copyright",
    "exif:Copyright",
];
/// Metadata that names the licence. Who gives licences (`plus:Licensor`) is none.
const LICENCES: [&str; 5] = [
    "xmpRights:UsageTerms",
    "xmpRights:WebStatement",
    "plus:LicenseID",
    "plus:TermsAndConditionsText",
    "plus:TermsAndConditionsURL",
];
/// When a licence begins.
const STARTS: &str = "plus:LicenseStartDate";
/// The last day of a licence.
const ENDS: &str = "plus:LicenseEndDate";
/// Where a licence is good.
const REGIONS: &str = "plus:RegionConstraints";
/// Words for a licence that is good everywhere.
const WORLD: [&str; 4] = ["worldwide", "world", "global", "none"];

pub(super) fn valid(input: &Input<'_>) -> RuleResult {
    let mut finding = Finding::new(RuleName::CopyrightValid, "a holder, a licence, and use within its time and territory");
    let territories: BTreeSet<String> = input.declaration().map(|(_, d)| d.destinations.clone()).unwrap_or_default();
    let of = |(id, evidence): &'_ (EvidenceId, Evidence)| match evidence {
        Evidence::Rights(found) if found.content_sha256 == input.record.source.sha256 => Some((*id, found.clone())),
        _ => None,
    };
    let records: Vec<(EvidenceId, Rights)> = input.evidence.iter().filter_map(of).collect();
    if let Some((id, rights)) = records.iter().max_by_key(|(id, _)| *id) {
        finding.saw(Some(*id), "rights", format!("{} of {}", rights.licence, rights.holder));
        let outside: Vec<&str> = territories
            .iter()
            .filter(|t| !rights.territories.is_empty() && !rights.territories.contains(*t))
            .map(String::as_str)
            .collect();
        if rights.withdrawn_at.is_some() {
            finding.say(Status::Failed, "the right was taken back");
        } else if rights.until.is_some_and(|until| until <= input.now) {
            finding.say(Status::Failed, "the right has ended");
        } else if rights.from.is_some_and(|from| input.now < from) {
            finding.say(Status::Pending, "the right has not begun");
        } else if !outside.is_empty() {
            finding.say(Status::Failed, format!("no right for {}", outside.join(", ")));
        } else if territories.is_empty() && !rights.territories.is_empty() {
            finding.say(Status::Pending, "the right is for some territories, and nobody has declared where it goes");
        } else if input.ends_soon(rights.until) {
            finding.say(Status::Warning, "the right ends within thirty days");
        } else {
            finding.say(Status::Passed, "the right covers it");
        }
        return finding.0;
    }
    from_metadata(&mut finding, input, &territories);
    finding.0
}

/// What metadata says, where nobody has recorded a right.
fn from_metadata(finding: &mut Finding, input: &Input<'_>, destinations: &BTreeSet<String>) {
    let (holder, licence) = (find(input.extracted, &HOLDERS), find(input.extracted, &LICENCES));
    for (found, kind) in [(&holder, "holder"), (&licence, "licence")] {
        if let Some((place, _)) = found {
            finding.at(place.clone());
            finding.saw(None, "metadata", format!("{kind} in {place}"));
        }
    }
    match (&holder, &licence) {
        (Some(_), Some(_)) => {}
        (Some(_), None) => {
            finding.say(Status::Failed, "metadata names a holder and no licence, and there is no record of rights")
        }
        _ => finding.say(Status::Failed, "neither a record of rights nor metadata says whose it is"),
    }
    in_time(finding, input);
    in_territory(finding, input.extracted, destinations);
    if finding.0.actual.is_empty() {
        finding.say(Status::Passed, "metadata names holder and licence");
    }
}

/// The first of these properties that metadata has: where, and what it says.
fn find<'a>(extracted: &'a Extracted, names: &[&str]) -> Option<(String, &'a str)> {
    let all = [("xmp", &extracted.xmp), ("iptc", &extracted.iptc), ("exif", &extracted.exif), ("tags", &extracted.tags)];
    all.into_iter().find_map(|(source, properties)| {
        let mut found =
            names.iter().filter_map(|name| Some((format!("metadata.{source}.{name}"), properties.get(*name)?.as_str())));
        found.next()
    })
}

/// The time of use that metadata names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// From then on.
    pub(super) from: Option<OffsetDateTime>,
    /// Until then.
    pub(super) until: Option<OffsetDateTime>,
    /// Properties whose value is no date.
    unread: Vec<&'static str>,
}

/// PLUS names the days of a licence. Where it is said more than once, what all of it allows counts.
pub(super) fn window(extracted: &Extracted) -> Window {
    let mut out = Window::default();
    for (name, begins) in [(STARTS, true), (ENDS, false)] {
        for word in extracted.xmp.get(name).into_iter().flat_map(|value| value.split(';')) {
            match (date(word.trim()), begins) {
                (Some((from, _)), true) => out.from = out.from.max(Some(from)),
                (Some((_, until)), false) => out.until = Some(out.until.map_or(until, |other| other.min(until))),
                (None, _) => out.unread.push(name),
            }
        }
    }
    out
}

fn in_time(finding: &mut Finding, input: &Input<'_>) {
    let window = window(input.extracted);
    let place = |name: &str| format!("metadata.xmp.{name}");
    let expected = match (window.from, window.until) {
        (None, None) => None,
        (Some(from), None) => Some(format!("from {}", day(from))),
        // The last moment before the end lies on the last day.
        (None, Some(until)) => Some(format!("until {}", last_day(until))),
        (Some(from), Some(until)) => Some(format!("from {} until {}", day(from), last_day(until))),
    };
    if let Some(expected) = expected {
        finding.0.expected = format!("{}; by its metadata, {expected}", finding.0.expected);
    }
    for name in &window.unread {
        finding.at(place(name));
        finding.say(Status::Pending, format!("{name} is no date; record the right"));
    }
    for (at, name) in [(window.from, STARTS), (window.until, ENDS)] {
        if at.is_some() {
            finding.at(place(name));
            finding.saw(None, "metadata", format!("time of use in {}", place(name)));
        }
    }
    if let Some(from) = window.from.filter(|from| input.now < *from) {
        finding.say(Status::Failed, format!("it is {}, and the licence in its metadata begins on {}", day(input.now), day(from)));
    }
    match window.until {
        Some(until) if until <= input.now => {
            let words = format!("it is {}, and the licence in its metadata ended on {}", day(input.now), last_day(until));
            finding.say(Status::Failed, words);
        }
        Some(until) if input.ends_soon(Some(until)) => {
            finding.say(Status::Warning, format!("the licence in its metadata ends on {}", last_day(until)));
        }
        _ => {}
    }
}

/// The day that a time of use ends with.
fn last_day(until: OffsetDateTime) -> String {
    day(until.checked_sub(Duration::NANOSECOND).unwrap_or(until))
}

/// PLUS constrains regions in words: a list of countries is decided on, anything else waits for a record of rights.
fn in_territory(finding: &mut Finding, extracted: &Extracted, destinations: &BTreeSet<String>) {
    let Some((place, words)) = find(extracted, &[REGIONS]) else { return };
    finding.at(place.clone());
    finding.saw(None, "metadata", format!("territory in {place}"));
    let everywhere = words.split(';').all(|word| WORLD.contains(&word.trim().to_lowercase().as_str()));
    if everywhere {
        return;
    }
    let listed = || words.split([';', ',']).map(str::trim).filter(|word| !word.is_empty());
    // Some names have a comma in them.
    let codes: Option<BTreeSet<&str>> =
        countries::code(words).map(|code| Some([code].into())).unwrap_or_else(|| listed().map(countries::code).collect());
    let Some(codes) = codes.filter(|codes| !codes.is_empty()) else {
        finding.say(Status::Pending, "its metadata constrains regions in words that are no list of countries; record the right");
        return;
    };
    let outside: Vec<&str> = destinations.iter().map(String::as_str).filter(|to| !codes.contains(to)).collect();
    let allowed = codes.iter().copied().collect::<Vec<_>>().join(", ");
    finding.0.expected = format!("{}; only in {allowed}", finding.0.expected);
    if destinations.is_empty() {
        finding.say(Status::Pending, format!("its metadata allows {allowed}, and nobody has declared where it goes"));
    } else if !outside.is_empty() {
        finding.say(Status::Failed, format!("its metadata allows {allowed}, and no use in {}", outside.join(", ")));
    }
}

/// The first moment of an XMP date and the first one after it: of a year, a month, a day, or a time of day, UTC where no zone is
/// said.
fn date(text: &str) -> Option<(OffsetDateTime, OffsetDateTime)> {
    if text.len() > 40 || !text.is_ascii() {
        return None;
    }
    if let Some((days, clock)) = text.split_once('T') {
        let from = moment(days, clock)?;
        return Some((from, from));
    }
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next(), parts.next());
    if year.len() != 4 || parts.next().is_some() {
        return None;
    }
    let year = digits(year)?;
    let month = month.map(|month| digits::<u8>(month).and_then(|month| Month::try_from(month).ok()));
    let first = match (month, day) {
        (None, _) => Date::from_calendar_date(year, Month::January, 1).ok()?,
        (Some(month), None) => Date::from_calendar_date(year, month?, 1).ok()?,
        (Some(month), Some(day)) => Date::from_calendar_date(year, month?, digits(day)?).ok()?,
    };
    let after = match (month.flatten(), day) {
        (None, _) => Date::from_calendar_date(year.checked_add(1)?, Month::January, 1).ok()?,
        (Some(Month::December), None) => Date::from_calendar_date(year.checked_add(1)?, Month::January, 1).ok()?,
        (Some(month), None) => Date::from_calendar_date(year, month.next(), 1).ok()?,
        (Some(_), Some(_)) => first.next_day()?,
    };
    Some((first.midnight().assume_utc(), after.midnight().assume_utc()))
}

/// A day and a time of it: `12:00`, `12:00:05.5`, with `Z` or `+08:00` behind.
fn moment(days: &str, clock: &str) -> Option<OffsetDateTime> {
    let zone = clock.find(['Z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at_checked(zone)?;
    let clock = if clock.len() == 5 { format!("{clock}:00") } else { clock.to_owned() };
    let zone = if zone.is_empty() { "Z" } else { zone };
    OffsetDateTime::parse(&format!("{days}T{clock}{zone}"), &Rfc3339).ok().filter(|at| is_in_calendar(*at))
}

fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn dates_are_as_long_as_they_say() {
        let day = |y, m, d| Date::from_calendar_date(y, Month::try_from(m).unwrap(), d).unwrap().midnight().assume_utc();
        assert_eq!(date("2026"), Some((day(2026, 1, 1), day(2027, 1, 1))));
        assert_eq!(date("2026-12"), Some((day(2026, 12, 1), day(2027, 1, 1))));
        assert_eq!(date("2024-02-29"), Some((day(2024, 2, 29), day(2024, 3, 1))));
        let noon = datetime!(2026-01-02 04:00 UTC);
        for text in ["2026-01-02T04:00Z", "2026-01-02T04:00", "2026-01-02T12:00:00+08:00", "2026-01-02T04:00:00.000Z"] {
            assert_eq!(date(text), Some((noon, noon)), "{text}");
        }
        for text in
            ["", "soon", "2026-13", "2025-02-29", "26-01-01", "2026-01-01-01", "+026", "2026-1-\u{e9}", "2026-01-02T99:00Z", "T"]
        {
            assert_eq!(date(text), None, "{text}");
        }
        assert_eq!(date("9999"), None, "there is no year after it");
        assert!(date("9999-12-31T23:59:59Z").is_some());
        for text in ["9999-12-31T23:59:59-23:59", "9999-12-31T23:59-00:01", "0000-01-01T00:00:00+23:59"] {
            assert_eq!(date(text), None, "{text} lies outside of the calendar in UTC");
        }
    }
}
