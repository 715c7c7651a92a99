//! An endpoint that misbehaves: how each answer ends, what the client hears and what is stored.

use super::endpoint::Endpoint;
use super::{KEY, Told, ask, conversation, settled, setup};
use crate::support::Service;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A fault, and what has to become of it.
struct Case {
    fault: &'static str,
    text: &'static str,
    /// The `kind` of the error event; nothing for an answer that comes to its end.
    kind: Option<&'static str>,
    tries: usize,
}

const WHOLE: &str = "Lead in blood 铅 falls [1].";

const fn well(fault: &'static str, text: &'static str, tries: usize) -> Case {
    Case {
        fault,
        text,
        kind: None,
        tries,
    }
}

const fn ill(fault: &'static str, text: &'static str, kind: &'static str, tries: usize) -> Case {
    Case {
        fault,
        text,
        kind: Some(kind),
        tries,
    }
}

const CASES: &[Case] = &[
    well("well", WHOLE, 1),
    well("429 then well", WHOLE, 2),
    well("500 then well", WHOLE, 2),
    well("reset then well", WHOLE, 2),
    well("json", "Lead in one piece.", 1),
    well("no usage", "Lead.", 1),
    well("line ends", WHOLE, 1),
    well("thinking", WHOLE, 1),
    well("stall after the end", "Lead.", 1),
    ill("429 for an hour", "", "rate_limited", 1),
    ill("429 without money", "", "denied", 1),
    ill("500", "", "server", 3),
    ill("401", "", "denied", 1),
    ill("400", "", "refused", 1),
    ill("302", "", "refused", 1),
    ill("no head", "", "first_token_timeout", 1),
    ill("no token", "", "first_token_timeout", 1),
    ill("stall", "Lead ", "idle_timeout", 1),
    ill("cut in a chunk", "Lead ", "cut", 1),
    ill("ends early", "Lead ", "cut", 1),
    ill("ends at once", "", "protocol", 1),
    ill("garbage", "Lead ", "protocol", 1),
    ill("page", "", "protocol", 1),
    ill("huge line", "Lead ", "protocol", 1),
    ill("error inside", "Lead ", "reported", 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_its_answer_and_no_other() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await.set("AIA_MAX_ANSWERS", "100");
    let service = setup.start().await;
    let begin = Instant::now();
    let runs = CASES.iter().map(async |case| {
        let id = conversation(&service, &[]).await;
        let told = ask(&service, &id, &format!("{}: why?", case.fault)).await;
        check(&endpoint, case, &told, &settled(&service, &id).await);
        // The conversation goes on, whatever happened.
        let told = ask(&service, &id, "And then?").await;
        assert_eq!(told.last().name, "done", "{}: {told:?}", case.fault);
    });
    futures_util::future::join_all(runs).await;
    assert!(begin.elapsed() < Duration::from_secs(45), "{:?}", begin.elapsed());

    let usage = service.json("/api/v1/aia/usage").await;
    assert_eq!(usage["reserved"], 0, "{usage}");
    let metrics = service
        .get("/metrics")
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a body");
    for (kind, count) in [
        ("denied", 2),
        ("refused", 2),
        ("protocol", 4),
        ("cut", 2),
        ("server", 1),
    ] {
        let line = format!("aia_llm_errors_total{{kind=\"{kind}\"}} {count}");
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains("aia_llm_retries_total 5"), "{metrics}");
    assert!(metrics.contains("aia_answers_active 0"), "{metrics}");
    let log = service.log().join("\n");
    assert!(
        log.contains("no: *** (bad)"),
        "the endpoint's own words help the operator:\n{log}"
    );
    assert!(!log.contains(KEY) && !metrics.contains(KEY), "{log}");
}

#[track_caller]
fn check(endpoint: &Endpoint, case: &Case, told: &Told, stored: &Value) {
    let Case {
        fault,
        text,
        kind,
        tries,
    } = case;
    assert_eq!(&told.text(), text, "{fault}: {told:?}");
    assert_eq!(&stored["content"], text, "{fault}: {stored}");
    assert_eq!(endpoint.tries(&format!("{fault}: why?")), *tries, "{fault}");
    told.one("start");
    let usage = told.one("usage");
    assert_eq!(usage["prompt_tokens"], stored["prompt_tokens"], "{fault}");
    assert_eq!(usage["completion_tokens"], stored["completion_tokens"], "{fault}");
    let last = told.last();
    match kind {
        None => {
            assert_eq!(
                (last.name.as_str(), &stored["state"]),
                ("done", &"complete".into()),
                "{fault}: {told:?}"
            );
            assert_eq!(stored["finish_reason"], "stop", "{fault}");
            let estimated = ["no usage", "stall after the end"].contains(fault);
            assert_eq!(usage["estimated"], estimated, "{fault}");
        }
        Some(kind) => {
            let state = if text.is_empty() { "failed" } else { "incomplete" };
            assert_eq!(
                (last.name.as_str(), &last.data["kind"]),
                ("error", &(*kind).into()),
                "{fault}: {told:?}"
            );
            assert_eq!(
                (&last.data["state"], &stored["state"]),
                (&state.into(), &state.into()),
                "{fault}"
            );
            let detail = last.data["detail"].as_str().expect("a sentence");
            assert!(
                detail.ends_with('.') && stored["error"] == detail,
                "{fault}: {detail} {stored}"
            );
            assert!(last.data["request_id"].is_string(), "{fault}: {told:?}");
            // What was refused costs nothing; what was begun costs what is estimated.
            let is_refusal = ["rate_limited", "denied", "server", "refused"].contains(kind);
            assert_eq!(usage["prompt_tokens"] == 0, is_refusal, "{fault}: {usage}");
        }
    }
    let everything = format!("{told:?} {stored}");
    assert!(!everything.contains(KEY), "{fault}: {everything}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_there_is_told_at_once() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await.set("LLM_BASE_URL", "http://127.0.0.1:1");
    let service = setup.start().await;
    let id = conversation(&service, &[]).await;
    let told = ask(&service, &id, "Why?").await;
    assert_eq!(told.last().data["kind"], "connect", "{told:?}");
    let tokens = used(&service, &id).await;
    assert_eq!(tokens, 0);
}

async fn used(service: &Service, id: &str) -> i64 {
    let shown = service.json(&format!("{}/{id}", super::CONVERSATIONS)).await;
    shown["tokens"]["used"].as_i64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_is_ended_and_the_places_are_few() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint)
        .await
        .set("AIA_TOTAL_TIMEOUT", "12s")
        .set("AIA_MAX_ANSWERS", "1");
    let service = setup.start().await;
    let (long, short) = (
        conversation(&service, &[]).await,
        conversation(&service, &[]).await,
    );
    let begin = Instant::now();
    let endless = ask(&service, &long, "endless: please");
    let beside = async {
        while endpoint.tries("endless: please") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let same = super::refused(&service, &long, "Why?");
        let other = super::refused(&service, &short, "Why?");
        tokio::join!(same, other)
    };
    let (told, (same, other)) = tokio::join!(endless, beside);
    same.is_problem(503, "other answers");
    other.is_problem(503, "other answers");
    assert!(other.headers.contains_key("retry-after"), "{other:?}");
    assert!(
        (12..40).contains(&begin.elapsed().as_secs()),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(told.last().data["kind"], "total_timeout", "{:?}", told.last());
    let stored = settled(&service, &long).await;
    assert_eq!(
        (&stored["state"], stored["content"] == told.text()),
        (&"incomplete".into(), true),
        "{stored}"
    );
    endpoint.hung_up_on().await;
    assert_eq!(ask(&service, &short, "Why?").await.last().name, "done");
}
