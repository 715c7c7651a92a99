//! What can go wrong with one exchange, and when it does.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A place in an exchange of one request and one answer.
///
/// A message without a body is hit in its head instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The client has begun to send; nothing was read.
    BeforeRequest,
    /// Half of the request's head has gone through.
    RequestHead,
    /// A part of the request's body has gone through: half of it in a script, any part of it at random.
    RequestBody,
    /// The server has done what was asked and answered; nothing of that has gone back.
    BeforeAnswer,
    /// Half of the answer's head has gone back.
    AnswerHead,
    /// A part of the answer's body has gone back.
    AnswerBody,
}

impl Moment {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [
        Self::BeforeRequest,
        Self::RequestHead,
        Self::RequestBody,
        Self::BeforeAnswer,
        Self::AnswerHead,
        Self::AnswerBody,
    ];
}

/// What the proxy does to one exchange.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ProxyFault {
    /// Nothing: in a script it lets one exchange pass.
    Pass,
    /// Cuts this connection before the request is read, and refuses new ones for so long.
    Refuse(Duration),
    /// Cuts the connection with a TCP reset, to both sides.
    Reset(Moment),
    /// Closes the connection in order, to both sides: in the body of an answer, a truncated download.
    Close(Moment),
    /// Nothing moves for so long, or until the client leaves; then it goes on.
    Stall(Moment, Duration),
    /// Reads the request, does not pass it on, and answers with this status and an error document as OSS writes them.
    Answer(u16),
    /// Flips one bit of the request's body. XML documents pass: no protocol has a checksum for them.
    CorruptRequest,
    /// Flips one bit of the answer's body, unless it is an XML document.
    CorruptAnswer,
    /// Passes the request on after so long.
    Delay(Duration),
    /// Lets both bodies through at so many bytes per second.
    Throttle(u64),
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Refuse(_) => f.write_str("refuse"),
            Self::Reset(moment) => write!(f, "reset {moment:?}"),
            Self::Close(moment) => write!(f, "close {moment:?}"),
            Self::Stall(moment, _) => write!(f, "stall {moment:?}"),
            Self::Answer(status) => write!(f, "answer {status}"),
            Self::CorruptRequest => f.write_str("corrupt request"),
            Self::CorruptAnswer => f.write_str("corrupt answer"),
            Self::Delay(_) => f.write_str("delay"),
            Self::Throttle(_) => f.write_str("throttle"),
        }
    }
}

/// A fault and how far into a body it hits, from 0 to 1.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) fault: ProxyFault,
    pub(super) part: f64,
}

impl Chosen {
    /// The fault, if it is one that acts at this moment.
    pub(super) fn at(&self, moment: Moment) -> Option<&ProxyFault> {
        let hits = match &self.fault {
            ProxyFault::Reset(at) | ProxyFault::Close(at) | ProxyFault::Stall(at, _) => *at == moment,
            ProxyFault::Refuse(_) => moment == Moment::BeforeRequest,
            ProxyFault::CorruptRequest => moment == Moment::RequestBody,
            ProxyFault::CorruptAnswer => moment == Moment::AnswerBody,
            _ => false,
        };
        hits.then_some(&self.fault)
    }
}

/// Which faults are still to come, and which have been.
#[derive(Debug, Default)]
pub(super) struct Plan(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    script: VecDeque<ProxyFault>,
    rate: Option<Rate>,
    injected: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Rate {
    random: fastrand::Rng,
    one_in: u32,
    kinds: Vec<ProxyFault>,
}

impl Plan {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn script(&self, faults: impl IntoIterator<Item = ProxyFault>) {
        self.lock().script.extend(faults);
    }

    pub(super) fn rate(&self, seed: u64, one_in: u32, kinds: Vec<ProxyFault>) {
        self.lock().rate = (one_in > 0 && !kinds.is_empty()).then(|| Rate {
            random: fastrand::Rng::with_seed(seed),
            one_in,
            kinds,
        });
    }

    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        inner.script.clear();
        inner.rate = None;
    }

    pub(super) fn pending(&self) -> usize {
        self.lock().script.len()
    }

    pub(super) fn injected(&self) -> BTreeMap<String, u64> {
        self.lock().injected.clone()
    }

    /// What the next exchange gets.
    pub(super) fn next(&self) -> Chosen {
        let mut inner = self.lock();
        let mut chosen = Chosen {
            fault: ProxyFault::Pass,
            part: 0.5,
        };
        if let Some(fault) = inner.script.pop_front() {
            chosen.fault = fault;
        } else if let Some(rate) = &mut inner.rate
            && rate.random.u32(0..rate.one_in) == 0
        {
            let index = rate.random.usize(0..rate.kinds.len());
            chosen.part = rate.random.f64();
            chosen.fault = rate.kinds[index].clone();
        }
        if chosen.fault != ProxyFault::Pass {
            *inner.injected.entry(chosen.fault.to_string()).or_default() += 1;
        }
        chosen
    }
}
