//! What OSS would refuse, found before anything is sent.

use std::collections::BTreeSet;

use super::{CorsRule, LifecycleRule, StorageClass, StorageRules};
use crate::key::check_prefix;

/// A hundred years.
const MAX_DAYS: u32 = 36_500;
const MAX_LIFECYCLE: usize = 1000;
const MAX_CORS: usize = 20;
const MAX_AGE: u32 = 999_999_999;
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "HEAD"];

impl StorageRules {
    /// Everything that is wrong with these rules in themselves.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let lifecycle = self.lifecycle.as_deref().unwrap_or_default();
        if lifecycle.len() > MAX_LIFECYCLE {
            problems.push(format!("lifecycle has more than {MAX_LIFECYCLE} rules"));
        }
        let mut ids = BTreeSet::new();
        for (index, rule) in lifecycle.iter().enumerate() {
            let name = format!("lifecycle[{index}]");
            problems.extend(one(rule).into_iter().map(|why| format!("{name}: {why}")));
            if rule.id.as_ref().is_some_and(|id| !ids.insert(id)) {
                problems.push(format!("{name}: another rule has the same id"));
            }
            for (other_index, other) in lifecycle[..index].iter().enumerate() {
                if let Some(why) = clash(other, rule) {
                    problems.push(format!("lifecycle[{other_index}] and {name}: {why}"));
                }
            }
        }
        let cors = self.cors.as_deref().unwrap_or_default();
        if cors.len() > MAX_CORS {
            problems.push(format!("cors has more than {MAX_CORS} rules"));
        }
        for (index, rule) in cors.iter().enumerate() {
            problems.extend(pages(rule).into_iter().map(|why| format!("cors[{index}]: {why}")));
        }
        problems
    }
}

/// One rule by itself.
fn one(rule: &LifecycleRule) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = check_prefix(&rule.prefix) {
        problems.push(error.why().replace("the key", "the prefix"));
    }
    if rule.id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 255) {
        problems.push("the id has not 1 to 255 bytes".to_owned());
    }
    for (name, days) in [
        ("expire_after_days", rule.expire_after_days),
        (
            "abort_unfinished_uploads_after_days",
            rule.abort_unfinished_uploads_after_days,
        ),
        (
            "expire_old_versions_after_days",
            rule.expire_old_versions_after_days,
        ),
    ] {
        if days.is_some_and(|days| !(1..=MAX_DAYS).contains(&days)) {
            problems.push(format!("{name} is not within 1 to {MAX_DAYS}"));
        }
    }
    if rule
        .transitions
        .iter()
        .any(|transition| !(1..=MAX_DAYS).contains(&transition.after_days))
    {
        problems.push(format!("transitions: after_days is not within 1 to {MAX_DAYS}"));
    }
    if rule.expire_after_days.is_some() && rule.expire_before.is_some() {
        problems.push("has both expire_after_days and expire_before".to_owned());
    }
    if !rule.tags.is_empty() && rule.abort_unfinished_uploads_after_days.is_some() {
        problems.push("an unfinished upload has no tags yet: abort it with a rule without tags".to_owned());
    }
    let idle = rule.expire_after_days.is_none()
        && rule.expire_before.is_none()
        && rule.transitions.is_empty()
        && rule.abort_unfinished_uploads_after_days.is_none()
        && rule.expire_old_versions_after_days.is_none();
    if idle && rule.foreign.is_empty() {
        problems.push("does nothing: give it expire_after_days, transitions or another action".to_owned());
    }
    problems.extend(order(rule, rule));
    for class in StorageClass::EACH {
        if rule.transitions.iter().filter(|step| step.to == class).count() > 1 {
            problems.push(format!("moves to {class} twice"));
        }
    }
    problems
}

/// An object grows cheaper step by step and is deleted last; also where two rules decide about it.
fn order(one: &LifecycleRule, other: &LifecycleRule) -> Option<String> {
    let steps = || one.transitions.iter().chain(&other.transitions);
    for step in steps() {
        if let Some(cheaper) =
            steps().find(|cheaper| cheaper.to > step.to && cheaper.after_days <= step.after_days)
        {
            let (early, late) = (cheaper.to, step.to);
            return Some(format!("the move to {early} is not later than the one to {late}"));
        }
        let expiry = [one.expire_after_days, other.expire_after_days];
        if expiry.into_iter().flatten().any(|days| days <= step.after_days) {
            return Some(format!(
                "objects are deleted before or when they move to {}",
                step.to
            ));
        }
    }
    None
}

