//! DER, element by element. Signatures and hashes are over bytes as they stand, so nothing is written anew; and authorities do not
//! sort the certificates in their sets as DER wants, which a typed reader would refuse.

use crate::StampError;
use const_oid::ObjectIdentifier;
use der::{Decode, Reader, SliceReader, Tag, asn1::AnyRef};

/// More elements than any real list has.
const MAX_ELEMENTS: usize = 64;

/// An element: its tag, its content, and all of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) whole: &'a [u8],
    any: AnyRef<'a>,
}

/// The identifier octet of a context-specific tag, constructed or not.
const fn context(number: u8, constructed: bool) -> u8 {
    0x80 | if constructed { 0x20 } else { 0 } | number
}

impl<'a> Element<'a> {
    /// The one element that these bytes are.
    pub(crate) fn only(der: &'a [u8]) -> Result<Self, StampError> {
        let any = AnyRef::from_der(der).map_err(|_| StampError::Malformed("it is no DER"))?;
        Ok(Self { whole: der, any })
    }

    pub(crate) fn value(&self) -> &'a [u8] {
        self.any.value()
    }

    fn octet(&self) -> u8 {
        self.whole.first().copied().unwrap_or_default()
    }

    /// Whether it has this context-specific tag.
    pub(crate) fn is_context(&self, number: u8) -> bool {
        [context(number, true), context(number, false)].contains(&self.octet())
    }

    pub(crate) fn is(&self, tag: Tag) -> bool {
        self.any.header().tag() == tag
    }

    /// The elements of which it consists.
    pub(crate) fn parts(&self) -> Result<Vec<Element<'a>>, StampError> {
        const WORDS: StampError = StampError::Malformed("a list does not end where it should");
        let mut reader = SliceReader::new(self.value()).map_err(|_| WORDS)?;
        let mut out = Vec::new();
        while !reader.is_finished() {
            if out.len() == MAX_ELEMENTS {
                return Err(StampError::Malformed("a list is too long"));
            }
            out.push(Element::only(reader.tlv_bytes().map_err(|_| WORDS)?)?);
        }
        Ok(out)
    }

    /// The elements of a SEQUENCE, in order.
    pub(crate) fn sequence(&self) -> Result<Parts<'a>, StampError> {
        if !self.is(Tag::Sequence) {
            return Err(StampError::Malformed("a sequence was to be there"));
        }
        Ok(Parts(self.parts()?.into_iter()))
    }

    pub(crate) fn set(&self) -> Result<Vec<Element<'a>>, StampError> {
        if self.is(Tag::Set) { self.parts() } else { Err(StampError::Malformed("a set was to be there")) }
    }

    pub(crate) fn oid(&self) -> Result<ObjectIdentifier, StampError> {
        self.any.decode_as().map_err(|_| StampError::Malformed("an object identifier was to be there"))
    }

    pub(crate) fn octets(&self) -> Result<&'a [u8], StampError> {
        if self.is(Tag::OctetString) { Ok(self.value()) } else { Err(StampError::Malformed("an octet string was to be there")) }
    }

    /// The octets of an INTEGER without the leading zeros.
    pub(crate) fn integer(&self) -> Result<&'a [u8], StampError> {
        if !self.is(Tag::Integer) || self.value().is_empty() {
            return Err(StampError::Malformed("an integer was to be there"));
        }
        Ok(trim(self.value()))
    }
}

/// Without leading zeros.
pub(crate) fn trim(integer: &[u8]) -> &[u8] {
    let first = integer.iter().position(|byte| *byte != 0).unwrap_or(integer.len());
    &integer[first..]
}

/// What is left of a SEQUENCE.
pub(crate) struct Parts<'a>(std::vec::IntoIter<Element<'a>>);

impl<'a> Parts<'a> {
    /// The next element, which must be there.
    pub(crate) fn take(&mut self) -> Result<Element<'a>, StampError> {
        self.0.next().ok_or(StampError::Malformed("something is missing"))
    }

    /// The next element, where it is such a one.
    pub(crate) fn take_if(&mut self, fits: impl Fn(&Element<'a>) -> bool) -> Option<Element<'a>> {
        let next = self.0.as_slice().first().filter(|next| fits(next)).copied();
        if next.is_some() { self.0.next() } else { None }
    }
}
