//! Policies, results and the records of evidence.

use omt_kernel::{EvidenceId, ManifestId, OffsetDateTime, governance::EVIDENCE_KINDS};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};
use uuid::Uuid;

/// What a rule or a policy says; the later, the worse. What is pending is never passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    Passed,
    /// It holds, and somebody should look.
    Warning,
    /// Nobody can say yet.
    Pending,
    /// It does not hold.
    Failed,
}

impl Status {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
    /// Whether nothing stands against going on.
    pub fn lets_through(self) -> bool {
        self <= Self::Warning
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleName {
    /// Everybody in it agreed to this use.
    PdpaConsent,
    /// Trademarks in it are cleared.
    TrademarkClearance,
    /// Somebody of the law has looked at it.
    LegalReview,
    /// It may go where it is to go.
    ExportControl,
    /// Its classification is right.
    ClassificationValid,
    /// It is kept as long as it must be.
    RetentionPolicy,
    /// Personal data that its audience must not see is not in it.
    PiiRedaction,
    /// We may use it.
    CopyrightValid,
}

impl RuleName {
    /// Every rule.
    pub const ALL: [Self; 8] = [
        Self::PdpaConsent,
        Self::TrademarkClearance,
        Self::LegalReview,
        Self::ExportControl,
        Self::ClassificationValid,
        Self::RetentionPolicy,
        Self::PiiRedaction,
        Self::CopyrightValid,
    ];
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PdpaConsent => "pdpa_consent",
            Self::TrademarkClearance => "trademark_clearance",
            Self::LegalReview => "legal_review",
            Self::ExportControl => "export_control",
            Self::ClassificationValid => "classification_valid",
            Self::RetentionPolicy => "retention_policy",
            Self::PiiRedaction => "pii_redaction",
            Self::CopyrightValid => "copyright_valid",
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RuleName {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == s).ok_or(())
    }
}

/// A compliance policy: a name and the rules that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Name.
    pub name: String,
    /// Words for people.
    #[serde(default)]
    pub description: String,
    /// Rules.
    pub rules: BTreeSet<RuleName>,
}

impl Policy {
    /// The policies that every tenant has.
    pub fn shipped() -> Vec<Self> {
        let policy = |name: &str, description: &str, rules: &[RuleName]| Self {
            name: name.to_owned(),
            description: description.to_owned(),
            rules: rules.iter().copied().collect(),
        };
        use RuleName as R;
        vec![
            policy("public_content", "Content for everybody", &[R::TrademarkClearance, R::CopyrightValid, R::LegalReview]),
            policy("internal_content", "Content for the house", &[R::ClassificationValid, R::RetentionPolicy]),
            policy(
                "confidential_content",
                "Content for few",
                &[R::ClassificationValid, R::ExportControl, R::PiiRedaction, R::RetentionPolicy, R::LegalReview],
            ),
            policy("pdpa_compliance", "Personal data", &[R::PdpaConsent, R::PiiRedaction]),
        ]
    }
}

/// What a rule looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceSeen {
    /// The record, where it is one of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EvidenceId>,
    /// What it is, such as `consent`, `clearance`, `xmp` or `exif`.
    pub kind: String,
    /// What it says, without personal data.
    pub says: String,
}

/// What a rule says, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleResult {
    /// The rule.
    pub rule: RuleName,
    /// What it says.
    pub status: Status,
    /// Where in the content or its record, such as `metadata.exif.exif:GPSLatitude`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<String>,
    /// What would have to be so.
    pub expected: String,
    /// What is so.
    pub actual: String,
    /// What it decided from.
    pub evidence: Vec<EvidenceSeen>,
    /// The override that lets it pass all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden_by: Option<Uuid>,
}

/// What a policy says of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The manifest.
    pub manifest_id: ManifestId,
    /// The policy.
    pub policy: String,
    /// The worst of the rules.
    pub status: Status,
    /// SHA-256 of the content that was looked at.
    pub content_sha256: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub checked_at: OffsetDateTime,
    /// Rule by rule.
    pub rules: Vec<RuleResult>,
    /// Every override that there ever was on this manifest, lapsed ones too.
    pub overrides: Vec<Override>,
}

