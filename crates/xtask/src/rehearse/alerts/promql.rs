//! Which metrics and labels a PromQL expression names. That it can be parsed at all is `promtool`'s business.

use std::collections::BTreeSet;

use super::exposition::Series;
use super::pattern::fits;

/// What Prometheus adds to every series it scrapes.
const ADDED_LABELS: &[&str] = &["job", "instance"];
/// What Prometheus makes itself.
const ADDED_METRICS: &[&str] = &["up"];
/// Words in front of a list of labels.
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that are neither metrics nor followed by `(` at once.
const WORDS: &[&str] = &[
    "sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "stddev", "and", "or", "unless",
    "bool", "offset", "inf", "nan",
];

/// A query, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Whose it is: an alert, a panel.
    of: String,
    pub(super) selectors: Vec<Selector>,
    /// Those that it sums or joins by.
    labels: BTreeSet<String>,
}

/// A metric with its label matchers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) metric: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug, PartialEq, Eq)]
struct Matcher {
    label: String,
    operator: String,
    value: String,
}

impl Query {
    /// # Errors
    /// It names no metric, or breaks off.
    pub(super) fn read(of: &str, expr: &str) -> Result<Self, String> {
        let mut query = Self {
            of: of.to_owned(),
            selectors: Vec::new(),
            labels: BTreeSet::new(),
        };
        let mut rest = expr;
        while let Some(first) = rest.chars().next() {
            if first == '[' {
                rest = after(rest, ']');
            } else if first == '"' {
                rest = after(&rest[1..], '"');
            } else if first.is_ascii_digit() {
                rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
            } else if first.is_ascii_alphabetic() || first == '_' || first == ':' {
                let word = word(rest);
                rest = rest[word.len()..].trim_start();
                rest = query.take(word, rest).map_err(|why| format!("{of}: {why}"))?;
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        if query.selectors.is_empty() {
            return Err(format!("{of}: it names no metric"));
        }
        Ok(query)
    }

    /// Takes in a word and what belongs to it; answers with what is left.
    fn take<'a>(&mut self, word: &str, rest: &'a str) -> Result<&'a str, String> {
        if BEFORE_LABELS.contains(&word) {
            let inside = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
            let (labels, rest) = inside.ok_or_else(|| format!("`{word}` without labels"))?;
            let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
            self.labels.extend(labels.map(ToOwned::to_owned));
            return Ok(rest);
        }
        if WORDS.contains(&word) || rest.starts_with('(') {
            return Ok(rest);
        }
        let mut selector = Selector {
            metric: word.to_owned(),
            matchers: Vec::new(),
        };
        let mut left = rest;
        if let Some(mut inside) = rest.strip_prefix('{') {
            loop {
                inside = inside.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                if let Some(after) = inside.strip_prefix('}') {
                    left = after;
                    break;
                }
                let (matcher, after) = matcher(inside).ok_or_else(|| format!("{word}: `{inside}`"))?;
                selector.matchers.push(matcher);
                inside = after;
            }
        }
        self.selectors.push(selector);
        Ok(left)
    }

    /// What of it is not emitted.
    pub(super) fn missing(&self, emitted: &[Series]) -> Vec<String> {
        let mut problems: Vec<String> = self
            .selectors
            .iter()
            .filter_map(|selector| selector.missing(emitted))
            .collect();
        let known = |label: &String| {
            ADDED_LABELS.contains(&label.as_str())
                || self
                    .selectors
                    .iter()
                    .flat_map(|selector| selector.of(emitted))
                    .any(|series| series.labels.contains_key(label))
        };
        let unknown = self.labels.iter().filter(|label| !known(label));
        problems.extend(unknown.map(|label| format!("no metric of it has the label {label}")));
        problems
            .iter()
            .map(|problem| format!("{}: {problem}", self.of))
            .collect()
    }
}