/// What OSS refuses of two rules for overlapping prefixes. Rules for different tags don't meet.
fn clash(one: &LifecycleRule, other: &LifecycleRule) -> Option<String> {
    let overlap = one.prefix.starts_with(&other.prefix) || other.prefix.starts_with(&one.prefix);
    if !overlap || one.tags != other.tags {
        return None;
    }
    let (a, b) = (&one.prefix, &other.prefix);
    if a == b {
        return Some(format!("both are for the prefix {a:?}: make them one rule"));
    }
    let expires = |rule: &LifecycleRule| rule.expire_after_days.is_some() || rule.expire_before.is_some();
    let twice = if expires(one) && expires(other) {
        Some("delete objects".to_owned())
    } else if one.abort_unfinished_uploads_after_days.is_some()
        && other.abort_unfinished_uploads_after_days.is_some()
    {
        Some("abort unfinished uploads".to_owned())
    } else if one.expire_old_versions_after_days.is_some() && other.expire_old_versions_after_days.is_some() {
        Some("delete old versions".to_owned())
    } else {
        one.transitions
            .iter()
            .find(|step| other.transitions.iter().any(|same| same.to == step.to))
            .map(|step| format!("move objects to {}", step.to))
    };
    let overlap = |why: String| format!("the prefixes {a:?} and {b:?} overlap and {why}");
    match twice {
        Some(action) => Some(overlap(format!("both {action}, which OSS refuses"))),
        None => order(one, other).map(overlap),
    }
}

fn pages(rule: &CorsRule) -> Vec<String> {
    let mut problems = Vec::new();
    if rule.origins.is_empty() {
        problems.push("has no origins".to_owned());
    }
    for origin in &rule.origins {
        let scheme = origin == "*" || origin.starts_with("http://") || origin.starts_with("https://");
        let path = origin.splitn(4, '/').nth(3).is_some();
        if !scheme || path || stars(origin) > 1 || origin.chars().any(char::is_whitespace) {
            problems.push(format!(
                "the origin {origin:?} is not `*` or scheme and host, such as `https://app.example.com`"
            ));
        }
    }
    if rule.methods.is_empty() {
        problems.push("has no methods".to_owned());
    }
    for method in &rule.methods {
        if !METHODS.contains(&method.as_str()) {
            problems.push(format!(
                "the method {method:?} is not one of {}",
                METHODS.join(", ")
            ));
        }
    }
    for header in &rule.allowed_headers {
        if !is_header(&header.replacen('*', "a", 1)) {
            problems.push(format!(
                "{header:?} in allowed_headers is not the name of a header"
            ));
        }
    }
    for header in &rule.expose_headers {
        // OSS takes no `*` here.
        if !is_header(header) || stars(header) > 0 {
            problems.push(format!(
                "{header:?} in expose_headers is not the name of a header"
            ));
        }
    }
    if rule.max_age.is_some_and(|seconds| seconds > MAX_AGE) {
        problems.push(format!("max_age is above {MAX_AGE} seconds"));
    }
    problems
}

fn stars(text: &str) -> usize {
    text.matches('*').count()
}

