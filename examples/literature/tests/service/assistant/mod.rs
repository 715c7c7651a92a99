//! The module `aia`: conversations over documents, against an endpoint that misbehaves on request.

mod account;
pub(crate) mod endpoint;
mod ends;
mod faults;
mod questions;

use crate::support::{Answer, Service, Setup};
use endpoint::Endpoint;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) const CONVERSATIONS: &str = "/api/v1/aia/conversations";
pub(crate) const DOCUMENTS: &str = "/api/v1/aia/documents";
/// A key that must be in no output.
pub(crate) const KEY: &str = "sk-hush-hush-of-the-test";

/// A service that asks this endpoint, with deadlines that a test can wait for.
pub(crate) async fn setup(endpoint: &Endpoint) -> Setup {
    Setup::new()
        .await
        .set("LLM_API_KEY", KEY)
        .set("LLM_BASE_URL", endpoint.base())
        .set("LOG_LEVEL", "info,aia=debug")
        .set("AIA_FIRST_TOKEN_TIMEOUT", "3s")
        .set("AIA_IDLE_TIMEOUT", "3s")
        .set("AIA_TOTAL_TIMEOUT", "30s")
}

/// A conversation about these documents; answers its id.
pub(crate) async fn conversation(service: &Service, documents: &[&str]) -> String {
    let answer = service
        .post_json(
            CONVERSATIONS,
            &json!({"title": "Lead in blood", "documents": documents}),
        )
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body["id"].as_str().expect("an id").to_owned()
}

/// Uploads a document and waits until it is read; answers it.
pub(crate) async fn document(service: &Service, name: &str, content: &[u8]) -> Value {
    let answer = service.send_file(DOCUMENTS, name, content).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.body["state"], "pending");
    let id = answer.body["id"].as_str().expect("an id").to_owned();
    let start = Instant::now();
    loop {
        let document = service.json(&format!("{DOCUMENTS}/{id}")).await;
        if document["state"] == "done" || document["state"] == "failed" {
            return document;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{document}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// An event of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// The events in a text; comments are left out.
pub(crate) fn events(text: &str) -> Vec<Event> {
    let events = text.split("\n\n").filter_map(|block| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        Some(Event {
            name: field("event: ")?.to_owned(),
            data: serde_json::from_str(field("data: ")?).expect("JSON"),
        })
    });
    events.collect()
}

/// The answer to a question, once it is whole.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) events: Vec<Event>,
}

impl Told {
    pub(crate) fn text(&self) -> String {
        let deltas = self.events.iter().filter(|event| event.name == "delta");
        deltas.filter_map(|event| event.data["text"].as_str()).collect()
    }

    #[track_caller]
    pub(crate) fn one(&self, name: &str) -> &Value {
        let found: Vec<&Event> = self.events.iter().filter(|event| event.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {self:?}");
        &found[0].data
    }

    pub(crate) fn last(&self) -> &Event {
        self.events.last().expect("there are events")
    }
}

/// Asks, and expects a stream of events.
pub(crate) async fn ask(service: &Service, conversation: &str, question: &str) -> Told {
    let response = post(service, conversation, question).await;
    let status = response.status().as_u16();
    let kind = response.headers()[CONTENT_TYPE]
        .to_str()
        .expect("plain letters")
        .to_owned();
    let text = response.text().await.expect("a whole body");
    assert_eq!((status, kind.as_str()), (200, "text/event-stream"), "{text}");
    Told {
        events: events(&text),
    }
}

/// Asks, and expects a refusal.
pub(crate) async fn refused(service: &Service, conversation: &str, question: &str) -> Answer {
    let path = format!("{CONVERSATIONS}/{conversation}/messages");
    service.post_json(&path, &json!({"content": question})).await
}

pub(crate) async fn post(service: &Service, conversation: &str, question: &str) -> reqwest::Response {
    let request = service
        .client
        .post(service.url(&format!("{CONVERSATIONS}/{conversation}/messages")))
        .header(CONTENT_TYPE, "application/json")
        .body(json!({"content": question}).to_string());
    request.send().await.expect("an answer")
}

/// The messages of a conversation.
pub(crate) async fn messages(service: &Service, conversation: &str) -> Vec<Value> {
    let page = service
        .json(&format!("{CONVERSATIONS}/{conversation}/messages?per_page=200"))
        .await;
    page["items"].as_array().expect("a list").clone()
}

/// Waits until no answer is being written in the conversation, and answers its last message.
pub(crate) async fn settled(service: &Service, conversation: &str) -> Value {
    let start = Instant::now();
    loop {
        let last = messages(service, conversation).await.pop().expect("there is one");
        if last["state"] != "streaming" {
            return last;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{last}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
