//! What to do, where several checks say the same.

pub(super) const NO_ROAD_TO_DATABASE: &str = "let the server's allow-list hold this machine's network (RDS: the VPC segment of \
     the application), and check that the instance runs and that host and port in DATABASE_URL are right";

pub(super) const NO_ROAD_TO_OSS: &str = "check OSS_ENDPOINT and OSS_REGION, and that OSS_INTERNAL is only true inside Alibaba \
     Cloud's own network";

pub(super) const NO_ROAD_TO_REDIS: &str =
    "check host and port in REDIS_URL, that the server runs, and its allow-list";

pub(super) const NO_ROAD_TO_LLM: &str = "check LLM_BASE_URL, and whether this machine may reach the internet";

pub(super) const NO_CONNECTION_LEFT: &str = "end idle sessions (`SELECT pid, application_name, state FROM pg_stat_activity`), \
     lower DB_POOL_SIZE or DB_MAX_INSTANCES, go through DATABASE_POOLED_URL, or take a larger server";
