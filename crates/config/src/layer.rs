use std::{collections::BTreeMap, fmt, path::PathBuf};

use crate::origin::Source;

/// A value before its type is known.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Raw {
    Text(String),
    /// An array of `zhuji.toml`.
    List(Vec<String>),
    /// Bytes of the environment that are not UTF-8; kept only to say so.
    NotUnicode,
    /// A value in a file that can't be understood, which is a problem already: the variable is not missing.
    Malformed,
}

impl Raw {
    /// Empty means unset.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    /// For a table; what it returns is not redacted.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
            Self::NotUnicode | Self::Malformed => String::new(),
        }
    }
}

/// Values may be secret, and at this point nobody knows which.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) raw: Raw,
    /// 0 where the layer has no lines.
    pub(crate) line: usize,
}

/// Where a layer's values come from, weakest first: the derived order is the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    File,
    Dotenv,
    Environment,
    CommandLine,
}

/// Variables that came from one place.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) rank: Rank,
    pub(crate) path: PathBuf,
    pub(crate) entries: BTreeMap<String, Entry>,
}

impl Layer {
    pub(crate) fn new(rank: Rank) -> Self {
        Self {
            rank,
            path: PathBuf::new(),
            entries: BTreeMap::new(),
        }
    }

    pub(crate) fn insert(&mut self, name: String, raw: Raw, line: usize) {
        self.entries.insert(name, Entry { raw, line });
    }

    /// The entry of this name, unless it is empty.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name).filter(|entry| !entry.raw.is_empty())
    }

    pub(crate) fn source(&self, entry: &Entry) -> Source {
        let (path, line) = (self.path.clone(), entry.line);
        match self.rank {
            Rank::File => Source::File { path, line },
            Rank::Dotenv => Source::Dotenv { path, line },
            Rank::Environment => Source::Environment,
            Rank::CommandLine => Source::CommandLine,
        }
    }
}
