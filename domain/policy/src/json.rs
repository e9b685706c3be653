//! JSON as CEL sees it: nothing of it is copied, and lists and objects are looked into only where an expression does.

use cel::common::{
    traits::{Adder, Container, Indexer, Iterable, Sizer, Zeroer},
    types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, Type},
    value::{Builtin, BuiltinRef, Val},
};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

/// A value for CEL. Whole numbers are always signed, so that they compare with literals.
pub fn convert(value: &Value) -> Box<dyn Val + '_> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Box::new(CelInt::from(whole)),
            None => Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(_) | Value::Object(_) => Box::new(Part { json: value, level: Arc::default() }),
    }
}

/// A list or an object. Loops copy what they run over into their variable: copies of this share what was looked at.
#[derive(Debug, Clone)]
struct Part<'v> {
    json: &'v Value,
    level: Arc<OnceLock<Box<dyn Val + 'v>>>,
}

impl<'v> Part<'v> {
    /// CEL's own list or map, whose lists and objects are such parts again.
    fn level(&self) -> &(dyn Val + 'v) {
        let look = || -> Box<dyn Val + 'v> {
            match self.json {
                Value::Object(members) => {
                    let members = members.iter().map(|(name, value)| (CelMapKey::from(name.as_str()), convert(value)));
                    Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
                }
                Value::Array(items) => Box::new(CelList::from(items.iter().map(convert).collect::<Vec<_>>())),
                other => convert(other),
            }
        };
        self.level.get_or_init(look).as_ref()
    }
}

/// It does whatever CEL's own list or map does.
impl<'v> Val for Part<'v> {
    fn get_type(&self) -> &Type {
        if self.json.is_object() { <CelMap<'_> as Val>::cel_type() } else { <CelList<'_> as Val>::cel_type() }
    }

    fn cel_type() -> &'static Type {
        <CelMap<'_> as Val>::cel_type()
    }

    fn as_adder<'b, 'w>(&'b self) -> Option<&'b (dyn Adder + 'w)>
    where
        Self: 'w,
    {
        self.level().as_adder()
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.level().as_container()
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        self.level().as_indexer()
    }

    fn into_indexer<'w>(self: Box<Self>) -> Option<Box<dyn Indexer + 'w>>
    where
        Self: 'w,
    {
        self.level().clone_as_boxed().into_indexer()
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        self.level().as_iterable()
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.level().as_sizer()
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        self.level().as_zeroer()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        self.level().equals(other)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(self.clone())
    }

    // With these two CEL takes it for its own wherever it looks for one, as on the right of `==`.
    fn as_builtin<'b, 'w>(&'b self) -> BuiltinRef<'b, 'w>
    where
        Self: 'w,
    {
        self.level().as_builtin()
    }

    fn into_builtin<'w>(self: Box<Self>) -> Option<Builtin<'w>>
    where
        Self: 'w,
    {
        self.level().clone_as_boxed().into_builtin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_what_cel_has_itself() {
        let value = json!({ "list": [1, [2, "a"], { "b": null }], "map": { "c": 1.5 } });
        let seen = convert(&value);
        let at = |name: &'static str| seen.as_indexer().unwrap().get(&CelString::from(name)).unwrap();
        let (list, map) = (at("list"), at("map"));
        assert!(list.downcast_ref::<CelList<'_>>().is_some() && map.downcast_ref::<CelMap<'_>>().is_some());
        let own = CelList::from(vec![convert(&value["list"][0]), convert(&value["list"][1]), convert(&value["list"][2])]);
        assert!(own.equals(list.as_ref()) && list.equals(&own) && !list.equals(map.as_ref()));
        assert_eq!((list.get_type().name(), map.get_type().name()), (own.get_type().name(), CelMap::cel_type().name()));
        assert_eq!(*list.as_sizer().unwrap().size().inner(), 3);
        assert!(list.clone_as_boxed().into_builtin().is_some() && map.clone_as_boxed().into_indexer().is_some());
    }
}
