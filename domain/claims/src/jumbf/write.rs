//! Writing JUMBF boxes (ISO 19566-5; C2PA 2.2 §11.1).

use super::UUID_TAIL;

/// The type of a superbox: the UUID in its description.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BoxType {
    /// A type of C2PA or of JUMBF that is told by four characters.
    Named([u8; 4]),
    /// An embedded file (ISO 19566-5 §B.5).
    EmbeddedFile,
}

impl BoxType {
    fn uuid(self) -> [u8; 16] {
        match self {
            Self::Named(kind) => {
                let mut out = [0; 16];
                out[..4].copy_from_slice(&kind);
                out[4..].copy_from_slice(&UUID_TAIL);
                out
            }
            Self::EmbeddedFile => {
                [0x40, 0xcb, 0x0c, 0x32, 0xbb, 0x8a, 0x48, 0x9d, 0xa7, 0x0b, 0x2a, 0xd6, 0xf4, 0x7f, 0x43, 0x69]
            }
        }
    }
}

/// Length and kind of a box.
pub(crate) const HEAD: usize = 8;

/// Appends a box with what `body` appends.
pub(crate) fn boxed(out: &mut Vec<u8>, kind: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(kind);
    body(out);
    // Assertions, thumbnails and their number are bounded far below 4 GiB; what grew past it would not be read back.
    let size = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Appends a superbox: its description, with a salt where the box's hash must not give away what is in it (C2PA 2.2 §8.4.2.3), and
/// what `body` appends.
pub(crate) fn superbox(out: &mut Vec<u8>, kind: BoxType, label: &str, salt: Option<&[u8; 16]>, body: impl FnOnce(&mut Vec<u8>)) {
    /// Can be asked for by its label, and has one.
    const REQUESTABLE_WITH_LABEL: u8 = 0x03;
    const PRIVATE: u8 = 0x10;
    boxed(out, b"jumb", |out| {
        boxed(out, b"jumd", |out| {
            out.extend(kind.uuid());
            out.push(REQUESTABLE_WITH_LABEL | if salt.is_some() { PRIVATE } else { 0 });
            out.extend(label.as_bytes());
            out.push(0);
            if let Some(salt) = salt {
                boxed(out, b"c2sh", |out| out.extend(salt));
            }
        });
        body(out);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jumbf::ManifestStore;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        superbox(&mut bytes, BoxType::Named(*b"c2pa"), "c2pa", None, |out| {
            superbox(out, BoxType::Named(*b"c2ma"), "urn:c2pa:1", None, |out| {
                superbox(out, BoxType::Named(*b"c2as"), "c2pa.assertions", None, |out| {
                    superbox(out, BoxType::Named(*b"json"), "x.y", Some(&[7; 16]), |out| {
                        boxed(out, b"json", |out| out.extend(b"{}"))
                    });
                });
            });
        });
        let store = ManifestStore::parse(&bytes).unwrap();
        assert_eq!(store.active().unwrap().assertions, vec![("x.y".to_owned(), Some(&b"{}"[..]))]);
    }
}
