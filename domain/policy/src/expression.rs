//! CEL expressions: compiled once, checked against what a manifest has, bounded in what they can cost before they run, and in time
//! while they run.

use crate::{check::Check, cost, json, model::Unsaid, schema, types};
use cel::{
    Context, Env, Program, Value,
    common::{
        ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue},
        types::{CelBool, CelNull},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::catch_unwind,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The longest expression in bytes.
const MAX_SOURCE: usize = 2_048;
/// Memory for the parser, of which only what it uses is ever there.
const STACK: usize = 64 << 20;
/// What loops ask before every step. Nobody can write such a name.
const CLOCK: &str = "@in_time";

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression that can be asked.
#[derive(Debug)]
pub struct Expression {
    tree: IdedExpr,
    /// Steps that it takes at most.
    pub cost: u64,
    /// Why it cannot be right, whatever the manifest, where that is plain.
    pub mistyped: Option<String>,
    /// What of the facts it names, and whether that is more than whether it is null.
    pub names: BTreeMap<String, bool>,
}

impl Expression {
    /// The members of the facts that it names something of.
    pub fn roots(&self) -> impl Iterator<Item = &'static str> {
        let named = |root: &str| self.names.keys().any(|path| schema::first(path) == root);
        schema::ROOTS.map(|(root, _)| root).into_iter().filter(move |root| named(root))
    }
}

/// Compiles an expression; the error is the reason.
#[cfg(test)]
pub fn compile(source: &str) -> Result<Expression, String> {
    compile_all(vec![source.to_owned()]).and_then(|mut all| all.pop()).unwrap_or_else(|| Err("cannot be read".into()))
}

/// Compiles expressions, all on one thread: the parser goes down with every bracket, farther than the stack of a server's thread
/// reaches. What comes out of here does not. None when there is no thread to be had, which says nothing about them.
pub fn compile_all(sources: Vec<String>) -> Option<Vec<Result<Expression, String>>> {
    let many = sources.len();
    let each = |source: String| catch_unwind(|| parse(&source)).unwrap_or_else(|_| Err("cannot be read".into()));
    let all = move || sources.into_iter().map(each).collect::<Vec<_>>();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(all).ok()?;
    Some(thread.join().unwrap_or_else(|_| (0..many).map(|_| Err("cannot be read".to_owned())).collect()))
}

fn parse(source: &str) -> Result<Expression, String> {
    if source.trim().is_empty() || source.len() > MAX_SOURCE {
        return Err("must have 1 to 2048 bytes".into());
    }
    let program: Program = ENVIRONMENT.compile(source).map_err(|e| format!("is not an expression: {e}"))?;
    Check::default().walk(program.expression(), 0)?;
    let mut tree = program.expression().clone();
    let mistyped = types::check(&tree, program.source_info()).err();
    let cost = cost::of(&tree);
    let mut names = BTreeMap::new();
    name(&tree, &mut names);
    keep_time(&mut tree);
    Ok(Expression { tree, cost, mistyped, names })
}

/// Until when expressions may run. Loops ask before every step, and end when it is over.
pub struct Deadline {
    until: Instant,
    reached: AtomicBool,
    yes: CelBool,
}

impl Deadline {
    /// So long from now.
    pub fn after(time: Duration) -> Self {
        Self { until: Instant::now() + time, reached: AtomicBool::new(false), yes: true.into() }
    }

    fn is_over(&self) -> bool {
        let over = Instant::now() >= self.until;
        if over {
            self.reached.store(true, Ordering::Relaxed);
        }
        over
    }
}

impl VariableResolver for Deadline {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        // A name that is not there is an error, and ends the loop.
        (variable == CLOCK && !self.is_over()).then_some(CowVal::Borrowed(&self.yes))
    }
}

/// Whether the expression is true of these facts; the error is why it cannot be said.
pub fn is_true(expression: &Expression, context: &Context<'_, '_>, deadline: &Deadline) -> Result<bool, (Unsaid, String)> {
    let late = || Err((Unsaid::ExpressionTooSlow, "the time for the policy's expressions was over".to_owned()));
    if deadline.is_over() {
        return late();
    }
    let found = Value::resolve(&expression.tree, context);
    // What was cut off may give an answer all the same: it is none.
    if deadline.reached.load(Ordering::Relaxed) {
        return late();
    }
    match found {
        Ok(Value::Bool(result)) => Ok(result),
        Ok(other) => Err((Unsaid::ExpressionFailed, format!("gives {} and not a truth value", other.type_of()))),
        Err(error) => Err((Unsaid::ExpressionFailed, error.to_string())),
    }
}

/// These members of the facts as CEL sees them. An expression that names another cannot be said.
pub fn context<'v>(facts: &'v serde_json::Value, roots: &BTreeSet<&'static str>, deadline: &'v Deadline) -> Context<'v, 'v> {
    let mut context = Context::with_env(ENVIRONMENT.clone());
    for root in roots.iter().copied() {
        context.add_variable_as_val(root, facts.get(root).map_or_else(|| Box::new(CelNull) as Box<dyn Val>, json::convert));
    }
    context.set_variable_resolver(deadline);
    context
}

