//! Prometheus' text format, as far as names and labels go.

use std::collections::BTreeMap;

/// One line of figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    pub(super) metric: String,
    pub(super) labels: BTreeMap<String, String>,
}

pub(super) fn read(text: &str) -> Vec<Series> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(one)
        .collect()
}

fn one(line: &str) -> Option<Series> {
    let end = line.find(['{', ' '])?;
    let (metric, rest) = line.split_at(end);
    let labels = match rest.strip_prefix('{') {
        Some(rest) => labels(rest),
        None => BTreeMap::new(),
    };
    Some(Series {
        metric: metric.to_owned(),
        labels,
    })
}

/// `name="value",name="value"}`; a value may hold escaped quotes.
fn labels(mut rest: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let mut end = after.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                '"' => {
                    end = at + 1;
                    break;
                }
                other => value.push(other),
            }
        }
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        rest = &after[end..];
        if rest.starts_with('}') {
            break;
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_read_whatever_the_values_hold() {
        let text =
            "# HELP a b\na 1\nb_total{x=\"1\",route=\"/a/{id}\"} 2\nc{q=\"say \\\"hi\\\", all\",z=\"\"} 3\n";
        let read = read(text);
        assert_eq!(read.len(), 3);
        assert!(read[0].labels.is_empty());
        assert_eq!(read[1].metric, "b_total");
        assert_eq!(read[1].labels["route"], "/a/{id}");
        assert_eq!(
            (read[2].labels["q"].as_str(), read[2].labels["z"].as_str()),
            ("say \"hi\", all", "")
        );
    }
}
