//! What is known of the facts before there are any: their members, and of which type each is. Any of them may also be null.

/// The type of a value, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Type {
    /// Nobody knows before there is a manifest.
    Unknown,
    /// Null.
    Null,
    /// True or false.
    Truth,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A list of anything.
    List,
    /// A list of objects with these members.
    Rows(&'static [(&'static str, Type)]),
    /// An object with any members.
    Map,
    /// An object whose members are texts.
    Texts,
    /// An object with these members and no others.
    Members(&'static [(&'static str, Type)]),
}

/// Members of the facts.
pub const ROOTS: [(&str, Type); 5] = [
    ("manifest", Type::Members(&MANIFEST)),
    ("assertions", Type::Map),
    ("metadata", Type::Texts),
    ("ingredients", Type::Rows(&INGREDIENT)),
    ("signature", Type::Members(&SIGNATURE)),
];

/// Members of `manifest`.
pub const MANIFEST: [(&str, Type); 16] = [
    ("id", Type::Text),
    ("title", Type::Text),
    ("creator", Type::Text),
    ("department", Type::Text),
    ("project", Type::Text),
    ("organization", Type::Text),
    ("classification", Type::Text),
    ("media_type", Type::Text),
    ("file_name", Type::Text),
    ("size", Type::Number),
    ("state", Type::Text),
    ("action", Type::Text),
    ("digital_source_type", Type::Text),
    ("software_agent", Type::Text),
    ("created_at", Type::Number),
    ("created_by", Type::Text),
];

/// Members of an ingredient.
const INGREDIENT: [(&str, Type); 3] = [("title", Type::Text), ("media_type", Type::Text), ("relationship", Type::Text)];

/// Members of `signature`.
pub const SIGNATURE: [(&str, Type); 7] = [
    ("algorithm", Type::Text),
    ("signed_at", Type::Number),
    ("embedded", Type::Truth),
    ("post_quantum", Type::Text),
    ("signer", Type::Text),
    ("trust_level", Type::Text),
    ("timestamp", Type::Members(&TIMESTAMP)),
];

/// Members of `signature.timestamp`.
const TIMESTAMP: [(&str, Type); 3] = [("time", Type::Text), ("trusted", Type::Truth), ("authority", Type::Text)];

/// Members of `signature` that a verification says, and not the record.
pub const VERIFIED: [&str; 4] = ["post_quantum", "signer", "trust_level", "timestamp"];

/// The names of members, for words to people.
pub fn names(members: &[(&str, Type)]) -> String {
    members.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The first member of a path.
pub fn first(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

/// The type of a member of the facts.
pub fn root(name: &str) -> Option<Type> {
    ROOTS.iter().find(|(known, _)| *known == name).map(|(_, found)| *found)
}

impl Type {
    /// What people call it; none of what is unknown.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Self::Unknown => None,
            Self::Null => Some("null"),
            Self::Truth => Some("a truth value"),
            Self::Number => Some("a number"),
            Self::Text => Some("a text"),
            Self::List | Self::Rows(_) => Some("a list"),
            Self::Map | Self::Texts | Self::Members(_) => Some("an object"),
        }
    }

    /// Whether a value of one type may be one of the other: nothing speaks against it.
    pub fn may_be(self, other: Self) -> bool {
        self.words().is_none() || other.words().is_none() || self.words() == other.words()
    }

    /// The type of a member; the error says why there is none.
    pub fn member(self, name: &str) -> Result<Self, String> {
        match self {
            Self::Members(members) => {
                let found = members.iter().find(|(known, _)| *known == name);
                found.map(|(_, found)| *found).ok_or_else(|| format!("has no {name}; it has {}", names(members)))
            }
            Self::Texts => Ok(Self::Text),
            Self::Unknown | Self::Map => Ok(Self::Unknown),
            Self::Null | Self::Truth | Self::Number | Self::Text | Self::List | Self::Rows(_) => {
                Err(format!("is {}, which has no members", self.words().unwrap_or_default()))
            }
        }
    }

    /// The type of what a loop over it binds; the error says why there is none.
    pub fn item(self) -> Result<Self, String> {
        match self {
            Self::Unknown | Self::List => Ok(Self::Unknown),
            Self::Rows(members) => Ok(Self::Members(members)),
            // A loop over an object binds the names of its members.
            Self::Map | Self::Texts | Self::Members(_) => Ok(Self::Text),
            Self::Null | Self::Truth | Self::Number | Self::Text => {
                Err(format!("is {}, and loops run over lists and objects", self.words().unwrap_or_default()))
            }
        }
    }
}
