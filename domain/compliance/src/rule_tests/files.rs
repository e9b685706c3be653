//! What rules make of metadata, of the time, and of real files.

use super::*;

impl Case {
    /// The same with the metadata of a real JPEG into which EXIF with a place was written, as cameras do: the hemisphere, and
    /// fractions of degrees, minutes and seconds.
    fn with_gps(mut self, (north, latitude): (&str, [(u32, u32); 3]), (east, longitude): (&str, [(u32, u32); 3])) -> Self {
        self.extracted = extract(&with_segment(0xe1, &gps_block((north, latitude), (east, longitude))));
        assert!(self.extracted.exif.contains_key("exif:GPSLongitude"), "the place was not read");
        self
    }
}

/// An EXIF block whose only directory below the first is of GPS.
fn gps_block((north, latitude): (&str, [(u32, u32); 3]), (east, longitude): (&str, [(u32, u32); 3])) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08".to_vec();
    let entry = |out: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        out.extend(tag.to_be_bytes());
        out.extend(kind.to_be_bytes());
        out.extend(count.to_be_bytes());
        out.extend(value);
    };
    let letter = |text: &str| [text.as_bytes().first().copied().unwrap_or(0), 0, 0, 0];
    // The first directory stands at 8 and ends at 26, that of GPS at 26 and ends at 80: four entries of twelve bytes.
    tiff.extend(1u16.to_be_bytes());
    entry(&mut tiff, 0x8825, 4, 1, 26u32.to_be_bytes());
    tiff.extend([0; 4]);
    tiff.extend(4u16.to_be_bytes());
    entry(&mut tiff, 1, 2, 2, letter(north));
    entry(&mut tiff, 2, 5, 3, 80u32.to_be_bytes());
    entry(&mut tiff, 3, 2, 2, letter(east));
    entry(&mut tiff, 4, 5, 3, 104u32.to_be_bytes());
    tiff.extend([0; 4]);
    assert_eq!(tiff.len(), 80);
    for (above, below) in latitude.into_iter().chain(longitude) {
        tiff.extend(above.to_be_bytes());
        tiff.extend(below.to_be_bytes());
    }
    [b"Exif\0\0".to_vec(), tiff].concat()
}

/// A position is near an area of the same hemispheres, and of no other; in EXIF as in XMP.
#[test]
fn places_are_where_cameras_say() {
    let near = |latitude_e6, longitude_e6, mut case: Case| {
        let range = omt_kernel::Area { name: "Range".into(), latitude_e6, longitude_e6, radius_km: 20 };
        case.settings.export.areas = vec![range];
        case.declared(|d| d.audience = "partners".into())
    };
    // 33° 51' 24" and 70° 39.0', once in fractions of seconds and once of minutes.
    let latitude = [(33, 1), (51, 1), (2400, 100)];
    let longitude = [(70, 1), (3900, 100), (0, 1)];
    let quarters = [
        ("N", "E", 33_857_000, 70_650_000),
        ("N", "W", 33_857_000, -70_650_000),
        ("S", "E", -33_857_000, 70_650_000),
        ("S", "W", -33_857_000, -70_650_000),
    ];
    for (north, east, latitude_e6, longitude_e6) in quarters {
        let camera = || Case::new(Confidential).with_gps((north, latitude), (east, longitude));
        let found = near(latitude_e6, longitude_e6, camera()).says(R::ExportControl, Warning, "in or near Range");
        assert_eq!(found.locations, ["metadata.exif.exif:GPSLatitude"]);
        assert!(found.evidence.iter().any(|seen| seen.says.starts_with("made 0 km from")), "{found:#?}");
        near(-latitude_e6, longitude_e6, camera()).says(R::ExportControl, Passed, "allowed");
        near(latitude_e6, -longitude_e6, camera()).says(R::ExportControl, Passed, "allowed");
        for place in [format!("33,51,24{north}"), format!("33,51.4{north}")] {
            let xmp = || {
                Case::new(Confidential).with_xmp(&format!("exif:GPSLatitude=\"{place}\" exif:GPSLongitude=\"70,39.0{east}\">"))
            };
            let found = near(latitude_e6, longitude_e6, xmp()).says(R::ExportControl, Warning, "in or near Range");
            assert_eq!(found.locations, ["metadata.xmp.exif:GPSLatitude"]);
            near(-latitude_e6, longitude_e6, xmp()).says(R::ExportControl, Passed, "allowed");
        }
    }
    // Seconds that the camera did not know are nothing; degrees that it did not know are no place, and neither is half of one.
    let rough = Case::new(Confidential).with_gps(("S", [(33, 1), (51, 1), (0, 0)]), ("W", longitude));
    near(-33_857_000, -70_650_000, rough).says(R::ExportControl, Warning, "in or near Range");
    let unknown = Case::new(Confidential).with_gps(("N", [(0, 0), (0, 0), (0, 0)]), ("E", longitude));
    near(0, 70_650_000, unknown).says(R::ExportControl, Passed, "allowed");
    let half = Case::new(Confidential).with_xmp("exif:GPSLatitude=\"0,0.0N\">");
    near(0, 0, half).says(R::ExportControl, Passed, "allowed");
    // Either of them is enough, and no place is made of halves of both.
    let mut both = Case::new(Confidential).with_gps(("N", latitude), ("E", longitude));
    both.extracted.xmp =
        Case::new(Confidential).with_xmp("exif:GPSLatitude=\"1,17.5N\" exif:GPSLongitude=\"103,51.0E\">").extracted.xmp;
    let found = near(1_290_000, 103_850_000, both).says(R::ExportControl, Warning, "in or near Range");
    assert_eq!(found.locations, ["metadata.xmp.exif:GPSLatitude"]);
    let mut halves = Case::new(Confidential).with_gps(("N", latitude), ("E", longitude));
    halves.extracted.exif.remove("exif:GPSLongitude");
    halves.extracted.xmp.insert("exif:GPSLongitude".into(), "70,39.0E".into());
    near(33_857_000, 70_650_000, halves).says(R::ExportControl, Passed, "allowed");
    // What is no coordinate is none.
    for text in ["north", "1 deg 17 min 30 sec N", "1,2,3,4N", "1,-17.5N", "91,0.0N", "NaN", ""] {
        let mut odd = Case::new(Confidential);
        odd.extracted.xmp.insert("exif:GPSLatitude".into(), text.into());
        odd.extracted.xmp.insert("exif:GPSLongitude".into(), "103,51.0E".into());
        let mut odd = near(1_290_000, 103_850_000, odd);
        odd.settings.export.areas[0].radius_km = 20_100;
        odd.says(R::ExportControl, Passed, "allowed");
    }
}

