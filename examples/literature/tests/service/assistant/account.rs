//! Budgets: what is over them is refused before anybody is asked.

use super::endpoint::Endpoint;
use super::{CONVERSATIONS, ask, conversation, post, refused, setup};
use futures_util::future::join_all;

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_has_a_budget_for_good() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint)
        .await
        .set("AIA_CONVERSATION_TOKENS", "600")
        .set("AIA_MAX_ANSWER_TOKENS", "200");
    let service = setup.start().await;
    let id = conversation(&service, &[]).await;
    let mut answered = 0;
    let answer = loop {
        let response = post(&service, &id, "Why?").await;
        if response.status() != 200 {
            drop(response);
            break refused(&service, &id, "Why?").await;
        }
        assert!(response.text().await.expect("a body").contains("event: done"));
        answered += 1;
        assert!(answered < 10, "the budget does not hold");
    };
    // Each answer cost 107, and the next might cost more than 300.
    assert!((1..=4).contains(&answered), "{answered}");
    answer.is_problem(429, "begin a new one");
    assert_eq!(
        (&answer.body["scope"], &answer.body["budget_tokens"]),
        (&"conversation".into(), &600.into())
    );
    assert!(
        answer.body["reset_at"].is_null() && !answer.headers.contains_key("retry-after"),
        "{answer:?}"
    );
    let shown = service.json(&format!("{CONVERSATIONS}/{id}")).await;
    assert_eq!(shown["tokens"]["used"], answered * 107, "{shown}");
    assert_eq!(
        shown["messages"],
        answered * 2,
        "a refusal leaves no message: {shown}"
    );
    let other = conversation(&service, &[]).await;
    assert_eq!(ask(&service, &other, "Why?").await.last().name, "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_day_has_a_budget_that_many_questions_at_once_keep_to() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint)
        .await
        .set("AIA_DAY_TOKENS", "1500")
        .set("AIA_MAX_ANSWER_TOKENS", "200");
    let service = setup.start().await;
    let ids = join_all((0..12).map(|_| conversation(&service, &[]))).await;
    let answers = join_all(ids.iter().map(|id| refused(&service, id, "stall: please"))).await;
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    // Each sets aside 200 tokens and its prompt's.
    assert!((2..=7).contains(&taken), "{taken} of 12");
    let refusal = answers
        .iter()
        .find(|answer| answer.status != 200)
        .expect("there is one");
    refusal.is_problem(429, "midnight");
    assert_eq!(
        (&refusal.body["scope"], &refusal.body["budget_tokens"]),
        (&"day".into(), &1500.into())
    );
    let reset: jiff::Timestamp = refusal.body["reset_at"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    let wait: i64 = refusal.headers["retry-after"]
        .to_str()
        .expect("a number")
        .parse()
        .expect("a number");
    let now = jiff::Timestamp::now();
    assert!(reset > now && (1..=86_400).contains(&wait), "{refusal:?}");
    assert_eq!(reset.as_second() % 86_400, 0, "midnight in UTC: {reset}");
    let usage = service.json("/api/v1/aia/usage").await;
    assert_eq!(
        usage["resets_at"].as_str(),
        Some(reset.to_string().as_str()),
        "{usage}"
    );
    // Deleting a conversation gives nothing back.
    let before = service.json("/api/v1/aia/usage").await;
    for id in &ids {
        service
            .call(reqwest::Method::DELETE, &format!("{CONVERSATIONS}/{id}"))
            .await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    let after = service.json("/api/v1/aia/usage").await;
    assert_eq!(
        before["prompt_tokens"], after["prompt_tokens"],
        "{before} {after}"
    );
    assert!(
        after["prompt_tokens"].as_i64() > Some(0) && after["reserved"] == 0,
        "{after}"
    );
}
