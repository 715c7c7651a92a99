//! What a store does by itself: let objects expire, move them to cheaper classes, answer pages of other origins.

mod check;
mod cors;
mod diff;
mod lifecycle;
mod read;

use std::{collections::BTreeMap, fmt};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub(crate) use self::cors::{CorsAnswer, CorsQuestion};
pub use self::diff::{RuleChange, RulesDiff};
pub(crate) use self::diff::{same_page_rule, same_rule};

/// The rules of a store, as they stand in `rules.json`; each section by itself.
///
/// A section that is absent is left alone by [`Storage::apply_rules`](crate::Storage::apply_rules). Within a section that is
/// present the file is the truth: a rule that the store has and the file hasn't is removed, and `[]` removes them all.
///
/// ```
/// use zhuji_storage::StorageRules;
///
/// let rules = StorageRules::from_json(r#"{"lifecycle": [{"prefix": "temp/", "expire_after_days": 1}]}"#)?;
/// assert!(rules.cors.is_none());
///
/// let error = StorageRules::from_json(r#"{"lifecycle": [{"prefx": "temp/"}]}"#).unwrap_err().to_string();
/// assert!(error.contains("`lifecycle[0].prefx`") && error.contains("did you mean `prefix`?"));
/// # Ok::<(), zhuji_storage::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageRules {
    /// What happens to objects as they age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Vec<LifecycleRule>>,
    /// Which web pages may read and write objects from the browser. The first rule that fits counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Vec<CorsRule>>,
    /// Whether an overwritten or deleted object stays as an old version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versioning: Option<Versioning>,
}

/// What happens to the objects below a prefix as they age. Days count from the last time an object was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifecycleRule {
    /// The rule's name. Default: the back end makes one, and it isn't compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The beginning of the keys it is for; empty for all.
    pub prefix: String,
    /// Only objects with all of these tags. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Whether it is carried out. Default: `true`.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub enabled: bool,
    /// Objects are deleted so many days after they were stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_after_days: Option<u32>,
    /// Objects that were stored before this day (UTC) are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_before: Option<Date>,
    /// Objects move to cheaper classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<Transition>,
    /// The parts of an upload that was never finished are deleted after so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_unfinished_uploads_after_days: Option<u32>,
    /// With versioning: old versions are deleted so many days after they were replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_old_versions_after_days: Option<u32>,
    /// What the store's rule says besides and `rules.json` can't express; applying the file takes it away.
    #[serde(skip)]
    pub foreign: Vec<String>,
}

/// One move to a cheaper class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The class.
    pub to: StorageClass,
    /// Days since the object was stored.
    pub after_days: u32,
}

/// A class of OSS, dearer to read the cheaper it is to keep. Objects of the archive classes have to be restored
/// before they can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StorageClass {
    /// Infrequent access: read at once, at a price.
    IA,
    /// Restored within minutes.
    Archive,
    /// Restored within hours.
    ColdArchive,
    /// Restored within a day or two.
    DeepColdArchive,
}

/// Web pages of some origins that may use the store from the browser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsRule {
    /// `https://app.example.com`, `https://*.example.com` or `*`.
    pub origins: Vec<String>,
    /// Of `GET`, `PUT`, `POST`, `DELETE`, `HEAD`.
    pub methods: Vec<String>,
    /// Request headers that a page may set; `*` for all. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_headers: Vec<String>,
    /// Answer headers that a page may read; an upload in parts from the browser needs `ETag`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// How long the browser may remember the permission, in seconds. Default: it asks each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
}

/// Whether old versions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Versioning {
    /// Overwritten and deleted objects stay as old versions.
    Enabled,
    /// No new versions; those that exist stay.
    Suspended,
}

/// One part of the rules, read and replaced by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulesSection {
    /// [`StorageRules::lifecycle`].
    Lifecycle,
    /// [`StorageRules::cors`].
    Cors,
    /// [`StorageRules::versioning`].
    Versioning,
}

impl RulesSection {
    /// All of them.
    pub const EACH: [Self; 3] = [Self::Lifecycle, Self::Cors, Self::Versioning];

