use std::collections::BTreeSet;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    Problem, ProblemKind,
    layer::{Layer, Raw},
};

/// Reads a TOML file into a layer.
///
/// A key names its variable: `STORAGE_TYPE = "oss"`, or `type = "oss"` beneath `[storage]`; tables and key are joined with
/// `_`, in capitals, and `-` is `_`. Numbers, booleans and dates are taken as they are written, so that `1.10` stays
/// `1.10`. Problems name the line and never its text, because that text may be a secret.
pub(crate) fn parse(text: &str, layer: &mut Layer, problems: &mut Vec<Problem>) {
    let line_starts: Vec<usize> = std::iter::once(0)
        .chain(text.match_indices('\n').map(|(offset, _)| offset + 1))
        .collect();
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk {
        text,
        line_starts,
        broken: BTreeSet::new(),
        layer,
        problems,
    };
    for error in errors {
        let line = walk.line(error.span().map_or(0, |span| span.start));
        // One mistake may be several errors to the parser.
        if walk.broken.insert(line) {
            // The parser's messages are made of its own words; what it found is not among them.
            walk.refuse(line, error.message(), Some("Put texts in quotes: NAME = \"007\""));
        }
    }
    walk.table(table.get_ref(), "");
}

/// Writes a value as a TOML string.
pub(crate) fn quote(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

struct Walk<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
    broken: BTreeSet<usize>,
    layer: &'a mut Layer,
    problems: &'a mut Vec<Problem>,
}

impl Walk<'_> {
    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn refuse(&mut self, line: usize, reason: &str, hint: Option<&str>) {
        let place = format!("{}:{line}", self.layer.path.display());
        let mut problem = Problem::new(place, ProblemKind::Malformed).with_detail(reason);
        problem.hint = hint.map(str::to_owned);
        self.problems.push(problem);
    }

    fn table(&mut self, table: &DeTable<'_>, prefix: &str) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref().to_uppercase().replace('-', "_"));
            match value.get_ref() {
                DeValue::Table(table) => self.table(table, &format!("{name}_")),
                _ => self.value(name, value, self.line(key.span().start)),
            }
        }
    }

    fn value(&mut self, name: String, value: &Spanned<DeValue<'_>>, line: usize) {
        if let Some(first) = self.layer.entries.get(&name) {
            let reason = format!("it means the same variable as line {}", first.line);
            self.refuse(line, &reason, Some("Remove one of them"));
            return;
        }
        let raw = match value.get_ref() {
            _ if self.broken.contains(&line) => Raw::Malformed,
            DeValue::Array(items) => {
                let texts: Option<Vec<String>> = items.iter().map(|item| self.scalar(item)).collect();
                match texts {
                    Some(texts) => Raw::List(texts),
                    None => {
                        self.refuse(line, "an array holds only texts, numbers and booleans", None);
                        Raw::Malformed
                    }
                }
            }
            _ => self.scalar(value).map_or(Raw::Malformed, Raw::Text),
        };
        self.layer.insert(name, raw, line);
    }

    /// The text of a string, or the source text of anything else that is one value.
    fn scalar(&self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Array(_) | DeValue::Table(_) => None,
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                self.text.get(value.span()).map(|source| source.trim().to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Rank;

    fn read(text: &str) -> (Vec<(String, Raw, usize)>, Vec<String>) {
        let mut layer = Layer::new(Rank::File);
        layer.path = "zhuji.toml".into();
        let mut problems = Vec::new();
        parse(text, &mut layer, &mut problems);
        let entries = layer
            .entries
            .into_iter()
            .map(|(name, entry)| (name, entry.raw, entry.line))
            .collect();
        (entries, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_name_variables() {
        let (entries, problems) = read(
            "STORAGE_TYPE = 'oss'\nport = 1\n[storage]\nlocal-dir = 'x'\n[storage.oss]\nbucket = 'b'\n[a]\nb.c = 'd'\ne = { f = 'g' }\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        let names: Vec<_> = entries
            .iter()
            .map(|(name, _, line)| (name.as_str(), *line))
            .collect();
        assert_eq!(
            names,
            [
                ("A_B_C", 8),
                ("A_E_F", 9),
                ("PORT", 2),
                ("STORAGE_LOCAL_DIR", 4),
                ("STORAGE_OSS_BUCKET", 6),
                ("STORAGE_TYPE", 1)
            ]
        );
    }

    #[test]
    fn values_keep_their_text() {
        for (source, text) in [
            ("'007'", "007"),
            ("\"a\\tb\"", "a\tb"),
            ("1_000", "1_000"),
            ("1.10", "1.10"),
            ("+5", "+5"),
            ("0xFF", "0xFF"),
            ("true # yes", "true"),
            ("1979-05-27", "1979-05-27"),
            ("1e6", "1e6"),
        ] {
            let (entries, problems) = read(&format!("A = {source}"));
            assert!(problems.is_empty(), "{source}: {problems:?}");
            assert!(
                entries[0].1 == Raw::Text(text.to_owned()),
                "{source}: {:?}",
                entries[0].1.to_text()
            );
        }
        assert!(read("A = ['x', 1, true]").0[0].1 == Raw::List(vec!["x".into(), "1".into(), "true".into()]));
    }

    #[test]
    fn leading_zeros_are_refused_with_a_hint() {
        let (entries, problems) = read("A = 1\nB = 007\nC = 'ok'\n");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("zhuji.toml:2: "), "{problems:?}");
        assert!(problems[0].contains("quotes: NAME = \"007\""), "{problems:?}");
        assert_eq!(entries.len(), 3);
        assert!(entries[1].1 == Raw::Malformed && entries[2].1 == Raw::Text("ok".into()));
    }

    #[test]
    fn problems_do_not_repeat_the_text() {
        let text = "A = hunter2\nB = 'hunter2\nC = \"\\hunter2\"\nD = hunter2=hunter2\n[hunter2\nE = [[1]]\n[[f]]\nx = 1\n";
        let (_, problems) = read(text);
        assert!(problems.len() >= 5, "{problems:?}");
        for problem in problems {
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn one_variable_has_one_value() {
        let (_, problems) = read("STORAGE_TYPE = 'a'\n[storage]\ntype = 'b'\n");
        assert!(problems[0].starts_with("zhuji.toml:"), "{problems:?}");
        assert!(problems[0].contains("the same variable as line"), "{problems:?}");
    }

    #[test]
    fn depth_is_limited() {
        let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(!read(&deep).1.is_empty());
        let dotted = format!("{}a = 1", "a.".repeat(100_000));
        assert!(!read(&dotted).1.is_empty());
    }
}
