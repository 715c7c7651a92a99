//! What the log and the traces say of a statement: its shape, never its values.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// Characters of a statement that are shown.
const SHOWN: usize = 500;

pub(crate) fn report(sql: &str, took: Duration, rows: Option<u64>, schema: Option<&str>) {
    let shape = shape(sql);
    let digest = Sha256::digest(shape.as_bytes());
    let mut shown: String = shape.chars().take(SHOWN).collect();
    if shown.len() < shape.len() {
        shown.push('…');
    }
    tracing::warn!(
        fingerprint = hex::encode(&digest[..6]),
        statement = shown,
        duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        rows,
        module = schema,
        "slow statement (DB_SLOW_QUERY)"
    );
}

/// The statement without literals and comments, blanks as one, lists of values as one value: the same for all
/// statements that differ in their values only.
pub(crate) fn shape(sql: &str) -> String {
    let mut out = Shape::default();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(length) = comment(rest) {
            out.blank();
            length
        } else if first.is_whitespace() {
            out.blank();
            first.len_utf8()
        } else if let Some(length) = text(rest) {
            out.value();
            length
        } else if first == '"' {
            let length = quoted(rest, 0, '"', false);
            out.token(&rest[..length]);
            length
        } else if first.is_ascii_digit() {
            let is_part = |c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_');
            out.value();
            rest.find(is_part).unwrap_or(rest.len())
        } else if first.is_alphabetic() || first == '_' || first == '$' {
            let is_part = |c: char| !(c.is_alphanumeric() || c == '_' || c == '$');
            let length = rest[1..].find(is_part).map_or(rest.len(), |at| at + 1);
            out.token(&rest[..length]);
            length
        } else {
            out.token(&rest[..first.len_utf8()]);
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    out.text.trim_end().to_owned()
}

#[derive(Default)]
struct Shape {
    text: String,
    blank: bool,
}

impl Shape {
    fn blank(&mut self) {
        self.blank = !self.text.is_empty();
    }

    fn token(&mut self, token: &str) {
        if std::mem::take(&mut self.blank) {
            self.text.push(' ');
        }
        self.text.push_str(token);
    }

    fn value(&mut self) {
        // `?, ?, ?` is `?`.
        let before = self.text.trim_end();
        if let Some(list) = before.strip_suffix(',').map(str::trim_end)
            && list.ends_with('?')
        {
            self.text.truncate(list.len());
            self.blank = false;
            return;
        }
        self.token("?");
    }
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("--") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    // They nest.
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    Some(rest.len())
}

/// The length of the literal that `rest` begins with: `'…'`, `E'…'`, `B'…'`, `X'…'`, `U&'…'`, `$tag$…$tag$`.
fn text(rest: &str) -> Option<usize> {
    for (prefix, escapes) in [
        ("'", false),
        ("E'", true),
        ("e'", true),
        ("B'", false),
        ("b'", false),
    ]
    .into_iter()
    .chain([
        ("X'", false),
        ("x'", false),
        ("N'", false),
        ("n'", false),
        ("U&'", false),
        ("u&'", false),
    ]) {
        if rest.starts_with(prefix) {
            return Some(quoted(rest, prefix.len() - 1, '\'', escapes));
        }
    }
    let tag_end = rest.strip_prefix('$')?.find('$')? + 2;
    let tag = &rest[..tag_end];
    let inside = &tag[1..tag_end - 1];
    let is_tag = inside.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !inside.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| {
        rest[tag_end..]
            .find(tag)
            .map_or(rest.len(), |at| at + 2 * tag_end)
    })
}

/// The length of what begins at `start` with `quote` and ends with the same, doubled ones inside.
fn quoted(rest: &str, start: usize, quote: char, escapes: bool) -> usize {
    let mut characters = rest[start + 1..].char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if escapes && c == '\\' {
            characters.next();
        } else if c == quote {
            if characters.peek().is_some_and(|(_, next)| *next == quote) {
                characters.next();
            } else {
                return start + 1 + at + 1;
            }
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::shape;

    #[test]
    fn no_value_is_left() {
        for (sql, expected) in [
            (
                "SELECT  *\nFROM t WHERE a = 'hunter2'",
                "SELECT * FROM t WHERE a = ?",
            ),
            ("SELECT 'it''s', E'\\'x', $$hunter2$$, $q$ $$ $q$", "SELECT ?"),
            ("SELECT $1, $2 -- hunter2", "SELECT $1, $2"),
            ("/* a /* b */ hunter2 */ SELECT 1.5e10, -7", "SELECT ?, -?"),
            (
                "INSERT INTO \"t 1\" VALUES (1, 2 ,'x'), (3,4,5)",
                "INSERT INTO \"t 1\" VALUES (?), (?)",
            ),
            (
                "SELECT a1, t2.b_3 FROM t2 LIMIT 10",
                "SELECT a1, t2.b_3 FROM t2 LIMIT ?",
            ),
            ("SELECT '文献' AS \"题目\"", "SELECT ? AS \"题目\""),
            ("SELECT 'open", "SELECT ?"),
            ("SELECT $body$open", "SELECT ?"),
            ("SELECT x'ff', B'01', U&'\\0041'", "SELECT ?"),
            ("", ""),
        ] {
            assert_eq!(shape(sql), expected, "{sql}");
        }
    }

    #[test]
    fn the_same_shape_whatever_the_values() {
        assert_eq!(
            shape("SELECT * FROM t WHERE id IN (1,2,3)"),
            shape("SELECT * FROM t WHERE id IN (7)")
        );
    }
}
