//! The regular expressions that label matchers are written in: the few forms that our rules use.

/// Whether the whole of `text` fits: alternatives (`a|b`), `.`, `.*` and `.+`.
///
/// # Errors
/// The pattern uses another form, which this can't judge.
pub(super) fn fits(pattern: &str, text: &str) -> Result<bool, String> {
    if let Some(other) = pattern.chars().find(|c| "()[]{}^$?\\".contains(*c)) {
        return Err(format!(
            "`{pattern}`: `{other}` is more than this check understands"
        ));
    }
    Ok(pattern
        .split('|')
        .any(|one| one_fits(one.as_bytes(), text.as_bytes())))
}

fn one_fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], text) => text.is_empty(),
        ([b'.', b'*', rest @ ..], text) => (0..=text.len()).any(|skipped| one_fits(rest, &text[skipped..])),
        ([b'.', b'+', rest @ ..], text) => (1..=text.len()).any(|skipped| one_fits(rest, &text[skipped..])),
        ([wanted, rest @ ..], [first, more @ ..]) => {
            (*wanted == b'.' || wanted == first) && one_fits(rest, more)
        }
        (_, []) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn the_forms_of_our_rules_are_understood_and_no_others() {
        for (pattern, text, expected) in [
            ("5..", "503", true),
            ("5..", "404", false),
            ("5..", "5033", false),
            ("denied|credential", "credential", true),
            ("denied|credential", "denied_", false),
            ("not_found|invalid_.*", "invalid_key", true),
            (".*", "", true),
            (".+", "", false),
            ("a.+c", "abc", true),
        ] {
            assert_eq!(fits(pattern, text), Ok(expected), "{pattern} {text}");
        }
        fits("a(b)", "ab").expect_err("groups");
    }
}
