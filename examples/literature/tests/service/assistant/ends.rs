//! Answers that end before their end: the client goes, the service stops or dies, the conversation is deleted.

use super::endpoint::Endpoint;
use super::{CONVERSATIONS, ask, conversation, messages, post, refused, settled, setup};
use crate::support::{Service, Setup};
use reqwest::Method;
use std::time::{Duration, Instant};

/// Asks for an answer without an end, and reads until some words of it have come.
async fn begun(service: &Service, conversation: &str) -> reqwest::Response {
    let mut response = post(service, conversation, "endless: please").await;
    assert_eq!(response.status(), 200);
    let mut text = String::new();
    while text.matches("event: delta").count() < 3 {
        let bytes = response.chunk().await.expect("a piece").expect("it has no end");
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    response
}

async fn is_settled(service: &Service, id: &str) {
    let shown = service.json(&format!("{CONVERSATIONS}/{id}")).await;
    assert_eq!(shown["tokens"]["reserved"], 0, "{shown}");
    assert!(shown["tokens"]["used"].as_i64() > Some(0), "{shown}");
    assert_eq!(service.json("/api/v1/aia/usage").await["reserved"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_stops_the_endpoint_and_keeps_the_words() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await;
    let service = setup.start().await;
    let id = conversation(&service, &[]).await;
    let response = begun(&service, &id).await;
    refused(&service, &id, "At once?")
        .await
        .is_problem(409, "being written");
    drop(response);
    endpoint.hung_up_on().await;
    let stored = settled(&service, &id).await;
    assert_eq!(stored["state"], "incomplete", "{stored}");
    assert!(
        stored["content"]
            .as_str()
            .expect("a text")
            .starts_with("word word word "),
        "{stored}"
    );
    assert!(
        stored["error"].as_str().expect("a sentence").contains("client"),
        "{stored}"
    );
    assert_eq!(stored["tokens_estimated"], true);
    assert!(stored["completion_tokens"].as_i64() > Some(2), "{stored}");
    is_settled(&service, &id).await;

    // One that goes while nothing has come yet: no word to keep, and nobody waits for the deadline.
    let response = post(&service, &id, "no token: please").await;
    while endpoint.tries("no token: please") == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(response);
    let stored = settled(&service, &id).await;
    assert_eq!(
        (&stored["state"], &stored["content"]),
        (&"incomplete".into(), &"".into()),
        "{stored}"
    );

    // The broken off answer is a part of the conversation.
    assert_eq!(ask(&service, &id, "Go on.").await.last().name, "done");
    let asked = endpoint.asked().pop().expect("it was asked");
    let history = asked.body["messages"].to_string();
    assert!(history.contains("word word word"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_conversation_breaks_off_its_answer() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await;
    let service = setup.start().await;
    let id = conversation(&service, &[]).await;
    let response = begun(&service, &id).await;
    let answer = service
        .call(Method::DELETE, &format!("{CONVERSATIONS}/{id}"))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let rest = response.text().await.expect("a whole body");
    assert!(
        rest.contains("event: error") && rest.contains("\"deleted\""),
        "{rest}"
    );
    endpoint.hung_up_on().await;
    let usage = service.json("/api/v1/aia/usage").await;
    assert_eq!(
        (&usage["reserved"], &usage["answers"]),
        (&0.into(), &1.into()),
        "{usage}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_what_there_is() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await.set("SHUTDOWN_TIMEOUT", "6s");
    let service = setup.start().await;
    let id = conversation(&service, &[]).await;
    let response = begun(&service, &id).await;
    // The answer was cut off, which the exit code says.
    let status = service.terminate().await;
    assert_eq!(status.code(), Some(1), "{status}");
    drop(response);
    endpoint.hung_up_on().await;
    let service = setup.start().await;
    let stored = messages(&service, &id).await.pop().expect("it is there");
    assert_eq!(stored["state"], "incomplete", "{stored}");
    assert!(
        stored["content"]
            .as_str()
            .expect("a text")
            .starts_with("word word word "),
        "{stored}"
    );
    is_settled(&service, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_loses_a_few_seconds_and_blocks_nothing() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await.set("AIA_SWEEP_INTERVAL", "1s");
    let mut service = setup.start().await;
    let (id, other) = (
        conversation(&service, &[]).await,
        conversation(&service, &[]).await,
    );
    let responses = (begun(&service, &id).await, begun(&service, &other).await);
    kept(&service, &id).await;
    kept(&service, &other).await;
    service.kill();
    drop(responses);
    let service = setup.start().await;
    refused(&service, &id, "Go on.")
        .await
        .is_problem(409, "being written");
    age(&setup, &id).await;
    // The next question gives the lost answer up …
    assert_eq!(ask(&service, &id, "Go on.").await.last().name, "done");
    let stored = messages(&service, &id).await;
    assert_eq!(
        (stored.len(), &stored[1]["state"]),
        (4, &"incomplete".into()),
        "{stored:?}"
    );
    assert!(
        stored[1]["content"]
            .as_str()
            .expect("a text")
            .starts_with("word word"),
        "{stored:?}"
    );
    // … and so does the sweep.
    age(&setup, &other).await;
    assert_eq!(settled(&service, &other).await["state"], "incomplete");
    is_settled(&service, &other).await;
}

/// Waits until a part of the answer is in the database.
async fn kept(service: &Service, id: &str) {
    let start = Instant::now();
    loop {
        let last = messages(service, id).await.pop().expect("it is there");
        if last["content"]
            .as_str()
            .is_some_and(|text| text.starts_with("word"))
        {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{last}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Makes the last sign of life of the conversation's answer two minutes old.
async fn age(setup: &Setup, conversation: &str) {
    let database = setup.database.as_ref().expect("it has one");
    let sql = format!(
        "update aia.messages set updated_at = now() - interval '2 minutes' where conversation_id = '{conversation}'"
    );
    database.execute(&sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_left_of_documents_is_swept_up() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await.set("AIA_SWEEP_INTERVAL", "1s");
    let service = setup.start().await;
    let kept = super::document(&service, "kept.txt", b"Kept.").await;
    let lost = super::document(&service, "lost.txt", b"Lost.").await;
    let half = super::document(&service, "half.txt", b"Half.").await;
    let database = setup.database.as_ref().expect("it has one");
    let id = |document: &serde_json::Value| document["id"].as_str().expect("an id").to_owned();
    let sql = format!(
        "update aia.documents set state = 'deleting', updated_at = now() - interval '2 minutes' where id = '{}';
         update aia.documents set state = 'uploading', updated_at = now() - interval '25 hours' where id = '{}'",
        id(&lost),
        id(&half)
    );
    database.execute(&sql).await;
    let folder = setup.uploads().join("aia/documents");
    let start = Instant::now();
    loop {
        let files = std::fs::read_dir(&folder).expect("it is there");
        let files: Vec<String> = files
            .filter_map(|file| file.ok()?.file_name().into_string().ok())
            .collect();
        if files == [format!("{}.txt", id(&kept))] {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{files:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(service.json(super::DOCUMENTS).await["total"], 1);
}
