//! The rules: pure decisions from a manifest's record, the evidence about it and the tenant's settings.

mod copyright;
mod export;

use crate::{
    model::{
        Area, Clearance, Consent, Declaration, Evidence, EvidenceSeen, Override, Policy, Report, RuleName, RuleResult, Status,
    },
    pii,
    redaction::{self, PERSONS, Place},
};
use omt_claims::{
    definition::{ClaimDefinition, MetadataInclusion},
    metadata::Extracted,
};
use omt_kernel::{
    EvidenceId, OffsetDateTime, TenantSettings,
    manifest::{Classification, ManifestRecord, ManifestState},
    storage::Tier,
};
use std::collections::{BTreeMap, BTreeSet};
use time::Duration;

/// What ends within this is worth a warning.
const SOON: Duration = Duration::days(30);
/// Places that a report names.
const LISTED: usize = 100;

/// Everything that a decision depends on.
pub struct Input<'a> {
    /// The manifest.
    pub record: &'a ManifestRecord,
    /// Metadata found in its content.
    pub extracted: &'a Extracted,
    /// What its claim will say.
    pub definition: &'a ClaimDefinition,
    /// Evidence about its content and the people in it.
    pub evidence: &'a [(EvidenceId, Evidence)],
    /// The tenant's settings.
    pub settings: &'a TenantSettings,
    /// Its ingredients: title, and classification where it is known.
    pub ingredients: &'a [(String, Option<Classification>)],
    /// The definition of the workflow that decides on it.
    pub workflow: Option<&'a str>,
    /// What is stored of it, and where; no tier where nobody knows.
    pub stored: &'a [(&'static str, Option<Tier>)],
    /// The people that its metadata names, hashed.
    pub found_persons: &'a BTreeSet<String>,
    /// Now.
    pub now: OffsetDateTime,
}

/// Names of people in the picture: in metadata, and in what the claim will say.
pub fn named_persons(extracted: &Extracted, definition: &ClaimDefinition) -> BTreeSet<String> {
    people(extracted, definition).into_iter().map(|(_, name)| name).collect()
}

/// The same, and where each stands.
fn people(extracted: &Extracted, definition: &ClaimDefinition) -> Vec<(Place, String)> {
    let mut out = Vec::new();
    for (source, properties) in [("xmp", &extracted.xmp), ("iptc", &extracted.iptc), ("tags", &extracted.tags)] {
        for (property, value) in PERSONS.iter().filter_map(|name| Some((*name, properties.get(*name)?))) {
            let place = || Place::Property(source.to_owned(), property.to_owned());
            out.extend(value.split(';').map(|name| (place(), name.to_owned())));
        }
    }
    for (n, assertion) in definition.assertions.iter().enumerate() {
        out.extend(pii::persons(&assertion.data).into_iter().map(|(path, name)| (Place::Assertion(n, path), name)));
    }
    let trimmed = out.into_iter().map(|(place, name)| (place, name.trim().to_owned()));
    trimmed.filter(|(_, name)| !name.is_empty()).collect()
}

/// When a report may say otherwise although nothing changes: the next time that something which it may depend on begins, ends
/// soon, or ends.
pub fn turns_at(input: &Input<'_>, overrides: &[Override]) -> Option<OffsetDateTime> {
    let (mut begins, mut ends) = (Vec::new(), Vec::new());
    for (_, evidence) in input.evidence {
        match evidence {
            Evidence::Consent(consent) => {
                begins.push(consent.given_at);
                ends.extend(consent.expires_at);
            }
            Evidence::Clearance(clearance) => ends.extend(clearance.expires_at),
            Evidence::Rights(rights) => {
                begins.extend(rights.from);
                ends.extend(rights.until);
            }
            Evidence::Declaration(_) => {}
        }
    }
    let window = copyright::window(input.extracted);
    begins.extend(window.from);
    ends.extend(window.until);
    ends.extend(input.record.archived.as_ref().map(|archived| archived.retain_until));
    ends.extend(overrides.iter().filter(|found| found.approved_by.is_some()).map(|found| found.expires_at));
    // A second later: what ends in exactly thirty days does not end soon yet.
    let soon = ends.iter().filter_map(|end| end.checked_sub(SOON)?.checked_add(Duration::SECOND)).collect::<Vec<_>>();
    begins.into_iter().chain(ends).chain(soon).filter(|at| *at > input.now).min()
}

