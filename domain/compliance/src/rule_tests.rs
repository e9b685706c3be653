//! Each rule, where it passes, fails, and is pending or a warning for the right reason, from metadata as real files have it.

mod files;

use crate::{
    model::{Area, Clearance, Consent, Declaration, Evidence, Override, Policy, Rights, RuleName, RuleResult, Status},
    rules::{self, Input},
};
use omt_claims::{
    definition::{ClaimDefinition, CustomAssertion},
    media,
    metadata::{self, Extracted},
};
use omt_kernel::{
    EvidenceId, ManifestId, OffsetDateTime, TenantId, TenantSettings,
    manifest::{Archived, BlobRef, Classification, LegalHold, ManifestRecord, ManifestState},
    storage::Tier,
};
use serde_json::json;
use std::{collections::BTreeSet, io::Cursor};
use time::{Duration, macros::datetime};
use uuid::Uuid;

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00 UTC);
const CONTENT: &str = "c0ffee";

/// A case: a manifest, what is known of it, and the tenant.
struct Case {
    record: ManifestRecord,
    extracted: Extracted,
    definition: ClaimDefinition,
    evidence: Vec<(EvidenceId, Evidence)>,
    settings: TenantSettings,
    ingredients: Vec<(String, Option<Classification>)>,
    workflow: Option<String>,
    stored: Vec<(&'static str, Option<Tier>)>,
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

/// A draft of a picture.
pub(crate) fn draft(title: &str, classification: Classification) -> ManifestRecord {
    ManifestRecord {
        id: ManifestId(Uuid::from_u128(1)),
        tenant: TenantId::default_tenant(),
        revision: 1,
        state: ManifestState::Draft,
        title: title.into(),
        creator: "carla".into(),
        department: None,
        project: None,
        organization: None,
        classification,
        media_type: "image/jpeg".into(),
        file_name: None,
        source: BlobRef { sha256: CONTENT.into(), size: 1 },
        source_kept: true,
        definition: json!({}),
        metadata: json!({}),
        ingredients: vec![],
        signed: None,
        created_by: "user:1".into(),
        created_at: NOW,
        updated_at: NOW,
        archived: None,
        legal_hold: None,
        content_deleted_at: None,
    }
}

impl Case {
    fn new(classification: Classification) -> Self {
        let record = draft("Portrait", classification);
        Self {
            record,
            extracted: Extracted::default(),
            definition: ClaimDefinition::default(),
            evidence: vec![],
            settings: TenantSettings::default(),
            ingredients: vec![],
            workflow: None,
            stored: vec![("content", Some(Tier::Hot))],
        }
    }
    /// The same with the metadata of a real JPEG into which this XMP was written.
    fn with_xmp(mut self, properties: &str) -> Self {
        let packet = format!(
            "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description rdf:about=\"\" \
             xmlns:dc=\"http://purl.org/dc/elements/1.1/\" xmlns:xmpRights=\"http://ns.adobe.com/xap/1.0/rights/\" \
             xmlns:exif=\"http://ns.adobe.com/exif/1.0/\" xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\" \
             xmlns:photoshop=\"http://ns.adobe.com/photoshop/1.0/\" xmlns:plus=\"http://ns.useplus.org/ldf/xmp/1.0/\" \
             {properties}</rdf:Description></rdf:RDF>"
        );
        let mut body = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">".to_vec();
        body.extend(packet.as_bytes());
        body.extend(b"</x:xmpmeta>");
        self.extracted = extract(&with_segment(0xe1, &body));
        assert!(!self.extracted.xmp.is_empty(), "the XMP was not read");
        self
    }
    /// The same with the metadata of a real JPEG into which IPTC-IIM was written: data sets of record 2 and their texts.
    fn with_iptc(mut self, datasets: &[(u8, &str)]) -> Self {
        let mut records = Vec::new();
        for (number, text) in datasets {
            records.extend([0x1c, 2, *number]);
            records.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            records.extend(text.as_bytes());
        }
        let mut body = b"Photoshop 3.0\08BIM\x04\x04\0\0".to_vec();
        body.extend(u32::try_from(records.len()).unwrap().to_be_bytes());
        body.extend(records);
        self.extracted = extract(&with_segment(0xed, &body));
        assert!(!self.extracted.iptc.is_empty(), "the IPTC was not read");
        self
    }
    fn add(mut self, evidence: Evidence) -> Self {
        let id = EvidenceId(Uuid::from_u128(self.evidence.len() as u128 + 10));
        self.evidence.push((id, evidence));
        self
    }
    fn declared(self, change: impl FnOnce(&mut Declaration)) -> Self {
        let mut declaration = Declaration {
            content_sha256: CONTENT.into(),
            persons: BTreeSet::new(),
            purpose: "publication".into(),
            audience: "public".into(),
            destinations: set(&["SG"]),
            export_code: None,
            reviewed: false,
        };
        change(&mut declaration);
        self.add(Evidence::Declaration(declaration))
    }
    fn on<T>(&self, decide: impl FnOnce(&Input<'_>) -> T) -> T {
        // Names stand for their hashes here.
        let found = rules::named_persons(&self.extracted, &self.definition);
        decide(&Input {
            record: &self.record,
            extracted: &self.extracted,
            definition: &self.definition,
            evidence: &self.evidence,
            settings: &self.settings,
            ingredients: &self.ingredients,
            workflow: self.workflow.as_deref(),
            stored: &self.stored,
            found_persons: &found,
            now: NOW,
        })
    }
    fn says(&self, rule: RuleName, status: Status, because: &str) -> RuleResult {
        let result = self.on(|input| rules::rule_result(rule, input));
        assert_eq!(result.status, status, "{result:#?}");
        assert!(result.actual.contains(because), "{result:#?}");
        result
    }
}

/// A file of the repository's.
fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name);
    std::fs::read(path).unwrap()
}

/// A real JPEG with one more segment.
fn with_segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let mut jpeg = fixture("a.jpg");
    let mut segment = vec![0xff, marker];
    segment.extend(u16::try_from(body.len() + 2).unwrap().to_be_bytes());
    segment.extend(body);
    jpeg.splice(2..2, segment);
    jpeg
}

