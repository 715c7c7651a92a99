//! The last line of defence. The first is a type: a secret that is a `Secret` never gets here.

use std::borrow::Cow;

pub(crate) const MASK: &str = "***";

/// Words that make a name sensitive, wherever they stand in it.
const WORDS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "secrets",
    "token",
    "tokens",
    "authorization",
    "cookie",
    "cookies",
    "signature",
    "sig",
    "credential",
    "credentials",
    "apikey",
];

/// Compounds, looked for with the separators taken out: `access_key_id`, `OSSAccessKeyId`, `x-api-key`.
const COMPOUNDS: &[&str] = &[
    "accesskey",
    "apikey",
    "privatekey",
    "signingkey",
    "securitytoken",
    "sessiontoken",
    "encryptionkey",
];

/// Whether a field, header or query parameter of this name holds something nobody should read.
///
/// ```
/// # use zhuji_logging::is_sensitive_name;
/// assert!(is_sensitive_name("db_password") && is_sensitive_name("OSSAccessKeyId") && is_sensitive_name("Set-Cookie"));
/// assert!(!is_sensitive_name("tokenizer") && !is_sensitive_name("key") && !is_sensitive_name("author"));
/// ```
pub fn is_sensitive_name(name: &str) -> bool {
    // A longer name is no name, and a name is short enough for the stack.
    let mut squeezed = [0_u8; 64];
    let (mut length, mut start, mut previous_lower) = (0, 0, false);
    for byte in name.bytes().take(squeezed.len()) {
        let boundary = !byte.is_ascii_alphanumeric();
        if boundary || (byte.is_ascii_uppercase() && previous_lower) {
            if is_word(&squeezed[start..length]) {
                return true;
            }
            start = length;
        }
        if !boundary {
            squeezed[length] = byte.to_ascii_lowercase();
            length += 1;
        }
        previous_lower = byte.is_ascii_lowercase();
    }
    is_word(&squeezed[start..length])
        || COMPOUNDS
            .iter()
            .any(|compound| contains(&squeezed[..length], compound.as_bytes()))
}

