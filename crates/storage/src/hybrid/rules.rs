//! Rules of a store in two places, told as one.

use crate::{
    CorsRule, LifecycleRule, StorageRules,
    rules::{same_page_rule, same_rule},
};

/// What each side gets: resident, then shared. A rule for resident keys alone is not told to the other side.
pub(super) fn split(rules: &StorageRules, prefixes: &[String]) -> (StorageRules, StorageRules) {
    let part = |wanted: &dyn Fn(&LifecycleRule) -> bool| {
        let rules = rules.lifecycle.as_ref()?;
        Some(rules.iter().filter(|rule| wanted(rule)).cloned().collect())
    };
    let resident = StorageRules {
        lifecycle: part(&|rule| touches(rule, prefixes)),
        cors: rules.cors.clone(),
        // A directory keeps no old versions.
        versioning: None,
    };
    let shared = StorageRules {
        lifecycle: part(&|rule| !is_within(rule, prefixes)),
        cors: rules.cors.clone(),
        versioning: rules.versioning,
    };
    (resident, shared)
}

/// The rules of both sides as one. What should be on both and is on one is marked, so that applying the rules mends it.
pub(super) fn join(resident: StorageRules, shared: StorageRules, prefixes: &[String]) -> StorageRules {
    StorageRules {
        lifecycle: both(resident.lifecycle, shared.lifecycle, |resident, shared| {
            lifecycle(resident, shared, prefixes)
        }),
        cors: both(resident.cors, shared.cors, cors),
        versioning: shared.versioning,
    }
}

fn both<T>(
    resident: Option<Vec<T>>,
    shared: Option<Vec<T>>,
    join: impl FnOnce(Vec<T>, Vec<T>) -> Vec<T>,
) -> Option<Vec<T>> {
    let asked = resident.is_some() || shared.is_some();
    asked.then(|| join(resident.unwrap_or_default(), shared.unwrap_or_default()))
}

fn lifecycle(
    mut resident: Vec<LifecycleRule>,
    shared: Vec<LifecycleRule>,
    prefixes: &[String],
) -> Vec<LifecycleRule> {
    let mut joined = Vec::new();
    for mut rule in shared {
        if touches(&rule, prefixes) {
            match resident.iter().position(|twin| same_rule(&rule, twin)) {
                Some(twin) => drop(resident.remove(twin)),
                None => rule.foreign.push("not for resident keys".to_owned()),
            }
        }
        joined.push(rule);
    }
    for mut rule in resident {
        if !is_within(&rule, prefixes) {
            rule.foreign.push("for resident keys only".to_owned());
        }
        joined.push(rule);
    }
    joined
}

/// The shared side's, unless they differ: then all, which is never what anybody wants, so that applying mends it.
fn cors(resident: Vec<CorsRule>, mut shared: Vec<CorsRule>) -> Vec<CorsRule> {
    let pairs = || shared.iter().zip(&resident);
    if resident.len() != shared.len() || !pairs().all(|(one, other)| same_page_rule(one, other)) {
        shared.extend(resident);
    }
    shared
}

/// Whether a rule is for resident keys, maybe among others.
fn touches(rule: &LifecycleRule, prefixes: &[String]) -> bool {
    is_within(rule, prefixes) || prefixes.iter().any(|resident| resident.starts_with(&rule.prefix))
}

/// Whether a rule is for resident keys alone.
fn is_within(rule: &LifecycleRule, prefixes: &[String]) -> bool {
    prefixes
        .iter()
        .any(|resident| rule.prefix.starts_with(resident.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RulesDiff, RulesSupport};

    fn rules(json: &str) -> StorageRules {
        StorageRules::from_json(json).unwrap()
    }

    #[test]
    fn rules_go_where_their_keys_are_and_come_back_as_they_were() {
        let prefixes = ["asl/resident/".to_owned()];
        let wanted = rules(
            r#"{"lifecycle": [
                {"prefix": "", "abort_unfinished_uploads_after_days": 3},
                {"prefix": "asl/resident/temp/", "expire_after_days": 1},
                {"prefix": "asl/pdfs/", "expire_after_days": 9}
            ], "cors": [{"origins": ["https://a.example"], "methods": ["GET"]}], "versioning": "enabled"}"#,
        );
        let (resident, shared) = split(&wanted, &prefixes);
        assert!(!shared.to_json().contains("resident"), "{}", shared.to_json());
        assert_eq!(resident.lifecycle.as_ref().unwrap().len(), 2);
        let differs = |resident: &StorageRules, shared: &StorageRules| {
            let have = join(resident.clone(), shared.clone(), &prefixes);
            !RulesDiff::between(&have, &wanted, RulesSupport::ALL).is_empty()
        };
        assert!(!differs(&resident, &shared));
        assert!(
            differs(&StorageRules::default(), &shared),
            "half of it is not all of it"
        );
        assert!(differs(&resident, &StorageRules::default()));
        let other = rules(r#"{"lifecycle": [], "cors": []}"#);
        assert!(differs(&other, &shared) && differs(&resident, &other));
    }
}
