//! The chain of custody: what was done to the asset, and what it was made of, as a tree.

use serde_json::{Map, Value, json};

const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 1_000;

/// Builds the tree from the engine's report of all manifests; none when there is no active manifest.
pub fn tree(report: &str) -> Option<Value> {
    let report: Value = serde_json::from_str(report).ok()?;
    let active = report.get("active_manifest")?.as_str()?.to_owned();
    let manifests = report.get("manifests")?.as_object()?;
    node(manifests, &active, 0, &mut { MAX_NODES })
}

fn node(manifests: &Map<String, Value>, label: &str, depth: usize, budget: &mut usize) -> Option<Value> {
    *budget = budget.checked_sub(1)?;
    let manifest = manifests.get(label)?;
    let signature = manifest.get("signature_info");
    let ingredients: Vec<Value> = manifest
        .get("ingredients")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|ingredient| {
            let inner = ingredient.get("active_manifest").and_then(Value::as_str).filter(|_| depth < MAX_DEPTH);
            json!({
                "title": ingredient.get("title"),
                "format": ingredient.get("format"),
                "relationship": ingredient.get("relationship"),
                "manifest": inner.and_then(|label| node(manifests, label, depth + 1, budget)),
            })
        })
        .collect();
    Some(json!({
        "label": label,
        "title": manifest.get("title"),
        "claim_generator": manifest.pointer("/claim_generator_info/0").or_else(|| manifest.get("claim_generator")),
        "signed_by": signature.and_then(|s| s.get("common_name").or_else(|| s.get("issuer"))),
        "signed_at": signature.and_then(|s| s.get("time")),
        "actions": actions(manifest),
        "ingredients": ingredients,
    }))
}

fn actions(manifest: &Value) -> Vec<Value> {
    let assertions = manifest.get("assertions").and_then(Value::as_array).into_iter().flatten();
    let actions = assertions.filter(|a| a.get("label").and_then(Value::as_str).is_some_and(|l| l.starts_with("c2pa.actions")));
    actions
        .filter_map(|a| a.pointer("/data/actions").and_then(Value::as_array))
        .flatten()
        .map(|action| {
            json!({
                "action": action.get("action"),
                "when": action.get("when"),
                "digital_source_type": action.get("digitalSourceType"),
                "software_agent": action.get("softwareAgent"),
            })
        })
        .collect()
}