/// Evaluates a policy. Overrides in force turn what stands against it into a warning.
pub fn evaluate(policy: &Policy, input: &Input<'_>, overrides: &[Override]) -> Report {
    let content = &input.record.source.sha256;
    let mut rules: Vec<RuleResult> = policy.rules.iter().map(|rule| rule_result(*rule, input)).collect();
    for result in rules.iter_mut().filter(|result| !result.status.lets_through()) {
        let force = |o: &&Override| o.rule == result.rule && o.is_in_force(content, input.now);
        if let Some(found) = overrides.iter().find(force) {
            result.actual = format!("{} ({}, overridden: {})", result.actual, result.status, found.reason);
            result.status = Status::Warning;
            result.overridden_by = Some(found.id);
        }
    }
    let status = rules.iter().map(|rule| rule.status).max().unwrap_or(Status::Passed);
    Report {
        manifest_id: input.record.id,
        policy: policy.name.clone(),
        status,
        content_sha256: content.clone(),
        checked_at: input.now,
        rules,
        overrides: overrides.to_vec(),
    }
}

/// What one rule says.
pub fn rule_result(rule: RuleName, input: &Input<'_>) -> RuleResult {
    match rule {
        RuleName::PdpaConsent => pdpa_consent(input),
        RuleName::TrademarkClearance => clearance(rule, Area::Trademark, input),
        RuleName::LegalReview => clearance(rule, Area::Legal, input),
        RuleName::ExportControl => export::control(input),
        RuleName::ClassificationValid => classification_valid(input),
        RuleName::RetentionPolicy => retention_policy(input),
        RuleName::PiiRedaction => pii_redaction(input),
        RuleName::CopyrightValid => copyright::valid(input),
    }
}

/// A result under construction.
struct Finding(RuleResult);

impl Finding {
    fn new(rule: RuleName, expected: &str) -> Self {
        Self(RuleResult {
            rule,
            status: Status::Passed,
            locations: Vec::new(),
            expected: expected.to_owned(),
            actual: String::new(),
            evidence: Vec::new(),
            overridden_by: None,
        })
    }
    /// Something that is so; the worst counts, and all of it is said.
    fn say(&mut self, status: Status, actual: impl AsRef<str>) {
        self.0.status = self.0.status.max(status);
        if !self.0.actual.is_empty() {
            self.0.actual.push_str("; ");
        }
        self.0.actual.push_str(actual.as_ref());
    }
    fn saw(&mut self, id: Option<EvidenceId>, kind: &str, says: impl Into<String>) {
        self.0.evidence.push(EvidenceSeen { id, kind: kind.to_owned(), says: says.into() });
    }
    fn at(&mut self, location: impl Into<String>) {
        self.0.locations.push(location.into());
    }
}

/// The declaration about exactly this content that counts: the newest of those who check compliance and did not make it; where there
/// is none, the newest. So nobody takes back what a reviewer saw in their content.
pub fn declaration<'a>(evidence: &'a [(EvidenceId, Evidence)], content: &str) -> Option<(EvidenceId, &'a Declaration)> {
    let declared = evidence.iter().filter_map(|(id, evidence)| match evidence {
        Evidence::Declaration(found) if found.content_sha256 == content => Some((*id, found)),
        _ => None,
    });
    declared.max_by_key(|(id, found)| (found.reviewed, *id))
}

impl Input<'_> {
    /// The declaration that counts.
    pub fn declaration(&self) -> Option<(EvidenceId, &Declaration)> {
        declaration(self.evidence, &self.record.source.sha256)
    }
    fn audience(&self) -> &str {
        // What is public is for everybody, whatever is declared.
        if self.record.classification == Classification::Public {
            return "public";
        }
        self.declaration().map_or("internal", |(_, declaration)| &declaration.audience)
    }
    fn purpose(&self) -> &str {
        self.declaration().map_or("publication", |(_, declaration)| &declaration.purpose)
    }
    fn consents<'b>(&'b self, person: &'b str, purpose: &'b str) -> impl Iterator<Item = (EvidenceId, &'b Consent)> {
        self.evidence.iter().filter_map(move |(id, evidence)| match evidence {
            Evidence::Consent(consent) if consent.subject == person && consent.purpose == purpose => Some((*id, consent)),
            _ => None,
        })
    }
    fn is_live(&self, consent: &Consent) -> bool {
        consent.withdrawn_at.is_none()
            && consent.given_at <= self.now
            && consent.expires_at.is_none_or(|expires| self.now < expires)
    }
    fn ends_soon(&self, at: Option<OffsetDateTime>) -> bool {
        at.is_some_and(|at| at - self.now < SOON)
    }
}

fn day(at: OffsetDateTime) -> String {
    at.date().to_string()
}

