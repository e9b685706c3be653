//! What rules say of facts. Pure.

use crate::{
    expression, facts,
    model::{Policy, Rule, RuleType, RuleVerdict, Severity, Verdict},
};
use cel::{Context, Program};
use omt_kernel::manifest::Classification;
use serde_json::Value;
use std::collections::BTreeMap;

/// A policy whose expressions are compiled.
pub struct Compiled {
    /// It.
    pub policy: Policy,
    /// Its version.
    pub version: u32,
    programs: BTreeMap<String, Result<Program, String>>,
}

impl Compiled {
    /// Compiles its expressions.
    pub fn new(policy: Policy, version: u32) -> Self {
        let compile = |rule: &Rule| rule.custom_function.as_ref().map(|source| (rule.name.clone(), expression::compile(source)));
        let programs = policy.rules.iter().filter_map(compile).collect();
        Self { policy, version, programs }
    }

    /// What it says.
    pub fn evaluate(&self, facts: &Value) -> Verdict {
        let text = |path| facts::at(facts, path).and_then(Value::as_str);
        let classification: Option<Classification> = text("manifest.classification").and_then(|c| c.parse().ok());
        let department = self.policy.department.is_none() || self.policy.department.as_deref() == text("manifest.department");
        let class = self.policy.classification_level.is_none() || self.policy.classification_level == classification;
        let applies = department && class;
        let context = self.programs.values().next().and_then(|_| facts::for_expressions(facts)).map(expression::context);
        let rules: Vec<RuleVerdict> = match applies {
            true => self
                .policy
                .rules
                .iter()
                .filter(|rule| rule.enabled)
                .map(|rule| self.rule(rule, facts, context.as_ref()))
                .collect(),
            false => Vec::new(),
        };
        let passed = rules.iter().all(|rule| rule.passed || rule.severity < Severity::Error);
        Verdict { policy: self.policy.name.clone(), version: self.version, applies, passed, shadow: self.policy.shadow, rules }
    }

    fn rule(&self, rule: &Rule, facts: &Value, context: Option<&Context<'_, '_>>) -> RuleVerdict {
        let (passed, location, expected, actual) = match rule.rule_type {
            RuleType::RequiredAssertion | RuleType::ForbiddenAssertion => assertion(rule, facts),
            RuleType::RequiredField | RuleType::ValueConstraint => field(rule, facts),
            RuleType::ClassificationConstraint => {
                let found = facts::at(facts, "manifest.classification").cloned().unwrap_or_default();
                let levels = rule.classification_levels.clone().unwrap_or_default();
                let names: Vec<&str> = levels.iter().map(|level| level.as_str()).collect();
                let passed = found.as_str().is_some_and(|found| names.contains(&found));
                (passed, "manifest.classification".to_owned(), format!("one of {}", names.join(", ")), show(Some(&found)))
            }
            RuleType::CustomFunction => {
                let source = rule.custom_function.clone().unwrap_or_default();
                let result = match (self.programs.get(&rule.name), context) {
                    (Some(Ok(program)), Some(context)) => expression::is_true(program, context),
                    (Some(Err(reason)), _) => Err(reason.clone()),
                    _ => Err("the manifest says more than an expression may look at".to_owned()),
                };
                let (passed, actual) = match result {
                    Ok(result) => (result, result.to_string()),
                    // What cannot be said is not passed.
                    Err(reason) => (false, format!("cannot be said: {}", reason.chars().take(200).collect::<String>())),
                };
                (passed, "custom_function".to_owned(), source, actual)
            }
        };
        RuleVerdict { rule: rule.name.clone(), severity: rule.severity, passed, location, expected, actual }
    }
}

/// Labels that say the same: the deprecated one is accepted where the newer one is named, and the reverse.
fn stands_for(label: &str, wanted: &str) -> bool {
    let base = |label: &str| -> String {
        let without = label.rsplit_once(".v").filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        without.map_or(label, |(base, _)| base).to_owned()
    };
    let creative = ["stds.schema-org.CreativeWork", "cawg.metadata"];
    label == wanted || base(label) == wanted || (creative.contains(&wanted) && creative.contains(&label))
}

fn found_assertion<'a>(facts: &'a Value, wanted: &str) -> Option<(&'a String, &'a Value)> {
    facts.get("assertions")?.as_object()?.iter().find(|(label, _)| stands_for(label, wanted))
}

fn assertion(rule: &Rule, facts: &Value) -> (bool, String, String, String) {
    let wanted = rule.assertion_label.as_deref().unwrap_or_default();
    let found = found_assertion(facts, wanted);
    let actual = found.map_or_else(|| "not there".to_owned(), |(label, _)| format!("{label} is there"));
    let required = rule.rule_type == RuleType::RequiredAssertion;
    let expected = if required { format!("{wanted} is there") } else { format!("{wanted} is not there") };
    (found.is_some() == required, format!("assertions.{wanted}"), expected, actual)
}

