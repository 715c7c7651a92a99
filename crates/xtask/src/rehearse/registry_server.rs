//! A registry of its own for a rehearsal: a sparse index, uploads, downloads, and two tokens that are checked.
//!
//! In memory and on loopback. It does what cargo asks of a registry and nothing more: `config.json`, the index, the upload,
//! the download. A version never changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::publish::{path_of, sha256};

/// As a crate's page in real registries is limited, too.
const LARGEST: usize = 20 << 20;

pub(super) struct Registry {
    port: u16,
    pub(super) read_token: String,
    pub(super) publish_token: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The lines of each crate in the index.
    index: BTreeMap<String, Vec<Value>>,
    files: BTreeMap<(String, String), Vec<u8>>,
    /// The next upload of this crate fails.
    failing: Option<String>,
    uploads: Vec<String>,
    downloads: BTreeSet<String>,
}

struct Request {
    method: String,
    path: String,
    token: Option<String>,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    body: Vec<u8>,
    /// What cargo wants to see beside a refusal.
    challenge: bool,
}

impl Answer {
    fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: "200 OK",
            body: body.into(),
            challenge: false,
        }
    }

    fn refuse(status: &'static str, detail: &str) -> Self {
        Self {
            status,
            body: json!({ "errors": [{ "detail": detail }] }).to_string().into(),
            challenge: status.starts_with("401"),
        }
    }
}

impl Registry {
    /// Starts one on a free port. It ends with this process.
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let token = |kind: &str| {
            format!(
                "{kind}-{port}-{}",
                &sha256(format!("{kind}{port}").as_bytes())[..16]
            )
        };
        let registry = Self {
            port,
            read_token: token("read"),
            publish_token: token("publish"),
            shared: Arc::default(),
        };
        let (read, publish) = (registry.read_token.clone(), registry.publish_token.clone());
        let shared = Arc::clone(&registry.shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, read, publish) = (Arc::clone(&shared), read.clone(), publish.clone());
                // A client that goes away in the middle has seen its own error.
                std::thread::spawn(move || drop(serve(stream, port, &shared, &read, &publish)));
            }
        });
        Ok(registry)
    }

    /// A name, not an address: what checks sources does not know addresses.
    pub(super) fn index(&self) -> String {
        format!("sparse+http://localhost:{}/index/", self.port)
    }

    /// The next upload of this crate is answered by an error.
    pub(super) fn fail_upload_of(&self, name: &str) {
        self.state().failing = Some(name.to_owned());
    }

    /// The crates in the order in which they came.
    pub(super) fn uploads(&self) -> Vec<String> {
        self.state().uploads.clone()
    }

    /// The crates that somebody has downloaded.
    pub(super) fn downloads(&self) -> BTreeSet<String> {
        self.state().downloads.clone()
    }

    pub(super) fn forget_downloads(&self) {
        self.state().downloads.clear();
    }

    /// As if other bytes had been published under this version: to see that they are noticed.
    pub(super) fn swap_checksum(&self, name: &str, checksum: &str) -> Option<String> {
        let mut state = self.state();
        let entry = state.index.get_mut(name)?.last_mut()?;
        let before = entry["cksum"].as_str()?.to_owned();
        entry["cksum"] = json!(checksum);
        Some(before)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(
    mut stream: TcpStream,
    port: u16,
    shared: &Shared,
    read: &str,
    publish: &str,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = receive(&mut reader, &mut stream)? {
        let answer = answer(&request, port, shared, read, publish);
        let challenge = match answer.challenge {
            true => format!("www-authenticate: Cargo login_url=\"http://localhost:{port}/me\"\r\n"),
            false => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-length: {}\r\ncontent-type: application/json\r\n{challenge}\r\n",
            answer.status,
            answer.body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&answer.body)?;
    }
    Ok(())
}

/// The next request of a connection; `None` when it has ended.
fn receive(reader: &mut BufReader<TcpStream>, stream: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(ToOwned::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut length, mut token, mut waits) = (0, None, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => token = Some(value.trim().to_owned()),
            "expect" => waits = true,
            _ => {}
        }
    }
    if length > LARGEST {
        return Err(std::io::Error::other("the upload is too large"));
    }
    if waits {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request {
        method,
        path,
        token,
        body,
    }))
}

fn answer(request: &Request, port: u16, shared: &Shared, read: &str, publish: &str) -> Answer {
    let token = request.token.as_deref();
    let may_read = token == Some(read) || token == Some(publish);
    if !may_read {
        return Answer::refuse("401 Unauthorized", "a token is required");
    }
    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/index/config.json") => {
            let base = format!("http://localhost:{port}");
            Answer::ok(json!({ "dl": format!("{base}/dl"), "api": base, "auth-required": true }).to_string())
        }
        ("GET", path) => get(&mut state, path),
        ("PUT", "/api/v1/crates/new") if token != Some(publish) => {
            Answer::refuse("401 Unauthorized", "this token may read and not publish")
        }
        ("PUT", "/api/v1/crates/new") => match take(&mut state, &request.body) {
            Ok(answer) => answer,
            Err(failure) => Answer::refuse("400 Bad Request", &failure.to_string()),
        },
        _ => Answer::refuse("404 Not Found", "not found"),
    }
}

