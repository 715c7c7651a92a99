//! The difference between the rules that a store has and those it should have.

use std::fmt;

use serde::Serialize;

use super::{CorsRule, LifecycleRule, RulesSupport, StorageRules};

/// What applying rules changes, or has changed. `Display` is one line for each rule that is added (`+`), removed (`-`) or
/// changed (`~`), then what the adapter won't carry out; as JSON it is for machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RulesDiff {
    /// The changes, section by section.
    pub changes: Vec<RuleChange>,
    /// What is in the file and this adapter doesn't carry out, and why that is so.
    pub notes: Vec<String>,
    /// Whether the changes have been made; `false` after a dry run.
    pub applied: bool,
}

/// One rule that comes, goes or changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RuleChange {
    /// `lifecycle`, `cors` or `versioning`.
    pub section: &'static str,
    /// Which rule: its prefix, its origins.
    pub subject: String,
    /// What it says now, in words; `None` if it is new.
    pub before: Option<String>,
    /// What it will say; `None` if it goes.
    pub after: Option<String>,
}

impl RulesDiff {
    /// Whether the store already has these rules.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The way from `have` to `want`. What the adapter does not support at all is noted instead.
    pub(crate) fn between(have: &StorageRules, want: &StorageRules, support: RulesSupport) -> Self {
        let mut diff = Self::default();
        if let Some(want) = &want.lifecycle {
            diff.lifecycle(have.lifecycle.as_deref().unwrap_or_default(), want);
            diff.limits(want, support);
        }
        if let Some(want) = &want.cors {
            diff.cors(have.cors.as_deref().unwrap_or_default(), want);
        }
        match want.versioning {
            Some(_) if !support.versioning => {
                let note = "versioning: this adapter keeps no old versions; the section is passed over";
                diff.notes.push(note.to_owned());
            }
            Some(want) if have.versioning != Some(want) => {
                let before = have.versioning.map(|before| before.to_string());
                diff.change("versioning", "old versions", before, Some(want.to_string()));
            }
            _ => {}
        }
        diff
    }

    fn change(
        &mut self,
        section: &'static str,
        subject: impl Into<String>,
        before: Option<String>,
        after: Option<String>,
    ) {
        self.changes.push(RuleChange {
            section,
            subject: subject.into(),
            before,
            after,
        });
    }

    fn lifecycle(&mut self, have: &[LifecycleRule], want: &[LifecycleRule]) {
        let same = |a: &LifecycleRule, b: &LifecycleRule| a.prefix == b.prefix && a.tags == b.tags;
        for rule in want {
            match have.iter().find(|old| same(old, rule)) {
                None => self.change("lifecycle", who(rule), None, Some(says(rule))),
                Some(old) if !same_rule(old, rule) => {
                    let (mut before, mut after) = (says(old), says(rule));
                    if let (true, Some(id)) = (old.id != rule.id, &rule.id) {
                        before.push_str(&format!(", id {}", old.id.as_deref().unwrap_or("none")));
                        after.push_str(&format!(", id {id}"));
                    }
                    self.change("lifecycle", who(rule), Some(before), Some(after));
                }
                Some(_) => {}
            }
        }
        for old in have.iter().filter(|old| !want.iter().any(|rule| same(old, rule))) {
            self.change("lifecycle", who(old), Some(says(old)), None);
        }
    }

    fn limits(&mut self, rules: &[LifecycleRule], support: RulesSupport) {
        for rule in rules.iter().filter(|rule| rule.enabled) {
            if !rule.tags.is_empty() && !support.tags {
                let note = format!(
                    "lifecycle {}: this adapter keeps no tags; the rule is stored and does nothing",
                    who(rule)
                );
                self.notes.push(note);
                continue;
            }
            if !rule.transitions.is_empty() && !support.transitions {
                let note = format!(
                    "lifecycle {}: this adapter has one class of storage; objects stay in it",
                    who(rule)
                );
                self.notes.push(note);
            }
            if rule.expire_old_versions_after_days.is_some() && !support.versioning {
                let note = format!(
                    "lifecycle {}: this adapter keeps no old versions to delete",
                    who(rule)
                );
                self.notes.push(note);
            }
        }
    }

