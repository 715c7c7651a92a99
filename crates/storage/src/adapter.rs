//! The contract between the handle and a back end.

use std::{fmt::Debug, path::Path, sync::Arc};

use async_trait::async_trait;

use crate::{
    Body, CorsRule, Download, Error, ErrorKind, GetOptions, Key, ListOptions, ListPage, Metadata, PutOptions,
    Result, RulesSection, RulesSupport, SignOptions, SignedUrl, StorageRules, Stored, Swept,
    UploadFileOptions, UrlSigner, transfer::source::SourceFile,
};

/// A back end that keeps objects. Implement it to bring your own, and [register](crate::StorageFactory::register) it.
///
/// What every implementation promises, and what the conformance suite checks:
///
/// - **A write is atomic.** A reader sees the old object or the new one, whole, never a mixture; a failed, cancelled or
///   cut-off write leaves the old state. When [`put`](Self::put) returns, a following read sees the new object.
/// - **Options arrive checked and complete**: keys by their type, `content_type` is always set, ranges are not empty, list
///   limits are within 1..=1000. The content type, disposition and metadata come and go with the content, atomically.
/// - **Create-only** writes are race-free: of many at once exactly one succeeds.
/// - **Deleting what isn't there succeeds.** Reading it is [`NotFound`](crate::ErrorKind::NotFound).
/// - **Lists** are in byte order of the whole key and never show temporary or reserved files.
/// - **Every call ends**: on a network, each has its own deadline; dropping a future stops the work and cleans up.
/// - **Errors** have the right [`ErrorKind`](crate::ErrorKind), say whether a repetition may help, and hold no secret.
#[async_trait]
pub trait StorageAdapter: Send + Sync + Debug + 'static {
    /// The name in metrics and logs: `local`, `oss`, `memory`.
    fn name(&self) -> &'static str;

    /// Stores an object, replacing an old one unless `create_only` is set.
    async fn put(&self, key: &Key, body: Body, options: &PutOptions) -> Result<Stored>;

    /// Stores a local file. Unless an adapter knows better, as one stream, without a checkpoint.
    ///
    /// An adapter that overrides it repeats what fails by itself: the layers pass it through.
    async fn upload_file(&self, key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Stored> {
        let body = file_body(key, path, options).await?;
        self.put(key, body, &options.put).await
    }

    /// Opens an object, or a part of it, for reading.
    async fn get(&self, key: &Key, options: &GetOptions) -> Result<Download>;

    /// What is known of an object.
    async fn head(&self, key: &Key) -> Result<Metadata>;

    /// Removes an object; a missing one is no error.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Removes many objects; one result for each key, in the same order.
    async fn delete_many(&self, keys: &[Key]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.delete(key).await);
        }
        results
    }

    /// Copies an object with its content type and metadata, replacing the target.
    async fn copy(&self, from: &Key, to: &Key) -> Result<Stored>;

    /// One page of the keys that start with `prefix`.
    async fn list(&self, prefix: &str, options: &ListOptions) -> Result<ListPage>;

    /// The address of an object without a signature.
    fn url(&self, key: &str) -> String;

    /// An address with a signature.
    async fn signed_url(&self, key: &Key, options: &SignOptions) -> Result<SignedUrl>;

    /// The cheapest call that shows that the back end can be used; run in the background by the health check.
    async fn check(&self) -> Result<()>;

    /// What an operator should look at though everything works, in a few plain words: `link down`. The health check shows it.
    fn degraded(&self) -> Option<&'static str> {
        None
    }

    /// The rules of the whole store: the sections that are asked for, and no others. A section without rules is an
    /// empty list.
    async fn rules(&self, sections: &[RulesSection]) -> Result<StorageRules> {
        let _ = sections;
        Err(unsupported(
            "rules",
            self.name(),
            "this adapter has no rules of its own",
        ))
    }

    /// Replaces the sections that are `Some`, and leaves the others alone; what [`rules_support`](Self::rules_support)
    /// denies is ignored. Doing it twice is as good as once.
    async fn set_rules(&self, rules: &StorageRules) -> Result<()> {
        let _ = rules;
        Err(unsupported(
            "rules",
            self.name(),
            "this adapter has no rules of its own",
        ))
    }

    /// The CORS rules of the objects that this process serves; asked for each request of a page of another origin.
    async fn served_cors(&self) -> Result<Vec<CorsRule>> {
        let rules = self.rules(&[RulesSection::Cors]).await?;
        Ok(rules.cors.unwrap_or_default())
    }

    /// Which rules it carries out.
    fn rules_support(&self) -> RulesSupport {
        RulesSupport::default()
    }

    /// Carries out the lifecycle rules now, for a back end that doesn't do it by itself; a dry run only counts.
    async fn sweep(&self, dry_run: bool) -> Result<Swept> {
        let _ = dry_run;
        Err(unsupported(
            "sweep",
            self.name(),
            "the back end carries out its rules by itself",
        ))
    }

    /// The signer of this adapter's URLs if they lead to this process, where an
    /// [`ObjectServer`](crate::serve::ObjectServer) has to answer them; `None` if the back end serves them itself.
    fn url_signer(&self) -> Option<Arc<UrlSigner>> {
        None
    }
}

/// A file as a body that fails if somebody writes to it meanwhile; the options hear how far it has been read.
pub(crate) async fn file_body(key: &Key, path: &Path, options: &UploadFileOptions) -> Result<Body> {
    let file = SourceFile::open(path, key).await?;
    let (watched, common, size) = (file.clone(), options.common.clone(), file.size);
    let body = file.into_body(move |done| common.report(done, size, 0));
    Ok(body.map_stream(|stream| watched.guard(stream, key)))
}

/// For what an adapter can't do.
pub(crate) fn unsupported(operation: &'static str, subject: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, operation, subject, why)
}

/// For an adapter that answered for fewer keys than it was asked about.
pub(crate) fn no_result(key: &Key) -> Error {
    Error::new(
        ErrorKind::Unexpected,
        "delete",
        key.as_str(),
        "the adapter gave no result for this key",
    )
}
