//! The operator's pages: logging in, looking at the queues, setting a dead job right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thirtyfour::prelude::*;
use zhuji::db::{DbConfig, DbPool};
use zhuji::jobs::{
    Job, JobError, JobId, JobSet, JobState, Jobs, JobsConfig, JobsFactory, Schedule, WorkerHandle,
    WorkerSettings,
};

use super::Browser;
use super::support::{Service, Setup};

pub(super) const TOKEN: &str = "a-token-of-the-test";
const HOSTILE: &str = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)>";

#[derive(serde::Serialize, serde::Deserialize)]
struct Digest {
    text: String,
    pages: Vec<u32>,
}

impl Job for Digest {
    const KIND: &'static str = "digest";
}

/// A job in the service's queue that dies, and lives when it is tried again: its worker is in this process.
struct Doomed {
    jobs: Jobs,
    id: JobId,
    worker: WorkerHandle,
    mended: Arc<AtomicBool>,
}

impl Doomed {
    async fn new(setup: &Setup) -> Self {
        let url = setup.database.as_ref().expect("there is one").url();
        let config: DbConfig = zhuji::config::load_from_pairs([("DATABASE_URL", url)]).expect("settings");
        let pool = DbPool::connect(&config).await.expect("the database is there");
        let jobs = JobsFactory::new()
            .build(&JobsConfig::default(), Some(pool))
            .await
            .expect("queues");
        let jobs = jobs.scoped("asl");
        let digest = Digest {
            text: format!("{HOSTILE} {}", "无穷长".repeat(60)),
            pages: vec![1, 2, 3],
        };
        let id = jobs.enqueue(&digest).await.expect("it is enqueued");
        let mended = Arc::new(AtomicBool::new(false));
        let is_mended = mended.clone();
        let nightly = Schedule::cron("nightly-digest", "0 3 * * *", &digest).expect("a time");
        let handler = async move |_, job: Digest| {
            if is_mended.load(Ordering::SeqCst) {
                return Ok(());
            }
            Err(JobError::fatal(format!(
                "cannot digest {}{}",
                job.text,
                "x".repeat(300)
            )))
        };
        let set = JobSet::new()
            .on(handler)
            .schedule(nightly.zone("Asia/Shanghai").expect("a place"));
        let worker = jobs.worker(set, WorkerSettings::default()).start();
        let doomed = Self {
            jobs,
            id,
            worker,
            mended,
        };
        doomed.reaches(JobState::Dead).await;
        doomed
    }

    async fn reaches(&self, state: JobState) {
        let start = Instant::now();
        while self
            .jobs
            .get(self.id)
            .await
            .expect("the store answers")
            .expect("it is there")
            .state
            != state
        {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "it is not {}",
                state.as_str()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Browser {
    /// Waits for a page that says this. The page before may go away while it is looked at.
    pub(super) async fn says(&self, test_id: &str, words: &str) {
        let start = Instant::now();
        let selector = format!("[data-testid='{test_id}']");
        loop {
            let text = match self.driver.find(By::Css(selector.clone())).await {
                Ok(element) => element.text().await,
                Err(error) => Err(error),
            };
            if text.as_ref().is_ok_and(|text| text.contains(words)) {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{test_id} does not say {words:?}: {text:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn log_in(&self, service: &Service, token: &str) {
        self.log_in_to(service, "/admin/jobs", token).await;
    }

    pub(super) async fn log_in_to(&self, service: &Service, path: &str, token: &str) {
        self.driver.goto(service.url(path)).await.expect("the page loads");
        self.find("token")
            .await
            .send_keys(token)
            .await
            .expect("it can be typed into");
        self.click("login").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_finds_a_dead_job_and_sets_it_right() {
    let Some(browser) = Browser::start(None).await else {
        return;
    };
    let setup = Setup::new().await.set("ADMIN_TOKEN", TOKEN);
    let service = setup.start().await;
    let doomed = Doomed::new(&setup).await;

    browser.log_in(&service, "wrong").await;
    browser.says("complaint", "not the token").await;
    browser.shot("jobs-1-login").await;
    browser
        .find("token")
        .await
        .send_keys(TOKEN)
        .await
        .expect("it can be typed into");
    browser.click("login").await;
    browser.says("queue-asl", "1\ndead").await;
    browser.says("timetable", "nightly-digest").await;
    browser.shot("jobs-2-queues").await;

    browser.click("asl-dead").await;
    browser.says("job", "cannot digest").await;
    browser.shot("jobs-3-dead").await;
    browser.click("open").await;
    browser.says("error", HOSTILE).await;
    browser.says("payload", HOSTILE).await;
    browser.says("history", "failed").await;
    assert!(
        !browser
            .driver
            .title()
            .await
            .expect("it has one")
            .contains("taken over")
    );
    browser.shot("jobs-4-job").await;
    doomed.mended.store(true, Ordering::SeqCst);
    browser.click("retry").await;
    browser.says("notice", "as soon as a worker is free").await;
    doomed.reaches(JobState::Done).await;
    browser.driver.refresh().await.expect("it loads again");
    browser.says("history", "done").await;
    browser.shot("jobs-5-retried").await;

    browser
        .driver
        .goto(service.url("/admin/jobs"))
        .await
        .expect("the page loads");
    browser.click("pause-asl").await;
    browser.says("notice", "The queue is paused").await;
    browser.says("queue-asl", "paused").await;
    browser.shot("jobs-6-paused").await;
    browser.click("resume-asl").await;
    browser.says("notice", "runs again").await;
    browser.click("logout").await;
    browser
        .driver
        .goto(service.url("/admin/jobs"))
        .await
        .expect("the page loads");
    browser.find("token").await;

    browser.complained_only_of(&["/admin"]).await;
    browser.driver.clone().quit().await.expect("it ends");
    doomed.worker.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_pages_fit_the_smallest_phone() {
    let Some(browser) = Browser::start(Some(320)).await else {
        return;
    };
    let setup = Setup::new().await.set("ADMIN_TOKEN", TOKEN);
    let service = setup.start().await;
    let doomed = Doomed::new(&setup).await;
    browser.log_in(&service, TOKEN).await;
    browser.says("queue-asl", "dead").await;
    browser.fits().await;
    browser.shot("jobs-phone-1-queues").await;
    for (name, path, test_id) in [
        (
            "jobs-phone-2-dead",
            "/admin/jobs/list?state=dead&queue=asl".to_owned(),
            "job",
        ),
        (
            "jobs-phone-3-job",
            format!("/admin/jobs/{}", doomed.id),
            "history",
        ),
        (
            "jobs-phone-4-missing",
            "/admin/jobs/nothing".to_owned(),
            "problem",
        ),
        ("jobs-phone-5-login", "/admin/login".to_owned(), "token"),
    ] {
        browser
            .driver
            .goto(service.url(&path))
            .await
            .expect("the page loads");
        browser.find(test_id).await;
        browser.fits().await;
        browser.shot(name).await;
    }
    browser.complained_only_of(&["/admin"]).await;
    browser.driver.clone().quit().await.expect("it ends");
    doomed.worker.stop(Duration::from_secs(5)).await;
}
