//! What a badge says, and whether it stands. Pure.

use omt_kernel::{
    OffsetDateTime,
    badge::BadgeRecord,
    manifest::{Classification, ManifestRecord, ManifestState},
};
use serde::Serialize;

/// Whether a badge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The manifest is signed, and over these bytes.
    Valid,
    /// Somebody took it back.
    Revoked,
    /// The manifest was archived: the content is no longer offered.
    Withdrawn,
    /// The content was deleted at the end of its retention.
    ContentDeleted,
    /// The manifest now speaks of other bytes, or of none.
    Superseded,
}

impl Standing {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Revoked => "revoked",
            Self::Withdrawn => "withdrawn",
            Self::ContentDeleted => "content_deleted",
            Self::Superseded => "superseded",
        }
    }
}

/// Whether a badge stands, by what became of its manifest. What was taken back stays so whatever else happened.
pub fn standing(badge: &BadgeRecord, manifest: Option<&ManifestRecord>) -> Standing {
    if badge.revoked.is_some() {
        return Standing::Revoked;
    }
    let Some(manifest) = manifest else { return Standing::Superseded };
    if manifest.content_deleted_at.is_some() {
        return Standing::ContentDeleted;
    }
    match (manifest.state, &manifest.signed) {
        (ManifestState::Archived, _) => Standing::Withdrawn,
        (ManifestState::Signed, Some(signed)) if signed.asset.sha256 == badge.content_sha256 => Standing::Valid,
        _ => Standing::Superseded,
    }
}

/// What anybody who has a badge's address may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Whether it stands.
    pub status: Standing,
    /// SHA-256 of the bytes that it is about, hexadecimal.
    pub content_sha256: String,
    /// Their media type.
    pub media_type: Option<String>,
    /// What the content is signed with.
    pub algorithm: Option<String>,
    /// The active manifest's label.
    pub manifest_label: Option<String>,
    /// The content's title, where it is public.
    pub title: Option<String>,
    /// Who publishes it, where it is public.
    pub organization: Option<String>,
    /// When the content was signed.
    #[serde(with = "time::serde::rfc3339::option")]
    pub signed_at: Option<OffsetDateTime>,
    /// When the badge was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub issued_at: OffsetDateTime,
    /// When it was taken back.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// What anybody may know of a badge. Of content that is not public, and of what does not stand, no words for people.
pub fn shown(badge: &BadgeRecord, manifest: Option<&ManifestRecord>) -> Shown {
    let status = standing(badge, manifest);
    let valid = manifest.filter(|_| status == Standing::Valid);
    let public = valid.filter(|manifest| manifest.classification == Classification::Public);
    let signed = valid.and_then(|manifest| manifest.signed.as_ref());
    Shown {
        status,
        content_sha256: badge.content_sha256.clone(),
        media_type: valid.map(|manifest| manifest.media_type.clone()),
        algorithm: signed.map(|signed| signed.algorithm.clone()),
        manifest_label: signed.map(|signed| signed.manifest_label.clone()),
        title: public.map(|manifest| manifest.title.clone()),
        organization: public.and_then(|manifest| manifest.organization.clone()),
        signed_at: signed.map(|signed| signed.signed_at),
        issued_at: badge.issued_at,
        revoked_at: badge.revoked.as_ref().map(|revoked| revoked.at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omt_kernel::{
        BadgeId, ManifestId, TenantId,
        badge::Revoked,
        manifest::{Archived, BlobRef, SignedParts},
    };

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn blob(c: char) -> BlobRef {
        BlobRef { sha256: c.to_string().repeat(64), size: 1 }
    }

    fn signed(classification: Classification) -> ManifestRecord {
        ManifestRecord {
            id: ManifestId(Default::default()),
            tenant: TenantId::default_tenant(),
            revision: 2,
            state: ManifestState::Signed,
            title: "A title".into(),
            creator: "somebody".into(),
            department: Some("press".into()),
            project: Some("launch".into()),
            organization: Some("Example".into()),
            classification,
            media_type: "image/jpeg".into(),
            file_name: Some("a.jpg".into()),
            source: blob('a'),
            source_kept: false,
            definition: serde_json::Value::Null,
            metadata: serde_json::Value::Null,
            ingredients: Vec::new(),
            signed: Some(SignedParts {
                asset: blob('b'),
                manifest_store: blob('c'),
                embedded: true,
                algorithm: "hybrid-es256-ml-dsa-65".into(),
                manifest_label: "urn:c2pa:x".into(),
                signed_at: AT,
                workflow: None,
            }),
            created_by: "user:1".into(),
            created_at: AT,
            updated_at: AT,
            archived: None,
            legal_hold: None,
            content_deleted_at: None,
        }
    }

    fn badge() -> BadgeRecord {
        BadgeRecord {
            id: BadgeId(Default::default()),
            tenant: TenantId::default_tenant(),
            manifest: ManifestId(Default::default()),
            content_sha256: "b".repeat(64),
            issued_by: "user:2".into(),
            issued_at: AT,
            revoked: None,
        }
    }

    #[test]
    fn a_badge_stands_no_longer_than_its_manifest() {
        let public = signed(Classification::Public);
        assert_eq!(standing(&badge(), Some(&public)), Standing::Valid);
        let changed = |change: &dyn Fn(&mut ManifestRecord)| {
            let mut record = public.clone();
            change(&mut record);
            standing(&badge(), Some(&record))
        };
        let archive = |record: &mut ManifestRecord| {
            record.state = ManifestState::Archived;
            record.archived = Some(Archived { at: AT, retain_until: AT });
        };
        assert_eq!(changed(&archive), Standing::Withdrawn);
        let delete = |record: &mut ManifestRecord| {
            archive(record);
            record.content_deleted_at = Some(AT);
        };
        assert_eq!(changed(&delete), Standing::ContentDeleted);
        // The source's digest is not the signed asset's.
        assert_eq!(changed(&|record| record.signed.as_mut().unwrap().asset = blob('a')), Standing::Superseded);
        assert_eq!(changed(&|record| (record.state, record.signed) = (ManifestState::Draft, None)), Standing::Superseded);
        assert_eq!(standing(&badge(), None), Standing::Superseded);
        let revoked = BadgeRecord { revoked: Some(Revoked { at: AT, by: "user:3".into(), reason: "x".into() }), ..badge() };
        assert_eq!(standing(&revoked, Some(&public)), Standing::Revoked);
        let mut gone = public.clone();
        delete(&mut gone);
        assert_eq!(standing(&revoked, Some(&gone)), Standing::Revoked);
    }

    #[test]
    fn the_public_learns_nothing_of_what_is_not_public() {
        let words = |record: &ManifestRecord, badge: &BadgeRecord| serde_json::to_string(&shown(badge, Some(record))).unwrap();
        let open = words(&signed(Classification::Public), &badge());
        assert!(open.contains("A title") && open.contains("Example"));
        let mut archived = signed(Classification::Public);
        archived.state = ManifestState::Archived;
        let revoked =
            BadgeRecord { revoked: Some(Revoked { at: AT, by: "user:3".into(), reason: "a secret".into() }), ..badge() };
        let closed = [
            words(&signed(Classification::Internal), &badge()),
            words(&signed(Classification::TopSecret), &badge()),
            words(&archived, &badge()),
            words(&signed(Classification::Public), &revoked),
        ];
        for said in closed {
            for hidden in ["A title", "Example", "somebody", "press", "launch", "a.jpg", "user:", "a secret"] {
                assert!(!said.contains(hidden), "{hidden}: {said}");
            }
        }
    }
}