fn is_word(word: &[u8]) -> bool {
    WORDS.iter().any(|sensitive| sensitive.as_bytes() == word)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Takes out of a text what opens a door: passwords in connection URLs, the query of a signed URL, the values of
/// `password=…`, `password:…`, `password: "…"` and `"password":"…"`, and what follows `Bearer` or `Basic`.
///
/// ```
/// # use zhuji_logging::redact;
/// assert_eq!(redact("dialling postgres://app:s3cret@db:5432/asl"), "dialling postgres://app:***@db:5432/asl");
/// assert_eq!(redact("GET /uploads/a.pdf?expires=9&signature=ab"), "GET /uploads/a.pdf?***");
/// assert_eq!(redact("GET /list?page=2&per_page=20"), "GET /list?page=2&per_page=20");
/// assert_eq!(redact(r#"{"user":"app","password":"s3cret"}"#), r#"{"user":"app","password":"***"}"#);
/// ```
pub fn redact(text: &str) -> Cow<'_, str> {
    let suspicious = text.bytes().any(|b| matches!(b, b'=' | b'@'))
        || has_telling_colon(text)
        || contains_ignore_case(text, b"bearer ")
        || contains_ignore_case(text, b"basic ");
    if !suspicious {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    let mut hide_next = false;
    let mut previous = "";
    while !rest.is_empty() {
        let gap = rest.len() - rest.trim_start_matches(is_delimiter).len();
        let (delimiters, tail) = rest.split_at(gap);
        out.push_str(delimiters);
        let end = tail.find(is_delimiter).unwrap_or(tail.len());
        let (word, tail) = tail.split_at(end);
        rest = tail;
        if word.is_empty() {
            break;
        }
        if std::mem::take(&mut hide_next) && is_credential(word) {
            out.push_str(MASK);
            changed = true;
            continue;
        }
        hide_next = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        match redact_word(word) {
            Some(clean) => {
                out.push_str(&clean);
                changed = true;
            }
            None => out.push_str(word),
        }
        // `password: "two words"` and `"password": "two words"`: the value between the quotes loses its text only.
        let bare = word.trim_matches('\\');
        let name = if bare == ":" {
            Some(previous)
        } else {
            bare.strip_suffix(':')
        };
        previous = word;
        if name.is_some_and(|name| is_sensitive_name(last_name(name))) {
            let value = rest.trim_start_matches([' ', '\t']);
            let value = value.strip_prefix("Some(").unwrap_or(value);
            if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '`')) {
                let nested = word.ends_with('\\');
                let gap = rest.len() - value.len() + 1;
                let (before, value) = rest.split_at(gap);
                let end = closing_quote(value, quote, nested);
                out.push_str(before);
                out.push_str(MASK);
                rest = &value[end..];
                // The closing quote must not be taken for an opening one.
                if let Some(after) = rest.strip_prefix(quote) {
                    out.push(quote);
                    rest = after;
                }
                changed = true;
                continue;
            }
        }
        // `password="two words"`: the value is what stands between the quotes.
        if let Some(name) = word.strip_suffix('=')
            && let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '`'))
            && is_sensitive_name(last_name(name))
        {
            let value = rest[1..].find(quote).map_or(rest.len(), |at| at + 2);
            out.push_str(MASK);
            rest = &rest[value..];
            changed = true;
        }
    }
    if changed {
        Cow::Owned(out)
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a colon may stand between a name and its value: in prose, times and URLs it does not.
fn has_telling_colon(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().any(|(at, byte)| {
        *byte == b':'
            && match bytes.get(at + 1) {
                Some(b' ' | b'\t') => matches!(bytes.get(at + 2), Some(b'"' | b'`' | b' ' | b'\t' | b'S')),
                Some(b'/' | b':') | None => false,
                Some(_) => true,
            }
    })
}

/// Where the text after an opening quote ends. In text that was quoted once more every quote is escaped.
fn closing_quote(value: &str, quote: char, nested: bool) -> usize {
    let mut escaped = false;
    for (at, c) in value.char_indices() {
        if c == quote && (nested || !escaped) {
            // The backslash before it belongs to the quote.
            return if nested {
                value[..at].trim_end_matches('\\').len()
            } else {
                at
            };
        }
        escaped = c == '\\' && !escaped;
    }
    value.len()
}

/// What follows `Bearer`, and not what follows "the bearer" or "basic" in prose.
fn is_credential(word: &str) -> bool {
    word.len() >= 20
        || !word
            .trim_end_matches(['.', ',', ':'])
            .bytes()
            .all(|b| b.is_ascii_alphabetic())
}

/// `max_tokens=512` is a setting; a number is a secret only as a password.
fn is_harmless_number(name: &str, value: &str) -> bool {
    let value = value.trim_end_matches(['&', ';', ',']);
    let number = value.len() < 10 && value.bytes().all(|b| b.is_ascii_digit());
    number && !name.contains("pass") && !name.contains("secret")
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '"' | '`' | '<' | '>')
}

fn contains_ignore_case(text: &str, needle: &[u8]) -> bool {
    text.as_bytes()
        .windows(needle.len())
        .any(|window| window.eq_ignore_ascii_case(needle))
}

/// The name that ends here: `a=1&password` ends with `password`.
fn last_name(text: &str) -> &str {
    text.rsplit(['&', ';', ',', '?', '#', '{', '(', '['])
        .next()
        .unwrap_or(text)
}

fn redact_word(word: &str) -> Option<String> {
    let without_password = redact_userinfo(word);
    let word = without_password.as_deref().unwrap_or(word);
    redact_pairs(word).or(without_password)
}

