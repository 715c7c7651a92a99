use crate::support::{Service, Setup};
use futures_util::future::join_all;
use reqwest::Url;
use std::net::SocketAddr;
use zhuji_testkit::oss::{OssServer, OssServerOptions};
use zhuji_testkit::{FaultProxy, TestPgBouncer, TestRedis};

/// Connections that the pooler shares among its clients.
const POOLED: u32 = 8;

/// Where the service runs: its instances, and what stands around them.
pub(super) struct Site {
    /// One for each instance.
    pub(super) setups: Vec<Setup>,
    pub(super) oss: Option<OssServer>,
    /// Between the service and OSS.
    pub(super) link: Option<FaultProxy>,
    /// In front of the pooler.
    pub(super) pooler: Option<FaultProxy>,
    _redis: Option<TestRedis>,
    _bouncer: Option<TestPgBouncer>,
}

/// Every mode in production. A load balancer has two seconds to notice that an instance goes.
async fn production(mode: &str) -> Setup {
    Setup::new()
        .await
        .set("APP_ENV", "production")
        .set("DEPLOYMENT_MODE", mode)
        .set("METRICS_LISTEN", "same")
        .set("DRAIN_DELAY", "2s")
}

impl Site {
    fn of(setup: Setup) -> Self {
        Self {
            setups: vec![setup],
            oss: None,
            link: None,
            pooler: None,
            _redis: None,
            _bouncer: None,
        }
    }

    pub(super) async fn standalone() -> Self {
        Self::of(production("standalone").await)
    }

    pub(super) async fn private() -> Self {
        let redis = TestRedis::start().await;
        let setup = production("private").await.set("REDIS_URL", redis.url()).set(
            "STORAGE_SIGNING_KEY",
            "a key of the tests, long enough to sign with",
        );
        Self {
            _redis: Some(redis),
            ..Self::of(setup)
        }
    }

    pub(super) async fn hybrid() -> Self {
        let oss = start_oss().await;
        let link = FaultProxy::start(oss.address()).await.expect("a free port");
        let setup = hybrid_on(&oss, &link).await;
        Self {
            oss: Some(oss),
            link: Some(link),
            ..Self::of(setup)
        }
    }

    pub(super) async fn cloud() -> Self {
        let (oss, redis) = (start_oss().await, TestRedis::start().await);
        let setup = production("cloud").await;
        let database = setup.database.as_ref().expect("it has one");
        let bouncer = TestPgBouncer::start(database, POOLED).await;
        let mut pooled = Url::parse(&bouncer.url()).expect("the testkit writes URLs");
        let behind = SocketAddr::from(([127, 0, 0, 1], pooled.port().expect("it names its port")));
        let pooler = FaultProxy::start_raw(behind).await.expect("a free port");
        pooled
            .set_port(Some(pooler.address().port()))
            .expect("it can have one");
        let setup = on_oss(setup, &oss, &oss.endpoint())
            .set("DATABASE_POOLED_URL", pooled.as_str())
            .set("DB_MAX_INSTANCES", "2")
            .set("REDIS_URL", redis.url());
        let other = setup.another_instance();
        Self {
            setups: vec![setup, other],
            oss: Some(oss),
            link: None,
            pooler: Some(pooler),
            _redis: Some(redis),
            _bouncer: Some(bouncer),
        }
    }

    /// A hybrid site's setup with a database of its own, on the OSS and the link of this one.
    pub(super) async fn another_hybrid(&self) -> Setup {
        let oss = self.oss.as_ref().expect("hybrid sites have it");
        hybrid_on(oss, self.link.as_ref().expect("hybrid sites have it")).await
    }

    pub(super) async fn start(&self) -> Vec<Service> {
        join_all(self.setups.iter().map(Setup::start)).await
    }

    /// The keys of the stored PDFs, wherever this mode keeps them.
    pub(super) fn stored_pdfs(&self) -> Vec<String> {
        let Some(oss) = &self.oss else {
            return self.setups[0].stored_pdfs();
        };
        let keys = oss.objects().into_iter().map(|object| object.key);
        keys.filter(|key| key.starts_with("asl/pdfs/")).collect()
    }
}

async fn start_oss() -> OssServer {
    OssServer::start(OssServerOptions::default())
        .await
        .expect("a free port")
}

fn on_oss(setup: Setup, oss: &OssServer, endpoint: &str) -> Setup {
    setup
        .set("OSS_REGION", oss.region())
        .set("OSS_ENDPOINT", endpoint)
        .set("OSS_BUCKET", oss.bucket())
        .set("OSS_ACCESS_KEY_ID", oss.access_key_id())
        .set("OSS_ACCESS_KEY_SECRET", oss.access_key_secret())
}

async fn hybrid_on(oss: &OssServer, link: &FaultProxy) -> Setup {
    let setup = on_oss(production("hybrid").await, oss, &link.url());
    let outbox = setup.dir.path().join("outbox");
    setup.set("STORAGE_OUTBOX_DIR", outbox)
}
