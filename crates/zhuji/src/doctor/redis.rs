//! Redis, where the cache uses it.

use url::Url;
use zhuji_cache::{CacheConfig, ErrorKind, RedisAdapter, RedisFacts};

use super::{Finding, Patient, absent, remedies};

/// A cache in the next machine answers in less.
const SLOW_MS: u128 = 20;
const OLDEST: u32 = 6;

/// The address, if the cache is one that uses it.
pub(super) fn url(patient: &Patient<'_>) -> Option<Url> {
    Url::parse(used(patient.cache.here()?)?).ok()
}

fn used(cache: &CacheConfig) -> Option<&str> {
    let remote = matches!(cache.effective_kind(), "redis" | "tiered");
    cache
        .redis_url
        .as_ref()
        .filter(|_| remote)
        .map(|url| url.expose())
}

pub(super) async fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let Some(cache) = patient.cache.here() else {
        return absent("redis", &patient.cache);
    };
    let Some(url) = used(cache) else {
        let kind = cache.effective_kind();
        return vec![Finding::ok("redis", format!("not used: CACHE_TYPE is {kind}"))];
    };
    let encrypted = !url.starts_with("redis://");
    let facts = match RedisAdapter::new(cache) {
        Ok(adapter) => adapter.facts().await,
        Err(error) => Err(error),
    };
    match facts {
        Ok(facts) => judge(&facts, encrypted, patient.is_production()),
        Err(error) => {
            let mend = match error.kind() {
                ErrorKind::Denied => "correct user and password in REDIS_URL, and the rights of that user",
                ErrorKind::Config => "correct REDIS_URL and REDIS_CA_FILE",
                _ => remedies::NO_ROAD_TO_REDIS,
            };
            // It works without: reads go to the database.
            vec![Finding::error("redis", chain(&error), mend)]
        }
    }
}

fn chain(error: &zhuji_cache::Error) -> String {
    // Up to the advice, which is ours to give.
    let told = error.to_string();
    let told = told
        .split_once("; ")
        .map_or(told.as_str(), |(told, _)| told)
        .to_owned();
    match std::error::Error::source(error) {
        Some(source) => format!("{told}: {source}"),
        None => told,
    }
}

fn judge(facts: &RedisFacts, encrypted: bool, production: bool) -> Vec<Finding> {
    let millis = facts.ping.as_micros() as f64 / 1000.0;
    let Some(version) = &facts.version else {
        let evidence = format!("answers in {millis:.1} ms; the user may not ask what it is (INFO)");
        return vec![Finding::info("redis", evidence)];
    };
    let mut found = vec![Finding::ok(
        "redis",
        format!("version {version} answers in {millis:.1} ms"),
    )];
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        found.push(Finding::error(
            "redis.version",
            format!("{version} is too old"),
            "use Redis 6 or newer",
        ));
    }
    if facts.ping.as_millis() > SLOW_MS {
        let mend = "put it into the same zone as the service, or look at its load (SLOWLOG)";
        found.push(Finding::warning(
            "redis.latency",
            format!("a ping takes {millis:.0} ms"),
            mend,
        ));
    }
    if facts.role.as_deref() == Some("slave") {
        let mend = "let REDIS_URL lead to the primary";
        found.push(Finding::error(
            "redis.role",
            "it is a replica, which takes no writes",
            mend,
        ));
    }
    let policy = facts.eviction_policy.as_deref().unwrap_or("unknown");
    let mib = |bytes: u64| bytes >> 20;
    match facts.max_memory {
        0 => found.push(Finding::warning(
            "redis.memory",
            format!("no limit (maxmemory 0), {} MiB in use", mib(facts.used_memory)),
            "set maxmemory, and maxmemory-policy to allkeys-lru",
        )),
        limit => {
            let evidence = format!(
                "{} of {} MiB in use, policy {policy}",
                mib(facts.used_memory),
                mib(limit)
            );
            found.push(match policy {
                "noeviction" => Finding::warning(
                    "redis.memory",
                    evidence,
                    "set maxmemory-policy to allkeys-lru: a full cache then makes room instead of refusing",
                ),
                _ => Finding::ok("redis.memory", evidence),
            });
        }
    }
    if encrypted {
        found.push(Finding::ok("redis.tls", "encrypted, or a socket of this machine"));
    } else if production {
        found.push(Finding::info(
            "redis.tls",
            "not encrypted: rediss:// if others share the network",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Severity;
    use super::*;

    #[test]
    fn a_server_that_is_no_good_cache_is_told() {
        let severities = |facts: &RedisFacts| -> Vec<(&str, Severity)> {
            judge(facts, false, false)
                .iter()
                .map(|f| (f.check, f.severity))
                .collect()
        };
        let mut facts = RedisFacts::default();
        facts.ping = Duration::from_millis(1);
        assert_eq!(severities(&facts), [("redis", Severity::Info)]);
        facts.version = Some("7.2.4".to_owned());
        facts.eviction_policy = Some("allkeys-lru".to_owned());
        facts.max_memory = 64 << 20;
        assert_eq!(
            severities(&facts),
            [("redis", Severity::Ok), ("redis.memory", Severity::Ok)]
        );
        facts.version = Some("5.0.1".to_owned());
        facts.eviction_policy = Some("noeviction".to_owned());
        facts.role = Some("slave".to_owned());
        facts.ping = Duration::from_millis(50);
        let bad: Vec<&str> = severities(&facts)
            .iter()
            .skip(1)
            .map(|(check, _)| *check)
            .collect();
        assert_eq!(
            bad,
            ["redis.version", "redis.latency", "redis.role", "redis.memory"]
        );
    }
}