/// `scheme://user:password@host`, as often as it occurs.
fn redact_userinfo(word: &str) -> Option<String> {
    let mut out = String::new();
    let mut done = 0;
    while let Some(found) = word[done..].find("://") {
        let start = done + found + 3;
        let web = ends_with_ignore_case(&word[..start - 3], "http")
            || ends_with_ignore_case(&word[..start - 3], "https");
        let rest = &word[start..];
        let authority = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
        // A database password often contains an unescaped `/`, `?` or `#`, so look past them for the `@`; on the web
        // an `@` in the path is common, so look only when what should be a port is none.
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        let odd =
            port.is_some_and(|port| !authority.contains('@') && !port.bytes().all(|b| b.is_ascii_digit()));
        let bracketed = authority.starts_with('[');
        let field = if web && (!odd || bracketed) {
            authority
        } else {
            rest
        };
        let Some(at) = field.rfind('@') else {
            out.push_str(&word[done..start]);
            done = start;
            continue;
        };
        out.push_str(&word[done..start]);
        match field[..at].split_once(':') {
            Some((user, _)) => {
                out.push_str(user);
                out.push(':');
                out.push_str(MASK);
            }
            // A lone name is a user for a database, and often a token for a web server.
            None if web => out.push_str(MASK),
            None => out.push_str(&field[..at]),
        }
        done = start + at;
    }
    if done == 0 {
        return None;
    }
    out.push_str(&word[done..]);
    (out != word).then_some(out)
}

