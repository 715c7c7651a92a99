//! What of a value may be shown to a person.

/// Shows a value that is not declared secret: secrets inside it are replaced, control characters are escaped, and
/// it is cut at `limit` characters.
pub(crate) fn display(value: &str, limit: usize) -> String {
    let value = url_parts(value);
    if names_a_secret(&value) {
        return "*** (not shown: it seems to hold a secret)".to_owned();
    }
    let mut shown = String::new();
    for (position, character) in value.chars().enumerate() {
        if position == limit {
            shown.push('…');
            break;
        }
        match character {
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}' => {
                shown.extend(character.escape_unicode());
            }
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// The name of a variable as it may be printed: names come from outside too.
pub(crate) fn name(name: &str) -> String {
    display(name, 80)
}

/// Takes user information and query out of anything that looks like a URL, whether or not it is a valid one: a
/// password with a `/` or a second `@` in it makes a URL invalid, and must still not be printed.
pub(crate) fn url_parts(value: &str) -> String {
    let Some(scheme) = value.find("://") else {
        return value.to_owned();
    };
    let (head, tail) = value.split_at(scheme + 3);
    let tail = match tail.rfind('@') {
        Some(at) => format!("***{}", &tail[at..]),
        None => tail.to_owned(),
    };
    let tail = match tail.find(['?', '#']) {
        Some(mark) if tail.len() > mark + 1 => format!("{}***", &tail[..=mark]),
        _ => tail,
    };
    format!("{head}{tail}")
}

/// `password=…`, `secret: …` and their kin, as in a libpq connection string that ended up in the wrong variable.
fn names_a_secret(value: &str) -> bool {
    const WORDS: [&str; 6] = ["password", "passwd", "pwd", "secret", "token", "key"];
    let lower = value.to_ascii_lowercase();
    WORDS.iter().any(|word| {
        lower.match_indices(word).any(|(start, _)| {
            let after = lower[start + word.len()..].trim_start();
            after.starts_with(['=', ':']) || after.starts_with("\":")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::display;

    #[test]
    fn urls_lose_their_secrets() {
        for (value, shown) in [
            ("postgres://u:pw@h/db", "postgres://***@h/db"),
            ("postgres://u:p@w/x@h/db", "postgres://***@h/db"),
            ("https://h/p?signature=abc", "https://h/p?***"),
            ("https://h/p#token", "https://h/p#***"),
            ("redis://:pw@h:6379", "redis://***@h:6379"),
            ("https://api.example.com/v1", "https://api.example.com/v1"),
        ] {
            assert_eq!(display(value, 60), shown);
        }
    }

    #[test]
    fn connection_strings_are_not_shown() {
        for value in [
            "host=h password=hunter2",
            "Password = hunter2",
            r#"{"token":"hunter2"}"#,
            "pwd:hunter2",
        ] {
            assert!(!display(value, 60).contains("hunter2"), "{value}");
        }
        assert_eq!(display("/run/secrets/key", 60), "/run/secrets/key");
    }

    #[test]
    fn control_characters_and_length() {
        assert_eq!(display("a\u{1b}[31m\nb", 60), "a\\u{1b}[31m\\nb");
        assert_eq!(display("a\u{202e}b", 60), "a\\u{202e}b");
        assert_eq!(display(&"x".repeat(1_000_000), 5), "xxxxx…");
    }
}