/// What licences in metadata say of time and territory.
#[test]
fn copyright_by_metadata() {
    const LICENSED: &str = "<dc:rights>Example Ltd</dc:rights><xmpRights:UsageTerms>as agreed</xmpRights:UsageTerms>";
    let case = |plus: &str| Case::new(Public).with_xmp(&format!("{plus}>{LICENSED}"));
    case("").says(R::CopyrightValid, Passed, "holder and licence");
    let open = case("plus:LicenseStartDate=\"2026-01-01\" plus:LicenseEndDate=\"2027-06-30\"");
    let result = open.says(R::CopyrightValid, Passed, "holder and licence");
    assert!(result.expected.ends_with("by its metadata, from 2026-01-01 until 2027-06-30"), "{result:#?}");
    assert!(result.locations.contains(&"metadata.xmp.plus:LicenseEndDate".to_owned()), "{result:#?}");
    // The last day counts, and is soon.
    case("plus:LicenseEndDate=\"2026-11-21\"").says(R::CopyrightValid, Warning, "ends on 2026-11-21");
    let ended = case("plus:LicenseEndDate=\"2026-11-20\"").says(R::CopyrightValid, Failed, "ended on 2026-11-20");
    assert!(ended.expected.contains("until 2026-11-20") && ended.actual.contains("it is 2026-11-21"), "{ended:#?}");
    let early = case("plus:LicenseStartDate=\"2026-12\"").says(R::CopyrightValid, Failed, "begins on 2026-12-01");
    assert!(early.expected.contains("from 2026-12-01"), "{early:#?}");
    case("plus:LicenseEndDate=\"at noon\"").says(R::CopyrightValid, Pending, "is no date");
    // Who gives licences is no licence.
    let licensor = "plus:LicensorName=\"Example Agency\"><dc:rights>Example Ltd</dc:rights>";
    Case::new(Public).with_xmp(licensor).says(R::CopyrightValid, Failed, "no licence");

    let regions = |regions: &str, to: &'static [&'static str]| {
        case(&format!("plus:RegionConstraints=\"{regions}\"")).declared(move |d| d.destinations = set(to))
    };
    regions("Singapore, MYS", &["SG", "MY"]).says(R::CopyrightValid, Passed, "holder and licence");
    let abroad = regions("Singapore, MYS", &["SG", "DE"]).says(R::CopyrightValid, Failed, "no use in DE");
    assert!(abroad.expected.ends_with("only in MY, SG"), "{abroad:#?}");
    regions("SG", &[]).says(R::CopyrightValid, Pending, "nobody has declared where it goes");
    regions("Worldwide", &["DE"]).says(R::CopyrightValid, Passed, "holder and licence");
    regions("not on the moon", &["SG"]).says(R::CopyrightValid, Pending, "no list of countries");
    // A record of rights is what counts where there is one.
    case("plus:LicenseEndDate=\"2026-11-20\"").add(rights(|_| {})).says(R::CopyrightValid, Passed, "covers it");
    // The same, as cameras' software writes it into IPTC.
    Case::new(Public).with_iptc(&[(116, "Example Ltd")]).says(R::CopyrightValid, Failed, "no licence");
}

