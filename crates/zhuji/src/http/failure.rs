//! How the errors of the resources look to a client.

use std::time::Duration;

use super::Problem;

const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Somebody has to do something first.
const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(30);

impl From<zhuji_db_pool::Error> for Problem {
    fn from(error: zhuji_db_pool::Error) -> Self {
        let problem = if error.is_unavailable() {
            Problem::unavailable(
                "The database can't be reached at the moment. Please try again shortly.",
                RETRY_AFTER,
            )
        } else {
            Problem::internal()
        };
        problem.caused_by(&error)
    }
}

impl From<zhuji_storage::Error> for Problem {
    fn from(error: zhuji_storage::Error) -> Self {
        use zhuji_storage::ErrorKind;
        // The upload's own stream failed: its problem is the client's, and says more.
        if let Some(problem) = Problem::within(&error) {
            return problem.caused_by(&error);
        }
        let problem = match error.kind() {
            ErrorKind::NotFound => Problem::not_found("The file does not exist."),
            ErrorKind::InvalidKey => Problem::bad_request("The file's name can't be used."),
            ErrorKind::NoSpace => Problem::new(
                http::StatusCode::INSUFFICIENT_STORAGE,
                "The file storage is full. Nothing was stored; please tell the operator.",
            ),
            _ if error.is_retryable() => Problem::unavailable(
                "The file storage can't be reached at the moment. Please try again shortly.",
                RETRY_AFTER,
            ),
            // The program is right, and nobody's request is wrong: the operator has to mend rights, keys or the clock.
            ErrorKind::Denied
            | ErrorKind::Credential
            | ErrorKind::Signature
            | ErrorKind::ClockSkew
            | ErrorKind::ReadOnly => Problem::unavailable(
                "The file storage refuses this service at the moment. Please tell the operator, and try again later.",
                REFUSED_RETRY_AFTER,
            ),
            _ => Problem::internal(),
        };
        problem.caused_by(&error)
    }
}

impl From<zhuji_cache::Error> for Problem {
    fn from(error: zhuji_cache::Error) -> Self {
        let problem = if error.is_unavailable() {
            Problem::unavailable(
                "The cache can't be reached at the moment. Please try again shortly.",
                RETRY_AFTER,
            )
        } else {
            Problem::internal()
        };
        problem.caused_by(&error)
    }
}

impl From<zhuji_jobs::Error> for Problem {
    fn from(error: zhuji_jobs::Error) -> Self {
        let problem = if error.is_retryable() {
            Problem::unavailable(
                "The job queue can't be reached at the moment. Please try again shortly.",
                RETRY_AFTER,
            )
        } else {
            Problem::internal()
        };
        problem.caused_by(&error)
    }
}

#[cfg(test)]
mod tests {
    use zhuji_storage::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_store_that_refuses_the_service_is_away_and_not_a_mistake() {
        for (kind, status) in [
            (ErrorKind::NotFound, 404),
            (ErrorKind::InvalidKey, 400),
            (ErrorKind::NoSpace, 507),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Denied, 503),
            (ErrorKind::Credential, 503),
            (ErrorKind::Signature, 503),
            (ErrorKind::ClockSkew, 503),
            (ErrorKind::ReadOnly, 503),
            (ErrorKind::Integrity, 500),
        ] {
            let problem = Problem::from(Error::new(kind, "upload", "asl/pdfs/1.pdf", "hunter2"));
            assert_eq!(problem.status().as_u16(), status, "{kind:?}");
            assert!(!problem.detail().contains("hunter2"));
        }
    }
}
