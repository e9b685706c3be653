//! What an expression may cost at most, before it ever runs. One step is one part of it looked at once, or one value copied or
//! compared. How long a step takes depends on the values; that it ends in time is the deadline's part.

use crate::{
    expression::path,
    facts::{MAX_INGREDIENTS, MAX_ITEMS, MAX_SIZE},
    schema,
};
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

/// The most that a policy's expressions cost together. The bench prints how long the dearest take.
pub const MAX_COST: u64 = 4_000_000;

/// Values in all that the facts have at most.
const WHOLE: u64 = MAX_SIZE as u64;
/// The longest list or object.
const LONGEST: u64 = MAX_ITEMS as u64;
/// Steps to look through the longest text.
const TEXT: u64 = 16;
/// Values of `manifest`, of `signature`, and of an ingredient.
const OBJECT: u64 = 20;
/// Steps of asking for the time.
const CLOCK: u64 = 3;
/// The largest pattern, compiled, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Steps of a pattern, which is compiled each time; the error says why it is none.
pub fn of_pattern(pattern: &str) -> Result<u64, String> {
    // By doubling: what it takes to compile it follows its size.
    let mut limit = 1 << 14;
    loop {
        match regex::RegexBuilder::new(pattern).size_limit(limit).build() {
            Ok(_) => return Ok(limit as u64 / 4),
            Err(regex::Error::CompiledTooBig(_)) if limit < MAX_PATTERN => limit *= 4,
            Err(regex::Error::CompiledTooBig(_)) => return Err("would cost too much: the pattern is too large".into()),
            Err(_) => return Err("is no pattern".into()),
        }
    }
}

/// Steps of an expression at most.
pub fn of(tree: &IdedExpr) -> u64 {
    let mut meter = Meter { total: 0, scope: Vec::new() };
    meter.visit(tree, 1);
    meter.total
}

/// What a loop binds.
struct Bound {
    name: String,
    /// Values in one item, on the average of a pass.
    size: u64,
    /// Whether items are parts of the facts, so that all of a pass are no more than the whole.
    part: bool,
    /// What the loop runs over, where it has a name.
    range: Option<String>,
}

struct Meter {
    total: u64,
    scope: Vec<Bound>,
}

impl Meter {
    fn add(&mut self, steps: u64, times: u64) {
        self.total = self.total.saturating_add(steps.saturating_mul(times));
    }