impl Selector {
    fn of<'a>(&self, emitted: &'a [Series]) -> impl Iterator<Item = &'a Series> {
        emitted.iter().filter(move |series| series.metric == self.metric)
    }

    fn missing(&self, emitted: &[Series]) -> Option<String> {
        let metric = &self.metric;
        if ADDED_METRICS.contains(&metric.as_str()) {
            return None;
        }
        if self.of(emitted).next().is_none() {
            return Some(format!("nothing emits {metric}"));
        }
        let matchers = || {
            self.matchers
                .iter()
                .filter(|matcher| !ADDED_LABELS.contains(&matcher.label.as_str()))
        };
        let strange = |matcher: &&Matcher| {
            !self
                .of(emitted)
                .any(|series| series.labels.contains_key(&matcher.label))
        };
        if let Some(matcher) = matchers().find(strange) {
            return Some(format!("{metric} has no label {}", matcher.label));
        }
        for series in self.of(emitted) {
            let mut all = true;
            for matcher in matchers() {
                match matcher.fits(series) {
                    Ok(fits) => all &= fits,
                    Err(why) => return Some(format!("{metric}: {why}")),
                }
            }
            if all {
                return None;
            }
        }
        Some(format!(
            "no series of {metric} has what it asks for: {:?}",
            self.matchers
        ))
    }
}

impl Matcher {
    fn fits(&self, series: &Series) -> Result<bool, String> {
        let value = series.labels.get(&self.label).map_or("", String::as_str);
        Ok(match self.operator.as_str() {
            "=" => value == self.value,
            "!=" => value != self.value,
            "=~" => fits(&self.value, value)?,
            _ => !fits(&self.value, value)?,
        })
    }
}

/// `label="value"` and its kin, and what comes after it.
fn matcher(text: &str) -> Option<(Matcher, &str)> {
    let label = word(text);
    let rest = text[label.len()..].trim_start();
    let operator = ["=~", "!~", "!=", "="]
        .into_iter()
        .find(|operator| rest.starts_with(operator))?;
    let (value, rest) = rest[operator.len()..]
        .trim_start()
        .strip_prefix('"')?
        .split_once('"')?;
    let matcher = Matcher {
        label: label.to_owned(),
        operator: operator.to_owned(),
        value: value.to_owned(),
    };
    Some((matcher, rest))
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    &text[..end.unwrap_or(text.len())]
}

fn after(text: &str, end: char) -> &str {
    text.split_once(end).map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::super::exposition;
    use super::*;

    const EMITTED: &str = "\
http_requests_total{module=\"asl\",status=\"200\"} 5
http_requests_total{module=\"asl\",status=\"503\"} 1
http_seconds_bucket{module=\"asl\",le=\"1\"} 5
pool_max{pool=\"main\"} 5
";

    fn missing(expr: &str) -> Vec<String> {
        Query::read("it", expr)
            .expect("a query")
            .missing(&exposition::read(EMITTED))
    }

    #[test]
    fn what_is_emitted_is_found() {
        for expr in [
            "sum by (job, module) (rate(http_requests_total{status=~\"5..\"}[5m])) / sum(http_requests_total) > 0.05",
            "histogram_quantile(0.95, sum by (le) (rate(http_seconds_bucket[5m]))) > 3",
            "absent(up{job=\"literature\"} == 1)",
            "max without (instance) (pool_max{pool=\"main\",job=\"x\"}) - time() < 3 * 86400",
            "pool_max offset 5m unless on (module) http_requests_total{status!=\"200\"}",
        ] {
            assert_eq!(missing(expr), Vec::<String>::new(), "{expr}");
        }
    }

    #[test]
    fn what_is_not_emitted_is_named() {
        for (expr, why) in [
            (
                "rate(http_request_total[5m])",
                "it: nothing emits http_request_total",
            ),
            ("pool_max{pol=\"main\"}", "it: pool_max has no label pol"),
            (
                "sum by (route) (pool_max)",
                "it: no metric of it has the label route",
            ),
        ] {
            assert_eq!(missing(expr), [why], "{expr}");
        }
        assert!(missing("pool_max{pool=\"replica\"}")[0].contains("no series of pool_max"));
        assert!(missing("http_requests_total{status=~\"4..\"}")[0].contains("no series"));
        Query::read("it", "1 + 1").expect_err("no metric");
        Query::read("it", "a{b=\"c}").expect_err("it breaks off");
    }
}
