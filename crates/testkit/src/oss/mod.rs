//! An OSS server in the test's own process.
//!
//! It exists so that a client can be wrong: it checks signatures (V4 and V1, in the header and in the URL),
//! clocks, expiry, security tokens, limits and checksums as OSS documents them, and answers with OSS's own
//! documents and headers. The official Python clients run against it in this crate's tests; that they work is
//! what makes another client's success mean something.
//!
//! ```no_run
//! # async fn run() -> std::io::Result<()> {
//! use zhuji_testkit::oss::{Fault, OssServer, OssServerOptions};
//!
//! let server = OssServer::start(OssServerOptions::default()).await?;
//! server.fail_next(Fault::status(503, "ServiceUnavailable").on_operation("PutObject"));
//! // … point a client at server.endpoint() …
//! assert_eq!(server.requests().last().map(|request| request.status), Some(503));
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Where OSS and this server differ
//! - Path style (`/bucket/key`) is served on IP addresses; OSS itself takes virtual-host style only.
//! - Settings (`?lifecycle`, `?tagging`) are kept, not acted on; `?cors` is acted on. With `?versioning` writes are told a
//!   version and `x-oss-forbid-overwrite` is not heeded, as in OSS; old versions are not kept.
//! - What it does not do answers 501 `NotImplemented` (image processing, callbacks, symlinks, versions …).
//! - One account owns everything; there are no policies.

mod auth;
mod body;
mod clock;
mod disk;
mod error;
mod fault;
mod log;
mod operation;
mod ops;
mod reply;
mod request;
mod serve;
mod server;
mod store;
mod xml;

pub use auth::{AuthScheme, OssCredentials};
pub use fault::Fault;
pub use log::OssRequestRecord;
pub use request::HostStyle;
pub use server::{OssObjectInfo, OssServer, OssServerOptions};
pub(crate) use server::{ServerHandle, random};
pub use store::OssObjectType;