    /// The order of these rules counts, so a rule that only moved is a change too.
    fn cors(&mut self, have: &[CorsRule], want: &[CorsRule]) {
        for (index, rule) in want.iter().enumerate() {
            let origins = rule.origins.join(" ");
            match have.get(index) {
                Some(old) if same_page_rule(old, rule) => {}
                Some(old) if old.origins == rule.origins => {
                    self.change("cors", origins, Some(pages(old)), Some(pages(rule)));
                }
                Some(old) => {
                    self.change("cors", old.origins.join(" "), Some(pages(old)), None);
                    self.change("cors", origins, None, Some(pages(rule)));
                }
                None => self.change("cors", origins, None, Some(pages(rule))),
            }
        }
        for old in have.iter().skip(want.len()) {
            self.change("cors", old.origins.join(" "), Some(pages(old)), None);
        }
    }
}

/// Whether the store needn't be told. An id that the file leaves out is the store's own business.
pub(crate) fn same_rule(old: &LifecycleRule, new: &LifecycleRule) -> bool {
    let sorted = |rule: &LifecycleRule| {
        let mut rule = rule.clone();
        rule.transitions.sort_by_key(|step| step.to);
        if new.id.is_none() {
            rule.id = None;
        }
        rule
    };
    sorted(old) == sorted(new)
}

/// Headers and methods are sets, and the case of a header's name says nothing.
pub(crate) fn same_page_rule(old: &CorsRule, new: &CorsRule) -> bool {
    let sorted = |rule: &CorsRule| {
        let mut rule = rule.clone();
        for headers in [&mut rule.allowed_headers, &mut rule.expose_headers] {
            headers
                .iter_mut()
                .for_each(|header| header.make_ascii_lowercase());
            headers.sort();
        }
        rule.methods.sort();
        rule.origins.sort();
        rule.max_age = Some(rule.max_age.unwrap_or(0));
        rule
    };
    sorted(old) == sorted(new)
}

fn who(rule: &LifecycleRule) -> String {
    let mut text = match rule.prefix.as_str() {
        "" => "all objects".to_owned(),
        prefix => prefix.to_owned(),
    };
    for (name, value) in &rule.tags {
        text.push_str(&format!(" [{name}={value}]"));
    }
    text
}

fn days(count: u32) -> String {
    format!("{count} day{}", if count == 1 { "" } else { "s" })
}

/// A lifecycle rule in words.
fn says(rule: &LifecycleRule) -> String {
    let mut parts = Vec::new();
    let mut steps = rule.transitions.clone();
    steps.sort_by_key(|step| step.to);
    parts.extend(
        steps
            .iter()
            .map(|step| format!("{} after {}", step.to, days(step.after_days))),
    );
    if let Some(count) = rule.expire_after_days {
        parts.push(format!("deleted after {}", days(count)));
    }
    if let Some(day) = rule.expire_before {
        parts.push(format!("deleted if stored before {day}"));
    }
    if let Some(count) = rule.abort_unfinished_uploads_after_days {
        parts.push(format!("unfinished uploads aborted after {}", days(count)));
    }
    if let Some(count) = rule.expire_old_versions_after_days {
        parts.push(format!("old versions deleted after {}", days(count)));
    }
    if !rule.foreign.is_empty() {
        parts.push(format!(
            "and {}, which rules.json can't express",
            rule.foreign.join(", ")
        ));
    }
    if !rule.enabled {
        parts.push("switched off".to_owned());
    }
    parts.join(", ")
}

/// A CORS rule in words.
fn pages(rule: &CorsRule) -> String {
    let mut text = rule.methods.join(" ");
    if !rule.allowed_headers.is_empty() {
        text.push_str(&format!(", may send {}", rule.allowed_headers.join(" ")));
    }
    if !rule.expose_headers.is_empty() {
        text.push_str(&format!(", may read {}", rule.expose_headers.join(" ")));
    }
    if let Some(seconds) = rule.max_age.filter(|seconds| *seconds > 0) {
        text.push_str(&format!(", remembered {seconds} s"));
    }
    text
}

