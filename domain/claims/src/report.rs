//! The verification report: integrity, trust and post-quantum protection side by side, never merged into one word.

use crate::post_quantum::PostQuantum;
use omt_kernel::ManifestId;
use serde::{Deserialize, Serialize};

/// C2PA's validation state (C2PA 2.2 §14.3), after our own checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValidationState {
    /// Something does not hold.
    Invalid,
    /// The structure is sound, but what it says was not checked.
    WellFormed,
    /// Everything holds; the signer is unknown.
    Valid,
    /// Everything holds, and the signer is under a trust anchor.
    Trusted,
}

impl ValidationState {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::WellFormed => "well_formed",
            Self::Valid => "valid",
            Self::Trusted => "trusted",
        }
    }
}

/// How far an organisation can rely on the asset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrustLevel {
    /// Not intact, or demanded protection is missing.
    Invalid,
    /// Intact; the signer is unknown.
    Basic,
    /// The signer chains to a C2PA trust list.
    Standard,
    /// The signer is under the tenant's own anchors, and the tenant's policy holds.
    Enterprise,
    /// That, with a trusted post-quantum signature, a trusted time-stamp and an approved workflow.
    // Not reached while no time-stamp is trusted.
    HighAssurance,
}

impl TrustLevel {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Basic => "basic",
            Self::Standard => "standard",
            Self::Enterprise => "enterprise",
            Self::HighAssurance => "high_assurance",
        }
    }
}

/// One status code, as C2PA or we name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Status {
    /// The code, such as `assertion.dataHash.mismatch`.
    pub code: String,
    /// What it is about: a JUMBF URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

impl Status {
    /// A status with words.
    pub fn new(code: &str, explanation: impl Into<String>) -> Self {
        Self { code: code.into(), url: None, explanation: Some(explanation.into()) }
    }
}

/// Status codes by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusCodes {
    /// What holds.
    pub success: Vec<Status>,
    /// What is worth knowing.
    pub informational: Vec<Status>,
    /// What does not hold.
    pub failure: Vec<Status>,
}

/// Status codes of one ingredient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IngredientStatus {
    /// The ingredient assertion's URI.
    pub ingredient: String,
    /// Its codes.
    #[serde(flatten)]
    pub codes: StatusCodes,
}

/// One assertion of the active manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AssertionVerdict {
    /// Its label.
    pub label: String,
    /// Whether the claim's hash of it holds, and for hard bindings the content's.
    pub verified: bool,
    /// Why not, or what was checked.
    pub message: String,
}

/// Who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Signer {
    /// Subject (RFC 4514).
    pub subject: String,
    /// Issuer (RFC 4514).
    pub issuer: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Algorithm of the claim signature.
    pub algorithm: String,
    /// Start of the certificate's validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: time::OffsetDateTime,
    /// End of the certificate's validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: time::OffsetDateTime,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint_sha256: String,
}

/// When it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SigningTime {
    /// The time in the time-stamp token (RFC 3339).
    pub time: String,
    /// Whether the token holds, is about the signature, and its authority is under a trust anchor for time-stamps.
    pub trusted: bool,
    /// Who stamped it: the subject of the authority's certificate, where the token holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// What the organisation's own engines say; null where they have not spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrganizationalCompliance {
    /// Personal Data Protection Act.
    pub pdpa_compliant: Option<bool>,
    /// The workflow ended with approval.
    pub workflow_approved: Option<bool>,
    /// The signer's department may sign this.
    pub department_authorized: Option<bool>,
    /// The workflow that approved, where the signer attests one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VerificationReport {
    /// The record verified, when it is one of ours.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub manifest_id: Option<ManifestId>,
    /// Whether the content has a manifest at all.
    pub manifest_present: bool,
    /// Intact, and every demanded protection is there. Says nothing about who signed.
    pub valid: bool,
    /// How far an organisation can rely on it.
    pub trust_level: TrustLevel,
    /// The state after our own checks.
    pub validation_state: ValidationState,
    /// The state by C2PA's rules alone, as any other validator with these trust lists would report it.
    pub c2pa_state: ValidationState,
    /// The claim signature holds.
    pub signature_valid: bool,
    /// The claim signer is under a trust anchor.
    pub certificate_trusted: bool,
    /// The chain leads to an anchor or to a self-signed root.
    pub chain_complete: bool,
    /// The active manifest's assertions.
    pub assertions_verified: Vec<AssertionVerdict>,
    /// What makes it not valid.
    pub issues: Vec<Status>,
    /// What a careful reader should know.
    pub warnings: Vec<Status>,
    /// What the organisation's engines say.
    pub organizational_compliance: OrganizationalCompliance,
    /// Every C2PA status code of the active manifest.
    pub status_codes: StatusCodes,
    /// Status codes of ingredients.
    pub ingredients: Vec<IngredientStatus>,
    /// The active manifest's label.
    pub active_manifest: Option<String>,
    /// Title from the claim.
    pub title: Option<String>,
    /// Who signed.
    pub signer: Option<Signer>,
    /// Which software made the claim: its `claim_generator_info`.
    #[schema(value_type = Option<Object>)]
    pub claim_generator: Option<serde_json::Value>,
    /// When it was signed, if it carries a time-stamp.
    pub signing_time: Option<SigningTime>,
    /// Post-quantum protection.
    pub post_quantum: PostQuantum,
    /// Whether warnings were turned into issues.
    pub strict: bool,
}

impl VerificationReport {
    /// The report on content that has no readable manifest, and why.
    pub fn unreadable(present: bool, code: &str, reason: impl Into<String>) -> Self {
        let status = Status::new(code, reason);
        Self {
            manifest_id: None,
            manifest_present: present,
            valid: false,
            trust_level: TrustLevel::Invalid,
            validation_state: ValidationState::Invalid,
            c2pa_state: ValidationState::Invalid,
            signature_valid: false,
            certificate_trusted: false,
            chain_complete: false,
            assertions_verified: Vec::new(),
            issues: vec![status.clone()],
            warnings: Vec::new(),
            organizational_compliance: OrganizationalCompliance::default(),
            status_codes: StatusCodes { failure: vec![status], ..Default::default() },
            ingredients: Vec::new(),
            active_manifest: None,
            title: None,
            signer: None,
            claim_generator: None,
            signing_time: None,
            post_quantum: PostQuantum::absent(),
            strict: false,
        }
    }

    /// Turns warnings into issues; with any, the asset is not valid.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        if !self.warnings.is_empty() {
            self.issues.append(&mut self.warnings);
            self.valid = false;
            self.trust_level = TrustLevel::Invalid;
        }
        self
    }
}
