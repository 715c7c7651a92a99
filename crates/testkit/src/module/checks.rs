//! The checks themselves. Each panics with every breach it found, and what to do about them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::service::{ModuleService, Process, record};
use super::snapshot::{self, Thing};
use super::subject::Subject;
use super::world::{ADMIN_TOKEN, SHUTDOWN_SECONDS, World};

/// How long a command such as `migrate` may take on a loaded machine.
const COMMAND: Duration = Duration::from_secs(60);
/// How long the jobs that an exercise has caused may take.
const JOBS: Duration = Duration::from_secs(30);

/// The module starts, is healthy, and logs no error on the way.
///
/// # Panics
/// When it does not.
pub fn starts_and_is_healthy(subject: &Subject) {
    run(async {
        let world = World::new(subject).await;
        let service = ModuleService::start_in(&world, subject, false).await;
        let health = service.send_with("/health", ADMIN_TOKEN).await;
        let status = &health.json()["status"];
        require(
            subject,
            (health.status != 200 || status != "ok").then(|| format!("/health answers {}", health.text)),
            "mend what the check looks at, or the check",
        );
        let errors = service
            .log()
            .into_iter()
            .filter(|line| record(line).is_some_and(|record| level(&record).eq_ignore_ascii_case("error")));
        require(
            subject,
            errors.map(|line| format!("logged at its start: {line}")),
            "an error in the log wakes somebody up: mend it, or log it as what it is",
        );
    });
}

/// Migrations are applied once and for all, and the module meets what it left behind.
///
/// # Panics
/// When they are not.
pub fn starts_twice(subject: &Subject) {
    run(async {
        let world = World::new(subject).await;
        migrate(&world, subject).await;
        let migrated = snapshot::structure(&world).await;
        migrate(&world, subject).await;
        require_same(
            subject,
            &migrated,
            &snapshot::structure(&world).await,
            "a second `migrate`",
        );
        for start in ["the first start", "the second start"] {
            let service = ModuleService::start_in(&world, subject, false).await;
            exercise(&world, subject, &service).await;
            service.stop().await;
            require_same(subject, &migrated, &snapshot::structure(&world).await, start);
        }
    });
}

/// Everything that the module makes lies in its own schema, prefix, cache namespace and queue.
///
/// # Panics
/// When something does not.
pub fn touches_only_its_own(subject: &Subject) {
    run(async {
        let world = World::new(subject).await;
        ModuleService::start_in(&world, subject, true).await.stop().await;
        let before = everything(&world).await;
        let service = ModuleService::start_in(&world, subject, false).await;
        exercise(&world, subject, &service).await;
        service.stop().await;
        let foreign = everything(&world).await.into_iter().filter(|(area, thing)| {
            let own = match area {
                Area::Schema => subject.schema,
                Area::Name => subject.name,
            };
            thing.owner != own && !before.contains(&(*area, thing.clone()))
        });
        require(
            subject,
            foreign.map(|(_, thing)| format!("made {}", thing.what)),
            "use the context's own handles, and names without a schema: they lead to what is the module's",
        );
    });
}

/// The service ends within its time when it is asked to, and nothing of the module has to be cut off.
///
/// # Panics
/// When it does not.
pub fn stops_in_time(subject: &Subject) {
    run(async {
        let world = World::new(subject).await;
        let service = ModuleService::start_in(&world, subject, false).await;
        exercise(&world, subject, &service).await;
        let asked = Instant::now();
        let (status, log) = service.stop().await;
        let took = asked.elapsed();
        let warnings = log
            .iter()
            .filter_map(|line| record(line))
            // The platform's own words about what it had to leave behind.
            .filter(|record| {
                let message = record["message"].as_str().unwrap_or_default();
                message.contains("not stop in time")
                    || message.contains("were cut")
                    || message.contains("still in use")
            })
            .map(|record| record["message"].as_str().unwrap_or_default().to_owned());
        let bad_end = (!status.success()).then(|| {
            format!(
                "ended with {status} after {:.1} s of the {SHUTDOWN_SECONDS} s it had:\n{}",
                took.as_secs_f64(),
                log.join("\n")
            )
        });
        require(
            subject,
            warnings.chain(bad_end),
            "end in `stop` before its deadline, and start background work with `Context::spawn`, which ends it",
        );
    });
}

