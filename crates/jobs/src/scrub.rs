//! Makes a stranger's error text fit to be kept: short, storable, without passwords.

const LIMIT: usize = 2000;
const MASK: &str = "***";
/// Names whose value is masked in `name=value` and `name: value`.
const SECRET_NAMES: [&str; 7] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "signature",
    "accesskeyid",
];

pub(crate) fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LIMIT));
    // PostgreSQL stores no NUL.
    let text = text.replace('\0', "\u{fffd}");
    for word in text.split_inclusive(char::is_whitespace) {
        let word = mask_url(word);
        out.push_str(&mask_value(&word));
        if out.len() > LIMIT * 4 {
            break;
        }
    }
    match out.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &out[..end]),
        None => out,
    }
}

/// `postgres://user:password@host/db?x=y` → `postgres://***@host/db?***`
fn mask_url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{MASK}@{host}"),
        None => authority.to_owned(),
    };
    // A password with an unescaped `/` or `?` would otherwise look like a path.
    let (authority, path) = match path.rsplit_once('@') {
        Some((_, host)) => (format!("{MASK}@{host}"), ""),
        None => (authority, path),
    };
    let path = match path.split_once('?') {
        Some((path, query)) => {
            let tail: String = query.chars().rev().take_while(|c| c.is_whitespace()).collect();
            format!("{path}?{MASK}{tail}")
        }
        None => path.to_owned(),
    };
    format!("{scheme}://{authority}{path}")
}

/// `password=x` → `password=***`, also inside `a=1&token=x`.
fn mask_value(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    for name in SECRET_NAMES {
        if let Some(at) = lower.find(name) {
            let after = at + name.len();
            if let Some(sign) = word[after..].find(['=', ':'])
                && sign <= 2
            {
                let tail: String = word.chars().rev().take_while(|c| c.is_whitespace()).collect();
                return format!("{}{MASK}{tail}", &word[..=after + sign]);
            }
        }
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_queries_do_not_stay() {
        for (text, kept) in [
            (
                "dial postgres://app:hunter2@db:5432/x failed",
                "dial postgres://***@db:5432/x failed",
            ),
            ("redis://:hunter2@h/0", "redis://***@h/0"),
            ("postgres://u:hun/ter2@h/0", "postgres://***@h/0"),
            (
                "GET https://b.oss/k?Signature=hunter2&Expires=1: 403",
                "GET https://b.oss/k?*** 403",
            ),
            ("host=db password=hunter2 user=x", "host=db password=*** user=x"),
            ("PASSWORD='hunter2'", "PASSWORD=***"),
            ("plain text, unicode 血铅", "plain text, unicode 血铅"),
        ] {
            assert_eq!(scrub(text), kept);
        }
    }

    #[test]
    fn long_texts_are_cut_and_nul_is_replaced() {
        let cut = scrub(&"文".repeat(10_000));
        assert_eq!(cut.chars().count(), LIMIT + 1);
        assert_eq!(scrub("a\0b"), "a\u{fffd}b");
        assert!(scrub(&"x y ".repeat(1_000_000)).len() < 4 * LIMIT + 10);
    }
}
