//! The form that expressions may have: what they may name, and no loops that grow.

use crate::{
    cost,
    schema::{self, Type},
};
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};
use std::collections::BTreeSet;

/// Loops within loops.
const MAX_DEPTH: usize = 2;
/// Expressions within expressions.
const MAX_NESTING: usize = 40;
/// Patterns, which are compiled each time.
const MAX_PATTERNS: usize = 4;
/// Loops side by side.
const MAX_LOOPS: usize = 8;

/// Looks over an expression before it ever runs.
#[derive(Default)]
pub struct Check {
    loops: usize,
    nesting: usize,
    patterns: usize,
    /// Names that loops bind.
    scope: Vec<BTreeSet<String>>,
}

impl Check {
    /// Refuses what has another form; the error is the reason.
    pub fn walk(&mut self, node: &IdedExpr, depth: usize) -> Result<(), String> {
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
                if bound || schema::root(name).is_some() {
                    Ok(())
                } else {
                    Err(format!("{name} is not one of {}", schema::names(&schema::ROOTS)))
                }
            }
            Expr::Select(select) => {
                if let Expr::Ident(root) = &select.operand.expr
                    && !self.scope.iter().any(|names| names.contains(root))
                    && let Some(Type::Members(members)) = schema::root(root)
                    && !members.iter().any(|(known, _)| *known == select.field)
                {
                    return Err(format!("{root} has no {}; it has {}", select.field, schema::names(members)));
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
                    if let Some(Expr::Literal(LiteralValue::String(pattern))) = call.args.last().map(|pattern| &pattern.expr) {
                        cost::of_pattern(pattern.inner())?;
                    }
                    self.patterns += 1;
                    if self.patterns > MAX_PATTERNS {
                        return Err("would cost too much: at most 4 patterns".into());
                    }
                }
                let compares = ["_==_", "_!=_", "@in"].contains(&call.func_name.as_str());
                if depth > 1 && compares && !call.args.iter().any(|part| is_small(part) || self.is_bound(part)) {
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

    /// Whether it is a part of what a loop binds.
    fn is_bound(&self, node: &IdedExpr) -> bool {
        match &node.expr {
            Expr::Ident(name) => self.scope.iter().any(|names| names.contains(name)),
            Expr::Select(select) => self.is_bound(&select.operand),
            _ => false,
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