#[test]
fn countries_in_metadata_are_listed_areas() {
    let tenant = |mut case: Case| {
        case.settings.export.countries = set(&["KP", "RUS"]);
        case.declared(|_| {})
    };
    let with = |xmp: &str| tenant(Case::new(Confidential).with_xmp(xmp));
    let shown = "<Iptc4xmpExt:LocationShown><rdf:Bag><rdf:li rdf:parseType=\"Resource\"><Iptc4xmpExt:CountryCode>PRK\
                 </Iptc4xmpExt:CountryCode></rdf:li></rdf:Bag></Iptc4xmpExt:LocationShown>";
    let result = with(&format!(">{shown}")).says(R::ExportControl, Warning, "made in KP, or shows it");
    assert_eq!(result.locations, ["metadata.xmp.Iptc4xmpExt:CountryCode"]);
    with("photoshop:Country=\"Russian Federation\">").says(R::ExportControl, Warning, "RU");
    with("photoshop:Country=\"Singapore\">").says(R::ExportControl, Passed, "allowed");
    with("photoshop:Country=\"Ruritania\">").says(R::ExportControl, Passed, "allowed");
    let iptc = tenant(Case::new(Confidential).with_iptc(&[(101, "North Korea")]));
    let result = iptc.says(R::ExportControl, Warning, "KP");
    assert_eq!(result.locations, ["metadata.iptc.photoshop:Country"]);
    // Nobody lists a country, nobody is warned.
    let free = Case::new(Confidential).with_xmp("photoshop:Country=\"North Korea\">").declared(|_| {});
    free.says(R::ExportControl, Passed, "allowed");
}

#[test]
fn assertions_name_people_and_places() {
    let case = |data: serde_json::Value| {
        let mut case = Case::new(Public);
        case.definition.assertions = vec![CustomAssertion { label: "cawg.metadata".into(), data }];
        case
    };
    let place = case(json!({ "exif:GPSLatitude": "1,17.5N", "aux:SerialNumber": "12345" }));
    let result = place.says(R::PiiRedaction, Failed, "1 × gps, 1 × serial_number");
    assert_eq!(result.locations, ["assertions[0].data.aux:SerialNumber", "assertions[0].data.exif:GPSLatitude"]);
    // Who is named in an assertion must have agreed as who is named in the file.
    let ada = || case(json!({ "Iptc4xmpExt:PersonInImage": ["Ada"] }));
    let named = ada().says(R::PdpaConsent, Failed, "no live consent");
    assert_eq!(named.locations, ["assertions[0].data.Iptc4xmpExt:PersonInImage[0]"]);
    ada().says(R::PiiRedaction, Failed, "1 × name");
    ada().add(consent("Ada", |_| {})).says(R::PdpaConsent, Passed, "consent given");
    ada().add(consent("Ada", |_| {})).says(R::PiiRedaction, Passed, "none found");
    // Details about a person in the file: extraction keeps the innermost names.
    let details = "><Iptc4xmpExt:PersonInImageWDetails><rdf:Bag><rdf:li rdf:parseType=\"Resource\"><Iptc4xmpExt:PersonName><rdf:Alt>\
                   <rdf:li xml:lang=\"x-default\">Ada</rdf:li></rdf:Alt></Iptc4xmpExt:PersonName></rdf:li></rdf:Bag>\
                   </Iptc4xmpExt:PersonInImageWDetails>";
    let ada = || Case::new(Public).with_xmp(details);
    ada().says(R::PdpaConsent, Failed, "no live consent");
    let found = ada().says(R::PiiRedaction, Failed, "1 × name");
    assert_eq!(found.locations, ["metadata.xmp.Iptc4xmpExt:PersonName"]);
    let found = ada().says(R::PdpaConsent, Failed, "no live consent");
    assert_eq!(found.locations, ["metadata.xmp.Iptc4xmpExt:PersonName"], "where the name stands");
    ada().add(consent("Ada", |_| {})).says(R::PdpaConsent, Passed, "consent given");
    ada().add(consent("Ada", |_| {})).says(R::PiiRedaction, Passed, "none found");
    // Attribution is none, in assertions and in the file.
    case(json!({ "dc:creator": ["Cara"], "exif:Artist": "Cara" })).says(R::PiiRedaction, Passed, "none found");
    let credited = Case::new(Public).with_xmp("photoshop:Credit=\"Cara\"><dc:creator>Cara</dc:creator>");
    credited.says(R::PiiRedaction, Passed, "none found");
}

