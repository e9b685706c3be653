//! A definition as a picture (SVG): states in the order in which they are reached, transitions as arrows between them.

use crate::definition::{Definition, StateKind, Transition};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write,
};

const WIDTH: i32 = 150;
const HEIGHT: i32 = 44;
const GAP_X: i32 = 130;
const GAP_Y: i32 = 90;
const MARGIN: i32 = 60;

/// Where a state stands.
#[derive(Clone, Copy)]
struct Place {
    x: i32,
    y: i32,
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The picture.
pub fn svg(definition: &Definition) -> String {
    let places = places(definition);
    let right = places.values().map(|place| place.x).max().unwrap_or(0) + WIDTH + MARGIN;
    let bottom = places.values().map(|place| place.y).max().unwrap_or(0) + HEIGHT + MARGIN + 40;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {right} {bottom}\" width=\"{right}\" height=\"{bottom}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"12\"><title>{}</title><desc>{}</desc>\
         <defs><marker id=\"to\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
         <path d=\"M0 0 8 4 0 8z\" fill=\"#475569\"/></marker></defs>",
        escape(&definition.title),
        escape(&definition.description),
    );
    for (at, transition) in definition.transitions.iter().enumerate() {
        if let (Some(from), Some(to)) = (places.get(&transition.from), places.get(&transition.to)) {
            arrow(&mut out, *from, *to, at, transition);
        }
    }
    for (name, place) in &places {
        let state = &definition.states[name];
        let (fill, line) = colours(state.kind);
        let stroke = if *name == definition.initial { 3 } else { 1 };
        let _ = write!(
            out,
            "<g><title>{}</title><rect x=\"{}\" y=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"{fill}\" stroke=\"{line}\" \
             stroke-width=\"{stroke}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#0f172a\">{}</text></g>",
            escape(name),
            place.x,
            place.y,
            place.x + WIDTH / 2,
            place.y + HEIGHT / 2 + 4,
            escape(&state.title),
        );
    }
    out.push_str("</svg>");
    out
}

fn colours(kind: StateKind) -> (&'static str, &'static str) {
    match kind {
        StateKind::Open => ("#f1f5f9", "#64748b"),
        StateKind::Review => ("#fef3c7", "#b45309"),
        StateKind::Approved => ("#dbeafe", "#1d4ed8"),
        StateKind::Published => ("#dcfce7", "#15803d"),
        StateKind::Closed => ("#e5e7eb", "#374151"),
    }
}

/// A column for every step from the beginning.
fn places(definition: &Definition) -> BTreeMap<String, Place> {
    let mut depth = BTreeMap::from([(definition.initial.clone(), 0)]);
    let mut queue = VecDeque::from([definition.initial.clone()]);
    while let Some(state) = queue.pop_front() {
        let next = depth[&state] + 1;
        for transition in definition.leaving(&state) {
            if !depth.contains_key(&transition.to) {
                depth.insert(transition.to.clone(), next);
                queue.push_back(transition.to.clone());
            }
        }
    }
    let mut rows: BTreeMap<i32, i32> = BTreeMap::new();
    depth
        .into_iter()
        .filter(|(name, _)| definition.states.contains_key(name))
        .map(|(name, column)| {
            let row = rows.entry(column).or_default();
            let place = Place { x: MARGIN + column * (WIDTH + GAP_X), y: MARGIN + *row * (HEIGHT + GAP_Y) };
            *row += 1;
            (name, place)
        })
        .collect()
}

fn arrow(out: &mut String, from: Place, to: Place, at: usize, transition: &Transition) {
    let (x1, y1, x2, y2) = if to.x > from.x {
        (from.x + WIDTH, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2)
    } else {
        (from.x + WIDTH / 2, from.y + HEIGHT, to.x + WIDTH / 2, to.y + HEIGHT)
    };
    // Ways back go around beneath, each a little lower, so that they do not cover each other.
    let sag = if to.x > from.x { 0 } else { 30 + 12 * i32::try_from(at % 4).unwrap_or(0) };
    let (mx, my) = ((x1 + x2) / 2, (y1 + y2) / 2 + sag * 2);
    let stages = transition.all_stages();
    let who: Vec<String> = stages.iter().map(|stage| format!("{}: {}", stage.name, stage.role)).collect();
    let _ = write!(
        out,
        "<path d=\"M{x1} {y1}Q{mx} {my} {x2} {y2}\" fill=\"none\" stroke=\"#475569\" marker-end=\"url(#to)\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#334155\"><title>{}</title>{}</text>",
        (x1 + 2 * mx + x2) / 4,
        (y1 + 2 * my + y2) / 4 - 6,
        escape(&who.join(", ")),
        escape(&transition.action),
    );
}

#[cfg(test)]
mod tests {
    use crate::definition::shipped;

    #[test]
    fn a_picture_names_every_state_and_action() {
        for mut definition in shipped().unwrap() {
            definition.title = "a < b & c".into();
            let picture = super::svg(&definition);
            assert!(picture.contains("a &lt; b &amp; c"));
            for state in definition.states.values() {
                assert!(picture.contains(&state.title), "{}", state.title);
            }
            for transition in &definition.transitions {
                assert!(picture.contains(&format!(">{}<", transition.action)));
            }
        }
    }
}
