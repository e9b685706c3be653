//! CEL expressions: compiled once, checked against what a manifest has, and bounded in what they can cost before they run.

use crate::facts::{MANIFEST, ROOTS, SIGNATURE};
use cel::{
    Context, Env, Program, Value,
    common::ast::{EntryExpr, Expr, IdedExpr},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

/// The longest expression in bytes.
const MAX_SOURCE: usize = 2_048;
/// Loops within loops; with lists of at most a thousand items that is a million steps.
const MAX_DEPTH: usize = 2;
/// Expressions within expressions.
const MAX_NESTING: usize = 40;
/// Patterns, which are compiled each time.
const MAX_PATTERNS: usize = 4;
/// Memory for the parser, of which only what it uses is ever there.
const STACK: usize = 64 << 20;
/// Loops side by side.
const MAX_LOOPS: usize = 8;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Compiles an expression; the error is the reason.
pub fn compile(source: &str) -> Result<Program, String> {
    if source.trim().is_empty() || source.len() > MAX_SOURCE {
        return Err("must have 1 to 2048 bytes".into());
    }
    let source = source.to_owned();
    // The parser goes down with every bracket, farther than the stack of a server's thread reaches. What comes out of here does not.
    let parse = std::thread::Builder::new().stack_size(STACK).spawn(move || parse(&source));
    let parse = parse.map_err(|e| format!("cannot be read now: {e}"))?;
    parse.join().unwrap_or_else(|_| Err("cannot be read".into()))
}

fn parse(source: &str) -> Result<Program, String> {
    let program = ENVIRONMENT.compile(source).map_err(|e| format!("is not an expression: {e}"))?;
    let mut check = Check { loops: 0, nesting: 0, patterns: 0, scope: Vec::new() };
    check.walk(program.expression(), 0)?;
    Ok(program)
}

/// Whether the expression is true of these facts; the error is the reason why it cannot be said.
pub fn is_true(program: &Program, context: &Context<'_, '_>) -> Result<bool, String> {
    match program.execute(context) {
        Ok(Value::Bool(result)) => Ok(result),
        Ok(other) => Err(format!("gives {} and not a truth value", other.type_of())),
        Err(error) => Err(error.to_string()),
    }
}

/// The facts as CEL sees them.
pub fn context(facts: &serde_json::Value) -> Context<'static, 'static> {
    let mut context = Context::with_env(ENVIRONMENT.clone());
    for root in ROOTS {
        context.add_variable_from_value(root, convert(facts.get(root).unwrap_or(&serde_json::Value::Null)));
    }
    context
}

/// JSON as CEL; whole numbers are always signed, so that they compare with literals.
fn convert(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text.clone())),
        serde_json::Value::Array(items) => Value::List(Arc::new(items.iter().map(convert).collect())),
        serde_json::Value::Object(map) => {
            let map: std::collections::HashMap<String, Value> = map.iter().map(|(k, v)| (k.clone(), convert(v))).collect();
            Value::Map(map.into())
        }
    }
}

/// Looks over an expression before it ever runs.
struct Check {
    loops: usize,
    nesting: usize,
    patterns: usize,
    /// Names that loops bind.
    scope: Vec<BTreeSet<String>>,
}

