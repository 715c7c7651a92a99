//! A client of OpenAI-compatible endpoints: one question, an answer that arrives in pieces.
//!
//! Every step has a deadline, what may be tried again is tried again before the first piece and never after it, and the
//! API key is in no error, log line or `Debug` text.

mod client;
mod decoder;
mod error;
mod retry;
mod wire;

pub(crate) use client::Llm;
pub(crate) use error::{LlmError, LlmErrorKind};
pub(crate) use wire::{ChatMessage, ChatRequest, Piece, Usage};
