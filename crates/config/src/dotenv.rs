use std::{iter::Peekable, str::Chars};

use crate::{
    Problem, ProblemKind,
    layer::{Layer, Raw},
};

/// Reads a `.env` file into a layer. What it can't read becomes a problem with the line's number and never its text,
/// because that text may be a secret.
///
/// A line is `NAME=value`, optionally after `export`. A value is bare (up to a `#` after a blank), in single quotes
/// (kept exactly) or in double quotes (with `\n`, `\r`, `\t`, `\"`, `\\`, `\$`); quoted values may span lines. Nothing is
/// expanded: a `$` is a `$`.
pub(crate) fn parse(text: &str, layer: &mut Layer, problems: &mut Vec<Problem>) {
    let mut lines = Lines {
        rest: text.chars().peekable(),
        number: 1,
    };
    while lines.rest.peek().is_some() {
        let number = lines.number;
        let mut name = None;
        match assignment(&mut lines, &mut name) {
            Ok(Some(value)) => {
                let name = name.unwrap_or_default();
                match layer.entries.get(&name) {
                    Some(first) => problems.push(malformed(
                        layer,
                        number,
                        &format!("the variable is already set on line {}", first.line),
                    )),
                    None => layer.insert(name, Raw::Text(value), number),
                }
            }
            Ok(None) => {}
            Err(reason) => {
                problems.push(malformed(layer, number, reason));
                // The variable is set, to something nobody can read: it must not be reported as missing too.
                if let Some(name) = name {
                    layer.insert(name, Raw::Malformed, number);
                }
            }
        }
        lines.finish_line();
    }
}

/// Writes a value so that [`parse`] reads it back.
pub(crate) fn quote(value: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_./:@%+,=~*&?<>!-".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut quoted = String::from("\"");
    for character in value.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '"' | '\\' => quoted.extend(['\\', character]),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn malformed(layer: &Layer, line: usize, reason: &str) -> Problem {
    Problem::new(format!("{}:{line}", layer.path.display()), ProblemKind::Malformed)
        .with_detail(reason)
        .with_hint("Write NAME=value, and quote a value that holds blanks, quotes or `#`")
}

/// The characters of the file, counting lines.
struct Lines<'a> {
    rest: Peekable<Chars<'a>>,
    number: usize,
}

impl Lines<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        if next == Some('\n') {
            self.number += 1;
        }
        next
    }

    /// The next character of this line; `None` at its end.
    fn next_in_line(&mut self) -> Option<char> {
        self.rest.next_if(|c| *c != '\n')
    }

    fn skip_blanks(&mut self) -> bool {
        let mut skipped = false;
        while self.rest.next_if(|c| matches!(c, ' ' | '\t' | '\r')).is_some() {
            skipped = true;
        }
        skipped
    }

    fn at_end_of_line(&mut self) -> bool {
        matches!(self.rest.peek(), None | Some('\n'))
    }

    fn finish_line(&mut self) {
        while self.next_in_line().is_some() {}
        self.next();
    }
}

/// One line, or more where a quoted value spans them. `Ok(None)` is a blank line or a comment. The name is handed out
/// as soon as it is known, since a value may still be refused.
fn assignment(
    lines: &mut Lines<'_>,
    name_found: &mut Option<String>,
) -> Result<Option<String>, &'static str> {
    lines.skip_blanks();
    if lines.at_end_of_line() || lines.rest.peek() == Some(&'#') {
        return Ok(None);
    }
    let mut head = String::new();
    loop {
        match lines.next_in_line() {
            Some('=') => break,
            Some(character) => head.push(character),
            None => return Err("the line has no `=`"),
        }
    }
    let name = match head.trim().split_once([' ', '\t']) {
        Some(("export", name)) => name.trim_start(),
        _ => head.trim(),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    {
        return Err("what stands before `=` is not a variable's name");
    }
    *name_found = Some(name.to_owned());
    let blank = lines.skip_blanks();
    let value = match lines.rest.peek() {
        Some('\'' | '"') => quoted(lines)?,
        Some('#') if blank => String::new(),
        _ => bare(lines),
    };
    if value.contains('\0') {
        Err("the value holds a NUL character")
    } else {
        Ok(Some(value))
    }
}

