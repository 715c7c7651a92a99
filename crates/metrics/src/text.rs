//! What the exporter leaves to be done on the text.

use std::fmt::Write as _;

/// Appends single metrics in the exposition format.
pub(crate) struct Exposition<'a>(pub(crate) &'a mut String);

impl Exposition<'_> {
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.metric(name, "gauge", help, "", value);
    }

    pub(crate) fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.metric(name, "counter", help, "", value);
    }

    pub(crate) fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", escape(value)))
            .collect();
        self.metric(name, "gauge", help, &format!("{{{}}}", labels.join(",")), 1.0);
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str, labels: &str, value: f64) {
        // Writing into a String cannot fail.
        let _ = write!(
            self.0,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{labels} {value}\n\n"
        );
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Gives a `HELP` line to every metric that nobody has described, because `promtool check metrics` refuses one
/// without, and says how many series there are.
pub(crate) fn complete(text: &str) -> (String, usize) {
    let mut out = String::with_capacity(text.len() + text.len() / 8 + 4096);
    let mut described = "";
    let mut series = 0;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            described = rest.split(' ').next().unwrap_or_default();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap_or_default();
            if name != described {
                let _ = writeln!(out, "# HELP {name} {}.", name.replace('_', " "));
            }
        } else if !line.is_empty() {
            series += 1;
        }
        out.push_str(line);
        out.push('\n');
    }
    (out, series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_described_gets_a_help_line() {
        let text = "# HELP a A.\n# TYPE a gauge\na 1\n\n# TYPE b_total counter\nb_total{x=\"#\"} 2\n\n";
        let (out, series) = complete(text);
        assert_eq!(
            out,
            "# HELP a A.\n# TYPE a gauge\na 1\n\n# HELP b_total b total.\n# TYPE b_total counter\nb_total{x=\"#\"} 2\n\n"
        );
        assert_eq!(series, 2);
    }

    #[test]
    fn label_values_are_escaped() {
        let mut out = String::new();
        Exposition(&mut out).info("i", "I.", &[("v", "a\"b\\c\nd")]);
        assert!(out.ends_with("i{v=\"a\\\"b\\\\c\\nd\"} 1\n\n"), "{out}");
    }
}