#[test]
fn reports_turn_when_something_begins_or_ends() {
    let turns = |case: &Case, overrides: &[Override]| case.on(|input| rules::turns_at(input, overrides));
    let days = Duration::days;
    assert_eq!(turns(&Case::new(Public), &[]), None);
    assert_eq!(turns(&Case::new(Public).add(consent("Ada", |_| {})), &[]), None, "what has begun begins no more");
    let begins = Case::new(Public).add(consent("Ada", |c| c.given_at = NOW + days(2)));
    assert_eq!(turns(&begins, &[]), Some(NOW + days(2)));
    let ends = begins.add(clearance(Area::Legal, |c| c.expires_at = Some(NOW + days(1))));
    assert_eq!(turns(&ends, &[]), Some(NOW + days(1)), "the first of them");
    let later = Case::new(Public).add(rights(|r| r.until = Some(NOW + days(40))));
    assert_eq!(turns(&later, &[]), Some(NOW + days(10) + Duration::SECOND), "thirty days before, it is worth a warning");
    let licence = Case::new(Public).with_xmp("plus:LicenseEndDate=\"2026-11-25\">");
    assert_eq!(turns(&licence, &[]), Some(datetime!(2026-11-26 0:00 UTC)));
    // And then it says otherwise.
    let mut over = over(|o| o.expires_at = NOW + Duration::hours(1));
    assert_eq!(turns(&Case::new(Public), &[over.clone()]), None, "nobody agreed to it");
    over.approved_by = Some("user:4".into());
    assert_eq!(turns(&Case::new(Public), &[over]), Some(NOW + Duration::hours(1)));
}

/// Real files: those of the repository's.
#[test]
fn real_files_say_what_they_say() {
    let mut case = Case::new(Public);
    case.extracted = extract(&fixture("a.tiff"));
    assert!(!case.extracted.exif.is_empty(), "it has directories");
    case.says(R::PiiRedaction, Passed, "none found");
    case.says(R::CopyrightValid, Failed, "neither a record");
    case.extracted = extract(&fixture("a.jpg"));
    assert_eq!(case.extracted.exif.len() + case.extracted.xmp.len() + case.extracted.iptc.len(), 0, "it says nothing");
    case.says(R::PiiRedaction, Passed, "none found");
}

/// Those of cameras and of their owners' software, where the larger corpus is there.
#[test]
fn cameras_say_what_they_say() {
    let Some(corpus) = std::env::var_os("OMT_CORPUS").map(std::path::PathBuf::from) else { return };
    let of = |name: &str| {
        let mut case = Case::new(Public);
        case.extracted = extract(&std::fs::read(corpus.join("unsigned").join(name)).unwrap());
        assert!(case.extracted.exif.len() > 10 && !case.extracted.xmp.is_empty(), "{name} has camera EXIF, and XMP");
        case
    };
    // The body's and the lens's numbers, each in EXIF and in XMP; no place, no owner.
    let camera = of("P1000827.jpg");
    let result = camera.says(R::PiiRedaction, Failed, "for the audience public: 4 × serial_number");
    let serials =
        ["exif.exifEX:BodySerialNumber", "exif.exifEX:LensSerialNumber", "xmp.aux:LensSerialNumber", "xmp.aux:SerialNumber"];
    assert_eq!(result.locations, serials.map(|place| format!("metadata.{place}")));
    let rights = camera.says(R::CopyrightValid, Failed, "neither a record");
    assert_eq!(rights.locations, [] as [&str; 0]);
    camera.declared(|_| {}).says(R::PdpaConsent, Passed, "nobody can be recognised");
    let mut inside = of("P1000827.jpg");
    inside.record.classification = Internal;
    inside.says(R::PiiRedaction, Warning, "for the house only: 4 × serial_number");
    // An editor's file that no camera signed its number into.
    of("earth_apollo17.jpg").says(R::PiiRedaction, Passed, "none found");
}