fn bare(lines: &mut Lines<'_>) -> String {
    let mut value = String::new();
    while let Some(character) = lines.next_in_line() {
        if character == '#' && value.ends_with([' ', '\t']) {
            break;
        }
        value.push(character);
    }
    value.truncate(value.trim_end_matches([' ', '\t', '\r']).len());
    value
}

fn quoted(lines: &mut Lines<'_>) -> Result<String, &'static str> {
    let quote = lines.next();
    let mut value = String::new();
    loop {
        match lines.next() {
            None => return Err("the quote that opens here is never closed"),
            character if character == quote => break,
            // A line break inside quotes is one line feed, whatever the editor wrote.
            Some('\r') if lines.rest.peek() == Some(&'\n') => {}
            Some('\\') if quote == Some('"') => value.push(match lines.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(character @ ('"' | '\\' | '$' | '\'')) => character,
                _ => {
                    return Err(
                        "an unknown escape follows a `\\` in double quotes; single quotes keep it as it is",
                    );
                }
            }),
            Some(character) => value.push(character),
        }
    }
    let blank = lines.skip_blanks();
    match lines.rest.peek() {
        None | Some('\n') => Ok(value),
        Some('#') if blank => Ok(value),
        Some(_) => Err("text follows the closing quote of the value that starts here"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::Rank;

    fn read(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let mut layer = Layer::new(Rank::Dotenv);
        layer.path = ".env".into();
        let mut problems = Vec::new();
        parse(text, &mut layer, &mut problems);
        let entries = layer
            .entries
            .into_iter()
            .filter(|(_, entry)| entry.raw != Raw::Malformed);
        (
            entries.map(|(name, entry)| (name, entry.raw.to_text())).collect(),
            problems.iter().map(ToString::to_string).collect(),
        )
    }

    fn value(text: &str) -> String {
        let (entries, problems) = read(&format!("A={text}"));
        assert_eq!(problems, [""; 0], "{text}");
        entries[0].1.clone()
    }

    #[test]
    fn values() {
        for (text, expected) in [
            ("b", "b"),
            ("  b  ", "b"),
            ("b # comment", "b"),
            ("b#c", "b#c"),
            ("#c", "#c"),
            (" # comment", ""),
            ("", ""),
            ("a=b", "a=b"),
            ("$HOME ${X}", "$HOME ${X}"),
            ("it's", "it's"),
            (r"C:\new", r"C:\new"),
            ("'a # b' # c", "a # b"),
            (r"'\n'", r"\n"),
            (r#""a\n\"b\" \$x \\""#, "a\n\"b\" $x \\"),
            ("'two\r\nlines'", "two\nlines"),
            ("007", "007"),
            ("密码 ☃", "密码 ☃"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn lines() {
        let (entries, problems) =
            read("\n# comment\r\nexport A=1\r\n  B = 2 \r\n\texport\tC=3\nD='4\n5'\nE=6");
        assert!(problems.is_empty(), "{problems:?}");
        let pairs: Vec<_> = entries
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("A", "1"), ("B", "2"), ("C", "3"), ("D", "4\n5"), ("E", "6")]
        );
    }

    #[test]
    fn problems_have_the_line_and_not_the_text() {
        let text = "A=1\nhunter2\nB=2\n9X=hunter2\nC='hunter2' x\nD=\"\\hunter2\"\nA=hunter2\nE=hun\0ter2\nF=3\nG='hunter2\n";
        let (entries, problems) = read(text);
        assert_eq!(problems.len(), 7, "{problems:#?}");
        for (problem, line) in problems.iter().zip([2, 4, 5, 6, 7, 8, 10]) {
            assert!(problem.starts_with(&format!(".env:{line}: ")), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        let pairs: Vec<_> = entries
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(pairs, [("A", "1"), ("B", "2"), ("F", "3")]);
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(value in "[^\0]*") {
            let (entries, problems) = read(&format!("A={}\nB=end", quote(&value)));
            prop_assert_eq!(problems, Vec::<String>::new());
            prop_assert_eq!(&entries[0].1, &value);
            prop_assert_eq!(&entries[1].1, "end");
        }

        #[test]
        fn anything_ends_without_a_panic(text in "(?s)([A-C]?=?['\"\\\\#\n\r \0x]*)*") {
            let (_, problems) = read(&text);
            prop_assert!(problems.len() <= text.lines().count());
        }
    }
}
