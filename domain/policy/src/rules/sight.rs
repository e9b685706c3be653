//! What rules see of facts: each place is looked at once, and shown to every rule that asks.

use crate::{
    facts::{self, Facts, Path},
    model::Evidence,
};
use serde_json::Value;
use std::cell::OnceCell;

/// One of the places that the rules of a policy look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(pub(super) usize);

impl Place {
    /// The place that a path leads to, which is added where it is new.
    pub(super) fn of(places: &mut Vec<Path>, path: &str) -> Self {
        let known = places.iter().position(|place| place.text == path);
        Self(known.unwrap_or_else(|| {
            places.push(Path::new(path));
            places.len() - 1
        }))
    }
}

/// Facts, and what was shown of them.
pub(super) struct Sight<'a> {
    pub(super) facts: &'a Facts,
    /// The assertions by label, in their order.
    pub(super) assertions: Vec<(&'a str, &'a Value)>,
    places: &'a [Path],
    shown: Vec<OnceCell<Evidence>>,
    shown_assertions: Vec<OnceCell<Evidence>>,
    labels: OnceCell<Evidence>,
}

impl<'a> Sight<'a> {
    pub(super) fn new(facts: &'a Facts, places: &'a [Path]) -> Self {
        let all = facts.value.get("assertions").and_then(Value::as_object).into_iter().flatten();
        let assertions: Vec<_> = all.map(|(label, data)| (label.as_str(), data)).collect();
        let cells = |many: usize| std::iter::repeat_with(OnceCell::new).take(many).collect();
        let (shown, shown_assertions) = (cells(places.len()), cells(assertions.len()));
        Self { facts, assertions, places, shown, shown_assertions, labels: OnceCell::new() }
    }

    /// What is at a place.
    pub(super) fn at(&self, place: Place) -> Option<&'a Value> {
        // An empty path leads to everything, which is no place.
        Some(&self.places[place.0]).filter(|path| !path.text.is_empty())?.follow(&self.facts.value)
    }

    /// What is at a place, and whose word it is.
    pub(super) fn seen(&self, place: Place) -> &Evidence {
        self.shown[place.0].get_or_init(|| self.look(&self.places[place.0]))
    }

    /// One of the assertions.
    pub(super) fn assertion(&self, n: usize) -> &Evidence {
        self.shown_assertions[n].get_or_init(|| self.look(&Path::new(&facts::assertion_path(self.assertions[n].0))))
    }

    /// Which assertions there are, for who looked for another.
    pub(super) fn labels(&self) -> Evidence {
        let labels = || self.assertions.iter().map(|(label, _)| *label).collect::<Vec<_>>().join(", ");
        let look = || Evidence { found: shorten(labels()), ..self.look(&Path::new("assertions")) };
        self.labels.get_or_init(look).clone()
    }

    fn look(&self, path: &Path) -> Evidence {
        let (found, source, label) = self.facts.look(path);
        let index = label.and_then(|label| self.assertions.iter().position(|(known, _)| *known == label));
        let label = label.filter(|_| index.is_some()).map(str::to_owned);
        Evidence { place: path.text.clone(), source: source.to_owned(), label, index, found: show(found) }
    }
}

/// The most characters of a value that are shown.
const SHOWN: usize = 200;

/// A value in words, cut short. What is not shown is not written either: a list may be long.
pub(super) fn show(value: Option<&Value>) -> String {
    let Some(value) = value else { return "not there".to_owned() };
    let mut head = Head(Vec::new());
    // It ends with an error when there is enough.
    let whole = serde_json::to_writer(&mut head, value).is_ok();
    // The last character may have been cut.
    let text = String::from_utf8(head.0).unwrap_or_else(|cut| String::from_utf8_lossy(cut.as_bytes()).into_owned());
    if whole { shorten(text) } else { shorten(text + "…") }
}

pub(super) fn shorten(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The beginning of what is written.
struct Head(Vec<u8>);

impl std::io::Write for Head {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Four bytes are one character at the most, and one more shows that there is more.
        let room = 4 * (SHOWN + 1) - self.0.len();
        self.0.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if room == 0 { Ok(0) } else { Ok(bytes.len().min(room)) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
