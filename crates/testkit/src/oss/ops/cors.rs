//! Cross-origin requests, by the rules that `PutBucketCors` stored.

use super::Cx;
use crate::oss::error::OssError;
use crate::oss::reply::Reply;
use crate::oss::xml::{Element, parse};

const MOST_RULES: usize = 20;

/// Refuses rules that OSS refuses.
pub(super) fn check(root: &Element) -> Result<(), OssError> {
    root.must_be("CORSConfiguration", &["CORSRule", "ResponseVary"])?;
    let rules = root.children_named("CORSRule").count();
    if rules == 0 || rules > MOST_RULES {
        let why = format!("1 to {MOST_RULES} rules are expected");
        return Err(OssError::malformed_xml(why).ec("0034-00000002"));
    }
    for rule in root.children_named("CORSRule") {
        rule.must_be(
            "CORSRule",
            &[
                "AllowedOrigin",
                "AllowedMethod",
                "AllowedHeader",
                "ExposeHeader",
                "MaxAgeSeconds",
            ],
        )?;
        for needed in ["AllowedOrigin", "AllowedMethod"] {
            if rule.children_named(needed).count() == 0 {
                return Err(OssError::malformed_xml(format!("a CORSRule needs an {needed}")));
            }
        }
        for (name, stars) in [("AllowedOrigin", 1), ("AllowedHeader", 1), ("ExposeHeader", 0)] {
            if let Some(text) =
                texts(rule, name).find(|text| text.is_empty() || text.matches('*').count() > stars)
            {
                let why = format!("{name} is not empty and holds {stars} asterisks at most.");
                return Err(OssError::invalid_argument(why, name, text));
            }
        }
        let methods = ["GET", "PUT", "DELETE", "POST", "HEAD"];
        if let Some(method) = texts(rule, "AllowedMethod").find(|method| !methods.contains(method)) {
            let why = "AllowedMethod must be GET, PUT, DELETE, POST or HEAD.";
            return Err(OssError::invalid_argument(why, "AllowedMethod", method).ec("0034-00000011"));
        }
        let ages: Vec<&str> = texts(rule, "MaxAgeSeconds").collect();
        let good = |age: &&str| age.parse::<u32>().is_ok_and(|age| age <= 999_999_999);
        if ages.len() > 1 || !ages.iter().all(good) {
            return Err(OssError::malformed_xml(
                "MaxAgeSeconds is one number up to 999999999",
            ));
        }
    }
    match root.child_text("ResponseVary").map(str::trim) {
        None | Some("true" | "false") => Ok(()),
        Some(_) => Err(OssError::malformed_xml("ResponseVary must be true or false")),
    }
}

struct Allowed {
    origin: String,
    methods: String,
    headers: String,
    expose: String,
    max_age: Option<String>,
}

fn texts<'a>(rule: &'a Element, name: &'a str) -> impl Iterator<Item = &'a str> {
    rule.children_named(name).map(|element| element.text.trim())
}

/// One `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(text),
        Some((start, end)) => {
            let (text, start, end) = (
                text.to_ascii_lowercase(),
                start.to_ascii_lowercase(),
                end.to_ascii_lowercase(),
            );
            text.len() >= start.len() + end.len() && text.starts_with(&start) && text.ends_with(&end)
        }
    }
}

/// The first rule that lets this origin send this method with these headers.
fn allowed(document: &str, origin: &str, method: &str, headers: &str) -> Option<Allowed> {
    let root = parse(document).ok()?;
    let rule = root.children_named("CORSRule").find(|rule| {
        texts(rule, "AllowedOrigin").any(|pattern| fits(pattern, origin))
            && texts(rule, "AllowedMethod").any(|allowed| allowed.eq_ignore_ascii_case(method))
            && headers
                .split(',')
                .map(str::trim)
                .filter(|header| !header.is_empty())
                .all(|header| texts(rule, "AllowedHeader").any(|pattern| fits(pattern, header)))
    })?;
    let any = texts(rule, "AllowedOrigin").any(|pattern| pattern == "*");
    Some(Allowed {
        origin: if any { "*".to_owned() } else { origin.to_owned() },
        methods: texts(rule, "AllowedMethod").collect::<Vec<_>>().join(", "),
        headers: headers.to_owned(),
        expose: texts(rule, "ExposeHeader").collect::<Vec<_>>().join(", "),
        max_age: rule
            .child_text("MaxAgeSeconds")
            .map(|text| text.trim().to_owned()),
    })
}

fn rules(cx: &Cx<'_>) -> Option<String> {
    cx.store
        .with_bucket(cx.bucket().ok()?, |b| Ok(b.meta.documents.get("cors").cloned()))
        .ok()
        .flatten()
}

/// The browser's question before the real request. It carries no signature.
pub(super) fn preflight(cx: &Cx<'_>) -> Result<Reply, OssError> {
    let origin = cx.request.header("origin");
    let method = cx.request.header("access-control-request-method");
    let (Some(origin), Some(method)) = (origin, method) else {
        return Err(OssError::new(
            400,
            "InvalidArgument",
            "Origin or Access-Control-Request-Method is missing.",
        ));
    };
    let headers = cx
        .request
        .header("access-control-request-headers")
        .unwrap_or_default();
    let forbidden = |message: &str| {
        OssError::new(403, "AccessForbidden", message)
            .detail("Method", method)
            .detail("ResourceType", "Object")
    };
    let document =
        rules(cx).ok_or_else(|| forbidden("CORSResponse: CORS is not enabled for this bucket."))?;
    let found = allowed(&document, origin, method, headers).ok_or_else(|| {
        forbidden(
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, \
             request method / Access-Control-Request-Method or Access-Control-Request-Headers are not \
             whitelisted by the resource's CORS spec.",
        )
    })?;
    let mut reply = Reply::new(200)
        .header("access-control-allow-origin", &found.origin)
        .header("access-control-allow-methods", &found.methods)
        .header(
            "vary",
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        );
    if !found.headers.is_empty() {
        reply = reply.header("access-control-allow-headers", &found.headers);
    }
    if !found.expose.is_empty() {
        reply = reply.header("access-control-expose-headers", &found.expose);
    }
    if let Some(age) = found.max_age {
        reply = reply.header("access-control-max-age", age);
    }
    Ok(reply)
}

/// Adds what lets a page of this origin read the answer; refusals as well, else it could not tell why.
pub(crate) fn decorate(cx: &Cx<'_>, reply: Reply) -> Reply {
    let Some(origin) = cx.request.header("origin") else {
        return reply;
    };
    let method = cx.request.method.as_str();
    if method == "OPTIONS" {
        return reply;
    }
    let Some(found) = rules(cx).and_then(|document| allowed(&document, origin, method, "")) else {
        return reply;
    };
    let mut reply = reply
        .header("access-control-allow-origin", &found.origin)
        .header("access-control-allow-methods", &found.methods)
        .header("vary", "Origin");
    if !found.expose.is_empty() {
        reply = reply.header("access-control-expose-headers", &found.expose);
    }
    reply
}
