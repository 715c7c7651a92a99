//! Modules of different types in one list: the object-safe twin of [`Module`], private to the platform.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use zhuji_config::Loader;
use zhuji_health::Check;
use zhuji_jobs::JobSet;

use crate::context::{Context, Resources};
use crate::module::{Manifest, Module};
use crate::{BoxError, CheckSet};

/// A module that was compiled in.
pub(crate) trait Registered: Send + Sync {
    fn manifest(&self) -> Manifest;
    /// Reads the module's settings; problems stay with the loader.
    fn configure(&self, loader: &mut Loader) -> Option<Box<dyn Configured>>;
    /// Makes the module's variables known without reading them.
    fn describe(&self, loader: &mut Loader);
}

/// A module with its settings, ready to be started.
pub(crate) trait Configured: Send {
    fn manifest(&self) -> Manifest;
    fn start(self: Box<Self>, resources: Resources)
    -> BoxFuture<'static, Result<Box<dyn Running>, BoxError>>;
}

/// A module that runs.
pub(crate) trait Running: Send + Sync {
    fn name(&self) -> &'static str;
    fn routes(&self) -> Router;
    fn jobs(&self, jobs: JobSet) -> JobSet;
    fn checks(&self) -> Vec<Arc<dyn Check>>;
    fn stop(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, ()>;
}

pub(crate) struct Of<M>(PhantomData<fn() -> M>);

impl<M> Of<M> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<M: Module> Registered for Of<M> {
    fn manifest(&self) -> Manifest {
        M::MANIFEST
    }

    fn configure(&self, loader: &mut Loader) -> Option<Box<dyn Configured>> {
        let config = loader.load::<M::Config>()?;
        Some(Box::new(WithConfig::<M>(config)))
    }

    fn describe(&self, loader: &mut Loader) {
        loader.describe::<M::Config>();
    }
}

struct WithConfig<M: Module>(M::Config);

impl<M: Module> Configured for WithConfig<M> {
    fn manifest(&self) -> Manifest {
        M::MANIFEST
    }

    fn start(
        self: Box<Self>,
        resources: Resources,
    ) -> BoxFuture<'static, Result<Box<dyn Running>, BoxError>> {
        async move {
            let module = M::init(Context::new(M::MANIFEST, self.0, resources)).await?;
            Ok(Box::new(Up(Arc::new(module))) as Box<dyn Running>)
        }
        .boxed()
    }
}

struct Up<M>(Arc<M>);

impl<M: Module> Running for Up<M> {
    fn name(&self) -> &'static str {
        M::MANIFEST.name
    }

    fn routes(&self) -> Router {
        self.0.routes()
    }

    fn jobs(&self, jobs: JobSet) -> JobSet {
        self.0.jobs(jobs)
    }

    fn checks(&self) -> Vec<Arc<dyn Check>> {
        self.0.checks(CheckSet::default()).checks
    }

    fn stop(self: Box<Self>, deadline: Instant) -> BoxFuture<'static, ()> {
        self.0.stop(deadline).boxed()
    }
}