fn extract(bytes: &[u8]) -> Extracted {
    let media = media::sniff(&bytes[..bytes.len().min(media::SNIFF_LEN)]);
    metadata::extract(media, bytes.len() as u64, &mut Cursor::new(bytes.to_vec()))
}

fn consent(person: &str, change: impl FnOnce(&mut Consent)) -> Evidence {
    let mut consent = Consent {
        subject: person.into(),
        purpose: "publication".into(),
        scope: "worldwide".into(),
        document_sha256: "d".into(),
        given_at: NOW - Duration::days(10),
        expires_at: None,
        withdrawn_at: None,
    };
    change(&mut consent);
    Evidence::Consent(consent)
}

fn clearance(area: Area, change: impl FnOnce(&mut Clearance)) -> Evidence {
    let mut clearance = Clearance {
        area,
        content_sha256: CONTENT.into(),
        cleared: true,
        reason: "looked at it".into(),
        decided_by: "user:2".into(),
        role: "approver".into(),
        decided_at: NOW - Duration::days(1),
        expires_at: None,
        withdrawn_at: None,
    };
    change(&mut clearance);
    Evidence::Clearance(clearance)
}

fn rights(change: impl FnOnce(&mut Rights)) -> Evidence {
    let mut rights = Rights {
        content_sha256: CONTENT.into(),
        holder: "Example Ltd".into(),
        licence: "CC-BY-4.0".into(),
        from: None,
        until: None,
        territories: BTreeSet::new(),
        withdrawn_at: None,
    };
    change(&mut rights);
    Evidence::Rights(rights)
}

/// Asked for by one person; nobody has agreed to it.
fn over(change: impl FnOnce(&mut Override)) -> Override {
    let mut over = Override {
        id: Uuid::from_u128(9),
        rule: R::LegalReview,
        content_sha256: CONTENT.into(),
        reason: "the board decided".into(),
        requested_by: "user:3".into(),
        requested_at: NOW,
        approved_by: None,
        approved_at: None,
        expires_at: NOW + Duration::days(1),
    };
    change(&mut over);
    over
}

const ADA: &str = "><Iptc4xmpExt:PersonInImage><rdf:Bag><rdf:li>Ada</rdf:li></rdf:Bag></Iptc4xmpExt:PersonInImage>";
use Classification::{Confidential, Internal, Public, Secret};
use RuleName as R;
use Status::{Failed, Passed, Pending, Warning};

