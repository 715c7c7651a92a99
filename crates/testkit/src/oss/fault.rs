//! Faults on order: refusals, cut connections, delays, wrong checksums.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FaultKind {
    Answer {
        status: u16,
        code: String,
        after_effect: bool,
    },
    CutDownload(u64),
    CutUpload(u64),
    LoseAnswer,
    Delay(Duration),
    WrongCrc,
}

/// Something that goes wrong with the next matching requests.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) kind: FaultKind,
    times: u32,
    operation: Option<String>,
    method: Option<String>,
    key: Option<String>,
}

impl Fault {
    fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            times: 1,
            operation: None,
            method: None,
            key: None,
        }
    }

    /// Answers with this status and code and does nothing else.
    pub fn status(status: u16, code: impl Into<String>) -> Self {
        Self::new(FaultKind::Answer {
            status,
            code: code.into(),
            after_effect: false,
        })
    }

    /// Does what was asked, then answers with this status and code: `203 CallbackFailed`, or a 500 whose
    /// request was carried out all the same.
    pub fn status_after_effect(status: u16, code: impl Into<String>) -> Self {
        Self::new(FaultKind::Answer {
            status,
            code: code.into(),
            after_effect: true,
        })
    }

    /// Breaks the connection once `bytes` bytes of the answer's body have been sent.
    pub fn cut_download(bytes: u64) -> Self {
        Self::new(FaultKind::CutDownload(bytes))
    }

    /// Breaks the connection once `bytes` bytes of the request's body have been read; nothing is stored.
    pub fn cut_upload(bytes: u64) -> Self {
        Self::new(FaultKind::CutUpload(bytes))
    }

    /// Does what was asked, then breaks the connection instead of answering.
    pub fn lose_answer() -> Self {
        Self::new(FaultKind::LoseAnswer)
    }

    /// Waits this long before it begins.
    pub fn delay(by: Duration) -> Self {
        Self::new(FaultKind::Delay(by))
    }

    /// Gives a wrong `x-oss-hash-crc64ecma`.
    pub fn wrong_crc() -> Self {
        Self::new(FaultKind::WrongCrc)
    }

    /// How many requests it hits; once by default.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Only this operation, by OSS's own name: `PutObject`, `UploadPart`, `CompleteMultipartUpload` …
    #[must_use]
    pub fn on_operation(mut self, name: impl Into<String>) -> Self {
        self.operation = Some(name.into());
        self
    }

    /// Only this HTTP method.
    #[must_use]
    pub fn on_method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Only this key.
    #[must_use]
    pub fn on_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    fn matches(&self, operation: &str, method: &str, key: &str) -> bool {
        self.times > 0
            && self.operation.as_deref().is_none_or(|wanted| wanted == operation)
            && self
                .method
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.key.as_deref().is_none_or(|wanted| wanted == key)
    }
}

/// The faults still to come, first come first served.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.lock().push(fault);
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Faults that have not hit yet.
    pub(crate) fn pending(&self) -> u32 {
        self.lock().iter().map(|fault| fault.times).sum()
    }

    pub(crate) fn take(&self, operation: &str, method: &str, key: &str) -> Option<FaultKind> {
        let mut faults = self.lock();
        let index = faults
            .iter()
            .position(|fault| fault.matches(operation, method, key))?;
        let fault = faults.get_mut(index)?;
        fault.times -= 1;
        let kind = fault.kind.clone();
        faults.retain(|fault| fault.times > 0);
        Some(kind)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_only_what_it_names_and_as_often_as_it_says() {
        let faults = Faults::default();
        faults.add(
            Fault::status(503, "Busy")
                .times(2)
                .on_operation("PutObject")
                .on_key("a"),
        );
        assert_eq!(faults.take("GetObject", "GET", "a"), None);
        assert_eq!(faults.take("PutObject", "PUT", "b"), None);
        assert!(faults.take("PutObject", "PUT", "a").is_some());
        assert_eq!(faults.pending(), 1);
        assert!(faults.take("PutObject", "PUT", "a").is_some());
        assert_eq!(faults.take("PutObject", "PUT", "a"), None);
    }
}