fn pdpa_consent(input: &Input<'_>) -> RuleResult {
    let mut finding = Finding::new(RuleName::PdpaConsent, "a live consent of everybody in it, for its purpose");
    let declared = input.declaration();
    if let Some((id, declaration)) = declared {
        let by = if declaration.reviewed { " by a reviewer" } else { "" };
        let words = format!("{} people declared{by}, for {}", declaration.persons.len(), declaration.purpose);
        finding.saw(Some(id), "declaration", words);
    }
    if !input.found_persons.is_empty() {
        finding.saw(None, "metadata", format!("{} people named", input.found_persons.len()));
        let places: BTreeSet<Place> = people(input.extracted, input.definition).into_iter().map(|(place, _)| place).collect();
        places.iter().take(LISTED).for_each(|place| finding.at(place.to_string()));
    }
    let purpose = input.purpose();
    let mut persons = input.found_persons.clone();
    persons.extend(declared.into_iter().flat_map(|(_, declaration)| declaration.persons.iter().cloned()));
    if persons.is_empty() {
        match declared {
            Some(_) => finding.say(Status::Passed, "nobody can be recognised in it, as declared"),
            None => finding.say(Status::Pending, "nobody has said who is in it"),
        }
        return finding.0;
    }
    for person in &persons {
        let consents: Vec<(EvidenceId, Consent)> =
            input.consents(person, purpose).map(|(id, consent)| (id, consent.clone())).collect();
        one_consent(&mut finding, input, person, purpose, &consents);
    }
    finding.0
}

fn one_consent(finding: &mut Finding, input: &Input<'_>, person: &str, purpose: &str, consents: &[(EvidenceId, Consent)]) {
    let who = format!("person {}", person.get(..12).unwrap_or(person));
    let lasting = |consent: &Consent| consent.expires_at.map_or(i64::MAX, OffsetDateTime::unix_timestamp);
    let best = consents.iter().filter(|(_, consent)| input.is_live(consent)).max_by_key(|(_, consent)| lasting(consent));
    if let Some((id, consent)) = best {
        finding.saw(Some(*id), "consent", format!("{who}: given {}, scope {}", day(consent.given_at), consent.scope));
        match consent.expires_at {
            Some(expires) if input.ends_soon(Some(expires)) => {
                finding.say(Status::Warning, format!("{who}: consent ends on {}", day(expires)));
            }
            _ => finding.say(Status::Passed, format!("{who}: consent given")),
        }
        return;
    }
    for (id, consent) in consents {
        let words = match (consent.withdrawn_at, consent.expires_at) {
            (Some(at), _) => format!("withdrawn on {}", day(at)),
            (None, Some(at)) if at <= input.now => format!("ended on {}", day(at)),
            _ => format!("begins on {}", day(consent.given_at)),
        };
        finding.saw(Some(*id), "consent", format!("{who}: {words}"));
    }
    finding.say(Status::Failed, format!("{who}: no live consent for {purpose}"));
}

fn clearance(rule: RuleName, area: Area, input: &Input<'_>) -> RuleResult {
    let mut finding = Finding::new(rule, "a decision on exactly this content by somebody who may make it, that has not ended");
    let of = |(id, evidence): &'_ (EvidenceId, Evidence)| match evidence {
        Evidence::Clearance(found) if found.area == area => Some((*id, found.clone())),
        _ => None,
    };
    let all: Vec<(EvidenceId, Clearance)> = input.evidence.iter().filter_map(of).collect();
    let here = |(_, clearance): &&(EvidenceId, Clearance)| clearance.content_sha256 == input.record.source.sha256;
    let Some((id, newest)) = all.iter().filter(here).max_by_key(|(id, clearance)| (clearance.decided_at, *id)) else {
        finding.say(Status::Pending, format!("nobody has decided about {} of this content", area.as_str()));
        return finding.0;
    };
    let says = format!("{} on {} as {}", if newest.cleared { "cleared" } else { "refused" }, day(newest.decided_at), newest.role);
    finding.saw(Some(*id), "clearance", says);
    if newest.withdrawn_at.is_some() {
        // Not the one before it: whoever takes a refusal back has not cleared anything.
        finding.say(Status::Pending, "the newest decision was taken back");
    } else if !newest.cleared {
        finding.say(Status::Failed, format!("refused: {}", newest.reason));
    } else if newest.expires_at.is_some_and(|expires| expires <= input.now) {
        finding.say(Status::Failed, "the clearance has ended");
    } else if input.ends_soon(newest.expires_at) {
        finding.say(Status::Warning, "the clearance ends within thirty days");
    } else {
        finding.say(Status::Passed, "cleared");
    }
    finding.0
}