#[test]
fn pdpa_consent() {
    let ada = || Case::new(Public).with_xmp(ADA);
    Case::new(Public).says(R::PdpaConsent, Pending, "nobody has said");
    Case::new(Public).declared(|_| {}).says(R::PdpaConsent, Passed, "nobody can be recognised");
    let found = ada().says(R::PdpaConsent, Failed, "no live consent");
    assert_eq!(found.locations, ["metadata.xmp.Iptc4xmpExt:PersonInImage"]);
    ada().add(consent("Ada", |_| {})).says(R::PdpaConsent, Passed, "consent given");
    ada().add(consent("Ada", |c| c.purpose = "research".into())).says(R::PdpaConsent, Failed, "no live consent for publication");
    ada().add(consent("Bob", |_| {})).says(R::PdpaConsent, Failed, "no live consent");
    ada().add(consent("Ada", |c| c.expires_at = Some(NOW))).says(R::PdpaConsent, Failed, "no live consent");
    ada().add(consent("Ada", |c| c.given_at = NOW + Duration::days(1))).says(R::PdpaConsent, Failed, "no live consent");
    ada().add(consent("Ada", |c| c.withdrawn_at = Some(NOW))).says(R::PdpaConsent, Failed, "no live consent");
    ada().add(consent("Ada", |c| c.expires_at = Some(NOW + Duration::days(3)))).says(R::PdpaConsent, Warning, "ends on");
    // Declared besides: everybody needs one.
    let both = ada().declared(|d| d.persons = set(&["Bob"])).add(consent("Ada", |_| {}));
    both.says(R::PdpaConsent, Failed, "person Bob");
}

#[test]
fn what_a_reviewer_declares_is_not_taken_back_by_others() {
    let rules = |case: Case, persons, export| {
        case.says(R::PdpaConsent, persons, "");
        case.says(R::ExportControl, export, "");
    };
    let found = |d: &mut Declaration| {
        (d.persons, d.export_code, d.audience, d.reviewed) = (set(&["Bob"]), Some("5A002".into()), "partners".into(), true);
    };
    let nothing = |d: &mut Declaration| d.audience = "partners".into();
    rules(Case::new(Confidential).declared(nothing), Passed, Passed);
    // Of those who only say so, the newest counts.
    rules(Case::new(Confidential).declared(|d| (found(d), d.reviewed = false).0).declared(nothing), Passed, Passed);
    rules(Case::new(Confidential).declared(found), Failed, Failed);
    rules(Case::new(Confidential).declared(found).declared(nothing), Failed, Failed);
    rules(Case::new(Confidential).declared(nothing).declared(found), Failed, Failed);
    // Another reviewer may see that it was wrong.
    rules(Case::new(Confidential).declared(found).declared(|d| (nothing(d), d.reviewed = true).0), Passed, Passed);
}

#[test]
fn clearances() {
    for (rule, area) in [(R::TrademarkClearance, Area::Trademark), (R::LegalReview, Area::Legal)] {
        let with = |change: fn(&mut Clearance)| Case::new(Public).add(clearance(area, change));
        Case::new(Public).says(rule, Pending, "nobody has decided");
        with(|_| {}).says(rule, Passed, "cleared");
        with(|c| c.cleared = false).says(rule, Failed, "refused");
        with(|c| c.expires_at = Some(NOW)).says(rule, Failed, "ended");
        with(|c| c.expires_at = Some(NOW + Duration::days(5))).says(rule, Warning, "thirty days");
        with(|c| c.content_sha256 = "other".into()).says(rule, Pending, "nobody has decided");
        with(|c| c.withdrawn_at = Some(NOW)).says(rule, Pending, "taken back");
        // A refusal that is taken back does not bring an older clearance back.
        let back = with(|_| {}).add(clearance(area, |c| (c.cleared, c.decided_at, c.withdrawn_at) = (false, NOW, Some(NOW))));
        back.says(rule, Pending, "taken back");
        // The newest decision counts.
        let turned = with(|_| {}).add(clearance(area, |c| (c.cleared, c.decided_at) = (false, NOW)));
        turned.says(rule, Failed, "refused");
    }
    Case::new(Public).add(clearance(Area::Legal, |_| {})).says(R::TrademarkClearance, Pending, "trademark");
}