/// Evidence, by kind. None of it holds a name: people are hashed, documents are hashed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// Somebody agreed.
    Consent(Consent),
    /// Somebody decided.
    Clearance(Clearance),
    /// We may use it.
    Rights(Rights),
    /// What somebody says of it.
    Declaration(Declaration),
}

impl Evidence {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        let [consent, clearance, rights, declaration] = EVIDENCE_KINDS;
        match self {
            Self::Consent(_) => consent,
            Self::Clearance(_) => clearance,
            Self::Rights(_) => rights,
            Self::Declaration(_) => declaration,
        }
    }
}

/// Consent of a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consent {
    /// The person, hashed.
    pub subject: String,
    /// What for, such as `publication`.
    pub purpose: String,
    /// How far, in words.
    pub scope: String,
    /// SHA-256 of the document that proves it.
    pub document_sha256: String,
    /// When it was given.
    #[serde(with = "time::serde::rfc3339")]
    pub given_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was withdrawn.
    #[serde(with = "time::serde::rfc3339::option")]
    pub withdrawn_at: Option<OffsetDateTime>,
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Trademarks.
    Trademark,
    /// The law.
    Legal,
}

impl Area {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trademark => "trademark",
            Self::Legal => "legal",
        }
    }
}

/// A decision on exactly this content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clearance {
    /// What about.
    pub area: Area,
    /// SHA-256 of the content.
    pub content_sha256: String,
    /// Whether it is cleared.
    pub cleared: bool,
    /// Why.
    pub reason: String,
    /// The subject that decided.
    pub decided_by: String,
    /// The role in which they did.
    pub role: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub decided_at: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was taken back.
    #[serde(with = "time::serde::rfc3339::option")]
    pub withdrawn_at: Option<OffsetDateTime>,
}

/// A right to use this content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rights {
    /// SHA-256 of the content.
    pub content_sha256: String,
    /// Whose it is.
    pub holder: String,
    /// The licence.
    pub licence: String,
    /// From then on.
    #[serde(with = "time::serde::rfc3339::option")]
    pub from: Option<OffsetDateTime>,
    /// Until then.
    #[serde(with = "time::serde::rfc3339::option")]
    pub until: Option<OffsetDateTime>,
    /// Where, ISO 3166-1 alpha-2; everywhere when empty.
    pub territories: BTreeSet<String>,
    /// When it was taken back.
    #[serde(with = "time::serde::rfc3339::option")]
    pub withdrawn_at: Option<OffsetDateTime>,
}

/// What somebody says of content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Declaration {
    /// SHA-256 of the content.
    pub content_sha256: String,
    /// Everybody who can be recognised in it, hashed; an empty list says nobody can.
    pub persons: BTreeSet<String>,
    /// What it is for.
    pub purpose: String,
    /// Who will see it: `public`, `partners` or `internal`.
    pub audience: String,
    /// Where it goes, ISO 3166-1 alpha-2.
    pub destinations: BTreeSet<String>,
    /// Its export classification: an ECCN such as `5A002`, or `dual-use`; none says that it is not controlled.
    pub export_code: Option<String>,
    /// Whoever said so checks compliance, and did not make the content.
    #[serde(default)]
    pub reviewed: bool,
}

/// An override of one rule for one content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// Identifier.
    pub id: Uuid,
    /// The rule.
    pub rule: RuleName,
    /// SHA-256 of the content.
    pub content_sha256: String,
    /// Why.
    pub reason: String,
    /// The subject that asked for it.
    pub requested_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub requested_at: OffsetDateTime,
    /// The second person.
    pub approved_by: Option<String>,
    /// When they did.
    #[serde(with = "time::serde::rfc3339::option")]
    pub approved_at: Option<OffsetDateTime>,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl Override {
    /// Whether it counts for this content now.
    pub fn is_in_force(&self, content_sha256: &str, now: OffsetDateTime) -> bool {
        self.approved_by.is_some() && self.content_sha256 == content_sha256 && now < self.expires_at
    }
}