/// Has every loop ask whether there is time left. What a macro made keeps the form that runs without copying.
fn keep_time(node: &mut IdedExpr) {
    let id = node.id;
    match &mut node.expr {
        Expr::Select(select) => keep_time(&mut select.operand),
        Expr::Call(call) => call.target.iter_mut().map(AsMut::as_mut).chain(&mut call.args).for_each(keep_time),
        Expr::List(list) => list.elements.iter_mut().for_each(keep_time),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    keep_time(&mut entry.key);
                    keep_time(&mut entry.value);
                }
            }
        }
        Expr::Comprehension(comprehension) => {
            let parts = [&mut comprehension.iter_range, &mut comprehension.loop_step];
            parts.into_iter().for_each(keep_time);
            let when = |condition: &mut IdedExpr, otherwise: Expr| {
                let then = std::mem::take(condition);
                let args = [Expr::Ident(CLOCK.into()), Expr::Unspecified, otherwise].map(|expr| IdedExpr { id, expr });
                let mut call = CallExpr { func_name: "_?_:_".into(), target: None, args: args.into() };
                call.args[1] = then;
                *condition = IdedExpr { id, expr: Expr::Call(call) };
            };
            let no = Expr::Literal(LiteralValue::Boolean(false.into()));
            if !matches!(comprehension.loop_cond.expr, Expr::Literal(_)) {
                return when(&mut comprehension.loop_cond, no);
            }
            match &mut comprehension.loop_step.expr {
                Expr::Call(call) if call.func_name == "_?_:_" && call.args.len() == 3 => when(&mut call.args[0], no),
                _ => when(&mut comprehension.loop_step, Expr::Ident(comprehension.accu_var.clone())),
            }
        }
        _ => {}
    }
}