fn coded_nowhere(case: Case) {
    let unsaid = case.declared(|d| (d.export_code, d.destinations) = (Some("5A002".into()), BTreeSet::new()));
    unsaid.on(|input| assert_ne!(rules::rule_result(R::ExportControl, input).status, Passed));
}

#[test]
fn export_control() {
    let tenant = |mut case: Case| {
        case.settings.export.denied_destinations = set(&["KP"]);
        case.settings.export.controlled.insert("5A002".into(), set(&["SG", "JP"]));
        case.settings.export.denied_audiences = set(&["public"]);
        let range = omt_kernel::Area { name: "Range".into(), latitude_e6: 1_300_000, longitude_e6: 103_800_000, radius_km: 20 };
        case.settings.export.areas = vec![range];
        case
    };
    let case = || tenant(Case::new(Confidential));
    case().says(R::ExportControl, Pending, "nobody has declared");
    let partners = |d: &mut Declaration| d.audience = "partners".into();
    case().declared(partners).says(R::ExportControl, Passed, "allowed");
    // Whoever gets nothing gets what is not controlled no more than the rest.
    case().declared(|_| {}).says(R::ExportControl, Failed, "it is not for the audience public");
    coded_nowhere(case());
    case().declared(|d| d.destinations = set(&["KP"])).says(R::ExportControl, Failed, "nothing goes to KP");
    let coded = |to: &'static [&'static str], audience: &'static str| {
        case().declared(move |d| {
            (d.export_code, d.destinations, d.audience) = (Some("5A002".into()), set(to), audience.into());
        })
    };
    coded(&["JP"], "partners").says(R::ExportControl, Passed, "allowed");
    coded(&["DE"], "partners").says(R::ExportControl, Failed, "does not go to DE");
    coded(&["JP"], "public").says(R::ExportControl, Failed, "not for the audience");
    // What is public is for the public, whatever is declared.
    let house = |d: &mut Declaration| d.audience = "internal".into();
    tenant(Case::new(Public)).declared(house).says(R::ExportControl, Failed, "it is not for the audience public");
    case().declared(house).says(R::ExportControl, Passed, "allowed");
    let nowhere = |d: &mut Declaration| (d.audience, d.destinations) = ("internal".into(), BTreeSet::new());
    Case::new(Public).declared(nowhere).says(R::ExportControl, Pending, "where it goes");
    Case::new(Confidential).declared(nowhere).says(R::ExportControl, Passed, "allowed");
    case().declared(|d| d.export_code = Some("9X999".into())).says(R::ExportControl, Failed, "on no list");
    let place = "exif:GPSLatitude=\"1,17.5N\" exif:GPSLongitude=\"103,51.0E\">";
    let near = tenant(Case::new(Confidential).with_xmp(place)).declared(partners);
    near.says(R::ExportControl, Warning, "in or near Range");
    let south = "exif:GPSLatitude=\"1,17.5S\" exif:GPSLongitude=\"103,51.0E\">";
    tenant(Case::new(Confidential).with_xmp(south)).declared(partners).says(R::ExportControl, Passed, "allowed");
}

#[test]
fn classification_valid() {
    let with = |theirs| {
        let mut case = Case::new(Confidential);
        case.ingredients = vec![("map.png".into(), theirs)];
        case
    };
    Case::new(Internal).says(R::ClassificationValid, Passed, "internal");
    with(Some(Internal)).says(R::ClassificationValid, Passed, "confidential");
    with(Some(Secret)).says(R::ClassificationValid, Failed, "map.png");
    with(None).says(R::ClassificationValid, Warning, "nobody here knows");
    let mut wrong = Case::new(Secret);
    wrong.settings.approval.insert(Secret, "dual-approval".into());
    wrong.workflow = Some("default".into());
    wrong.says(R::ClassificationValid, Failed, "dual-approval");
    wrong.workflow = Some("dual-approval".into());
    wrong.says(R::ClassificationValid, Passed, "secret");
    wrong.settings.storage_clearance.insert(Tier::Cold, Internal);
    wrong.says(R::ClassificationValid, Passed, "secret");
    // Anything of it.
    wrong.stored.push(("manifest", Some(Tier::Cold)));
    let found = wrong.says(R::ClassificationValid, Failed, "its manifest lies in the cold storage, which must not hold secret");
    assert_eq!(found.locations, ["storage"]);
    wrong.stored = vec![("signed content", None)];
    wrong.says(R::ClassificationValid, Pending, "nobody knows where its signed content is stored");
    wrong.settings.storage_clearance.clear();
    wrong.says(R::ClassificationValid, Passed, "secret");
    // What nobody has begun to approve waits for that; what is signed without was signed around it.
    wrong.workflow = None;
    wrong.says(R::ClassificationValid, Pending, "goes through the workflow dual-approval, and this went through none");
    wrong.record.state = ManifestState::Signed;
    wrong.says(R::ClassificationValid, Failed, "went through none");
}

