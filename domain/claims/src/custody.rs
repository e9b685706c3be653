//! The chain of custody: what was done to the asset, and what it was made of, as a tree.

use crate::report::Status;
use c2pa::{status_tracker::LogKind, validation_results::validation_codes::log_kind};
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
                // Whose signer was trusted is for everybody to decide anew; whether it held when it was added is not.
                "failures": recorded_failures(ingredient),
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

/// The failures that validating an ingredient found when it was added, as its assertion records them: of its own manifest, and of
/// ingredients within it. Nobody who has the asset alone can find them again, since the ingredient's bytes are gone.
pub fn recorded_failures(ingredient: &Value) -> Vec<Status> {
    let of = |codes: Option<&Value>| codes.and_then(|codes| codes.get("failure")).and_then(Value::as_array).cloned();
    let results = ingredient.get("validation_results");
    let deltas = results.and_then(|results| results.get("ingredientDeltas")).and_then(Value::as_array).into_iter().flatten();
    let mut found = of(results.and_then(|results| results.get("activeManifest"))).unwrap_or_default();
    found.extend(deltas.filter_map(|delta| of(delta.get("validationDeltas"))).flatten());
    // Before C2PA 2.0 one list had all codes.
    let all = ingredient.get("validation_status").and_then(Value::as_array).into_iter().flatten();
    let failed = |status: &&Value| status.get("code").and_then(Value::as_str).is_some_and(|c| log_kind(c) == LogKind::Failure);
    found.extend(all.filter(failed).cloned());
    let mut out: Vec<Status> = found.into_iter().filter_map(|status| serde_json::from_value(status).ok()).collect();
    out.truncate(MAX_NODES);
    out
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
