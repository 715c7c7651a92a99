//! The process's own metrics, read as a scraper reads them: the page shows what the alerts see.

/// All series of one moment.
pub(super) struct Exposition<'a>(Vec<Series<'a>>);

pub(super) struct Series<'a> {
    name: &'a str,
    labels: &'a str,
    pub(super) value: f64,
}

impl<'a> Exposition<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(series).collect())
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &Series<'a>> {
        self.0.iter().filter(move |series| series.name == name)
    }

    /// Of metrics whose name begins so, with the rest of the name.
    pub(super) fn beginning(&self, prefix: &str) -> impl Iterator<Item = (&'a str, &Series<'a>)> {
        self.0
            .iter()
            .filter_map(move |series| Some((series.name.strip_prefix(prefix)?, series)))
    }

    /// `None` if there is no such metric.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.all(name)
            .map(|series| series.value)
            .reduce(|sum, value| sum + value)
    }
}

impl<'a> Series<'a> {
    /// As it is written, which for our own labels is as it is.
    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.labels;
        loop {
            let (label, tail) = rest.split_once("=\"")?;
            let end = end_of_text(tail)?;
            if label == name {
                return Some(&tail[..end]);
            }
            rest = tail[end + 1..].trim_start_matches(',');
        }
    }
}

/// Where the quotation mark is that ends a label's value.
fn end_of_text(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn series(line: &str) -> Option<Series<'_>> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    Some(Series {
        name,
        labels: labels.strip_suffix('}').unwrap_or(labels),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_nothing_else() {
        let text = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\",route=\"/a b\\\"},{c}\"} 2\na_total{x=\"2\"} 3\n\
                    \nb 1.5\nc_bucket{le=\"+Inf\"} 7\nrubbish\n";
        let read = Exposition::read(text);
        assert_eq!(read.sum("a_total"), Some(5.0));
        assert_eq!((read.sum("b"), read.sum("none")), (Some(1.5), None));
        let first = read.all("a_total").next().unwrap();
        assert_eq!(
            (first.label("x"), first.label("route"), first.label("y")),
            (Some("1"), Some("/a b\\\"},{c}"), None)
        );
        assert_eq!(read.all("c_bucket").next().unwrap().label("le"), Some("+Inf"));
        let rest: Vec<_> = read
            .beginning("a_")
            .map(|(rest, series)| (rest, series.value))
            .collect();
        assert_eq!(rest, [("total", 2.0), ("total", 3.0)]);
    }
}
