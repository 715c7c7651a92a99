//! What a user does: documents, a conversation, questions.

use super::endpoint::Endpoint;
use super::{CONVERSATIONS, DOCUMENTS, KEY, ask, conversation, document, messages, refused, settled, setup};
use crate::support::{Setup, pdf, protected_pdf};
use reqwest::Method;
use serde_json::json;

const CHINESE: &str = "本研究纳入了一千二百名儿童。血铅水平随着与冶炼厂的距离增加而下降。";

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_asked_about() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await;
    let service = setup.start().await;
    let paper = document(&service, "paper.pdf", &pdf(3)).await;
    assert_eq!(
        (&paper["state"], &paper["pages"]),
        (&json!("done"), &json!(3)),
        "{paper}"
    );
    let note = format!(
        "\u{feff}Smelters were screened in 2019.\n{}\n{CHINESE}",
        "Nothing of interest. ".repeat(300)
    );
    let note = document(&service, "笔记.txt", note.as_bytes()).await;
    assert_eq!(
        (&note["state"], &note["name"]),
        (&json!("done"), &json!("笔记.txt")),
        "{note}"
    );
    let (paper, note) = (
        paper["id"].as_str().expect("an id"),
        note["id"].as_str().expect("an id"),
    );
    let id = conversation(&service, &[paper, note]).await;

    let told = ask(&service, &id, "Which SMELTER was screened?").await;
    let names: Vec<&str> = told.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(
        names,
        ["start", "delta", "delta", "delta", "delta", "usage", "done"]
    );
    assert_eq!(told.text(), "Lead in blood 铅 falls [1].");
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 7, "estimated": false});
    assert_eq!(told.one("usage"), &usage);
    let sources = &told.one("start")["sources"];
    // English words are found by their stems.
    assert_eq!(
        (&sources[0]["number"], &sources[0]["document"]),
        (&json!(1), &json!("笔记.txt")),
        "{sources}"
    );
    assert!(
        sources[0]["text"]
            .as_str()
            .expect("a text")
            .contains("Smelters were screened"),
        "{sources}"
    );
    assert_eq!(told.one("done")["sources"][0]["document_id"], note);
    assert_eq!(told.one("done")["finish_reason"], "stop");

    // The endpoint was asked properly, with the passage and without the service's other documents.
    let asked = endpoint.asked().pop().expect("it was asked");
    assert_eq!(
        (asked.path.as_str(), &asked.body["stream"]),
        ("/chat/completions", &json!(true))
    );
    assert_eq!(asked.body["stream_options"]["include_usage"], true);
    assert_eq!(asked.body["model"], "deepseek-chat");
    assert!(
        asked.head.contains(&format!("authorization: Bearer {KEY}")),
        "{}",
        asked.head
    );
    let task = asked.body["messages"][0]["content"].as_str().expect("a text");
    assert!(task.contains("[1] 笔记.txt, page 1:\nSmelters"), "{task}");

    // The second question knows the first. Chinese is found without spaces.
    let told = ask(&service, &id, "血铅水平如何变化？").await;
    let source = told.one("start")["sources"][0].clone();
    assert!(
        source["text"].as_str().expect("a text").contains("血铅水平"),
        "{source}"
    );
    let asked = endpoint.asked().pop().expect("it was asked");
    let roles: Vec<&str> = asked.body["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|message| message["role"].as_str())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    // Words that occur nowhere: the beginnings, of both documents.
    let told = ask(&service, &id, "xyzzy?").await;
    let sources = told.one("start")["sources"].as_array().expect("a list").clone();
    assert!(
        sources.iter().any(|source| source["document_id"] == paper),
        "{sources:?}"
    );

    let stored = messages(&service, &id).await;
    assert_eq!(stored.len(), 6);
    assert_eq!(
        (&stored[0]["role"], &stored[0]["content"]),
        (&json!("user"), &json!("Which SMELTER was screened?"))
    );
    assert_eq!(
        (&stored[1]["role"], &stored[1]["state"]),
        (&json!("assistant"), &json!("complete"))
    );
    assert_eq!(stored[1]["content"], "Lead in blood 铅 falls [1].");
    assert_eq!(
        (&stored[1]["prompt_tokens"], &stored[1]["completion_tokens"]),
        (&json!(100), &json!(7))
    );
    assert_eq!(stored[1]["sources"][0]["document"], "笔记.txt");
    let shown = service.json(&format!("{CONVERSATIONS}/{id}")).await;
    let tokens = json!({"used": 321, "reserved": 0, "budget": 200_000});
    assert_eq!(
        (&shown["tokens"], &shown["messages"]),
        (&tokens, &json!(6)),
        "{shown}"
    );
    assert_eq!(shown["documents"], json!([paper, note]));
    let usage = service.json("/api/v1/aia/usage").await;
    assert_eq!(
        (
            &usage["prompt_tokens"],
            &usage["completion_tokens"],
            &usage["answers"],
            &usage["reserved"]
        ),
        (&json!(300), &json!(21), &json!(3), &json!(0)),
        "{usage}"
    );
    let metrics = service
        .get("/metrics")
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a body");
    for line in [
        "aia_llm_tokens_total{direction=\"prompt\"} 300",
        "aia_llm_tokens_total{direction=\"completion\"} 21",
        "aia_llm_seconds_count 3",
        "aia_llm_first_token_seconds_count 3",
        "aia_answers_total{state=\"complete\"} 3",
        "aia_answers_active 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    // A source can be opened, by whoever was given the address.
    let redirect = service
        .call(Method::GET, &format!("{DOCUMENTS}/{paper}/file"))
        .await;
    assert_eq!(redirect.status, 302, "{redirect:?}");
    let address = redirect.headers["location"].to_str().expect("an address");
    let file = service.client.get(address).send().await.expect("an answer");
    assert_eq!(
        (file.status().as_u16(), &file.headers()["content-type"]),
        (200, &"application/pdf".parse().expect("a header"))
    );
    assert!(
        file.bytes().await.expect("a whole body") == pdf(3),
        "the bytes differ"
    );
    let bare = address.split('?').next().expect("an address");
    let bare = service.client.get(bare).send().await.expect("an answer");
    assert!(bare.status().is_client_error(), "{bare:?}");

    // What is deleted is gone, and what was answered from it stays.
    let path = format!("{DOCUMENTS}/{note}");
    assert_eq!(service.call(Method::DELETE, &path).await.status, 200);
    service
        .call(Method::GET, &path)
        .await
        .is_problem(404, "no document");
    service
        .call(Method::DELETE, &path)
        .await
        .is_problem(404, "no document");
    assert_eq!(messages(&service, &id).await.len(), 6);
    assert_eq!(
        service.json(&format!("{CONVERSATIONS}/{id}")).await["documents"],
        json!([paper])
    );
    let files = std::fs::read_dir(setup.uploads().join("aia/documents")).expect("it is there");
    let files: Vec<_> = files
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .collect();
    assert_eq!(files, [format!("{paper}.pdf")]);
    let path = format!("{CONVERSATIONS}/{id}");
    assert_eq!(service.call(Method::DELETE, &path).await.status, 200);
    for path in [path.clone(), format!("{path}/messages")] {
        service
            .call(Method::GET, &path)
            .await
            .is_problem(404, "no conversation");
    }
    refused(&service, &id, "And now?")
        .await
        .is_problem(404, "no conversation");
    assert_eq!(service.json(CONVERSATIONS).await["total"], 0);
    let log = service.log().join("\n");
    assert!(!log.contains(KEY), "{log}");
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_a_sentence() {
    let endpoint = Endpoint::start().await;
    let setup = setup(&endpoint).await;
    let service = setup.start().await;
    let id = conversation(&service, &[]).await;
    for (question, status, word) in [
        ("", 422, "1 to"),
        ("  \0 ", 422, "1 to"),
        (&*"x".repeat(16_001), 422, "16000"),
    ] {
        refused(&service, &id, question).await.is_problem(status, word);
    }
    for id in [
        "7",
        "0199",
        &id.to_uppercase(),
        "00000000-0000-0000-0000-000000000000",
    ] {
        let answer = refused(&service, id, "Why?").await;
        assert_eq!(answer.status, 404, "{id}: {answer:?}");
    }
    for (body, status) in [
        (json!({"title": " "}), 422),
        (json!({"title": "x".repeat(201)}), 422),
        (
            json!({"title": "x", "documents": ["0199a3a0-0000-7000-8000-000000000000"]}),
            422,
        ),
        (json!({"title": "x", "documents": ["not an id"]}), 422),
        (json!({"name": "x"}), 422),
    ] {
        let answer = service.post_json(CONVERSATIONS, &body).await;
        answer.is_problem(status, "");
    }
    assert_eq!(
        service.json(CONVERSATIONS).await["total"],
        1,
        "a refusal leaves nothing"
    );
    service
        .send_file(DOCUMENTS, "a.pdf", b"PK\x03\x04\0\0")
        .await
        .is_problem(415, "neither");
    service
        .send_file(DOCUMENTS, "a.txt", b"")
        .await
        .is_problem(400, "empty");
    assert_eq!(service.json(DOCUMENTS).await["total"], 0);
    for path in ["page=0", "per_page=201", "page=x", "page=1&page=2"] {
        service
            .call(Method::GET, &format!("{CONVERSATIONS}?{path}"))
            .await
            .is_problem(400, "");
    }

    // A document that can't be read says why, and is no source.
    let locked = document(&service, "locked.pdf", &protected_pdf()).await;
    assert_eq!(locked["state"], "failed");
    assert!(
        locked["error"].as_str().expect("a sentence").contains("password"),
        "{locked}"
    );
    let broken = document(&service, "broken.txt", &[b"a".repeat(2_000), vec![0xff]].concat()).await;
    assert!(
        broken["error"].as_str().expect("a sentence").contains("UTF-8"),
        "{broken}"
    );
    let id = conversation(&service, &[locked["id"].as_str().expect("an id")]).await;
    let told = ask(&service, &id, "What does it say?").await;
    assert_eq!(
        (&told.one("start")["sources"], told.last().name.as_str()),
        (&json!([]), "done")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_everything_but_questions_is_answered() {
    let setup = Setup::new().await;
    let service = setup.start().await;
    service.logged("LLM_API_KEY is not set").await;
    let note = document(&service, "note.txt", b"Lead.").await;
    let id = conversation(&service, &[note["id"].as_str().expect("an id")]).await;
    refused(&service, &id, "Why?")
        .await
        .is_problem(503, "No language model is set up");
    assert!(messages(&service, &id).await.is_empty());
    assert_eq!(service.json("/health").await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_may_have_a_version_or_none() {
    let endpoint = Endpoint::only_below("/v1/").await;
    for base in [
        endpoint.base(),
        format!("{}/v1", endpoint.base()),
        format!("{}/v1/", endpoint.base()),
    ] {
        let setup = setup(&endpoint).await.set("LLM_BASE_URL", &base);
        let service = setup.start().await;
        let id = conversation(&service, &[]).await;
        for question in ["One?", "Two?"] {
            assert_eq!(ask(&service, &id, question).await.last().name, "done", "{base}");
        }
        assert_eq!(settled(&service, &id).await["state"], "complete");
    }
    // The address without a version was only tried once.
    let missed = endpoint
        .asked()
        .iter()
        .filter(|asked| !asked.path.starts_with("/v1/"))
        .count();
    assert_eq!(missed, 1);
}