    /// Its name in `rules.json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Cors => "cors",
            Self::Versioning => "versioning",
        }
    }
}

/// What a sweep has removed, or in a dry run would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Swept {
    /// Expired objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first thousand of their keys, in no particular order.
    pub keys: Vec<String>,
    /// Files of interrupted uploads.
    pub leftovers: u64,
    /// Whether it was only looked at.
    pub dry_run: bool,
}

impl Swept {
    const KEYS: usize = 1000;

    /// Counts what another sweep has found too.
    pub(crate) fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.leftovers += other.leftovers;
        self.keys.extend(other.keys);
        self.keys.truncate(Self::KEYS);
    }

    /// Counts an expired object.
    pub(crate) fn note(&mut self, key: &str, size: u64) {
        self.objects += 1;
        self.bytes += size;
        if self.keys.len() < Self::KEYS {
            self.keys.push(key.to_owned());
        }
    }
}

/// Which rules an adapter carries out besides expiry and CORS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RulesSupport {
    /// Moves to cheaper classes.
    pub transitions: bool,
    /// Rules for objects with certain tags.
    pub tags: bool,
    /// Old versions.
    pub versioning: bool,
}

impl RulesSupport {
    /// Everything.
    pub const ALL: Self = Self {
        transitions: true,
        tags: true,
        versioning: true,
    };
}

impl StorageRules {
    /// The sections that are there.
    pub(crate) fn sections(&self) -> Vec<RulesSection> {
        let there = |section: &RulesSection| match section {
            RulesSection::Lifecycle => self.lifecycle.is_some(),
            RulesSection::Cors => self.cors.is_some(),
            RulesSection::Versioning => self.versioning.is_some(),
        };
        RulesSection::EACH.into_iter().filter(there).collect()
    }

    /// Takes over the sections that are `Some` in `other`.
    pub(crate) fn replace(&mut self, other: &Self) {
        if other.lifecycle.is_some() {
            self.lifecycle.clone_from(&other.lifecycle);
        }
        if other.cors.is_some() {
            self.cors.clone_from(&other.cors);
        }
        if other.versioning.is_some() {
            self.versioning = other.versioning;
        }
    }

    /// Drops the sections that aren't wanted.
    pub(crate) fn keep_only(&mut self, wanted: impl Fn(RulesSection) -> bool) {
        self.lifecycle.take_if(|_| !wanted(RulesSection::Lifecycle));
        self.cors.take_if(|_| !wanted(RulesSection::Cors));
        self.versioning.take_if(|_| !wanted(RulesSection::Versioning));
    }

    /// Only the sections that are asked for, the missing ones without rules.
    pub(crate) fn only(self, sections: &[RulesSection]) -> Self {
        let wanted = |section| sections.contains(&section);
        Self {
            lifecycle: wanted(RulesSection::Lifecycle).then(|| self.lifecycle.unwrap_or_default()),
            cors: wanted(RulesSection::Cors).then(|| self.cors.unwrap_or_default()),
            versioning: self.versioning.filter(|_| wanted(RulesSection::Versioning)),
        }
    }
}

impl LifecycleRule {
    /// An enabled rule that does nothing yet, for keys that start with `prefix`.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self {
            id: None,
            prefix: prefix.into(),
            tags: BTreeMap::new(),
            enabled: true,
            expire_after_days: None,
            expire_before: None,
            transitions: Vec::new(),
            abort_unfinished_uploads_after_days: None,
            expire_old_versions_after_days: None,
            foreign: Vec::new(),
        }
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

impl StorageClass {
    /// The name OSS knows it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IA => "IA",
            Self::Archive => "Archive",
            Self::ColdArchive => "ColdArchive",
            Self::DeepColdArchive => "DeepColdArchive",
        }
    }

    /// All, from dear to cheap.
    pub(crate) const EACH: [Self; 4] = [Self::IA, Self::Archive, Self::ColdArchive, Self::DeepColdArchive];
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Versioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enabled => "enabled",
            Self::Suspended => "suspended",
        })
    }
}
