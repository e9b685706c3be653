//! What policies see, of drafts and of what is signed.

use super::*;
use omt_claims::definition::CustomAssertion;
use omt_kernel::{
    ManifestId, OffsetDateTime, TenantId, VerificationId, WorkflowId,
    manifest::{BlobRef, Classification, IngredientRecord, ManifestState, SignedParts},
};
use uuid::Uuid;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn record(definition: &ClaimDefinition, extracted: &Extracted) -> ManifestRecord {
    ManifestRecord {
        id: ManifestId(Uuid::nil()),
        tenant: TenantId::default_tenant(),
        revision: 1,
        state: ManifestState::Draft,
        title: "Poster".into(),
        creator: "carla".into(),
        department: None,
        project: None,
        organization: None,
        classification: Classification::Internal,
        media_type: "image/jpeg".into(),
        file_name: None,
        source: BlobRef { sha256: String::new(), size: 1 },
        source_kept: true,
        definition: serde_json::to_value(definition).unwrap(),
        metadata: serde_json::to_value(extracted).unwrap(),
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

fn signed(mut record: ManifestRecord, workflow: Option<WorkflowId>) -> ManifestRecord {
    let blob = BlobRef { sha256: String::new(), size: 1 };
    record.state = ManifestState::Signed;
    record.signed = Some(SignedParts {
        asset: blob.clone(),
        manifest_store: blob,
        embedded: true,
        algorithm: "es256".into(),
        manifest_label: "urn:c2pa:1".into(),
        signed_at: NOW,
        workflow,
    });
    record
}

fn actions(facts: &Facts) -> Vec<&str> {
    let actions = facts.value["assertions"][ACTIONS]["actions"].as_array().unwrap();
    actions.iter().map(|action| action["action"].as_str().unwrap()).collect()
}

fn named(facts: &Facts) -> Vec<&str> {
    let mut labels: Vec<&str> = facts.value["assertions"].as_object().unwrap().keys().map(String::as_str).collect();
    labels.sort_unstable();
    labels
}

#[test]
fn a_draft_is_what_its_claim_will_say() {
    let told = |action: Option<&str>, has_manifest: bool| {
        let mut definition = ClaimDefinition { action_given: action.is_some(), ..Default::default() };
        definition.action = action.unwrap_or("c2pa.created").into();
        let mut record = record(&definition, &Extracted { has_manifest, ..Default::default() });
        let blob = BlobRef { sha256: String::new(), size: 1 };
        let component = |title: &str| IngredientRecord {
            blob: blob.clone(),
            title: title.into(),
            media_type: "image/png".into(),
            relationship: Relationship::ComponentOf,
        };
        record.ingredients = vec![component("map"), component("logo")];
        of(&record, Verified::No).unwrap()
    };
    let created = told(None, false);
    assert_eq!(actions(&created), ["c2pa.created", "c2pa.placed", "c2pa.placed"]);
    assert_eq!(created.value["manifest"]["action"], "c2pa.created");
    assert_eq!(named(&created), [ACTIONS, INGREDIENT, "c2pa.ingredient.v3__1"]);
    assert_eq!(created.value["assertions"][INGREDIENT]["dc:title"], "map");
    // Content that has a manifest was opened, and is its own parent.
    let opened = told(None, true);
    assert_eq!(actions(&opened), ["c2pa.opened", "c2pa.placed", "c2pa.placed"]);
    assert_eq!(opened.value["manifest"]["action"], "c2pa.opened");
    assert_eq!(opened.value["assertions"]["c2pa.ingredient.v3__2"]["relationship"], "parentOf");
    let edited = told(Some("c2pa.edited"), false);
    assert_eq!(actions(&edited), ["c2pa.opened", "c2pa.edited", "c2pa.placed", "c2pa.placed"]);
    assert_eq!(edited.value["manifest"]["action"], "c2pa.edited");
}

#[test]
fn assertions_of_one_label_are_all_there() {
    let xmp = [("dc:title".to_owned(), "Poster".to_owned())].into();
    let custom = |label: &str, data: Value| CustomAssertion { label: label.into(), data };
    let mut definition = ClaimDefinition::default();
    // Older drafts may say a thing twice.
    for (label, n) in [("org.x", 1), ("org.x", 2), ("cawg.metadata", 3)] {
        definition.assertions.push(custom(label, json!({ "n": n })));
    }
    let facts = of(&record(&definition, &Extracted { xmp, ..Default::default() }), Verified::No).unwrap();
    let all = &facts.value["assertions"];
    assert_eq!((&all["org.x"]["n"], &all["org.x__1"]["n"]), (&json!(1), &json!(2)));
    assert_eq!((&all["cawg.metadata"]["dc:title"], &all["cawg.metadata__1"]["n"]), (&json!("Poster"), &json!(3)));
}

#[test]
fn what_is_signed_is_what_its_claim_says() {
    let definition = ClaimDefinition::default();
    let workflow = WorkflowId(Uuid::from_u128(7));
    let record = signed(record(&definition, &Extracted::default()), Some(workflow));
    let report = |valid: bool, approved: bool| {
        json!({
            "valid": valid, "active_manifest": "urn:c2pa:1", "organizational_compliance": { "workflow_approved": approved },
            "assertions_verified": [{ "label": ACTIONS }, { "label": "c2pa.hash.data" }, { "label": WORKFLOW_LABEL }],
        })
    };
    let crjson = json!({ "manifests": [
        { "label": "urn:c2pa:0", "assertions": { "org.older": {} } },
        { "label": "urn:c2pa:1", "assertions": {
            ACTIONS: { "actions": [{ "action": "c2pa.opened" }, { "action": "c2pa.cropped" }] },
            "c2pa.hash.data": { "alg": "sha256" }, WORKFLOW_LABEL: { "workflow_id": "w" },
        } },
    ] });
    let now = |valid, approved| of(&record, Verified::Now(&report(valid, approved), Some(&crjson))).unwrap();
    let facts = now(true, true);
    assert_eq!(named(&facts), [ACTIONS, "c2pa.hash.data", WORKFLOW_LABEL]);
    assert_eq!(facts.value["manifest"]["action"], "c2pa.cropped");
    assert_eq!(
        facts.look(&Path::new("assertions[\"c2pa.hash.data\"].alg")),
        (Some(&json!("sha256")), "claim", Some("c2pa.hash.data"))
    );
    // An approval counts where the report attests it, and nothing where it does not hold.
    assert_eq!(named(&now(true, false)), [ACTIONS, "c2pa.hash.data"]);
    assert_eq!(named(&now(false, false)), Vec::<&str>::new());
    // Who goes by a kept verification knows which assertions there are.
    let kept = VerificationRecord {
        id: VerificationId(Uuid::nil()),
        tenant: TenantId::default_tenant(),
        manifest: record.id,
        state: "trusted".into(),
        trust_level: "enterprise".into(),
        report: report(true, true),
        verified_by: "user:1".into(),
        created_at: NOW,
    };
    let facts = of(&record, Verified::Kept(&kept)).unwrap();
    assert_eq!(named(&facts), [ACTIONS, "c2pa.hash.data", WORKFLOW_LABEL]);
    assert_eq!(facts.value["assertions"][WORKFLOW_LABEL]["workflow_id"], workflow.to_string());
    assert_eq!((actions(&facts), &facts.value["assertions"]["c2pa.hash.data"]), (vec!["c2pa.created"], &Value::Null));
}

#[test]
fn paths_lead_where_they_say() {
    let value = json!({ "assertions": { "a.b": { "c": [1, { "d:e": 2 }] } } });
    assert_eq!(Path::new("assertions[\"a.b\"].c[1].d:e").follow(&value), Some(&json!(2)));
    assert_eq!(Path::new("assertions[\"a.b\"].c[7]").follow(&value), None);
    assert_eq!(Path::new("").follow(&value), Some(&value));
    assert_eq!(Path::new("assertions..c").follow(&value), None);
    for bad in ["", "a..b", "a[", "a[x]", "a[\"b", "[0]"] {
        assert!(check_path(bad, false).is_err(), "{bad}");
    }
    assert!(check_path("manifest.title", false).is_ok());
    assert!(check_path("manifest.titel", false).is_err());
    assert!(check_path("anything.at.all", true).is_ok());
    assert_eq!(into_assertion("assertions[\"a.b\"].c[1]"), Some(("a.b".to_owned(), "c[1]")));
    assert_eq!(into_assertion("assertions.z[\"x\"]"), Some(("z".to_owned(), "[\"x\"]")));
    assert_eq!(into_assertion("assertions[\"a.b\"]"), Some(("a.b".to_owned(), "")));
    for other in ["assertions", "manifest.title", "assertions[0]"] {
        assert_eq!(into_assertion(other), None, "{other}");
    }
}
