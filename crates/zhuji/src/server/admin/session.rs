//! A browser's session: a cookie that proves that its holder gave the token, for an hour after the last use.
//!
//! Nothing is kept here: the cookie is signed with a key made from the token, so that every instance of a fleet knows
//! it, it outlives a restart, and another token ends all sessions.

use hmac::{Hmac, KeyInit, Mac};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use sha2::Sha256;
use uuid::Uuid;
use zhuji_config::Secret;

/// How long a session lasts after its last renewal.
const SECONDS: i64 = 3600;
const COOKIE_NAME: &str = "zhuji_admin";

pub(super) struct Sessions {
    key: Vec<u8>,
}

/// One session. The name stays when it is renewed, so that a form in another tab stays valid.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Session {
    name: String,
    expires: i64,
}

impl Session {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            name: Uuid::new_v4().simple().to_string(),
            expires: now.as_second() + SECONDS,
        }
    }

    /// The same for another hour. Not with every request: a minute more or less is nothing to a person.
    pub(super) fn renewed(&self, now: Timestamp) -> Option<Self> {
        (self.expires - now.as_second() < SECONDS - 60).then(|| Self {
            name: self.name.clone(),
            expires: now.as_second() + SECONDS,
        })
    }
}

impl Sessions {
    pub(super) fn new(token: &Secret) -> Self {
        Self {
            key: mac(token.expose().as_bytes(), &["session key"])
                .finalize()
                .into_bytes()
                .to_vec(),
        }
    }

    /// The cookie that brings the session back.
    pub(super) fn cookie(&self, session: &Session, https: bool) -> HeaderValue {
        let expires = session.expires.to_string();
        let proof = hex(mac(&self.key, &["session", &session.name, &expires]));
        set(&format!("{expires}.{}.{proof}", session.name), SECONDS, https)
    }

    /// The cookie that ends it.
    pub(super) fn no_cookie(https: bool) -> HeaderValue {
        set("", 0, https)
    }

    /// The session of a request, if its cookie is one of ours and not too old.
    pub(super) fn read(&self, headers: &HeaderMap, now: Timestamp) -> Option<Session> {
        let cookies = headers
            .get_all(COOKIE)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
            .find_map(|value| self.check(value, now))
    }

    fn check(&self, value: &str, now: Timestamp) -> Option<Session> {
        let mut parts = value.splitn(3, '.');
        let (expires, name, proof) = (parts.next()?, parts.next()?, parts.next()?);
        mac(&self.key, &["session", name, expires])
            .verify_slice(&unhex(proof)?)
            .ok()?;
        let expires = expires
            .parse()
            .ok()
            .filter(|expires| *expires > now.as_second())?;
        Some(Session {
            name: name.to_owned(),
            expires,
        })
    }

    /// What the forms of this session's pages carry, and no other site can know.
    pub(super) fn form_token(&self, session: &Session) -> String {
        hex(mac(&self.key, &["form", &session.name]))
    }

    /// Whether a form came from a page of this session.
    pub(super) fn is_form_token(&self, session: &Session, given: &str) -> bool {
        unhex(given).is_some_and(|given| {
            mac(&self.key, &["form", &session.name])
                .verify_slice(&given)
                .is_ok()
        })
    }
}

fn set(value: &str, seconds: i64, https: bool) -> HeaderValue {
    let secure = if https { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE_NAME}={value}; Path=/admin; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    // Digits, letters and dots only.
    HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
}

/// Signs the parts, each with its length, so that no two lists of parts are the same bytes.
fn mac(key: &[u8], parts: &[&str]) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac
}

fn hex(mac: Hmac<Sha256>) -> String {
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes().chunks(2);
    bytes
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, format!("a=b; {pair}").parse().unwrap());
        headers
    }

    #[test]
    fn a_session_is_known_until_it_is_old_and_to_nobody_else() {
        let sessions = Sessions::new(&Secret::new("token"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let later = |seconds| Timestamp::from_second(now.as_second() + seconds).unwrap();
        let session = Session::new(now);
        let headers = with(&sessions.cookie(&session, true));
        assert_eq!(sessions.read(&headers, later(3599)), Some(session.clone()));
        assert_eq!(sessions.read(&headers, later(3600)), None, "its hour is over");
        assert_eq!(Sessions::new(&Secret::new("other")).read(&headers, now), None);
        assert_eq!(sessions.read(&HeaderMap::new(), now), None);
        assert_eq!(session.renewed(later(59)), None);
        let renewed = session.renewed(later(61)).unwrap();
        assert!(sessions.is_form_token(&renewed, &sessions.form_token(&session)));
        assert!(!sessions.is_form_token(&Session::new(now), &sessions.form_token(&session)));
    }

    #[test]
    fn a_changed_cookie_is_none() {
        let sessions = Sessions::new(&Secret::new("token"));
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let session = Session::new(now);
        let cookie = sessions.cookie(&session, false).to_str().unwrap().to_owned();
        let value = cookie.split(['=', ';']).nth(1).unwrap();
        assert!(sessions.check(value, now).is_some());
        for at in 0..value.len() {
            let mut changed = value.to_owned();
            let other = if value.as_bytes()[at] == b'1' { "2" } else { "1" };
            changed.replace_range(at..=at, other);
            assert_eq!(sessions.check(&changed, now), None, "{at}");
        }
        // The hour and the name can't lend each other a digit, and rubbish is no cookie.
        let moved = value.replacen('.', "", 1).replacen('1', "1.", 1);
        for wrong in [
            moved.as_str(),
            "",
            "..",
            "1.2",
            "9999999999.x.",
            "9999999999.x.é0",
            "9999999999.x.0",
        ] {
            assert_eq!(sessions.check(wrong, now), None, "{wrong}");
        }
    }
}
