//! The clock of this machine, against those of others.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use super::{Finding, Patient};
use crate::probe::{client, failure};

/// From here on somebody will notice: leases, expiries, logs that do not fit together.
const NOTICED: f64 = 30.0;
/// OSS refuses signatures that are further from its own time.
const REFUSED: f64 = 900.0;
/// This program is younger than that.
const BEFORE_US: i64 = 1_735_689_600;

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let now = Timestamp::now();
    let mut found = vec![match now.as_second() < BEFORE_US {
        true => Finding::error("clock", format!("it says {now:.0}"), MEND),
        false => Finding::ok("clock", format!("{now:.0}")),
    }];
    let oss = patient.storage.here().and_then(|storage| storage.oss_addresses());
    if let Some((traffic, _)) = oss {
        let before = Timestamp::now();
        let told = async {
            let answer = client()?
                .head(traffic)
                .send()
                .await
                .map_err(|error| failure(&error))?;
            let date = answer
                .headers()
                .get(http::header::DATE)
                .and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
            date.ok_or_else(|| "the answer has no Date".to_owned())
        };
        found.push(match told.await {
            Ok(server) => compare("clock.oss", "OSS", before, server.as_second() as f64),
            // That it can't be reached is told by `storage`.
            Err(why) => Finding::info("clock.oss", format!("could not be compared with OSS: {why}")),
        });
    }
    found
}

const MEND: &str = "set the clock and keep it with NTP (`timedatectl`, chrony)";

/// Against `theirs` (seconds since 1970), asked for between `before` and now.
pub(super) fn compare(check: &'static str, whose: &str, before: Timestamp, theirs: f64) -> Finding {
    let seconds = |time: Timestamp| time.as_millisecond() as f64 / 1000.0;
    let after = Timestamp::now();
    let ahead = (seconds(before) + seconds(after)) / 2.0 - theirs;
    judge(check, whose, ahead)
}

fn judge(check: &'static str, whose: &str, ahead: f64) -> Finding {
    let way = if ahead < 0.0 { "behind" } else { "ahead of" };
    let off = ahead.abs();
    let evidence = format!("this machine is {off:.0} s {way} {whose}");
    if off >= REFUSED {
        Finding::error(
            check,
            format!("{evidence}; signatures are refused from 900 s on"),
            MEND,
        )
    } else if off >= NOTICED {
        Finding::warning(check, evidence, MEND)
    } else {
        Finding::ok(check, format!("within {} s of {whose}", off.ceil().max(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn it_matters_by_how_much() {
        let severity = |ahead| judge("clock.oss", "OSS", ahead).severity;
        assert_eq!([0.4, -29.0].map(severity), [Severity::Ok; 2]);
        assert_eq!([31.0, -899.0].map(severity), [Severity::Warning; 2]);
        assert_eq!([900.0, -3600.0].map(severity), [Severity::Error; 2]);
        assert!(
            judge("clock.oss", "OSS", -1200.0)
                .evidence
                .contains("1200 s behind OSS")
        );
    }
}