fn ends_with_ignore_case(text: &str, end: &str) -> bool {
    text.len() >= end.len() && text.as_bytes()[text.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
}

/// `?a=1&signature=x`: the whole query goes, because what is left of a signed one is of no use and may be enough to
/// guess the rest. Elsewhere `password=x` loses its value only.
fn redact_pairs(word: &str) -> Option<String> {
    if !word.contains('=') {
        return redact_colon(word);
    }
    if let Some(query) = word.find(['?', '#']) {
        let names = word[query + 1..]
            .split(['?', '#', '&', ';'])
            .filter_map(|pair| pair.split_once('='));
        if names.map(|(name, _)| name).any(is_sensitive_name) {
            let before = redact_pairs(&word[..query]).unwrap_or_else(|| word[..query].to_owned());
            return Some(before + &word[query..=query] + MASK);
        }
        return None;
    }
    let mut out = String::new();
    let mut done = 0;
    for pair in word.split_inclusive(['&', ';', ',']) {
        if let Some((name, value)) = pair.split_once('=')
            && is_sensitive_name(last_name(name))
            && !value.is_empty()
            && !is_harmless_number(name, value)
        {
            let end = if value.ends_with(['&', ';', ',']) {
                &value[value.len() - 1..]
            } else {
                ""
            };
            out.push_str(name);
            out.push('=');
            out.push_str(MASK);
            out.push_str(end);
            done += 1;
        } else {
            out.push_str(pair);
        }
    }
    (done > 0).then_some(out)
}

/// `password:x`, and not `token::Parser`, `secret://x` or `12:30`.
fn redact_colon(word: &str) -> Option<String> {
    let (name, value) = word.split_once(':')?;
    let end = value.len() - value.trim_end_matches([',', ';', ')', '}', ']']).len();
    let (bare, end) = value.split_at(value.len() - end);
    let hide = is_sensitive_name(last_name(name))
        && !bare.is_empty()
        && !bare.starts_with([':', '/', '\\'])
        && !is_harmless_number(name, bare);
    hide.then(|| format!("{name}:{MASK}{end}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for name in [
            "password",
            "DB_PASSWORD",
            "userPassword",
            "client-secret",
            "access_token",
            "accessToken",
            "Authorization",
            "cookie",
            "set-cookie",
            "x-oss-signature",
            "x-oss-security-token",
            "OSSAccessKeyId",
            "access_key_id",
            "oss.access_key_secret",
            "x-oss-credential",
            "apiKey",
            "api_key",
            "private-key",
            "sig",
            "Signature",
        ] {
            assert!(is_sensitive_name(name), "{name}");
        }
        for name in [
            "",
            "key",
            "author",
            "tokenizer",
            "design",
            "signal",
            "page",
            "keyboard",
            "max_connections",
        ] {
            assert!(!is_sensitive_name(name), "{name}");
        }
    }

    #[test]
    fn texts_lose_their_secrets_and_nothing_else() {
        for (text, clean) in [
            ("nothing to see", "nothing to see"),
            ("a@b.example wrote", "a@b.example wrote"),
            ("https://host/users/a@b.example", "https://host/users/a@b.example"),
            (
                "https://host:8080/users/a@b.example",
                "https://host:8080/users/a@b.example",
            ),
            ("https://[::1]:80/x@y", "https://[::1]:80/x@y"),
            ("x=1 y=2", "x=1 y=2"),
            (
                "/search?query=blood lead&page=2",
                "/search?query=blood lead&page=2",
            ),
            ("postgres://app:hunter2@db/asl", "postgres://app:***@db/asl"),
            ("postgres://app:hun/ter?2#@db/asl", "postgres://app:***@db/asl"),
            ("postgres://app:hun@ter2@db/asl", "postgres://app:***@db/asl"),
            ("postgres://app@db/asl", "postgres://app@db/asl"),
            ("redis://:hunter2@cache:6379", "redis://:***@cache:6379"),
            ("https://hunter2@git.example/x", "https://***@git.example/x"),
            ("https://u:hun/ter2@git.example/x", "https://u:***@git.example/x"),
            (
                "(\"postgres://u:hunter2@a/b\", \"redis://u:hunter2@c\")",
                "(\"postgres://u:***@a/b\", \"redis://u:***@c\")",
            ),
            (
                "https://b.oss/k?Expires=1&OSSAccessKeyId=hunter2&Signature=hunter2",
                "https://b.oss/k?***",
            ),
            ("https://b.oss/k?x-oss-credential=hunter2", "https://b.oss/k?***"),
            (
                "https://u:hunter2@b.oss/k?Signature=hunter2",
                "https://u:***@b.oss/k?***",
            ),
            ("https://app/#access_token=hunter2&x=1", "https://app/#***"),
            (
                "host=db user=app password=hunter2 dbname=asl",
                "host=db user=app password=*** dbname=asl",
            ),
            ("password=\"hunter2 hunter2\" next", "password=*** next"),
            ("a=1&password=hunter2&b=2", "a=1&password=***&b=2"),
            ("authorization: Bearer hunter2", "authorization: Bearer ***"),
            (
                "basic checks passed, the bearer is known",
                "basic checks passed, the bearer is known",
            ),
            ("max_tokens=512,password=512", "max_tokens=512,password=***"),
            ("Authorization: basic   hunter2==", "Authorization: basic   ***"),
            ("PASSWORD='hunter2'", "PASSWORD=***"),
            (
                r#"{"user":"a","password":"hunter2","n":1}"#,
                r#"{"user":"a","password":"***","n":1}"#,
            ),
            (
                r#"{"password" : "hun\"ter2 hunter2", "token": 5}"#,
                r#"{"password" : "***", "token": 5}"#,
            ),
            (
                r#"body was "{\"password\":\"hunter2\",\"n\":1}""#,
                r#"body was "{\"password\":\"***\",\"n\":1}""#,
            ),
            (
                r#"Config { password: "hunter2", retries: 3 }"#,
                r#"Config { password: "***", retries: 3 }"#,
            ),
            (
                r#"Config { password: Some("hunter2") }"#,
                r#"Config { password: Some("***") }"#,
            ),
            ("(password:hunter2)", "(password:***)"),
            ("x-api-key:hunter2, next", "x-api-key:***, next"),
            ("invalid password: too short", "invalid password: too short"),
            ("syn::token::Paren at 12:30:00", "syn::token::Paren at 12:30:00"),
            (
                r#"{"message": "token: unexpected", "page": "2"}"#,
                r#"{"message": "token: unexpected", "page": "2"}"#,
            ),
        ] {
            assert_eq!(redact(text), clean, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_fine_and_twice_is_once(text in "\\PC{0,80}") {
            let once = redact(&text).into_owned();
            prop_assert_eq!(redact(&once), once.clone());
        }

        #[test]
        fn a_password_never_survives(
            before in "[ a-z]{0,8}", user in "[a-z]{0,5}", password in "[A-Za-z0-9:/?#@!$&=%+,;-]{0,12}", after in "[a-z/]{0,9}",
        ) {
            let text = format!("{before} postgres://{user}:{password}SECRET@db/{after}");
            prop_assert!(!redact(&text).contains("SECRET"), "{}", redact(&text));
        }
    }
}