fn get(state: &mut State, path: &str) -> Answer {
    let not_found = || Answer::refuse("404 Not Found", "not found");
    if let Some(place) = path.strip_prefix("/index/") {
        let found = state.index.iter().find(|(name, _)| path_of(name) == place);
        return found.map_or_else(not_found, |(_, entries)| {
            Answer::ok(
                entries
                    .iter()
                    .map(|entry| format!("{entry}\n"))
                    .collect::<String>(),
            )
        });
    }
    let mut parts = path.strip_prefix("/dl/").unwrap_or_default().split('/');
    let (Some(name), Some(version), Some("download")) = (parts.next(), parts.next(), parts.next()) else {
        return not_found();
    };
    let Some(file) = state.files.get(&(name.to_owned(), version.to_owned())).cloned() else {
        return not_found();
    };
    state.downloads.insert(name.to_owned());
    Answer::ok(file)
}

/// An upload: the length and the JSON, the length and the file.
fn take(state: &mut State, body: &[u8]) -> Result<Answer> {
    let (metadata, rest) = piece(body)?;
    let (file, _) = piece(rest)?;
    let metadata: Value = serde_json::from_slice(metadata).map_err(|error| error.to_string())?;
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let (name, version) = (text("name"), text("vers"));
    if state.failing.as_ref() == Some(&name) {
        state.failing = None;
        return Ok(Answer::refuse(
            "500 Internal Server Error",
            "the disk of the registry is full",
        ));
    }
    let entries = state.index.entry(name.clone()).or_default();
    if entries.iter().any(|entry| entry["vers"] == version.as_str()) {
        return Ok(Answer::refuse(
            "409 Conflict",
            "this version exists, and a version never changes",
        ));
    }
    let dependencies: Vec<Value> = metadata["deps"]
        .as_array()
        .into_iter()
        .flatten()
        .map(dependency)
        .collect();
    entries.push(json!({
        "name": name,
        "vers": version,
        "deps": dependencies,
        "cksum": sha256(file),
        "features": {},
        "features2": metadata["features"],
        "yanked": false,
        "links": metadata["links"],
        "rust_version": metadata["rust_version"],
        "v": 2,
    }));
    state.uploads.push(name.clone());
    state.files.insert((name, version), file.to_vec());
    let nothing = json!({ "warnings": { "invalid_categories": [], "invalid_badges": [], "other": [] } });
    Ok(Answer::ok(nothing.to_string()))
}

/// An upload names a dependency's package, the index what the manifest calls it.
fn dependency(uploaded: &Value) -> Value {
    let renamed = &uploaded["explicit_name_in_toml"];
    let (name, package) = match renamed.is_string() {
        true => (renamed, &uploaded["name"]),
        false => (&uploaded["name"], &Value::Null),
    };
    json!({
        "name": name,
        "package": package,
        "req": uploaded["version_req"],
        "features": uploaded["features"],
        "optional": uploaded["optional"],
        "default_features": uploaded["default_features"],
        "target": uploaded["target"],
        "kind": uploaded["kind"],
        "registry": uploaded["registry"],
    })
}

/// A length as four bytes, the least significant first, and as many bytes.
fn piece(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let broken = || Failure::new("the upload is cut off");
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(broken)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| broken())?;
    rest.split_at_checked(length).ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(name: &str, file: &[u8]) -> Vec<u8> {
        let metadata = json!({ "name": name, "vers": "0.1.0", "features": {}, "deps": [
            { "name": "serde", "version_req": "^1", "explicit_name_in_toml": "s" },
        ]});
        let metadata = metadata.to_string();
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short").to_le_bytes();
        [
            &length(metadata.as_bytes())[..],
            metadata.as_bytes(),
            &length(file),
            file,
        ]
        .concat()
    }

    fn ask(shared: &Shared, method: &str, path: &str, token: Option<&str>, body: Vec<u8>) -> Answer {
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            token: token.map(ToOwned::to_owned),
            body,
        };
        answer(&request, 1, shared, "read", "publish")
    }

    #[test]
    fn the_tokens_are_checked_and_a_version_never_changes() {
        let shared = Shared::default();
        let put = |token, file: &[u8]| {
            ask(&shared, "PUT", "/api/v1/crates/new", token, upload("zhuji", file)).status
        };
        assert!(put(None, b"a").starts_with("401"));
        assert!(put(Some("read"), b"a").starts_with("401"));
        assert!(put(Some("publish"), b"a").starts_with("200"));
        assert!(put(Some("publish"), b"b").starts_with("409"));

        let get = |path, token| ask(&shared, "GET", path, token, Vec::new());
        assert!(get("/index/zh/uj/zhuji", None).challenge);
        let line = get("/index/zh/uj/zhuji", Some("read")).body;
        let line: Value = serde_json::from_slice(&line).expect("one line of JSON");
        assert_eq!(line["cksum"], sha256(b"a"));
        assert_eq!(
            (&line["deps"][0]["name"], &line["deps"][0]["package"]),
            (&json!("s"), &json!("serde"))
        );
        assert_eq!(get("/dl/zhuji/0.1.0/download", Some("read")).body, b"a");
        assert!(
            get("/dl/zhuji/0.2.0/download", Some("read"))
                .status
                .starts_with("404")
        );
    }

    #[test]
    fn an_upload_that_is_cut_off_is_refused() {
        let shared = Shared::default();
        let mut body = upload("zhuji", b"abc");
        body.pop();
        let answer = ask(&shared, "PUT", "/api/v1/crates/new", Some("publish"), body);
        assert!(answer.status.starts_with("400"), "{}", answer.status);
    }
}