fn is_header(name: &str) -> bool {
    !name.contains('*') && http::HeaderName::from_bytes(name.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        match StorageRules::from_json(text) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_oss_refuses_is_refused_before_it_is_sent() {
        for (rules, part) in [
            (r#"{"prefix": "a/"}"#, "does nothing"),
            (
                r#"{"prefix": "/a", "expire_after_days": 1}"#,
                "starts with a slash",
            ),
            (
                r#"{"prefix": "a/", "expire_after_days": 0}"#,
                "not within 1 to 36500",
            ),
            (
                r#"{"prefix": "a/", "expire_after_days": 36501}"#,
                "not within 1 to 36500",
            ),
            (
                r#"{"prefix": "a/", "expire_after_days": 1, "expire_before": "2025-01-01"}"#,
                "has both",
            ),
            (
                r#"{"prefix": "a/", "tags": {"k": "v"}, "abort_unfinished_uploads_after_days": 1}"#,
                "no tags yet",
            ),
            (
                r#"{"prefix": "a/", "expire_after_days": 90, "transitions": [{"to": "IA", "after_days": 90}]}"#,
                "deleted before or when they move to IA",
            ),
            (
                r#"{"prefix": "a/", "transitions": [{"to": "Archive", "after_days": 30}, {"to": "IA", "after_days": 60}]}"#,
                "the move to Archive is not later than the one to IA",
            ),
            (
                r#"{"prefix": "a/", "expire_after_days": 1}, {"prefix": "a/", "abort_unfinished_uploads_after_days": 1}"#,
                "make them one rule",
            ),
            (
                r#"{"prefix": "test", "expire_after_days": 200}, {"prefix": "test/log", "expire_after_days": 100}"#,
                r#""test" and "test/log" overlap and both delete objects"#,
            ),
            (
                r#"{"prefix": "", "abort_unfinished_uploads_after_days": 1}, {"prefix": "a", "abort_unfinished_uploads_after_days": 3}"#,
                "both abort unfinished uploads",
            ),
            (
                r#"{"prefix": "test", "transitions": [{"to": "IA", "after_days": 30}]}, {"prefix": "test/log", "transitions": [{"to": "IA", "after_days": 60}]}"#,
                "both move objects to IA",
            ),
            (
                r#"{"prefix": "test", "transitions": [{"to": "IA", "after_days": 120}]}, {"prefix": "test/log", "expire_after_days": 30}"#,
                "deleted before or when they move to IA",
            ),
            (
                r#"{"id": "x", "prefix": "a", "expire_after_days": 1}, {"id": "x", "prefix": "b", "expire_after_days": 1}"#,
                "the same id",
            ),
        ] {
            let told = problems(&format!(r#"{{"lifecycle": [{rules}]}}"#));
            assert!(told.contains(part), "{part}: {told:?}");
        }
        for fine in [
            r#"{"prefix": "temp/", "expire_after_days": 1}, {"prefix": "", "abort_unfinished_uploads_after_days": 3}"#,
            r#"{"prefix": "a", "tags": {"k": "1"}, "expire_after_days": 1}, {"prefix": "a", "tags": {"k": "2"}, "expire_after_days": 2}"#,
            r#"{"prefix": "a", "expire_after_days": 400, "transitions": [{"to": "Archive", "after_days": 180}, {"to": "IA", "after_days": 30}]}"#,
        ] {
            assert_eq!(problems(&format!(r#"{{"lifecycle": [{fine}]}}"#)), "", "{fine}");
        }
    }

    #[test]
    fn pages_are_named_by_origin() {
        for (rule, part) in [
            (r#"{"origins": [], "methods": ["GET"]}"#, "no origins"),
            (r#"{"origins": ["*"], "methods": []}"#, "no methods"),
            (
                r#"{"origins": ["app.example.com"], "methods": ["GET"]}"#,
                "is not `*` or scheme",
            ),
            (
                r#"{"origins": ["https://a/"], "methods": ["GET"]}"#,
                "is not `*` or scheme",
            ),
            (
                r#"{"origins": ["https://*.*.com"], "methods": ["GET"]}"#,
                "is not `*` or scheme",
            ),
            (r#"{"origins": ["*"], "methods": ["PATCH"]}"#, "not one of GET"),
            (
                r#"{"origins": ["*"], "methods": ["GET"], "expose_headers": ["*"]}"#,
                "expose_headers",
            ),
            (
                r#"{"origins": ["*"], "methods": ["GET"], "allowed_headers": ["a b"]}"#,
                "allowed_headers",
            ),
            (
                r#"{"origins": ["*"], "methods": ["GET"], "max_age": 1000000000}"#,
                "max_age",
            ),
        ] {
            let told = problems(&format!(r#"{{"cors": [{rule}]}}"#));
            assert!(told.contains(part), "{part}: {told:?}");
        }
        let fine = r#"{"cors": [{"origins": ["https://*.example.com:8443", "*"], "methods": ["GET", "PUT"],
            "allowed_headers": ["*", "x-oss-*"], "expose_headers": ["ETag"], "max_age": 600}]}"#;
        assert_eq!(problems(fine), "");
    }
}
