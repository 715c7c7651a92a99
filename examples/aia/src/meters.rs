//! What the module measures.

use crate::llm::{LlmErrorKind, Usage};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::time::Duration;

/// Gives the metrics their help texts.
pub(crate) fn describe_all() {
    describe_counter!("aia_llm_tokens_total", "Tokens used, by direction");
    describe_counter!(
        "aia_llm_errors_total",
        "Questions that the language model did not answer to the end, by kind"
    );
    describe_counter!("aia_llm_retries_total", "Questions asked again");
    describe_counter!("aia_answers_total", "Answers that ended, by state");
    describe_gauge!("aia_answers_active", "Answers being written");
    describe_histogram!(
        "aia_llm_seconds",
        Unit::Seconds,
        "Time from a question to its answer's end"
    );
    describe_histogram!(
        "aia_llm_first_token_seconds",
        Unit::Seconds,
        "Time from a question to its answer's first token"
    );
}

pub(crate) fn first_token(after: Duration) {
    histogram!("aia_llm_first_token_seconds").record(after.as_secs_f64());
}

pub(crate) fn failed(kind: LlmErrorKind) {
    counter!("aia_llm_errors_total", "kind" => kind.as_str()).increment(1);
}

pub(crate) fn ended(state: &'static str, usage: Usage, after: Duration) {
    counter!("aia_answers_total", "state" => state).increment(1);
    counter!("aia_llm_tokens_total", "direction" => "prompt").increment(usage.prompt_tokens.into());
    counter!("aia_llm_tokens_total", "direction" => "completion").increment(usage.completion_tokens.into());
    histogram!("aia_llm_seconds").record(after.as_secs_f64());
}

/// Counts an answer as being written until it is dropped.
#[derive(Debug)]
pub(crate) struct Active;

impl Active {
    pub(crate) fn new() -> Self {
        gauge!("aia_answers_active").increment(1);
        Self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        gauge!("aia_answers_active").decrement(1);
    }
}
