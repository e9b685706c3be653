//! XMP (ISO 16684-1): simple properties, and the items of arrays, of the namespaces we know.

use super::{Properties, append, clean, pii_kind, prefix_of};
use crate::guard::{ReadSeek, find};
use quick_xml::{NsReader, events::Event, name::ResolveResult};
use std::{collections::BTreeSet, io::Read, ops::Range};

/// What precedes names of namespaces that we do not know.
const UNKNOWN: &str = "other:";
/// How packets begin and end; the first may be left out (ISO 16684-1 §7.3.3).
const FORMS: [(&[u8], &[u8]); 2] = [(b"<x:xmpmeta", b"</x:xmpmeta>"), (b"<rdf:RDF", b"</rdf:RDF>")];
const MAX_PACKET: usize = 1 << 20;
const MAX_PROPERTIES: usize = 500;
const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";

/// Packets of one file that are read. Entities in them are never expanded.
const MAX_PACKETS: usize = 16;

/// Reads the packets in all of the content, wherever they stand.
pub(super) fn scan(source: &mut dyn ReadSeek) -> Properties {
    const STEP: u64 = 1 << 20;
    let mut out = Properties::new();
    let mut bytes = Vec::new();
    let mut left = MAX_PACKETS;
    if source.rewind().is_err() {
        return out;
    }
    while left > 0 {
        match (&mut *source).take(STEP).read_to_end(&mut bytes) {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
        let mut seen = 0;
        for packet in packets(&bytes).take(left) {
            seen = packet.end;
            left -= 1;
            if packet.len() <= MAX_PACKET {
                parse(&bytes[packet], &mut out);
            }
        }
        // A packet that has begun goes on in what comes next; so may the beginning of one.
        let begun = FORMS.iter().filter_map(|(open, _)| find(&bytes[seen..], open)).min().map(|at| seen + at);
        let keep = match begun {
            Some(at) if bytes.len() - at <= MAX_PACKET => at,
            _ => bytes.len().saturating_sub(FORMS[0].0.len()).max(seen),
        };
        bytes.drain(..keep);
    }
    out
}

/// Where packets stand, one after the other.
fn packets(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    // Where each form begins next; each is looked for only past where it was found.
    let mut next: [Option<usize>; 2] = FORMS.map(|(open, _)| find(bytes, open));
    std::iter::from_fn(move || {
        for (at, (open, _)) in next.iter_mut().zip(FORMS) {
            if at.is_some_and(|at| at < from) {
                *at = find(bytes.get(from..)?, open).map(|found| from + found);
            }
        }
        let (start, (_, close)) =
            next.iter().zip(FORMS).filter_map(|(at, form)| Some(((*at)?, form))).min_by_key(|(at, _)| *at)?;
        let end = start + find(&bytes[start..], close)? + close.len();
        from = end;
        Some(start..end)
    })
}

fn parse(packet: &[u8], out: &mut Properties) {
    let mut reader = NsReader::from_reader(packet);
    // The names of the open elements; none for RDF's own.
    let mut open: Vec<Option<String>> = Vec::new();
    let mut text = String::new();
    let mut buffer = Vec::new();
    while out.len() < MAX_PROPERTIES && open.len() < 64 {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer);
        match &event {
            Ok(Event::Text(part)) => text.push_str(part),
            Ok(Event::CData(part)) => text.push_str(part),
            // An entity stands by its name only; the predefined ones are resolved below.
            Ok(Event::GeneralRef(entity)) => text.push_str(&format!("&{};", &**entity)),
            _ => {
                let name = open.iter().rev().find_map(Clone::clone);
                if let (Some(name), Some(value)) = (name, clean(&unescape(&std::mem::take(&mut text)))) {
                    add(out, name, value);
                }
            }
        }
        match event {
            Ok(Event::Start(element)) => {
                attributes(&reader, &element, out);
                let (resolved, local) = reader.resolver().resolve_element(element.name());
                open.push(qualified(resolved, local.as_ref()));
            }
            Ok(Event::Empty(element)) => attributes(&reader, &element, out),
            Ok(Event::End(_)) => {
                open.pop();
            }
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

/// Adds a property; of namespaces that we do not know, only what is personal.
fn add(out: &mut Properties, name: String, value: String) {
    if !name.starts_with(UNKNOWN) || pii_kind(&name, &value).is_some() {
        append(out, name, value);
    }
}

/// Where properties stand, in every packet.
pub(super) fn places(bytes: &[u8], names: &BTreeSet<String>) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    for place in packets(bytes) {
        if let (true, Ok(packet)) = (place.len() <= MAX_PACKET, std::str::from_utf8(&bytes[place.clone()])) {
            out.extend(places_in(packet, names).into_iter().map(|found| place.start + found.start..place.start + found.end));
        }
    }
    out
}

fn places_in(packet: &str, names: &BTreeSet<String>) -> Vec<Range<usize>> {
    let (mut out, mut open) = (Vec::new(), Vec::<Option<String>>::new());
    let mut reader = NsReader::from_str(packet);
    loop {
        let event = reader.read_event();
        let wanted = open.iter().rev().find_map(Option::as_ref).is_some_and(|name| names.contains(name));
        match &event {
            Ok(Event::Text(text)) if wanted => out.extend(within(packet, text)),
            Ok(Event::CData(text)) if wanted => out.extend(within(packet, text)),
            // With its ampersand and semicolon.
            Ok(Event::GeneralRef(name)) if wanted => {
                out.extend(within(packet, name).map(|place| place.start.saturating_sub(1)..place.end + 1));
            }
            Ok(Event::Start(element) | Event::Empty(element)) => {
                for attribute in element.attributes().flatten() {
                    let (resolved, local) = reader.resolver().resolve_attribute(attribute.key);
                    if qualified(resolved, local.as_ref()).is_some_and(|name| names.contains(&name)) {
                        out.extend(within(packet, &attribute.value));
                    }
                }
            }
            _ => {}
        }
        match event {
            Ok(Event::Start(element)) => {
                let (resolved, local) = reader.resolver().resolve_element(element.name());
                open.push(qualified(resolved, local.as_ref()));
            }
            Ok(Event::End(_)) => drop(open.pop()),
            Ok(Event::Eof) | Err(_) => return out,
            Ok(_) => {}
        }
    }
}

/// Where a part of the packet stands in it; none when it is a copy.
fn within(packet: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(packet.as_ptr().addr())?;
    (start + part.len() <= packet.len()).then(|| start..start + part.len())
}

fn attributes(reader: &NsReader<&[u8]>, element: &quick_xml::events::BytesStart<'_>, out: &mut Properties) {
    for attribute in element.attributes().flatten().take(200) {
        let (resolved, local) = reader.resolver().resolve_attribute(attribute.key);
        if let Some(name) = qualified(resolved, local.as_ref())
            && let Some(value) = clean(&unescape(&attribute.value))
        {
            add(out, name, value);
        }
    }
}

fn qualified(resolved: ResolveResult<'_>, local: &str) -> Option<String> {
    let ResolveResult::Bound(namespace) = resolved else { return None };
    if namespace.as_ref() == RDF {
        return None;
    }
    Some(match prefix_of(namespace.as_ref()) {
        Some(prefix) => format!("{prefix}:{local}"),
        None => format!("{UNKNOWN}{local}"),
    })
}

/// The five predefined entities; anything else stays as it is.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Properties {
        scan(&mut std::io::Cursor::new(bytes))
    }

    #[test]
    fn packets_are_found_wherever_they_stand() {
        let rdf = "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description \
                   xmlns:dc=\"http://purl.org/dc/elements/1.1/\" dc:title=\"Here\"/></rdf:RDF>";
        let wrapped = format!("<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">{rdf}</x:xmpmeta>");
        for packet in [rdf, &wrapped] {
            for at in [0, (1 << 20) - 5, (1 << 20) - packet.len() / 2, (1 << 20) + 3, 5 << 20] {
                let bytes = [vec![b' '; at], packet.as_bytes().to_vec(), vec![0; 2 << 20]].concat();
                assert_eq!(read(&bytes).get("dc:title").map(String::as_str), Some("Here"), "{at}");
            }
        }
        // A packet within a packet is one.
        assert_eq!(packets(wrapped.as_bytes()).count(), 1);
    }

    #[test]
    fn reads_attributes_elements_and_arrays() {
        let packet = br#"junk<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
            <rdf:Description xmlns:d="http://purl.org/dc/elements/1.1/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:City="K&amp;R">
            <d:subject><rdf:Bag><rdf:li>one</rdf:li><rdf:li>two</rdf:li></rdf:Bag></d:subject>
            </rdf:Description></rdf:RDF></x:xmpmeta>junk"#;
        let found = read(packet);
        assert_eq!(found["photoshop:City"], "K&R");
        assert_eq!(found["dc:subject"], "one; two");
    }

    #[test]
    fn entity_bombs_and_garbage_do_nothing() {
        let bomb = br#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]>&c;</x:xmpmeta>"#;
        assert!(read(bomb).is_empty());
        assert!(read(b"<x:xmpmeta></x:xmpmeta").is_empty());
        let deep = format!("<x:xmpmeta xmlns:x=\"a\">{}</x:xmpmeta>", "<a>".repeat(100_000));
        assert!(read(deep.as_bytes()).is_empty());
    }
}