    /// Counts a part that is looked at so many times.
    fn visit(&mut self, node: &IdedExpr, times: u64) {
        self.add(1, times);
        match &node.expr {
            Expr::Select(select) => self.visit(&select.operand, times),
            Expr::Call(call) => {
                let own = self.own(call);
                self.add(own, times);
                call.target.iter().map(AsRef::as_ref).chain(&call.args).for_each(|part| self.visit(part, times));
            }
            Expr::List(list) => {
                let copied = self.sum(&list.elements);
                self.add(copied, times);
                list.elements.iter().for_each(|element| self.visit(element, times));
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        let copied = self.size(&entry.value);
                        self.add(copied, times);
                        self.visit(&entry.key, times);
                        self.visit(&entry.value, times);
                    }
                }
            }
            Expr::Comprehension(comprehension) => self.run(comprehension, times),
            _ => {}
        }
    }

    fn run(&mut self, comprehension: &ComprehensionExpr, times: u64) {
        self.visit(&comprehension.iter_range, times);
        self.visit(&comprehension.accu_init, times);
        let (items, values, part) = self.items(&comprehension.iter_range);
        // Every item is copied before it is looked at.
        self.add(values, times);
        let range = path(&comprehension.iter_range);
        let depth = self.scope.len();
        let size = values.div_ceil(items.max(1));
        self.scope.push(Bound { name: comprehension.accu_var.clone(), size: 1, part: false, range: None });
        self.scope.push(Bound { name: comprehension.iter_var.clone(), size, part, range });
        let each = times.saturating_mul(items);
        self.add(CLOCK, each);
        self.visit(&comprehension.loop_cond, each);
        self.visit(&comprehension.loop_step, each);
        self.visit(&comprehension.result, times);
        self.scope.truncate(depth);
    }

    /// What a call costs by itself, its operands aside.
    fn own(&self, call: &CallExpr) -> u64 {
        match (call.func_name.as_str(), call.args.as_slice()) {
            ("_==_" | "_!=_", [left, right]) => self.size(left).min(self.size(right)),
            ("@in", [item, whole]) => match (&whole.expr, path(whole)) {
                (Expr::List(list), _) => list.elements.len() as u64,
                // In an object it is looked up.
                (_, Some(root)) if root != "ingredients" && schema::root(&root).is_some() => 1,
                _ => self.size(whole).min(LONGEST.saturating_mul(self.size(item))),
            },
            // What may not be there is copied when it is.
            ("_[?_]" | "_?._", [whole, _]) => self.size(whole),
            ("_+_", [left, right]) => self.size(left).saturating_add(self.size(right)),
            ("matches", _) => match call.args.last().map(|pattern| &pattern.expr) {
                Some(Expr::Literal(LiteralValue::String(pattern))) => of_pattern(pattern.inner()).unwrap_or(0),
                _ => 0,
            },
            ("size" | "contains" | "startsWith" | "endsWith", _) => TEXT,
            (name, _) if name.starts_with(['_', '!', '-', '@']) => 0,
            _ => {
                let operands = call.target.iter().map(AsRef::as_ref).chain(&call.args);
                operands.map(|part| self.size(part)).fold(TEXT, u64::saturating_add)
            }
        }
    }

    fn sum(&self, nodes: &[IdedExpr]) -> u64 {
        nodes.iter().map(|node| self.size(node)).fold(0, u64::saturating_add)
    }

    fn bound(&self, node: &IdedExpr) -> Option<&Bound> {
        let Expr::Ident(name) = &node.expr else { return None };
        self.scope.iter().rev().find(|bound| bound.name == *name)
    }

    /// Items of what a loop runs over, values in them altogether, and whether they are parts of the facts.
    fn items(&self, range: &IdedExpr) -> (u64, u64, bool) {
        match &range.expr {
            Expr::List(list) => (list.elements.len() as u64, self.sum(&list.elements), false),
            Expr::Ident(name) if self.bound(range).is_none() => match name.as_str() {
                "ingredients" => (MAX_INGREDIENTS as u64, MAX_INGREDIENTS as u64 * 4, true),
                "manifest" | "signature" => (OBJECT, OBJECT, true),
                // Names of members.
                _ => (LONGEST, LONGEST, true),
            },
            _ => match self.part(range) {
                // All the passes together see every part once.
                Some(size) => (size.min(LONGEST), size, true),
                None => (LONGEST, self.size(range).max(LONGEST), true),
            },
        }
    }

    /// The size of a part of what a loop binds: `item.x["y"]`, or `range[item]` in a loop over the names of `range`.
    fn part(&self, node: &IdedExpr) -> Option<u64> {
        match &node.expr {
            Expr::Ident(_) => self.bound(node).filter(|bound| bound.part).map(|bound| bound.size),
            Expr::Select(select) => self.part(&select.operand),
            Expr::Call(call) if call.func_name == "_[_]" => {
                let [whole, index] = call.args.as_slice() else { return None };
                if let (Some(bound), Some(name)) = (self.bound(index), path(whole))
                    && bound.range.as_ref() == Some(&name)
                {
                    return Some(WHOLE / LONGEST);
                }
                match &index.expr {
                    Expr::Literal(_) => self.part(whole),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Values in what an expression gives, at most or, in a loop, on the average.
    fn size(&self, node: &IdedExpr) -> u64 {
        match &node.expr {
            Expr::Ident(name) => match self.bound(node) {
                Some(bound) => bound.size.max(1),
                None => match name.as_str() {
                    "manifest" | "signature" => OBJECT,
                    "ingredients" => MAX_INGREDIENTS as u64 * 4,
                    _ => WHOLE,
                },
            },
            Expr::Select(select) if select.test => 1,
            Expr::Select(select) => self.member(&select.operand),
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                ("_[_]", [whole, _]) => self.part(node).unwrap_or_else(|| self.member(whole)),
                ("_[?_]" | "_?._", [whole, _]) => self.member(whole),
                ("_?_:_", [_, left, right]) => self.size(left).max(self.size(right)),
                ("_+_", [left, right]) => self.size(left).saturating_add(self.size(right)),
                (name, _) if name.starts_with(['_', '!', '-', '@']) => 1,
                ("size" | "contains" | "startsWith" | "endsWith" | "matches" | "int" | "uint" | "double" | "string", _) => 1,
                _ => {
                    let operands = call.target.iter().map(AsRef::as_ref).chain(&call.args);
                    operands.map(|part| self.size(part)).fold(1, u64::saturating_add)
                }
            },
            Expr::Comprehension(comprehension) => match comprehension.accu_init.expr {
                Expr::List(_) => WHOLE,
                _ => 1,
            },
            Expr::List(list) => self.sum(&list.elements),
            Expr::Map(map) => {
                let sizes = map.entries.iter().map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => self.size(&entry.value),
                    EntryExpr::StructField(field) => self.size(&field.value),
                });
                sizes.fold(1, u64::saturating_add)
            }
            _ => 1,
        }
    }

    /// Values in a member of something.
    fn member(&self, whole: &IdedExpr) -> u64 {
        match path(whole).as_deref().filter(|_| self.bound(whole).is_none()) {
            // One text or number each.
            Some("manifest" | "metadata") => 1,
            Some("signature") => 3,
            _ => self.size(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;
    use serde_json::{Value, json};

    fn policy(expressions: &[String]) -> Policy {
        let rule = |(n, expression)| {
            let name = format!("r{n}");
            json!({ "name": name, "rule_type": "custom_function", "severity": "error", "custom_function": expression })
        };
        let rules: Vec<Value> = expressions.iter().enumerate().map(rule).collect();
        serde_json::from_value(json!({ "name": "p", "rules": rules })).unwrap()
    }

    /// As many of an expression as may be in one policy, and what they cost.
    fn most(expression: &str) -> (Policy, u64) {
        let one = crate::expression::compile(expression).unwrap().cost;
        let many = (MAX_COST / one).min(200) as usize;
        (policy(&vec![expression.to_owned(); many]), one * many as u64)
    }

    #[test]
    fn sane_policies_are_affordable() {
        for shipped in Policy::shipped().unwrap() {
            shipped.validate().unwrap();
        }
        for (expression, least) in [
            ("manifest.title.size() < 200 && 'cawg.metadata' in assertions && ingredients.all(i, i.title != '')", 200),
            ("assertions['a'].actions.all(a, a.action in ['c2pa.created', 'c2pa.edited'])", 100),
            ("assertions['a'].actions.all(a, ingredients.exists(i, i.title == a.title))", 1),
            ("assertions['a'].actions.all(a, a.parameters.ingredients.all(i, i.url != ''))", 10),
            ("assertions.all(label, assertions[label].entries.all(e, e != ''))", 10),
            ("manifest.title.matches('^[A-Z]{2}-[0-9]{4}$') && metadata['dc:title'] == manifest.title", 200),
            ("assertions['a'].names.exists(n, n == assertions['b'].name)", 1),
        ] {
            let (policy, cost) = most(expression);
            assert!(policy.rules.len() >= least, "{expression}: {} of them cost {cost}", policy.rules.len());
            policy.validate().unwrap_or_else(|e| panic!("{expression}: {:?}", e.fields));
        }
    }

    #[test]
    fn a_policy_is_bounded_as_a_whole() {
        let loops = ["assertions.n.all(a, a.b == manifest.title)"; 8].join(" && ");
        policy(std::slice::from_ref(&loops)).validate().unwrap();
        let error = policy(&vec![loops; 200]).validate().unwrap_err();
        assert_eq!((error.code, error.fields.len()), ("INVALID_POLICY", 1));
        assert!(error.fields[0].reason.contains("would cost too much"), "{:?}", error.fields);
        for alone in [
            "assertions.n.all(a, assertions.m.all(b, a == 1 && b == 1))",
            "assertions.n.map(a, metadata).size() > 0",
            "assertions.n.all(a, assertions == metadata)",
            "assertions.n.all(a, metadata.?x == null)",
        ] {
            let error = policy(&[alone.to_owned()]).validate().unwrap_err();
            assert_eq!(error.fields[0].field, "rules[0].custom_function", "{alone}");
        }
        // Switched off, it costs nothing.
        let mut off = policy(&["assertions.n.all(a, assertions.m.all(b, a == 1 && b == 1))".to_owned()]);
        off.rules[0].enabled = false;
        off.validate().unwrap();
        let large = crate::expression::compile("manifest.title.matches('(\\\\w{100}){100}')").unwrap_err();
        assert!(large.contains("pattern is too large"), "{large}");
    }
}
