//! Export control: what controls it, where it goes, who sees it, and where it was made.

use super::{Finding, Input};
use crate::{
    countries,
    model::{RuleName, RuleResult, Status},
};
use omt_claims::metadata::Extracted;
use std::collections::BTreeSet;

/// Properties that name a country. `Iptc4xmpExt` has them within `LocationCreated` and `LocationShown`, which extraction
/// flattens.
const COUNTRIES: [&str; 4] =
    ["photoshop:Country", "Iptc4xmpCore:CountryCode", "Iptc4xmpExt:CountryCode", "Iptc4xmpExt:CountryName"];

pub(super) fn control(input: &Input<'_>) -> RuleResult {
    let mut finding = Finding::new(RuleName::ExportControl, "a declared classification, and only destinations that it may go to");
    let rules = &input.settings.export;
    for area in &rules.areas {
        if let Some(km) =
            position(input.extracted).map(|place| distance_km(place, area)).filter(|km| *km <= f64::from(area.radius_km))
        {
            finding.at("metadata.exif.exif:GPSLatitude");
            finding.saw(None, "exif", format!("made {km:.0} km from the middle of {}", area.name));
            finding.say(Status::Warning, format!("made in or near {}", area.name));
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
    let code = declaration.export_code.as_deref();
    let destinations: Vec<&str> = declaration.destinations.iter().map(String::as_str).collect();
    finding.saw(Some(id), "declaration", format!("{} to {}", code.unwrap_or("not controlled"), destinations.join(", ")));
    let denied: Vec<&str> = destinations.iter().filter(|d| rules.denied_destinations.contains(**d)).copied().collect();
    if !denied.is_empty() {
        finding.say(Status::Failed, format!("nothing goes to {}", denied.join(", ")));
    }
    if destinations.is_empty() && (code.is_some() || declaration.audience != "internal") {
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
    if rules.denied_audiences.contains(&declaration.audience) {
        finding.say(Status::Failed, format!("{} is not for the audience {}", code.unwrap_or("it"), declaration.audience));
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
    for (source, properties) in [("xmp", &extracted.xmp), ("iptc", &extracted.iptc)] {
        for name in COUNTRIES {
            let words = properties.get(name).into_iter().flat_map(|value| value.split(';'));
            let codes: BTreeSet<&'static str> = words.filter_map(countries::code).collect();
            out.extend(codes.into_iter().map(|code| (format!("metadata.{source}.{name}"), code)));
        }
    }
    out
}

/// The place in EXIF, degrees north and east.
fn position(extracted: &Extracted) -> Option<(f64, f64)> {
    let read = |name: &str| [&extracted.exif, &extracted.xmp].into_iter().find_map(|properties| degrees(properties.get(name)?));
    Some((read("exif:GPSLatitude")?, read("exif:GPSLongitude")?))
}

/// Degrees from the forms that metadata has: `1,17.5N`, `1,17,30N`, `1 deg 17 min 30 sec N` or decimal.
fn degrees(text: &str) -> Option<f64> {
    let negative = text.contains(['S', 'W']) && !text.contains("sec W.") || text.trim_start().starts_with('-');
    let numbers: Vec<f64> = text
        .split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .filter(|part| part.bytes().any(|b| b.is_ascii_digit()))
        .filter_map(|part| part.parse().ok())
        .collect();
    let value = numbers.iter().take(3).zip([1.0, 60.0, 3600.0]).map(|(number, unit)| number / unit).sum::<f64>();
    (!numbers.is_empty() && value <= 180.0).then_some(if negative { -value } else { value })
}

/// Along a great circle, on a sphere.
fn distance_km((latitude, longitude): (f64, f64), area: &omt_kernel::Area) -> f64 {
    let (a, b) = (latitude.to_radians(), (area.latitude_e6 as f64 / 1e6).to_radians());
    let across = (area.longitude_e6 as f64 / 1e6 - longitude).to_radians();
    let h = ((b - a) / 2.0).sin().powi(2) + a.cos() * b.cos() * (across / 2.0).sin().powi(2);
    2.0 * 6_371.0 * h.sqrt().min(1.0).asin()
}
