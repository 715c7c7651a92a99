//! The language model's endpoint, where there is a key for it.

use http::StatusCode;

use super::{Finding, Patient, remedies};
use crate::probe::{client, failure};

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(llm) = &patient.llm else {
        return vec![Finding::info(
            "llm",
            "not looked at: its settings can't be used, see `config`",
        )];
    };
    let Some(key) = &llm.api_key else {
        return vec![Finding::ok("llm", "not used: LLM_API_KEY is not set")];
    };
    let base = llm.base_url.as_str().trim_end_matches('/');
    let host = llm.base_url.host_str().unwrap_or("LLM_BASE_URL").to_owned();
    let asked = async {
        let request = client()?.get(format!("{base}/models")).bearer_auth(key.expose());
        request
            .send()
            .await
            .map(|answer| answer.status())
            .map_err(|error| failure(&error))
    };
    vec![match asked.await {
        Ok(status) => judge(&host, status),
        Err(why) => Finding::error(
            "llm",
            format!("{host} can't be reached: {why}"),
            remedies::NO_ROAD_TO_LLM,
        ),
    }]
}

fn judge(host: &str, status: StatusCode) -> Finding {
    let told = |what: &str| format!("{host} answers {}: {what}", status.as_u16());
    match status.as_u16() {
        200..300 => Finding::ok("llm", format!("{host} takes the key and lists its models")),
        401 | 403 => Finding::error(
            "llm",
            told("the key is refused"),
            "set LLM_API_KEY to a key that is valid there",
        ),
        402 => Finding::error(
            "llm",
            told("the account has no balance"),
            "top up the account of the key",
        ),
        404 | 405 => Finding::warning(
            "llm",
            told("there is no list of models"),
            "check the path in LLM_BASE_URL; many endpoints end in /v1",
        ),
        429 => Finding::warning(
            "llm",
            told("too many requests"),
            "wait, or ask for a higher quota",
        ),
        _ => Finding::warning(
            "llm",
            told("it is not well"),
            "look at the provider's status page",
        ),
    }
}
