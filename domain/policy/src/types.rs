//! Whether an expression fits the types that are known before there is a manifest. Only what cannot be right is refused: what is
//! unknown fits everything, and every member may be null.

use crate::schema::{self, Type};
use cel::{
    common::ast::SourceInfo,
    common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue},
};

/// Refuses an expression that cannot mean anything; the reason, with its place where that is known.
pub fn check(tree: &IdedExpr, places: &SourceInfo) -> Result<(), String> {
    let mut check = Check { places, scope: Vec::new() };
    let found = check.of(tree)?;
    match found.may_be(Type::Truth) {
        true => Ok(()),
        false => Err(check.place(tree, format!("gives {} and not a truth value", words(found)))),
    }
}

fn words(found: Type) -> &'static str {
    found.words().unwrap_or("anything")
}

struct Check<'a> {
    places: &'a SourceInfo,
    /// Names that loops bind, the innermost last.
    scope: Vec<(String, Type)>,
}

impl Check<'_> {
    fn place(&self, node: &IdedExpr, reason: String) -> String {
        match self.places.offset_for(node.id) {
            Some((start, _)) => format!("{reason} (at character {})", start + 1),
            None => reason,
        }
    }

    fn of(&mut self, node: &IdedExpr) -> Result<Type, String> {
        match &node.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Type::Truth,
                LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Type::Number,
                LiteralValue::String(_) => Type::Text,
                LiteralValue::Null => Type::Null,
                LiteralValue::Bytes(_) => Type::Unknown,
            }),
            Expr::Ident(name) => {
                let bound = self.scope.iter().rev().find(|(bound, _)| bound == name).map(|(_, found)| *found);
                Ok(bound.or_else(|| schema::root(name)).unwrap_or(Type::Unknown))
            }
            Expr::Select(select) => {
                let member = self.of(&select.operand)?.member(&select.field).map_err(|e| self.named(&select.operand, e))?;
                Ok(if select.test { Type::Truth } else { member })
            }
            Expr::Call(call) => self.call(node, call),
            Expr::List(list) => {
                for element in &list.elements {
                    self.of(element)?;
                }
                Ok(Type::List)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.of(&entry.key)?;
                        self.of(&entry.value)?;
                    }
                }
                Ok(Type::Map)
            }
            Expr::Comprehension(comprehension) => {
                let range = self.of(&comprehension.iter_range)?;
                let mut item = range.item().map_err(|e| self.named(&comprehension.iter_range, e))?;
                if let Expr::List(list) = &comprehension.iter_range.expr {
                    item = self.common(&list.elements)?;
                }
                // A name that meant something else before would mislead people, and what is looked at would not be known.
                let variable = &comprehension.iter_var;
                if schema::root(variable).is_some() || self.scope.iter().any(|(bound, _)| bound == variable) {
                    return Err(self.place(node, format!("binds {variable}, which is the name of something already")));
                }
                let accumulator = self.of(&comprehension.accu_init)?;
                let depth = self.scope.len();
                self.scope.push((comprehension.accu_var.clone(), accumulator));
                self.scope.push((comprehension.iter_var.clone(), item));
                if let Some(second) = &comprehension.iter_var2 {
                    self.scope.push((second.clone(), Type::Unknown));
                }
                self.of(&comprehension.loop_cond)?;
                self.of(&comprehension.loop_step)?;
                let result = self.of(&comprehension.result)?;
                self.scope.truncate(depth);
                Ok(result)
            }
            _ => Ok(Type::Unknown),
        }
    }

    /// The type that all of some have, where they have one.
    fn common(&mut self, elements: &[IdedExpr]) -> Result<Type, String> {
        let mut found = None;
        for element in elements {
            let one = self.of(element)?;
            found = Some(if found.is_none_or(|found| found == one) { one } else { Type::Unknown });
        }
        Ok(found.unwrap_or(Type::Unknown))
    }

    /// A reason about something, with its name where it has one.
    fn named(&self, node: &IdedExpr, reason: String) -> String {
        let name = crate::expression::path(node).unwrap_or_else(|| "this".to_owned());
        self.place(node, format!("{name} {reason}"))
    }

    /// Refuses an operand that cannot be of this type.
    fn must(&self, node: &IdedExpr, found: Type, wanted: Type, function: &str) -> Result<(), String> {
        if found.may_be(wanted) {
            return Ok(());
        }
        let reason = format!("is {}, and {} takes {}", words(found), show(function), words(wanted));
        Err(self.named(node, reason))
    }

    fn call(&mut self, node: &IdedExpr, call: &CallExpr) -> Result<Type, String> {
        let name = call.func_name.as_str();
        let operands: Vec<&IdedExpr> = call.target.iter().map(AsRef::as_ref).chain(&call.args).collect();
        let mut types = Vec::with_capacity(operands.len());
        for operand in &operands {
            types.push(self.of(operand)?);
        }
        let against = |wanted| {
            let mut each = operands.iter().zip(&types);
            each.try_for_each(|(operand, found)| self.must(operand, *found, wanted, name))
        };
        match (name, types.as_slice()) {
            ("_==_" | "_!=_", [left, right]) => {
                let null = [left, right].contains(&&Type::Null);
                if !null && !left.may_be(*right) {
                    let reason = format!("compares {} with {}, which are never equal", words(*left), words(*right));
                    return Err(self.place(node, reason));
                }
                Ok(Type::Truth)
            }
            ("_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => {
                let ordered = |found: &Type| [Type::Number, Type::Text, Type::Truth].iter().any(|o| found.may_be(*o));
                if !left.may_be(*right) || !ordered(left) || !ordered(right) {
                    let reason = format!("{} does not order {} and {}", show(name), words(*left), words(*right));
                    return Err(self.place(node, reason));
                }
                Ok(Type::Truth)
            }
            ("_&&_" | "_||_" | "!_", _) => against(Type::Truth).map(|()| Type::Truth),
            ("@not_strictly_false", _) => Ok(Type::Truth),
            ("_-_" | "_*_" | "_/_" | "_%_" | "-_", _) => against(Type::Number).map(|()| Type::Number),
            ("_+_", [left, right]) => {
                let addable = |found: &Type| [Type::Number, Type::Text, Type::List].iter().any(|o| found.may_be(*o));
                if !left.may_be(*right) || !addable(left) || !addable(right) {
                    let reason = format!("{} does not take {} and {}", show(name), words(*left), words(*right));
                    return Err(self.place(node, reason));
                }
                Ok(match left {
                    Type::Unknown => *right,
                    _ => *left,
                })
            }
            ("_?_:_", [condition, left, right]) => {
                self.must(operands[0], *condition, Type::Truth, name)?;
                Ok(if left == right { *left } else { Type::Unknown })
            }
            ("_[_]", [whole, index]) => match (whole, &operands[1].expr) {
                (Type::List | Type::Rows(_), _) => {
                    self.must(operands[1], *index, Type::Number, name)?;
                    Ok(whole.item().unwrap_or(Type::Unknown))
                }
                (_, Expr::Literal(LiteralValue::String(member))) => {
                    whole.member(member.inner()).map_err(|e| self.named(operands[0], e))
                }
                (Type::Map | Type::Texts | Type::Members(_), _) => {
                    self.must(operands[1], *index, Type::Text, name)?;
                    Ok(if *whole == Type::Texts { Type::Text } else { Type::Unknown })
                }
                (Type::Unknown, _) => Ok(Type::Unknown),
                _ => Err(self.named(operands[0], format!("is {}, which has no members", words(*whole)))),
            },
            ("@in", [item, whole]) => {
                let mut wanted = whole.item().map_err(|e| self.named(operands[1], e.replace("loops run over", "in looks in")))?;
                if let Expr::List(list) = &operands[1].expr {
                    wanted = self.common(&list.elements)?;
                }
                if *item != Type::Null && wanted != Type::Null && !item.may_be(wanted) {
                    let reason = format!("looks for {} among what is {}", words(*item), words(wanted));
                    return Err(self.place(node, reason));
                }
                Ok(Type::Truth)
            }
            ("startsWith" | "endsWith" | "contains" | "matches", _) => against(Type::Text).map(|()| Type::Truth),
            ("size", [whole]) => {
                if matches!(whole, Type::Number | Type::Truth | Type::Null) {
                    return Err(self.named(operands[0], format!("is {}, which has no size", words(*whole))));
                }
                Ok(Type::Number)
            }
            ("int" | "uint" | "double", _) => Ok(Type::Number),
            ("string", _) => Ok(Type::Text),
            ("bool", _) => Ok(Type::Truth),
            _ => Ok(Type::Unknown),
        }
    }
}

/// A function as people write it.
fn show(function: &str) -> &str {
    match function {
        "_?_:_" => "?:",
        "_[_]" => "an index",
        _ => function.trim_matches('_'),
    }
}