/// What leads to a part of something that has a name, as a `field_path` says it.
pub fn path(node: &IdedExpr) -> Option<String> {
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let member = |whole: String, name: &str| match plain(name) {
        true => format!("{whole}.{name}"),
        false => format!("{whole}[\"{name}\"]"),
    };
    match &node.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) => Some(member(path(&select.operand)?, &select.field)),
        Expr::Call(call) if call.func_name == "_[_]" => {
            let [whole, index] = call.args.as_slice() else { return None };
            match &index.expr {
                Expr::Literal(LiteralValue::String(name)) => Some(member(path(whole)?, name.inner())),
                Expr::Literal(LiteralValue::Int(index)) => Some(format!("{}[{}]", path(whole)?, index.inner())),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Notes what of the facts an expression names.
fn name(node: &IdedExpr, names: &mut BTreeMap<String, bool>) {
    let is_fact = |path: &String| schema::root(schema::first(path)).is_some();
    let null = |node: &IdedExpr| matches!(node.expr, Expr::Literal(LiteralValue::Null));
    match (path(node).filter(is_fact), &node.expr) {
        (Some(path), _) => {
            names.insert(path, true);
        }
        (None, Expr::Select(select)) => name(&select.operand, names),
        (None, Expr::Call(call)) if ["_==_", "_!=_"].contains(&call.func_name.as_str()) && call.args.iter().any(null) => {
            for part in &call.args {
                match path(part).filter(is_fact) {
                    Some(path) => {
                        names.entry(path).or_insert(false);
                    }
                    None => name(part, names),
                }
            }
        }
        (None, Expr::Call(call)) => {
            call.target.iter().map(AsRef::as_ref).chain(&call.args).for_each(|part| name(part, names));
        }
        (None, Expr::List(list)) => list.elements.iter().for_each(|element| name(element, names)),
        (None, Expr::Map(map)) => {
            for entry in &map.entries {
                if let EntryExpr::MapEntry(entry) = &entry.expr {
                    name(&entry.key, names);
                    name(&entry.value, names);
                }
            }
        }
        (None, Expr::Comprehension(comprehension)) => {
            let parts = [&comprehension.iter_range, &comprehension.accu_init, &comprehension.loop_step, &comprehension.result];
            parts.into_iter().for_each(|part| name(part, names));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// For what is not about time.
    const LONG: Duration = Duration::from_secs(600);

    fn run(source: &str) -> Result<bool, String> {
        let facts = json!({
            "manifest": { "title": "A", "size": 12, "classification": "public" },
            "assertions": { "a.b": { "n": [1, 2, 3] } },
            "metadata": {}, "ingredients": [], "signature": null,
        });
        let expression = compile(source)?;
        let deadline = Deadline::after(LONG);
        is_true(&expression, &context(&facts, &expression.roots().collect(), &deadline), &deadline).map_err(|(_, reason)| reason)
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
        for source in [
            "[1, 2, 3] == assertions['a.b'].n && assertions['a.b'].n == [1, 2, 3] && assertions['a.b'].n in [[1, 2, 3]]",
            "assertions['a.b'].n + [4] == [1, 2, 3, 4] && [0] + assertions['a.b'].n == [0, 1, 2, 3]",
            "assertions['a.b'] == {'n': [1, 2, 3]} && {'n': [1, 2, 3]} == assertions['a.b'] && assertions != metadata",
            "assertions.map(label, assertions[label])[0].n[2] == 3 && assertions.all(label, assertions[label].n.size() == 3)",
            "has(assertions.x) == false && type(assertions) == type({}) && type(ingredients) == type([]) && size(metadata) == 0",
            "[assertions, metadata].filter(m, 'a.b' in m)[0]['a.b'].n[1] == 2",
        ] {
            assert_eq!(run(source), Ok(true), "{source}");
        }
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
    fn what_cannot_be_right_is_found() {
        for (source, because) in [
            ("manifest.title > 3", "does not order a text and a number (at character 16)"),
            ("manifest.size == 'large'", "compares a number with a text"),
            ("'public' != manifest.size", "compares a text with a number"),
            ("manifest['title'] == true", "compares a text with a truth value"),
            ("manifest['titel'] == ''", "has no titel"),
            ("signature.embedded && manifest.title", "manifest.title is a text, and && takes a truth value"),
            ("!manifest.size", "manifest.size is a number, and ! takes a truth value"),
            ("manifest.title - 1 == 0", "takes a number"),
            ("manifest.title + 1 == 'a1'", "does not take a text and a number"),
            ("manifest.size.startsWith('1')", "manifest.size is a number"),
            ("manifest.title.contains(7)", "takes a text"),
            ("size(manifest.size) == 1", "which has no size"),
            ("manifest.title.starts == 1", "which has no members"),
            ("signature.timestamp.when == ''", "has no when; it has time, trusted, authority"),
            ("signature.timestamp == 5", "compares an object with a number"),
            ("metadata['dc:title'] > 3", "does not order"),
            ("manifest.title in 'Poster'", "in looks in"),
            ("manifest.title in [1, 2]", "looks for a text among what is a number"),
            ("manifest.title.all(c, c == 'a')", "loops run over"),
            ("ingredients.all(i, i.size > 3)", "has no size"),
            ("ingredients.all(i, i.title > 3)", "does not order"),
            ("[1, 2].all(n, n == 'a')", "compares a number with a text"),
            ("ingredients.exists(manifest, manifest.title == '')", "binds manifest"),
            ("manifest.title ? true : false", "takes a truth value"),
            ("manifest.size", "gives a number and not a truth value"),
        ] {
            let compiled = compile(source);
            let reason = compiled.as_ref().map_or_else(Clone::clone, |found| found.mistyped.clone().unwrap_or_default());
            assert!(reason.contains(because), "{source}: {reason}");
        }
        for source in [
            "manifest.department == null || manifest.department != 'legal'",
            "null == signature || signature.timestamp == null || signature.timestamp.trusted",
            "has(manifest.title) && manifest.size * 2 + 1 > 3 && size(manifest.title) > 0",
            "manifest.title + '!' == 'A!' && manifest['title'].size() > 0",
            "assertions.x.y > 3 || assertions['a.b'].n[0] == 'a' || assertions.all(label, label.startsWith('c2pa'))",
            "assertions.x.n.map(n, n * 2).size() == 3 && assertions.x.n.exists_one(n, n == 'a')",
            "manifest.classification in ['public', 'internal'] && 'dc:title' in metadata",
            "(manifest.size > 3 ? manifest.title : assertions.x) == 'A'",
        ] {
            assert_eq!(compile(source).map(|found| found.mistyped), Ok(None), "{source}");
        }
    }

    #[test]
    fn what_is_named_is_known() {
        let names = compile("signature == null || signature.signer == assertions['a.b'].c[0].d && has(manifest.title)").unwrap();
        let names: Vec<(&str, bool)> = names.names.iter().map(|(path, whole)| (path.as_str(), *whole)).collect();
        let expected =
            [("assertions[\"a.b\"].c[0].d", true), ("manifest.title", true), ("signature", false), ("signature.signer", true)];
        assert_eq!(names, expected);
    }

    #[test]
    fn every_kind_of_loop_ends_in_time() {
        let numbers: Vec<i64> = (0..1_000).collect();
        let facts = json!({ "assertions": { "n": numbers } });
        for source in [
            "assertions.n.all(a, assertions.n.all(b, a * b >= 0))",
            "assertions.n.exists(a, assertions.n.exists(b, a * b < 0)) || true",
            "assertions.n.filter(a, assertions.n.all(b, b >= 0)).size() >= 0",
            "assertions.n.map(a, a >= 0, assertions.n.all(b, b >= 0)).size() >= 0",
        ] {
            let expression = compile(source).unwrap();
            let deadline = Deadline::after(Duration::from_millis(5));
            let found = is_true(&expression, &context(&facts, &expression.roots().collect(), &deadline), &deadline);
            assert_eq!(found.map_err(|(reason, _)| reason), Err(Unsaid::ExpressionTooSlow), "{source}");
        }
        let deadline = Deadline::after(Duration::ZERO);
        let found = is_true(&compile("true").unwrap(), &context(&facts, &BTreeSet::new(), &deadline), &deadline);
        assert_eq!(found.map_err(|(reason, _)| reason), Err(Unsaid::ExpressionTooSlow));
    }
}
