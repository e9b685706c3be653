//! Export control: what controls it, where it goes, who sees it, and where it was made.

use super::{Finding, Input};
use crate::{
    countries,
    model::{RuleName, RuleResult, Status},
};
use omt_claims::metadata::{Extracted, Properties};
use std::collections::BTreeSet;

const LATITUDE: &str = "exif:GPSLatitude";
const LONGITUDE: &str = "exif:GPSLongitude";
/// Properties that name a country. `Iptc4xmpExt` has them within `LocationCreated` and `LocationShown`, which extraction
/// flattens.
const COUNTRIES: [&str; 4] =
    ["photoshop:Country", "Iptc4xmpCore:CountryCode", "Iptc4xmpExt:CountryCode", "Iptc4xmpExt:CountryName"];

pub(super) fn control(input: &Input<'_>) -> RuleResult {
    let mut finding = Finding::new(RuleName::ExportControl, "a declared classification, and only destinations that it may go to");
    let rules = &input.settings.export;
    for (source, place) in positions(input.extracted) {
        for area in &rules.areas {
            let km = distance_km(place, area);
            if km <= f64::from(area.radius_km) {
                finding.at(format!("metadata.{source}.{LATITUDE}"));
                finding.saw(None, source, format!("made {km:.0} km from the middle of {}", area.name));
                finding.say(Status::Warning, format!("made in or near {}", area.name));
            }
        }
    }
    let listed: BTreeSet<&str> = rules.countries.iter().map(|word| countries::code(word).unwrap_or(word.as_str())).collect();
    for (place, country) in named_countries(input.extracted).into_iter().filter(|(_, country)| listed.contains(country)) {
        finding.saw(None, "metadata", format!("{place} says {country}"));
        finding.at(place);
        finding.say(Status::Warning, format!("made in {country}, or shows it, which is a listed area"));
    }
    let Some((id, declaration)) = input.declaration() else {
        finding.say(Status::Pending, "nobody has declared where it goes and what controls it");
        return finding.0;
    };
    let (code, audience) = (declaration.export_code.as_deref(), input.audience());
    let destinations: Vec<&str> = declaration.destinations.iter().map(String::as_str).collect();
    finding.saw(Some(id), "declaration", format!("{} to {}", code.unwrap_or("not controlled"), destinations.join(", ")));
    let denied: Vec<&str> = destinations.iter().filter(|d| rules.denied_destinations.contains(**d)).copied().collect();
    if !denied.is_empty() {
        finding.say(Status::Failed, format!("nothing goes to {}", denied.join(", ")));
    }
    if destinations.is_empty() && (code.is_some() || audience != "internal") {
        finding.say(Status::Pending, "nobody has declared where it goes");
    }
    if let Some(code) = code {
        match rules.controlled.get(code) {
            None => finding.say(Status::Failed, format!("{code} is on no list of this organisation")),
            Some(allowed) if allowed.is_empty() => finding.say(Status::Failed, format!("{code} goes nowhere")),
            Some(allowed) => {
                let out: Vec<&str> = destinations.iter().filter(|d| !allowed.contains(**d)).copied().collect();
                if !out.is_empty() {
                    finding.say(Status::Failed, format!("{code} does not go to {}", out.join(", ")));
                }
            }
        }
    }
    // Also what is not controlled: the list says who gets nothing.
    if rules.denied_audiences.contains(audience) {
        finding.say(Status::Failed, format!("{} is not for the audience {audience}", code.unwrap_or("it")));
    }
    if finding.0.actual.is_empty() {
        finding.say(Status::Passed, "its destinations are allowed");
    }
    finding.0
}

/// The countries that metadata names, and where; codes or names, of where it was made or of what it shows. What is neither is
/// nowhere.
fn named_countries(extracted: &Extracted) -> Vec<(String, &'static str)> {
    let mut out = Vec::new();
    for (source, properties) in [("xmp", &extracted.xmp), ("iptc", &extracted.iptc), ("tags", &extracted.tags)] {
        for name in COUNTRIES {
            let words = properties.get(name).into_iter().flat_map(|value| value.split(';'));
            let codes: BTreeSet<&'static str> = words.filter_map(countries::code).collect();
            out.extend(codes.into_iter().map(|code| (format!("metadata.{source}.{name}"), code)));
        }
    }
    out
}

/// Where it was made, degrees north and east, as EXIF says and as XMP says: one may have been changed without the other.
fn positions(extracted: &Extracted) -> Vec<(&'static str, (f64, f64))> {
    let exif = |name: &str, most: f64| rationals(&extracted.exif, name).filter(|degrees| degrees.abs() <= most);
    let xmp = |of: &Properties, name: &str, most: f64| coordinate(of.get(name)?).filter(|degrees| degrees.abs() <= most);
    let exif = exif(LATITUDE, 90.0).zip(exif(LONGITUDE, 180.0)).map(|place| ("exif", place));
    let written = [("xmp", &extracted.xmp), ("tags", &extracted.tags)];
    let written =
        written.into_iter().filter_map(|(source, of)| Some((source, (xmp(of, LATITUDE, 90.0)?, xmp(of, LONGITUDE, 180.0)?))));
    exif.into_iter().chain(written).collect()
}

/// Degrees from what EXIF has: fractions of degrees, minutes and seconds, as `1/1, 35/2, 0/1`, and the hemisphere in a tag of its
/// own. Minutes and seconds may be unknown.
fn rationals(exif: &Properties, name: &str) -> Option<f64> {
    let one = |text: &str| {
        let (above, below) = text.trim().split_once('/')?;
        let (above, below): (f64, f64) = (above.parse().ok()?, below.parse().ok()?);
        (below != 0.0).then_some(above / below)
    };
    let mut parts = exif.get(name)?.split(',').map(one);
    let (degrees, minutes, seconds) = (parts.next()??, parts.next().flatten(), parts.next().flatten());
    let value = degrees + minutes.unwrap_or(0.0) / 60.0 + seconds.unwrap_or(0.0) / 3600.0;
    let hemisphere = exif.get(&format!("{name}Ref")).map_or("", |text| text.trim());
    Some(if hemisphere.starts_with(['S', 's', 'W', 'w']) { -value } else { value })
}

/// Degrees from what XMP has: `1,17.5N`, `1,17,30N`, and of some software a decimal number. The first, where there are several.
fn coordinate(text: &str) -> Option<f64> {
    let text = text.split(';').next()?.trim();
    let numbers = text.trim_end_matches(['N', 'E', 'S', 'W', 'n', 'e', 's', 'w']);
    let south_or_west = text.ends_with(['S', 's', 'W', 'w']);
    let (mut value, mut unit) = (0.0, 1.0);
    for (n, part) in numbers.split(',').enumerate() {
        let number: f64 = part.trim().parse().ok()?;
        // Only degrees by themselves have a sign.
        if n > 2 || !number.is_finite() || (number < 0.0 && numbers.len() > part.len()) {
            return None;
        }
        value += number / unit;
        unit *= 60.0;
    }
    Some(if south_or_west { -value } else { value })
}

/// Along a great circle, on a sphere.
fn distance_km((latitude, longitude): (f64, f64), area: &omt_kernel::Area) -> f64 {
    let (a, b) = (latitude.to_radians(), (area.latitude_e6 as f64 / 1e6).to_radians());
    let across = (area.longitude_e6 as f64 / 1e6 - longitude).to_radians();
    let h = ((b - a) / 2.0).sin().powi(2) + a.cos() * b.cos() * (across / 2.0).sin().powi(2);
    2.0 * 6_371.0 * h.sqrt().min(1.0).asin()
}
