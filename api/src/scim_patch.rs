//! SCIM's changes (RFC 7644 §3.5.2), as identity providers send them.

use omt_access::{GroupChange, UserChange};
use omt_kernel::{Error, Kind, Result, UserId, access::GroupRecord};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// The most changes of one request.
const MAX: usize = 1_000;

/// One change.
#[derive(Debug, Clone, Deserialize)]
pub struct Operation {
    /// `add`, `replace` or `remove`, whatever its case.
    op: String,
    /// What is changed; the whole resource when absent.
    path: Option<String>,
    /// To what.
    #[serde(default)]
    value: Value,
}

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Set,
    Remove,
}

fn bad_path(path: &str) -> Error {
    Error::new(Kind::Invalid, "INVALID_PATH", format!("{path:?} cannot be changed"))
}

fn bad_value(path: &str) -> Error {
    Error::new(Kind::Invalid, "INVALID_VALUE", format!("the value for {path:?} does not fit"))
}

/// The changes as (operation, path in lower case, value); a change of the whole resource becomes one of each member.
fn flat(operations: &[Operation]) -> Result<Vec<(Op, String, Value)>> {
    if operations.is_empty() || operations.len() > MAX {
        return Err(Error::new(Kind::Invalid, "INVALID_VALUE", "1 to 1000 operations are taken"));
    }
    let mut out = Vec::new();
    for operation in operations {
        let op = match operation.op.to_lowercase().as_str() {
            "add" | "replace" => Op::Set,
            "remove" => Op::Remove,
            other => return Err(Error::new(Kind::Invalid, "INVALID_VALUE", format!("there is no operation {other:?}"))),
        };
        match (&operation.path, &operation.value) {
            (Some(path), value) => out.push((op, path.clone(), value.clone())),
            (None, Value::Object(members)) => {
                out.extend(members.iter().map(|(name, value)| (op, name.clone(), value.clone())));
            }
            (None, _) => return Err(bad_value("")),
        }
    }
    Ok(out)
}

fn text(op: Op, path: &str, value: &Value) -> Result<Option<String>> {
    match value {
        _ if op == Op::Remove => Ok(None),
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        _ => Err(bad_value(path)),
    }
}

/// Changes of a user.
pub fn user(operations: &[Operation]) -> Result<UserChange> {
    let mut change = UserChange::default();
    for (op, path, value) in flat(operations)? {
        let folded = path.to_lowercase();
        match folded.as_str() {
            "active" => {
                // Some clients send it as a text.
                let active = value.as_bool().or_else(|| value.as_str().and_then(|text| text.to_lowercase().parse().ok()));
                change.active = Some(active.filter(|_| op == Op::Set).ok_or_else(|| bad_value(&path))?);
            }
            "username" => change.username = Some(text(op, &path, &value)?.ok_or_else(|| bad_value(&path))?),
            "externalid" => change.external_id = Some(text(op, &path, &value)?),
            "displayname" | "name.formatted" => change.display_name = Some(text(op, &path, &value)?),
            "name" => {
                if let Some(formatted) = value["formatted"].as_str() {
                    change.display_name = Some(Some(formatted.to_owned()));
                }
            }
            "emails" if op == Op::Set => {
                let first = value.as_array().and_then(|all| all.iter().find(|e| e["primary"] == true).or(all.first()));
                let first = first.and_then(|email| email["value"].as_str()).ok_or_else(|| bad_value(&path))?;
                change.email = Some(Some(first.to_owned()));
            }
            "emails" => change.email = Some(None),
            path if path.starts_with("emails[") && path.ends_with("].value") => change.email = Some(text(op, path, &value)?),
            // Parts of names, schemas and the like are kept elsewhere, and clients send them all the same.
            "schemas" | "name.givenname" | "name.familyname" | "title" | "preferredlanguage" | "locale" => {}
            _ => return Err(bad_path(&path)),
        }
    }
    Ok(change)
}

/// Members out of a list of `{ value }`.
pub fn members(value: &Value) -> Result<Vec<UserId>> {
    let list = match value {
        Value::Array(list) => list.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let id = |member: &Value| member["value"].as_str().and_then(|id| id.parse().ok()).ok_or_else(|| bad_value("members"));
    list.iter().map(id).collect()
}

/// What a group becomes.
pub fn group(operations: &[Operation], group: GroupRecord, current: Vec<UserId>) -> Result<GroupChange> {
    let mut change = GroupChange { name: group.name, external_id: group.external_id, members: None };
    let mut inside: BTreeSet<UserId> = current.into_iter().collect();
    for operation in operations {
        let replaces = operation.op.eq_ignore_ascii_case("replace");
        for (op, path, value) in flat(std::slice::from_ref(operation))? {
            let folded = path.to_lowercase();
            match folded.as_str() {
                "displayname" => change.name = text(op, &path, &value)?.ok_or_else(|| bad_value(&path))?,
                "externalid" => change.external_id = text(op, &path, &value)?,
                "members" if op == Op::Remove && value.is_null() => inside.clear(),
                "members" if op == Op::Remove => {
                    let gone = members(&value)?;
                    inside.retain(|id| !gone.contains(id));
                }
                "members" => {
                    if replaces {
                        inside.clear();
                    }
                    inside.extend(members(&value)?);
                }
                "schemas" | "id" => {}
                _ => {
                    let named = folded.strip_prefix("members[value eq \"").and_then(|rest| rest.strip_suffix("\"]"));
                    let named: Option<UserId> = named.and_then(|id| id.parse().ok());
                    let gone = named.filter(|_| op == Op::Remove).ok_or_else(|| bad_path(&path))?;
                    inside.remove(&gone);
                }
            }
        }
    }
    change.members = Some(inside.into_iter().collect());
    Ok(change)
}