impl Check {
    fn walk(&mut self, node: &IdedExpr, depth: usize) -> Result<(), String> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err("nests too deep: at most 40 expressions within each other".into());
        }
        let done = self.look_at(node, depth);
        self.nesting -= 1;
        done
    }

    fn look_at(&mut self, node: &IdedExpr, depth: usize) -> Result<(), String> {
        match &node.expr {
            Expr::Ident(name) => {
                let bound = self.scope.iter().any(|names| names.contains(name));
                if bound || ROOTS.contains(&name.as_str()) {
                    Ok(())
                } else {
                    Err(format!("{name} is not one of {}", ROOTS.join(", ")))
                }
            }
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr
                    && !self.scope.iter().any(|names| names.contains(root))
                {
                    let known: &[&str] = match root.as_str() {
                        "manifest" => &MANIFEST,
                        "signature" => &SIGNATURE,
                        _ => &[],
                    };
                    if !known.is_empty() && !known.contains(&select.field.as_str()) {
                        return Err(format!("{root} has no {}; it has {}", select.field, known.join(", ")));
                    }
                }
                self.walk(&select.operand, depth)
            }
            Expr::Call(call) => {
                // What grows in a loop grows without end, and what is costly once is ruinous a million times.
                if depth > 0 && call.func_name == "_+_" {
                    return Err("nothing is added up in a loop".into());
                }
                if call.func_name == "matches" {
                    let literal = call.args.last().is_some_and(|pattern| matches!(pattern.expr, Expr::Literal(_)));
                    if depth > 0 || !literal {
                        return Err("matches takes a literal pattern, and is not for loops".into());
                    }
                    self.patterns += 1;
                    if self.patterns > MAX_PATTERNS {
                        return Err("would cost too much: at most 4 patterns".into());
                    }
                }
                if depth > 1 && ["_==_", "_!=_", "@in"].contains(&call.func_name.as_str()) && !call.args.iter().any(is_small) {
                    return Err("in a loop within a loop, compare with literals, or with what the loops bind".into());
                }
                call.target.iter().map(AsRef::as_ref).chain(&call.args).try_for_each(|part| self.walk(part, depth))
            }
            Expr::Comprehension(comprehension) => {
                self.loops += 1;
                if depth + 1 > MAX_DEPTH || self.loops > MAX_LOOPS {
                    return Err("would cost too much: at most 8 loops, and one within another".into());
                }
                // A loop over what a loop made could grow at every step.
                if contains_loop(&comprehension.iter_range) {
                    return Err("would cost too much: a loop does not run over what another made".into());
                }
                self.walk(&comprehension.iter_range, depth)?;
                self.walk(&comprehension.accu_init, depth)?;
                let names = [Some(&comprehension.iter_var), comprehension.iter_var2.as_ref(), Some(&comprehension.accu_var)];
                self.scope.push(names.into_iter().flatten().cloned().collect());
                // A loop that a macro made adds to its own list; that is its result, and bounded by what it runs over.
                let parts = [&comprehension.loop_cond, &comprehension.result];
                let done = parts.into_iter().try_for_each(|part| self.walk(part, depth + 1));
                let done = done.and_then(|()| self.walk_step(&comprehension.loop_step, &comprehension.accu_var, depth + 1));
                self.scope.pop();
                done
            }
            // Of literals, to look something up in: that is small, and does not grow.
            Expr::List(list) if depth == 1 && list.elements.iter().all(is_small) => Ok(()),
            Expr::List(_) | Expr::Map(_) if depth > 0 => {
                Err("no lists and maps are made in a loop, but lists of literals".into())
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.walk(element, depth)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr, depth)),
            Expr::Struct(_) => Err("makes a structure, and there are none".into()),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, entry: &EntryExpr, depth: usize) -> Result<(), String> {
        match entry {
            EntryExpr::StructField(field) => self.walk(&field.value, depth),
            EntryExpr::MapEntry(entry) => {
                self.walk(&entry.key, depth)?;
                self.walk(&entry.value, depth)
            }
        }
    }

    /// A loop's step, where `accumulator + […]` is how a macro collects.
    fn walk_step(&mut self, node: &IdedExpr, accumulator: &str, depth: usize) -> Result<(), String> {
        if let Expr::Call(call) = &node.expr {
            let collects = call.func_name == "_+_"
                && call.args.first().is_some_and(|first| matches!(&first.expr, Expr::Ident(name) if name == accumulator));
            if collects && depth == 1 {
                // `[element]`: the element itself is looked at, the list around it is the macro's own.
                return call.args.iter().skip(1).try_for_each(|part| match &part.expr {
                    Expr::List(list) => list.elements.iter().try_for_each(|element| self.walk(element, depth)),
                    _ => self.walk(part, depth),
                });
            }
            if call.func_name == "_?_:_" {
                return call.args.iter().try_for_each(|part| self.walk_step(part, accumulator, depth));
            }
        }
        self.walk(node, depth)
    }
}

