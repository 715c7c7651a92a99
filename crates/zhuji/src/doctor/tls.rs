//! How long the certificates are still good.

use jiff::Timestamp;

use super::{Finding, Patient};
use crate::probe::{TlsEndpoint, endpoints};

/// Days before the end: time to act, and hardly any time.
const WARN: i64 = 30;
const LATE: i64 = 7;
const DAY: i64 = 86_400;

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let endpoints = endpoints(
        patient.db.here(),
        patient.storage.here(),
        patient.cache.here(),
        patient.service.as_ref(),
    );
    let found = futures_util::future::join_all(endpoints.iter().map(one)).await;
    let mut found: Vec<Finding> = found.into_iter().flatten().collect();
    if found.is_empty() {
        found.push(Finding::ok(
            "tls",
            "no server of the settings shows a certificate",
        ));
    }
    found
}

async fn one(at: &TlsEndpoint) -> Option<Finding> {
    let whose = format!("{} ({}:{})", at.variable, at.host, at.port);
    match at.expiry().await {
        Ok(None) => None,
        Ok(Some(ends)) => Some(judge(&whose, ends, Timestamp::now())),
        // That it can't be reached is told by the check that needs it.
        Err(why) => Some(Finding::info(
            "tls",
            format!("{whose} showed no certificate: {why}"),
        )),
    }
}

fn judge(whose: &str, ends: Timestamp, now: Timestamp) -> Finding {
    let days = (ends.as_second() - now.as_second()).div_euclid(DAY);
    let day = ends.strftime("%Y-%m-%d");
    let mend = "renew it; what uses the server stops on that day";
    match days {
        ..0 => Finding::error("tls", format!("the certificate of {whose} ended on {day}"), mend),
        0..LATE => Finding::error(
            "tls",
            format!("the certificate of {whose} ends in {days} days, on {day}"),
            mend,
        ),
        LATE..WARN => Finding::warning(
            "tls",
            format!("the certificate of {whose} ends in {days} days, on {day}"),
            mend,
        ),
        _ => Finding::ok(
            "tls",
            format!("the certificate of {whose} is good for {days} days, until {day}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_certificate_is_renewed_in_time() {
        let severity = |days: i64| {
            let now = Timestamp::from_second(1_800_000_000).expect("a time");
            let ends = Timestamp::from_second(1_800_000_000 + days * DAY).expect("a time");
            judge("it", ends, now).severity
        };
        assert_eq!([-1, 0, 6].map(severity), [Severity::Error; 3]);
        assert_eq!([7, 29].map(severity), [Severity::Warning; 2]);
        assert_eq!(severity(30), Severity::Ok);
    }
}
