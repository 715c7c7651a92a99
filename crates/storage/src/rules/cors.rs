//! Which rule fits a page's request, as OSS decides it.

use super::CorsRule;

/// What a page's browser wants to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CorsQuestion<'a> {
    pub(crate) origin: &'a str,
    pub(crate) method: &'a str,
    /// The value of `access-control-request-headers`; empty outside a preflight.
    pub(crate) headers: &'a str,
}

/// What it is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CorsAnswer {
    pub(crate) origin: String,
    pub(crate) methods: String,
    pub(crate) headers: String,
    pub(crate) expose: String,
    pub(crate) max_age: Option<u32>,
}

impl CorsAnswer {
    /// By the first rule that allows everything that is asked.
    pub(crate) fn find(rules: &[CorsRule], question: CorsQuestion<'_>) -> Option<Self> {
        let CorsQuestion {
            origin,
            method,
            headers,
        } = question;
        let asked = || {
            headers
                .split(',')
                .map(str::trim)
                .filter(|header| !header.is_empty())
        };
        let rule = rules.iter().find(|rule| {
            rule.origins.iter().any(|pattern| fits(pattern, origin))
                && rule.methods.iter().any(|allowed| allowed == method)
                && asked().all(|header| rule.allowed_headers.iter().any(|pattern| fits(pattern, header)))
        })?;
        let any = rule.origins.iter().any(|pattern| pattern == "*");
        Some(Self {
            origin: if any { "*".to_owned() } else { origin.to_owned() },
            methods: rule.methods.join(", "),
            headers: asked().collect::<Vec<_>>().join(", "),
            expose: rule.expose_headers.join(", "),
            max_age: rule.max_age,
        })
    }
}

/// One `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_allows_everything_counts() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let rules = [
            CorsRule {
                origins: list(&["https://*.example.com"]),
                methods: list(&["PUT"]),
                allowed_headers: list(&["content-type", "x-oss-*"]),
                expose_headers: list(&["ETag"]),
                max_age: Some(60),
            },
            CorsRule {
                origins: list(&["*"]),
                methods: list(&["GET"]),
                ..CorsRule::default()
            },
        ];
        let ask = |origin, method, headers| {
            CorsAnswer::find(
                &rules,
                CorsQuestion {
                    origin,
                    method,
                    headers,
                },
            )
        };
        let put = ask("https://app.example.com", "PUT", "Content-Type, X-OSS-meta-a").unwrap();
        assert_eq!(put.origin, "https://app.example.com");
        assert_eq!(
            (put.expose.as_str(), put.max_age, put.headers.as_str()),
            ("ETag", Some(60), "Content-Type, X-OSS-meta-a")
        );
        assert_eq!(ask("https://elsewhere", "GET", "").unwrap().origin, "*");
        assert_eq!(ask("https://elsewhere", "PUT", ""), None);
        assert_eq!(ask("https://app.example.com", "PUT", "authorization"), None);
        assert_eq!(
            ask("https://example.com", "PUT", ""),
            None,
            "the dot is part of it"
        );
    }
}