#[test]
fn retention_policy() {
    let archived = |at, until| {
        let mut case = Case::new(Public);
        case.record.archived = Some(Archived { at, retain_until: until });
        case
    };
    Case::new(Public).says(R::RetentionPolicy, Passed, "2555 days");
    let long_ago = NOW - Duration::days(2_550);
    archived(NOW, NOW + Duration::days(2_555)).says(R::RetentionPolicy, Passed, "kept until");
    archived(NOW, NOW + Duration::days(100)).says(R::RetentionPolicy, Failed, "should be until");
    archived(long_ago, long_ago + Duration::days(2_555)).says(R::RetentionPolicy, Warning, "deleted on");
    let mut gone = archived(NOW - Duration::days(9), NOW + Duration::days(2_600));
    gone.record.content_deleted_at = Some(NOW);
    gone.says(R::RetentionPolicy, Failed, "before its time");
    gone.record.legal_hold = Some(LegalHold { reason: "court".into(), placed_by: "user:1".into(), placed_at: NOW });
    gone.says(R::RetentionPolicy, Passed, "held");
    let mut unset = Case::new(Public);
    unset.settings.retention_days_by_classification.clear();
    unset.settings.retention_days = 30;
    unset.says(R::RetentionPolicy, Passed, "kept for 30 days");
    unset.record.archived = Some(Archived { at: NOW, retain_until: NOW + Duration::days(29) });
    unset.says(R::RetentionPolicy, Failed, "should be until");
}

#[test]
fn pii_redaction() {
    Case::new(Public).says(R::PiiRedaction, Passed, "none found");
    let place = "exif:GPSLatitude=\"1,17.5N\" exif:GPSLongitude=\"103,51.0E\">";
    let result = Case::new(Public).with_xmp(place).says(R::PiiRedaction, Failed, "2 × gps");
    assert_eq!(result.locations, ["metadata.xmp.exif:GPSLatitude", "metadata.xmp.exif:GPSLongitude"]);
    Case::new(Internal).with_xmp(place).says(R::PiiRedaction, Warning, "for the house only");
    Case::new(Public).with_xmp(place).declared(|d| d.audience = "internal".into()).says(R::PiiRedaction, Failed, "public");
    Case::new(Internal).with_xmp(place).declared(|d| d.audience = "partners".into()).says(R::PiiRedaction, Failed, "partners");
    let mut said = Case::new(Public);
    said.definition.assertions = vec![CustomAssertion {
        label: "org.example.note".into(),
        data: json!({ "by": ["ask S1234567D", "or bob@example.org"] }),
    }];
    let result = said.says(R::PiiRedaction, Failed, "1 × email, 1 × nric_sg");
    assert_eq!(result.locations, ["assertions[0].data.by[0]", "assertions[0].data.by[1]"]);
    // A name is in it until its owner agreed.
    Case::new(Public).with_xmp(ADA).says(R::PiiRedaction, Failed, "1 × name");
    Case::new(Public).with_xmp(ADA).add(consent("Ada", |_| {})).says(R::PiiRedaction, Passed, "none found");
    // Of what is too large to be read nobody knows what else is in it, whatever is found in what the claim says.
    for classification in [Public, Internal] {
        let mut large = Case::new(classification);
        large.record.source.size = (64 << 20) + 1;
        large.says(R::PiiRedaction, Pending, "too large");
        large.record.title = "ask bob@example.org".into();
        let status = if classification == Public { Failed } else { Pending };
        let result = large.says(R::PiiRedaction, status, "too large");
        assert!(result.actual.contains("1 × email"), "{result:#?}");
    }
    // Where nobody is known, nobody has agreed, unless it is declared that nobody is in it.
    let mut nameless = Case::new(Public);
    let data = json!({ "personInImage": [{ "description": "smiling" }] });
    nameless.definition.assertions = vec![CustomAssertion { label: "org.example.people".into(), data }];
    nameless.says(R::PiiRedaction, Failed, "1 × name");
    nameless.declared(|_| {}).says(R::PiiRedaction, Passed, "none found");
}