impl fmt::Display for RulesDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        let mut section = "";
        for change in &self.changes {
            if change.section != section {
                section = change.section;
                lines.push(section.to_owned());
            }
            let subject = &change.subject;
            lines.push(match (&change.before, &change.after) {
                (None, Some(after)) => format!("  + {subject}: {after}"),
                (Some(before), None) => format!("  - {subject}: {before}"),
                (Some(before), Some(after)) => format!("  ~ {subject}: {before} -> {after}"),
                (None, None) => format!("  ~ {subject}"),
            });
        }
        if self.is_empty() {
            lines.push("nothing to change".to_owned());
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> StorageRules {
        StorageRules::from_json(text).unwrap()
    }

    #[test]
    fn a_difference_can_be_read_by_people_and_by_machines() {
        let have = rules(
            r#"{"lifecycle": [{"prefix": "old/", "expire_after_days": 7},
                {"id": "auto-1", "prefix": "pdfs/", "transitions": [{"to": "IA", "after_days": 30}]},
                {"id": "auto-2", "prefix": "same/", "expire_after_days": 7}]}"#,
        );
        let want = rules(
            r#"{"lifecycle": [{"prefix": "temp/", "expire_after_days": 1}, {"prefix": "same/", "expire_after_days": 7},
                {"prefix": "pdfs/", "transitions": [{"to": "IA", "after_days": 90}]}],
                "cors": [{"origins": ["https://a"], "methods": ["GET", "PUT"], "expose_headers": ["ETag"]}],
                "versioning": "enabled"}"#,
        );
        let diff = RulesDiff::between(&have, &want, RulesSupport::ALL);
        let expected = "lifecycle\n  + temp/: deleted after 1 day\n  ~ pdfs/: IA after 30 days -> IA after 90 days\n  \
                        - old/: deleted after 7 days\ncors\n  + https://a: GET PUT, may read ETag\nversioning\n  \
                        + old versions: enabled";
        assert_eq!(diff.to_string(), expected);
        let json = serde_json::to_value(&diff).unwrap();
        assert_eq!(json["changes"][1]["before"], "IA after 30 days");
        assert_eq!(json["applied"], false);
        assert!(RulesDiff::between(&want, &want, RulesSupport::ALL).is_empty());
        // Absent sections are left alone, empty ones are emptied.
        assert!(RulesDiff::between(&want, &rules("{}"), RulesSupport::ALL).is_empty());
        let empty = rules(r#"{"lifecycle": [], "cors": []}"#);
        assert_eq!(
            RulesDiff::between(&want, &empty, RulesSupport::ALL).changes.len(),
            4
        );
    }

    #[test]
    fn what_an_adapter_does_not_do_is_said() {
        let want = rules(
            r#"{"lifecycle": [{"prefix": "a/", "transitions": [{"to": "IA", "after_days": 90}]},
                {"prefix": "b/", "tags": {"k": "v"}, "expire_after_days": 1},
                {"prefix": "", "expire_old_versions_after_days": 9}], "versioning": "enabled"}"#,
        );
        let diff = RulesDiff::between(&StorageRules::default(), &want, RulesSupport::default());
        assert_eq!((diff.changes.len(), diff.notes.len()), (3, 4), "{diff}");
        assert!(
            diff.to_string()
                .contains("note: versioning: this adapter keeps no old versions")
        );
        // The order of sets is nobody's change, what can't be expressed is.
        let mut have = want.clone();
        have.lifecycle.as_mut().unwrap()[0].foreign = vec!["AtimeBase".into()];
        let diff = RulesDiff::between(&have, &want, RulesSupport::ALL);
        assert!(
            diff.to_string()
                .contains("AtimeBase, which rules.json can't express"),
            "{diff}"
        );
    }
}