/// Whether there is a loop in an expression.
fn contains_loop(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Comprehension(_) => true,
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).any(contains_loop),
        Expr::Select(select) => contains_loop(&select.operand),
        Expr::List(list) => list.elements.iter().any(contains_loop),
        Expr::Map(map) => map.entries.iter().any(|entry| match &entry.expr {
            EntryExpr::StructField(field) => contains_loop(&field.value),
            EntryExpr::MapEntry(entry) => contains_loop(&entry.key) || contains_loop(&entry.value),
        }),
        _ => false,
    }
}

/// Whether comparing with it costs little: a literal.
fn is_small(node: &IdedExpr) -> bool {
    matches!(node.expr, Expr::Literal(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(source: &str) -> Result<bool, String> {
        let facts = json!({
            "manifest": { "title": "A", "size": 12, "classification": "public" },
            "assertions": { "a.b": { "n": [1, 2, 3] } },
            "metadata": {}, "ingredients": [], "signature": null,
        });
        is_true(&compile(source)?, &context(&facts))
    }

    #[test]
    fn expressions_decide() {
        assert_eq!(run("manifest.size > 10 && manifest.title == 'A'"), Ok(true));
        assert_eq!(run("'a.b' in assertions && assertions['a.b'].n.exists(x, x == 3)"), Ok(true));
        assert_eq!(run("assertions['a.b'].n.map(x, x * 2).size() == 3"), Ok(true));
        assert_eq!(run("assertions['a.b'].n.filter(x, x > 1).size() == 2"), Ok(true));
        assert_eq!(run("signature == null"), Ok(true));
        assert_eq!(run("assertions['a.b'].n.all(x, x in [1, 2, 3])"), Ok(true));
        assert_eq!(run("manifest.title.matches('^[A-Z]$')"), Ok(true));
        assert!(run("manifest.title").unwrap_err().contains("not a truth value"));
        assert!(run("assertions['x'].n").is_err());
    }

    #[test]
    fn what_is_not_there_or_costs_too_much_is_refused() {
        for (source, because) in [
            ("manifest.titel == ''", "has no titel"),
            ("secrets.key == ''", "not one of"),
            ("1 +", "not an expression"),
            ("", "1 to 2048"),
            ("ingredients.all(a, ingredients.all(b, ingredients.all(c, true)))", "cost too much"),
            ("ingredients.all(a, ingredients.all(b, 'x' + 'y' == ''))", "added up in a loop"),
            ("['a'].map(x, x + x).size() > 0", "added up in a loop"),
            ("[1].map(x, [x, x]).map(x, [x, x]).size() > 0", "does not run over what another made"),
            ("[1].map(x, [x, x]).size() > 0", "no lists and maps"),
            ("[1].all(a, 'x'.matches('x{1,1000}'))", "not for loops"),
            ("'x'.matches(manifest.title)", "literal pattern"),
            ("ingredients.all(a, ingredients.all(b, assertions == metadata))", "compare with literals"),
        ] {
            let reason = compile(source).err().unwrap_or_default();
            assert!(reason.contains(because), "{source}: {reason}");
        }
        let many = ["[1].all(a, true)"; 9].join(" && ");
        assert!(compile(&many).is_err());
        let long = format!("manifest.title == '' {}", "|| manifest.size > 1 ".repeat(90));
        assert!(compile(&long).is_err() || run(&long).is_ok());
        let chain = format!("metadata{} == ''", ".a".repeat(600));
        assert!(compile(&chain).unwrap_err().contains("nests too deep"));
        let deep = format!("{}true{}", "(".repeat(500), ")".repeat(500));
        assert!(compile(&deep).is_err());
    }

    #[test]
    fn the_costliest_allowed_ends_soon() {
        let numbers: Vec<i64> = (0..1_000).collect();
        let facts =
            json!({ "manifest": {}, "assertions": { "n": numbers }, "metadata": {}, "ingredients": [], "signature": null });
        let program = compile("assertions.n.all(a, assertions.n.all(b, a * b >= 0))").unwrap();
        assert_eq!(is_true(&program, &context(&facts)), Ok(true));
    }
}
