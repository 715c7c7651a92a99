//! Reading `rules.json`, strictly: a field that nobody knows is a mistake, not a comment.

use serde_json::Value;

use super::StorageRules;
use crate::{Error, ErrorKind, Result};

const TOP: &[&str] = &["lifecycle", "cors", "versioning"];
const LIFECYCLE: &[&str] = &[
    "id",
    "prefix",
    "tags",
    "enabled",
    "expire_after_days",
    "expire_before",
    "transitions",
    "abort_unfinished_uploads_after_days",
    "expire_old_versions_after_days",
];
const TRANSITION: &[&str] = &["to", "after_days"];
const CORS: &[&str] = &[
    "origins",
    "methods",
    "allowed_headers",
    "expose_headers",
    "max_age",
];

impl StorageRules {
    /// Reads the text of a `rules.json` and checks everything that can be known without the store.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with all problems at once: unknown fields with the name that was probably meant, values of the
    /// wrong type with line and column, and whatever [`check`](Self::check) finds.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| refused(vec![format!("it is not JSON: {error}")]))?;
        let unknown = unknown_fields(&value);
        if !unknown.is_empty() {
            return Err(refused(unknown));
        }
        let rules: Self = serde_json::from_str(text).map_err(|error| refused(vec![error.to_string()]))?;
        rules.check()?;
        Ok(rules)
    }

    /// The rules as the text of a `rules.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data with text keys can always be written as JSON")
    }

    /// Checks what [`from_json`](Self::from_json) checks, for rules that were made in code.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with all problems at once.
    pub fn check(&self) -> Result<()> {
        let problems = self.problems();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(refused(problems))
        }
    }
}

fn refused(problems: Vec<String>) -> Error {
    Error::new(
        ErrorKind::Config,
        "rules check",
        "rules.json",
        problems.join("; "),
    )
}

fn unknown_fields(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(value, "", TOP, &mut found);
    for (index, rule) in items(&value["lifecycle"]) {
        look(rule, &format!("lifecycle[{index}]."), LIFECYCLE, &mut found);
        for (inner, transition) in items(&rule["transitions"]) {
            let path = format!("lifecycle[{index}].transitions[{inner}].");
            look(transition, &path, TRANSITION, &mut found);
        }
    }
    for (index, rule) in items(&value["cors"]) {
        look(rule, &format!("cors[{index}]."), CORS, &mut found);
    }
    found
}

fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

fn look(value: &Value, path: &str, known: &[&'static str], found: &mut Vec<String>) {
    for name in value.as_object().into_iter().flat_map(|object| object.keys()) {
        // `$schema` is for editors.
        if known.contains(&name.as_str()) || (path.is_empty() && name == "$schema") {
            continue;
        }
        let mut problem = format!("there is no field `{path}{name}`");
        match zhuji_config::nearest(name, known.iter().copied()) {
            Some(near) => problem.push_str(&format!(", did you mean `{near}`?")),
            None => problem.push_str(&format!("; known are {}", known.join(", "))),
        }
        found.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let error = StorageRules::from_json(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn every_unknown_field_is_named_with_the_one_that_was_meant() {
        let told = problems(
            r#"{"lifecycel": [], "lifecycle": [{"prefix": "a/", "expire_after_day": 1,
                "transitions": [{"too": "IA", "after_days": 1}]}], "cors": [{"orgins": ["*"], "zzz": 1}]}"#,
        );
        for part in [
            "`lifecycel`, did you mean `lifecycle`?",
            "`lifecycle[0].expire_after_day`, did you mean `expire_after_days`?",
            "`lifecycle[0].transitions[0].too`, did you mean `to`?",
            "`cors[0].orgins`, did you mean `origins`?",
            "`cors[0].zzz`; known are origins, methods",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn wrong_types_are_told_with_their_place() {
        assert!(problems("{").contains("not JSON"));
        for text in [
            r#"{"lifecycle": [{"prefix": "a/", "expire_after_days": "one"}]}"#,
            r#"{"lifecycle": [{"prefix": "a/", "expire_after_days": -1}]}"#,
            r#"{"lifecycle": [{"expire_after_days": 1}]}"#,
            r#"{"lifecycle": [{"prefix": "a/", "transitions": [{"to": "Glacier", "after_days": 1}]}]}"#,
            r#"{"lifecycle": [{"prefix": "a/", "expire_before": "2025-02-30"}]}"#,
            r#"{"versioning": "on"}"#,
            r#"{"cors": {}}"#,
        ] {
            assert!(problems(text).contains("line 1 column"), "{text}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let text = r#"{"lifecycle": [{"prefix": "a/", "expire_before": "2025-01-31", "tags": {"k": "v"}, "enabled": false}],
            "cors": [{"origins": ["*"], "methods": ["GET"], "max_age": 60}], "versioning": "suspended"}"#;
        let rules = StorageRules::from_json(text).unwrap();
        assert_eq!(StorageRules::from_json(&rules.to_json()).unwrap(), rules);
        assert_eq!(StorageRules::from_json("{}").unwrap(), StorageRules::default());
    }
}