fn field(rule: &Rule, facts: &Value) -> (bool, String, String, String) {
    let path = rule.field_path.as_deref().unwrap_or_default();
    let (found, location) = match &rule.assertion_label {
        Some(label) => {
            (found_assertion(facts, label).and_then(|(_, data)| facts::at(data, path)), format!("assertions.{label}.{path}"))
        }
        None => (facts::at(facts, path), path.to_owned()),
    };
    let actual = show(found);
    if rule.rule_type == RuleType::RequiredField {
        let empty = match found {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
        };
        return (!empty, location, "there, and not empty".to_owned(), actual);
    }
    let mut expected = Vec::new();
    let mut passed = found.is_some_and(|found| !found.is_null());
    if let Some(value) = &rule.required_value {
        expected.push(show(Some(value)));
        passed &= found == Some(value);
    }
    if let Some(values) = &rule.allowed_values {
        expected.push(format!("one of {}", values.iter().map(|v| show(Some(v))).collect::<Vec<_>>().join(", ")));
        passed &= found.is_some_and(|found| values.contains(found));
    }
    let measure = found.and_then(|found| match found {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => Some(text.chars().count() as f64),
        Value::Array(items) => Some(items.len() as f64),
        _ => None,
    });
    if let Some(least) = rule.min_value {
        expected.push(format!("at least {least}"));
        passed &= measure.is_some_and(|n| n >= least);
    }
    if let Some(most) = rule.max_value {
        expected.push(format!("at most {most}"));
        passed &= measure.is_some_and(|n| n <= most);
    }
    (passed, location, expected.join(", "), actual)
}

/// A value in words, cut short.
fn show(value: Option<&Value>) -> String {
    let Some(value) = value else { return "not there".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= 200 { text } else { text.chars().take(200).chain("…".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> Value {
        json!({
            "manifest": { "title": "Poster", "creator": "Example", "classification": "public", "department": "news", "size": 10 },
            "assertions": { "c2pa.actions.v2": { "actions": [{ "action": "c2pa.created" }] }, "cawg.metadata": { "dc:title": "Poster" } },
            "metadata": {}, "ingredients": [], "signature": { "algorithm": "hybrid-es256-ml-dsa-65", "post_quantum": "trusted" },
        })
    }

    fn rule(json: Value) -> Rule {
        let mut whole = json!({ "name": "r", "severity": "error" });
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn says(json: Value) -> bool {
        let policy = Policy {
            name: "p".into(),
            description: String::new(),
            department: None,
            classification_level: None,
            shadow: false,
            rules: vec![rule(json)],
        };
        policy.validate().unwrap();
        Compiled::new(policy, 1).evaluate(&facts()).passed
    }

    #[test]
    fn each_type_of_rule_decides() {
        for (good, bad) in [
            (
                json!({ "rule_type": "required_assertion", "assertion_label": "c2pa.actions" }),
                json!({ "rule_type": "required_assertion", "assertion_label": "cawg.training-mining" }),
            ),
            (
                json!({ "rule_type": "required_assertion", "assertion_label": "stds.schema-org.CreativeWork" }),
                json!({ "rule_type": "forbidden_assertion", "assertion_label": "stds.schema-org.CreativeWork" }),
            ),
            (
                json!({ "rule_type": "required_field", "field_path": "manifest.department" }),
                json!({ "rule_type": "required_field", "field_path": "manifest.project" }),
            ),
            (
                json!({ "rule_type": "value_constraint", "assertion_label": "cawg.metadata", "field_path": "dc:title", "required_value": "Poster" }),
                json!({ "rule_type": "value_constraint", "field_path": "manifest.title", "allowed_values": ["Flyer"] }),
            ),
            (
                json!({ "rule_type": "value_constraint", "field_path": "manifest.size", "min_value": 10, "max_value": 10 }),
                json!({ "rule_type": "value_constraint", "field_path": "manifest.title", "max_value": 3 }),
            ),
            (
                json!({ "rule_type": "classification_constraint", "classification_levels": ["public"] }),
                json!({ "rule_type": "classification_constraint", "classification_levels": ["secret"] }),
            ),
            (
                json!({ "rule_type": "custom_function", "custom_function": "signature.post_quantum == 'trusted'" }),
                json!({ "rule_type": "custom_function", "custom_function": "metadata['no'] == 'such'" }),
            ),
        ] {
            assert!(says(good.clone()), "{good}");
            assert!(!says(bad.clone()), "{bad}");
        }
    }

    #[test]
    fn shipped_policies_mean_something() {
        for policy in Policy::shipped().unwrap() {
            policy.validate().unwrap_or_else(|e| panic!("{}: {:?}", policy.name, e.fields));
            let verdict = Compiled::new(policy, 1).evaluate(&facts());
            assert!(!verdict.rules.is_empty());
            let expected = verdict.policy == "marketing_content";
            assert_eq!(verdict.passed, expected, "{verdict:#?}");
        }
    }

    #[test]
    fn policies_are_for_what_they_say() {
        let mut policy = Policy::shipped().unwrap().remove(0);
        policy.department = Some("legal".into());
        let verdict = Compiled::new(policy, 1).evaluate(&facts());
        assert!(!verdict.applies && verdict.passed);
    }

    #[test]
    fn a_policy_that_means_nothing_is_refused_with_every_fault() {
        let bad = json!({ "name": "p", "rules": [
            { "name": "a", "rule_type": "required_field", "severity": "error", "field_path": "manifest.titel" },
            { "name": "a", "rule_type": "value_constraint", "severity": "info", "field_path": "manifest.title" },
            { "name": "c", "rule_type": "custom_function", "severity": "info", "custom_function": "1 +" },
        ] });
        let error = serde_json::from_value::<Policy>(bad).unwrap().validate().unwrap_err();
        let fields: Vec<&str> = error.fields.iter().map(|f| f.field.as_str()).collect();
        assert_eq!(fields, ["rules[0].field_path", "rules[1].name", "rules[1].required_value", "rules[2].custom_function"]);
    }
}