fn classification_valid(input: &Input<'_>) -> RuleResult {
    let mut finding = Finding::new(
        RuleName::ClassificationValid,
        "at least as high as every ingredient's, and what its workflow and its storage are for",
    );
    let class = input.record.classification;
    for (title, theirs) in input.ingredients {
        match theirs {
            Some(theirs) if *theirs > class => {
                finding.at("ingredients");
                finding.say(Status::Failed, format!("the ingredient {title:?} is {theirs}, this is {class}"));
            }
            Some(theirs) => finding.saw(None, "ingredient", format!("{title:?} is {theirs}")),
            None => {
                finding.at("ingredients");
                finding.say(Status::Warning, format!("nobody here knows how the ingredient {title:?} is classified"));
            }
        }
    }
    match (input.settings.approval.get(&class), input.workflow) {
        (Some(required), Some(workflow)) if required != workflow => {
            finding.say(Status::Failed, format!("{class} content goes through the workflow {required}, not {workflow}"));
        }
        (Some(required), None) => {
            let is_open = input.record.state == ManifestState::Draft;
            let status = if is_open { Status::Pending } else { Status::Failed };
            finding.say(status, format!("{class} content goes through the workflow {required}, and this went through none"));
        }
        _ => {}
    }
    for (what, tier) in input.stored {
        match tier {
            Some(tier) if !input.settings.may_hold(*tier, class) => {
                finding.at("storage");
                let tier = tier.as_str();
                finding
                    .say(Status::Failed, format!("its {what} lies in the {tier} storage, which must not hold {class} content"));
            }
            // Where every storage may hold everything, it matters to nobody.
            None if !input.settings.storage_clearance.is_empty() => {
                finding.at("storage");
                finding.say(Status::Pending, format!("nobody knows where its {what} is stored"));
            }
            _ => {}
        }
    }
    if finding.0.actual.is_empty() {
        finding.say(Status::Passed, format!("{class}"));
    }
    finding.0
}

fn retention_policy(input: &Input<'_>) -> RuleResult {
    let mut finding = Finding::new(RuleName::RetentionPolicy, "kept for the days of its classification, and no less");
    let class = input.record.classification;
    let days = input.settings.retention_for(class);
    finding.saw(None, "settings", format!("{class}: {days} days"));
    if let Some(hold) = &input.record.legal_hold {
        finding.saw(None, "legal_hold", format!("held since {}", day(hold.placed_at)));
        finding.say(Status::Passed, "held, whatever its retention");
        return finding.0;
    }
    let Some(archived) = &input.record.archived else {
        finding.say(Status::Passed, format!("kept for {days} days from when it is archived"));
        return finding.0;
    };
    let due = archived
        .at
        .checked_add(Duration::days(i64::from(days)))
        .unwrap_or(OffsetDateTime::new_utc(time::Date::MAX, time::Time::MIDNIGHT));
    if input.record.content_deleted_at.is_some_and(|at| at < due) {
        finding.say(Status::Failed, "its content was deleted before its time");
    } else if archived.retain_until < due {
        let words = format!("kept until {}, and should be until {}", day(archived.retain_until), day(due));
        finding.say(Status::Failed, words);
    } else if input.ends_soon(Some(archived.retain_until)) {
        finding.say(Status::Warning, format!("its content is deleted on {}", day(archived.retain_until)));
    } else {
        finding.say(Status::Passed, format!("kept until {}", day(archived.retain_until)));
    }
    finding.0
}

fn pii_redaction(input: &Input<'_>) -> RuleResult {
    let mut finding = Finding::new(RuleName::PiiRedaction, "no personal data that its audience must not see");
    let audience = input.audience();
    let purpose = input.purpose();
    let agreed = |person: &String| input.consents(person, purpose).any(|(_, consent)| input.is_live(consent));
    // Whoever agreed to this use agreed to be named; of those who did not, the name is one datum more. Where nobody is known,
    // nobody has agreed, unless it is declared that nobody is in it.
    let all_agreed = if input.found_persons.is_empty() {
        input.declaration().is_some_and(|(_, declaration)| declaration.persons.is_empty())
    } else {
        input.found_persons.iter().all(agreed)
    };
    let found = redaction::found(input.record, input.extracted, input.definition, !all_agreed);
    if input.definition.metadata == MetadataInclusion::All && !found.is_empty() {
        finding.saw(None, "definition", "the claim repeats all metadata");
    }
    let kinds: BTreeMap<&str, usize> = found.iter().fold(BTreeMap::new(), |mut kinds, (_, kind)| {
        *kinds.entry(kind.as_str()).or_default() += 1;
        kinds
    });
    let listed: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} × {kind}")).collect();
    for (location, kind) in found.iter().take(LISTED) {
        finding.at(location.to_string());
        finding.saw(None, kind.as_str(), location.to_string());
    }
    let is_read = input.extracted.is_read(&input.record.media_type, input.record.source.size);
    if !is_read {
        // Whatever is found elsewhere: nobody knows what else there is.
        finding.say(
            Status::Pending,
            "not all metadata of the content is read: it is too large, of a type that is not read, or compressed",
        );
    }
    if found.is_empty() {
        if is_read {
            finding.say(Status::Passed, "none found");
        }
    } else if audience == "internal" {
        finding.say(Status::Warning, format!("for the house only: {}", listed.join(", ")));
    } else {
        finding.say(Status::Failed, format!("for the audience {audience}: {}", listed.join(", ")));
    }
    finding.0
}
