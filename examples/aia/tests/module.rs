//! What every module has to keep to.

use aia::Aia;
use zhuji_testkit::module::ModuleService;

zhuji_testkit::assert_module!(
    Aia,
    exercise = use_it,
    // Nobody listens there: what a question leaves behind is looked at, and not its answer.
    settings = ["LLM_API_KEY" => "sk-of-the-test", "LLM_BASE_URL" => "http://127.0.0.1:1", "AIA_LLM_ATTEMPTS" => "1"],
);

/// A document, a conversation about it, a question, and the lists.
async fn use_it(service: &ModuleService) {
    let form = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"note.txt\"\r\n\r\nLead in blood.\r\n--x--\r\n";
    let upload = service
        .client()
        .post(service.url("/documents"))
        .header("content-type", "multipart/form-data; boundary=x")
        .body(form);
    let upload = upload.send().await.expect("an answer");
    assert_eq!(upload.status(), 201);
    let document: serde_json::Value =
        serde_json::from_str(&upload.text().await.expect("a body")).expect("JSON");
    let document = document["id"].as_str().expect("an id");
    service
        .until(&format!("/documents/{document}"), |answer| {
            answer.json()["state"] == "done"
        })
        .await;
    let new = format!(r#"{{"title":"Lead","documents":["{document}"]}}"#);
    let conversation = service.post("/conversations", new).await;
    assert_eq!(conversation.status, 201, "{}", conversation.text);
    let path = format!(
        "/conversations/{}",
        conversation.json()["id"].as_str().expect("an id")
    );
    let answer = service
        .post(&format!("{path}/messages"), r#"{"content":"Why?"}"#)
        .await;
    assert!(
        answer.status == 200 && answer.text.contains("\"connect\""),
        "{}",
        answer.text
    );
    for path in [
        &format!("{path}/messages"),
        "/documents",
        "/conversations",
        "/usage",
    ] {
        assert_eq!(service.get(path).await.status, 200, "{path}");
    }
    assert_eq!(service.delete(&path).await.status, 200);
    assert_eq!(
        service.delete(&format!("/documents/{document}")).await.status,
        200
    );
}