/// The module reads no variable of the environment and writes no file.
///
/// # Panics
/// When it does.
pub fn leaves_the_machine_alone(subject: &Subject) {
    run(async {
        let mut world = World::new(subject).await;
        world.watch();
        ModuleService::start_in(&world, subject, true).await.stop().await;
        let platform = world
            .watch
            .as_ref()
            .map(super::watch::Watch::take)
            .unwrap_or_default();
        let service = ModuleService::start_in(&world, subject, false).await;
        exercise(&world, subject, &service).await;
        service.stop().await;
        let module = world
            .watch
            .as_ref()
            .map(super::watch::Watch::take)
            .unwrap_or_default();
        assert!(
            world.watch.is_none() || !module.read.is_empty(),
            "nothing was seen at all: is the test program linked statically?"
        );
        let own = module.beyond(&platform);
        let read = own.read.iter().map(|name| format!("reads the variable {name}"));
        let written = own.written.iter().map(|path| format!("writes {path}"));
        let left = world
            .left_behind()
            .into_iter()
            .map(|what| format!("leaves {what}"));
        require(
            subject,
            read.chain(written).chain(left),
            "settings belong into the module's `Config`, and files into `Context::storage`",
        );
    });
}

async fn migrate(world: &World, subject: &Subject) {
    let mut command = Process::start(world, subject, "migrate", false);
    let status = command.ended(COMMAND).await;
    let failed =
        (!status.success()).then(|| format!("`migrate` failed ({status}):\n{}", command.log().join("\n")));
    require(
        subject,
        failed,
        "mend the migration: no instance starts without it",
    );
}

/// Uses the module, and waits for the jobs that come of it.
async fn exercise(world: &World, subject: &Subject, service: &ModuleService) {
    let Some(exercise) = subject.exercise else { return };
    exercise(service).await;
    let start = Instant::now();
    while snapshot::jobs_left(world).await > 0 && start.elapsed() < JOBS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What says whose a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Area {
    Schema,
    Name,
}

async fn everything(world: &World) -> BTreeSet<(Area, Thing)> {
    let structure = snapshot::structure(world)
        .await
        .into_iter()
        .map(|thing| (Area::Schema, thing));
    let named = [
        snapshot::jobs(world).await,
        snapshot::objects(world),
        snapshot::cached(world).await,
    ];
    let named = named.into_iter().flatten().map(|thing| (Area::Name, thing));
    structure.chain(named).collect()
}

fn require_same(subject: &Subject, expected: &BTreeSet<Thing>, found: &BTreeSet<Thing>, when: &str) {
    let of = |thing: &&Thing| thing.owner == subject.schema;
    let more = found
        .difference(expected)
        .filter(of)
        .map(|thing| format!("made {} in {when}", thing.what));
    let less = expected
        .difference(found)
        .filter(of)
        .map(|thing| format!("lost {} in {when}", thing.what));
    require(subject, more.chain(less), "only a migration changes the schema");
}

/// Panics with all breaches at once.
fn require(subject: &Subject, breaches: impl IntoIterator<Item = String>, mend: &str) {
    let breaches: Vec<String> = breaches.into_iter().collect();
    assert!(
        breaches.is_empty(),
        "the module `{}`\n  - {}\n{mend}",
        subject.name,
        breaches.join("\n  - ")
    );
}

fn level(record: &Value) -> &str {
    record["level"].as_str().unwrap_or_default()
}

fn run(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be started")
        .block_on(check);
}