#[test]
fn copyright_valid() {
    let with = |change: fn(&mut Rights)| Case::new(Public).add(rights(change));
    Case::new(Public).says(R::CopyrightValid, Failed, "neither a record");
    Case::new(Public).with_xmp("><dc:rights>Example Ltd</dc:rights>").says(R::CopyrightValid, Failed, "no licence");
    let both = "xmpRights:WebStatement=\"https://example.test/l\"><dc:rights>Example Ltd</dc:rights>";
    Case::new(Public).with_xmp(both).says(R::CopyrightValid, Passed, "holder and licence");
    // Whom a picture is credited to need not hold the rights.
    let credit = "xmpRights:WebStatement=\"https://example.test/l\" photoshop:Credit=\"Cara\">";
    Case::new(Public).with_xmp(credit).says(R::CopyrightValid, Failed, "whose it is");
    with(|_| {}).says(R::CopyrightValid, Passed, "covers it");
    with(|r| r.until = Some(NOW)).says(R::CopyrightValid, Failed, "ended");
    with(|r| r.until = Some(NOW + Duration::days(2))).says(R::CopyrightValid, Warning, "thirty days");
    with(|r| r.from = Some(NOW + Duration::days(2))).says(R::CopyrightValid, Pending, "not begun");
    with(|r| r.withdrawn_at = Some(NOW)).says(R::CopyrightValid, Failed, "taken back");
    with(|r| r.content_sha256 = "other".into()).says(R::CopyrightValid, Failed, "neither a record");
    with(|r| r.territories = set(&["SG"])).says(R::CopyrightValid, Pending, "where it goes");
    let abroad = with(|r| r.territories = set(&["SG"])).declared(|d| d.destinations = set(&["SG", "DE"]));
    abroad.says(R::CopyrightValid, Failed, "no right for DE");
}

#[test]
fn the_worst_rule_is_the_policy() {
    let policy = Policy::shipped().into_iter().find(|p| p.name == "public_content").unwrap();
    let report = |case: &Case, overrides: &[Override]| case.on(|input| rules::evaluate(&policy, input, overrides));
    let mut case = Case::new(Public);
    assert_eq!(report(&case, &[]).status, Failed, "failed is worse than pending");
    case = case.add(rights(|_| {}));
    assert_eq!(report(&case, &[]).status, Pending, "pending is not passed");
    case = case
        .add(clearance(Area::Legal, |_| {}))
        .add(clearance(Area::Trademark, |c| c.expires_at = Some(NOW + Duration::days(1))));
    assert_eq!(report(&case, &[]).status, Warning);

    let bad = Case::new(Public)
        .add(rights(|_| {}))
        .add(clearance(Area::Trademark, |_| {}))
        .add(clearance(Area::Legal, |c| c.cleared = false));
    let mut over = over(|_| {});
    assert_eq!(report(&bad, &[over.clone()]).status, Failed, "one person is not enough");
    over.approved_by = Some("user:4".into());
    let made = report(&bad, &[over.clone()]);
    assert_eq!(made.status, Warning);
    let rule = made.rules.iter().find(|r| r.rule == R::LegalReview).unwrap();
    assert!(rule.overridden_by == Some(over.id) && rule.actual.contains("failed, overridden: the board decided"), "{rule:?}");
    over.expires_at = NOW;
    let made = report(&bad, &[over.clone()]);
    assert_eq!((made.status, made.overrides.len()), (Failed, 1), "lapsed, and still shown");
    over.expires_at = NOW + Duration::days(1);
    over.content_sha256 = "other".into();
    assert_eq!(report(&bad, &[over]).status, Failed);
}
