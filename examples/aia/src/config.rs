use std::time::Duration;
use zhuji::config::{ByteSize, Config, Problem, Reader};

/// Settings of the module. The endpoint and its key are the platform's: `LLM_BASE_URL`, `LLM_API_KEY`.
#[derive(Config, Clone, Debug)]
#[config(title = "AI assistant (aia)", prefixes("AIA_"), check = AiaConfig::check)]
pub struct AiaConfig {
    /// The model that is asked for.
    #[config(env = "AIA_MODEL", default = "deepseek-chat")]
    pub(crate) model: String,
    /// The largest document that may be uploaded.
    #[config(env = "AIA_MAX_DOCUMENT_BYTES", default = "128MiB")]
    pub(crate) max_document_bytes: ByteSize,
    /// How long reading the text of a PDF may take.
    #[config(env = "AIA_EXTRACTION_TIME_LIMIT", default = "60s")]
    pub(crate) extraction_time_limit: Duration,
    /// How much memory reading one PDF may take: at least 256MiB.
    #[config(env = "AIA_EXTRACTION_MEMORY_LIMIT", default = "1GiB")]
    pub(crate) extraction_memory_limit: ByteSize,
    /// How long connecting to the language model may take.
    #[config(env = "AIA_CONNECT_TIMEOUT", default = "5s")]
    pub(crate) connect_timeout: Duration,
    /// How long the language model may take to begin its answer, in each attempt.
    #[config(env = "AIA_FIRST_TOKEN_TIMEOUT", default = "30s")]
    pub(crate) first_token_timeout: Duration,
    /// How long the language model may be silent in the middle of its answer.
    #[config(env = "AIA_IDLE_TIMEOUT", default = "30s")]
    pub(crate) idle_timeout: Duration,
    /// How long an answer may take, all attempts and pauses between them included.
    #[config(env = "AIA_TOTAL_TIMEOUT", default = "5m")]
    pub(crate) total_timeout: Duration,
    /// How often the language model is asked before an answer is given up: again only after 429, 5xx or a connection that
    /// failed, and only while nothing of the answer has come. From 1 to 10.
    #[config(env = "AIA_LLM_ATTEMPTS", default = "3")]
    pub(crate) llm_attempts: u32,
    /// Answers being written at once in this process; more wait a little and are then told to come back.
    #[config(env = "AIA_MAX_ANSWERS", default = "16")]
    pub(crate) max_answers: u32,
    /// The longest answer, in tokens.
    #[config(env = "AIA_MAX_ANSWER_TOKENS", default = "2048")]
    pub(crate) max_answer_tokens: u32,
    /// How much of the documents goes along with a question, in tokens.
    #[config(env = "AIA_PASSAGE_TOKENS", default = "4000")]
    pub(crate) passage_tokens: u32,
    /// How much of the conversation so far goes along with a question, in tokens.
    #[config(env = "AIA_HISTORY_TOKENS", default = "4000")]
    pub(crate) history_tokens: u32,
    /// What one conversation may use, in tokens, questions and answers together.
    #[config(env = "AIA_CONVERSATION_TOKENS", default = "200000")]
    pub(crate) conversation_tokens: u32,
    /// What all conversations together may use on one day (UTC), in tokens.
    #[config(env = "AIA_DAY_TOKENS", default = "2000000")]
    pub(crate) day_tokens: u32,
    /// How often to look for what a process that died has left behind.
    #[config(env = "AIA_SWEEP_INTERVAL", default = "10m")]
    pub(crate) sweep_interval: Duration,
}

/// With less, the reader's process can't even be started.
const LEAST_MEMORY: u64 = 256 << 20;
const DAY: Duration = Duration::from_secs(86_400);

impl AiaConfig {
    fn check(&self, reader: &mut Reader<'_>) {
        let mut refuse = |variable: &str, reason: &str| reader.problem(Problem::invalid(variable, reason));
        if self.extraction_memory_limit.bytes() < LEAST_MEMORY {
            refuse("AIA_EXTRACTION_MEMORY_LIMIT", "it is less than 256MiB");
        }
        if self.model.trim().is_empty() {
            refuse("AIA_MODEL", "it is empty");
        }
        for (variable, value) in [
            ("AIA_EXTRACTION_TIME_LIMIT", self.extraction_time_limit),
            ("AIA_CONNECT_TIMEOUT", self.connect_timeout),
            ("AIA_FIRST_TOKEN_TIMEOUT", self.first_token_timeout),
            ("AIA_IDLE_TIMEOUT", self.idle_timeout),
            ("AIA_TOTAL_TIMEOUT", self.total_timeout),
            ("AIA_SWEEP_INTERVAL", self.sweep_interval),
        ] {
            if value < Duration::from_millis(100) || value > DAY {
                refuse(variable, "it is not from 100ms to 1d");
            }
        }
        for (variable, value, most) in [
            ("AIA_LLM_ATTEMPTS", self.llm_attempts, 10),
            ("AIA_MAX_ANSWERS", self.max_answers, 10_000),
            ("AIA_MAX_ANSWER_TOKENS", self.max_answer_tokens, 1_000_000),
        ] {
            if value == 0 || value > most {
                refuse(variable, &format!("it is not from 1 to {most}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AiaConfig;
    use zhuji::config::load_from_pairs;

    #[test]
    fn what_cannot_work_is_refused() {
        for (variable, good, bad) in [
            ("AIA_EXTRACTION_MEMORY_LIMIT", "256MiB", "255MiB"),
            ("AIA_MODEL", "qwen-plus", " "),
            ("AIA_TOTAL_TIMEOUT", "100ms", "99ms"),
            ("AIA_IDLE_TIMEOUT", "1d", "25h"),
            ("AIA_LLM_ATTEMPTS", "1", "0"),
            ("AIA_MAX_ANSWERS", "10000", "10001"),
        ] {
            load_from_pairs::<AiaConfig>([(variable, good)]).expect(good);
            let report = load_from_pairs::<AiaConfig>([(variable, bad)]).expect_err(bad);
            assert!(report.to_string().contains(variable), "{report}");
        }
    }
}
