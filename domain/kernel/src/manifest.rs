//! The manifest's record: what the platform keeps about one piece of content and its Content Credentials.

use crate::{ManifestId, TenantId, WorkflowId};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use time::OffsetDateTime;

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The name on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
        impl FromStr for $name {
            type Err = ();
            fn from_str(s: &str) -> Result<Self, ()> {
                match s { $($text => Ok(Self::$variant),)+ _ => Err(()) }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

word_enum!(
    /// Where a manifest is in its life.
    ManifestState {
        /// Uploaded, not signed.
        Draft = "draft",
        /// Signed; content and record no longer change.
        Signed = "signed",
        /// Put away; content is kept under retention.
        Archived = "archived",
    }
);

word_enum!(
    /// How sensitive the content is, in rising order.
    Classification {
        /// For everyone.
        Public = "public",
        /// For the organisation.
        Internal = "internal",
        /// For those who need it.
        Confidential = "confidential",
        /// For few.
        Secret = "secret",
        /// For very few.
        TopSecret = "top_secret",
    }
);

word_enum!(
    /// How an ingredient relates to the asset (C2PA 2.2 §10.3).
    Relationship {
        /// The asset is an edit of the ingredient.
        ParentOf = "parentOf",
        /// The asset contains the ingredient.
        ComponentOf = "componentOf",
        /// The ingredient was an input to a process that made the asset.
        InputTo = "inputTo",
    }
);

/// Immutable bytes in the blob store, named by their content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// SHA-256 of the bytes, lower-case hexadecimal.
    pub sha256: String,
    /// Number of bytes.
    pub size: u64,
}

/// Whether this is how a SHA-256 is written: 64 hexadecimal digits, in lower case.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// An ingredient uploaded with the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngredientRecord {
    /// Its bytes.
    pub blob: BlobRef,
    /// Its title: the file's name.
    pub title: String,
    /// Its media type, sniffed.
    pub media_type: String,
    /// How it relates to the asset.
    pub relationship: Relationship,
}

/// What signing produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedParts {
    /// The asset as it is served: with the manifest embedded, or the source itself when `embedded` is false.
    pub asset: BlobRef,
    /// The manifest store alone (`application/c2pa`).
    pub manifest_store: BlobRef,
    /// Whether the asset carries the manifest store.
    pub embedded: bool,
    /// The signature scheme's name in the API.
    pub algorithm: String,
    /// The active manifest's label (`urn:c2pa:…`).
    pub manifest_label: String,
    /// When it was signed.
    #[serde(with = "time::serde::rfc3339")]
    pub signed_at: OffsetDateTime,
    /// The workflow whose approval the claim attests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
}

/// One manifest's record.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestRecord {
    /// Identifier.
    pub id: ManifestId,
    /// Owner.
    pub tenant: TenantId,
    /// Rises by one with every change; the `ETag`.
    pub revision: i64,
    /// Where it is in its life.
    pub state: ManifestState,
    /// Title for people.
    pub title: String,
    /// Who made the content.
    pub creator: String,
    /// Department.
    pub department: Option<String>,
    /// Project.
    pub project: Option<String>,
    /// Organisation.
    pub organization: Option<String>,
    /// Sensitivity.
    pub classification: Classification,
    /// Media type of the content, sniffed from its bytes.
    pub media_type: String,
    /// The name the uploader gave the file.
    pub file_name: Option<String>,
    /// The uploaded content's digest and size.
    pub source: BlobRef,
    /// Whether the uploaded bytes are in the blob store. Content signed at upload lives on inside the signed asset only.
    pub source_kept: bool,
    /// What the claim will say, as the claims room understands it.
    pub definition: serde_json::Value,
    /// Metadata extracted from the content, and the personal data found in it.
    pub metadata: serde_json::Value,
    /// Ingredients uploaded with it.
    pub ingredients: Vec<IngredientRecord>,
    /// What signing produced.
    pub signed: Option<SignedParts>,
    /// The actor's subject that created it.
    pub created_by: String,
    /// Creation.
    pub created_at: OffsetDateTime,
    /// Last change.
    pub updated_at: OffsetDateTime,
    /// When it was archived, and until when its content is kept.
    pub archived: Option<Archived>,
    /// Why its content must not be deleted, whatever its retention says.
    pub legal_hold: Option<LegalHold>,
    /// When its content was deleted. The record and the manifest store stay.
    pub content_deleted_at: Option<OffsetDateTime>,
}

/// A legal hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegalHold {
    /// Why.
    pub reason: String,
    /// The actor's subject that placed it.
    pub placed_by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub placed_at: OffsetDateTime,
}

/// When a manifest was put away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archived {
    /// When it was archived.
    pub at: OffsetDateTime,
    /// Its content is kept until then at least.
    pub retain_until: OffsetDateTime,
}

/// What a list of other things shows of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// Title.
    pub title: String,
    /// Project.
    pub project: Option<String>,
}

/// Which manifests to list. Every given condition must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ManifestFilter {
    /// Exact organisation.
    pub organization: Option<String>,
    /// Exact department.
    pub department: Option<String>,
    /// Exact creator.
    pub creator: Option<String>,
    /// Exact project.
    pub project: Option<String>,
    /// Exact classification.
    pub classification: Option<Classification>,
    /// Exact state. Without it, archived manifests are left out.
    pub state: Option<ManifestState>,
    /// Part of the title, case-insensitive; or a question ([`crate::search::Question`]) to all that is said of it.
    pub search: Option<String>,
    /// Created at or after.
    pub created_from: Option<OffsetDateTime>,
    /// Created before.
    pub created_before: Option<OffsetDateTime>,
    /// Exact subject that made it.
    pub created_by: Option<String>,
    /// Only what the caller can see; everything when absent.
    pub reach: Option<crate::Reach>,
}
