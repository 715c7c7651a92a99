//! Every statement of the adapter. Names are qualified, so they work whatever the caller's search path is. The claim and
//! the ends of attempts are functions of the schema: see `v3_engine.sql`.

/// A conflict with an unfinished job of the same key "updates" that one to what it already is, which is what makes
/// `RETURNING` tell its id, and waits if a transaction is just finishing it.
pub(super) const ENQUEUE: &str = "
WITH enqueued AS (
INSERT INTO zhuji_jobs.job
    (id, queue, kind, payload, state, priority, max_attempts, run_at, unique_key, traceparent, request_id, batch)
SELECT n.id, n.queue, n.kind, n.payload::json, CASE WHEN n.at > now() THEN 'scheduled' ELSE 'ready' END,
       n.priority, n.max_attempts, n.at, n.unique_key, n.traceparent, n.request_id, n.batch
FROM (
    SELECT *, coalesce(run_at, now()) + make_interval(secs => delay) AS at
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int2[], $6::int4[], $7::timestamptz[],
                $8::float8[], $9::text[], $10::text[], $11::text[], $12::uuid[])
         AS u(id, queue, kind, payload, priority, max_attempts, run_at, delay, unique_key, traceparent, request_id,
              batch)
) AS n
ON CONFLICT (queue, kind, unique_key) WHERE unique_key IS NOT NULL AND state IN ('ready', 'scheduled', 'running')
DO UPDATE SET unique_key = excluded.unique_key
RETURNING id, queue, kind, unique_key
)
SELECT id, queue, kind, unique_key FROM enqueued";

/// For one job, by far the most frequent case: no arrays, and a plan as short as can be.
pub(super) const ENQUEUE_ONE: &str = "
INSERT INTO zhuji_jobs.job
    (id, queue, kind, payload, state, priority, max_attempts, run_at, unique_key, traceparent, request_id, batch)
VALUES ($1, $2, $3, $4::text::json,
        CASE WHEN coalesce($7, now()) + make_interval(secs => $8) > now() THEN 'scheduled' ELSE 'ready' END,
        $5, $6, coalesce($7, now()) + make_interval(secs => $8), $9, $10, $11, $12)
ON CONFLICT (queue, kind, unique_key) WHERE unique_key IS NOT NULL AND state IN ('ready', 'scheduled', 'running')
DO UPDATE SET unique_key = excluded.unique_key
RETURNING id, queue, kind, unique_key";

/// For many that are plain: the server parses nothing and plans nothing.
pub(super) const COPY: &str = "
COPY zhuji_jobs.job (id, queue, kind, payload, priority, max_attempts, traceparent, request_id)
FROM STDIN (FORMAT binary)";

pub(super) const CLAIM: &str = "SELECT * FROM zhuji_jobs.claim($1, $2, $3, $4, $5)";

pub(super) const RENEW: &str = "SELECT place, cancel FROM zhuji_jobs.renew($1, $2, $3, $4)";

pub(super) const COMPLETE: &str = "SELECT place FROM zhuji_jobs.complete($1, $2, $3, $4) AS place";

pub(super) const FAIL: &str = "SELECT place FROM zhuji_jobs.fail($1, $2, $3, $4, $5, $6)";

/// Which ended as reported, by their place in the arrays: told again because the answer to the first telling was lost.
/// What another instance wrote about the claim (that its worker was lost) is not what was reported. One look into an
/// index for each, however much is done.
pub(super) const HAS_ENDED: &str = "
SELECT r.place::int4 AS place
FROM ROWS FROM (unnest($1::uuid[]), unnest($2::int8[]), unnest($3::uuid[]), unnest($4::bool[])) WITH ORDINALITY
     AS r(id, claims, worker, done, place)
WHERE CASE WHEN r.done THEN
    (SELECT true FROM zhuji_jobs.finished f
     WHERE f.id = r.id AND f.claims = r.claims AND f.worker = r.worker AND f.state = 'done' LIMIT 1)
ELSE
    (SELECT true FROM zhuji_jobs.attempt a
     WHERE a.job = r.id AND a.claim = r.claims AND a.worker = r.worker AND a.outcome <> 'lost')
END";

pub(super) const RESCUE: &str = "SELECT state FROM zhuji_jobs.rescue($1) AS state";

pub(super) const RELEASE: &str = "SELECT zhuji_jobs.release($1, $2, $3)";

pub(super) const PROGRESS: &str = "SELECT zhuji_jobs.progress($1, $2, $3, $4, $5)";

/// What old programs leave in the queue, moved to where it belongs now.
pub(super) const TIDY: &str = "
WITH ended AS (
    SELECT id FROM zhuji_jobs.job WHERE state IN ('done', 'dead') LIMIT $1 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM zhuji_jobs.job j USING ended WHERE j.id = ended.id RETURNING j.*
)
INSERT INTO zhuji_jobs.finished (id, queue, kind, payload, state, priority, attempt, max_attempts, claims, run_at,
    created_at, started_at, finished_at, worker, unique_key, error, traceparent, request_id, batch)
SELECT id, queue, kind, payload, state, priority, attempt, max_attempts, claims, run_at, created_at, started_at,
    coalesce(finished_at, now()), worker, unique_key, error, traceparent, request_id, batch
FROM gone";

pub(super) const SWEEP: &str = "
WITH done AS (
    SELECT id, finished_at FROM zhuji_jobs.finished
    WHERE state <> 'dead' AND finished_at < now() - make_interval(secs => $1)
    ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED
), dead AS (
    SELECT id, finished_at FROM zhuji_jobs.finished
    WHERE state = 'dead' AND finished_at < now() - make_interval(secs => $2)
    ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM zhuji_jobs.finished f USING (SELECT * FROM done UNION ALL SELECT * FROM dead) AS old
    WHERE f.id = old.id AND f.finished_at = old.finished_at
    RETURNING f.id
), ended AS (
    SELECT id FROM zhuji_jobs.batch WHERE ended_at < now() - make_interval(secs => greatest($1, $2))
    ORDER BY ended_at LIMIT $3 FOR UPDATE SKIP LOCKED
), batches AS (
    DELETE FROM zhuji_jobs.batch b USING ended WHERE b.id = ended.id
), attempts AS (
    DELETE FROM zhuji_jobs.attempt a USING gone WHERE a.job = gone.id
)
SELECT count(*) FROM gone";

/// The columns of a record, for both tables. What is due is ready, whether or not a claim has noticed.
macro_rules! columns {
    ($finished:literal, $payload:literal) => {
        concat!(
            "id, queue, kind, ",
            $payload,
            " AS payload, CASE WHEN state NOT IN ('ready', 'scheduled') THEN state
                 WHEN run_at > now() THEN 'scheduled' ELSE 'ready' END AS state,
            priority, attempt, max_attempts, run_at, created_at, started_at, finished_at, error, unique_key,
            traceparent, request_id, batch, progress_done, progress_total, worker, claims",
            $finished
        )
    };
}
pub(super) use columns;

pub(super) const GET: &str = concat!(
    "SELECT * FROM (SELECT ",
    columns!(", cancel, NULL::text AS result", "payload::text"),
    " FROM zhuji_jobs.job WHERE id = $1 UNION ALL SELECT ",
    columns!(", false AS cancel, result::text", "payload::text"),
    " FROM zhuji_jobs.finished WHERE id = $1) AS found ORDER BY finished_at DESC NULLS FIRST LIMIT 1"
);

/// In parts, so that each can use its own partial index and none looks at what is done.
pub(super) const COUNTS: &str = "
SELECT queue,
       count(*) FILTER (WHERE state IN ('ready', 'scheduled') AND run_at <= now()) AS ready,
       count(*) FILTER (WHERE state IN ('ready', 'scheduled') AND run_at > now()) AS scheduled,
       count(*) FILTER (WHERE state = 'running') AS running,
       count(*) FILTER (WHERE state = 'running' AND lease_until < now()) AS stuck,
       count(*) FILTER (WHERE state = 'dead') AS dead,
       count(*) FILTER (WHERE state = 'dead' AND finished_at > now() - interval '1 hour') AS dead_lately,
       extract(epoch FROM now() - min(run_at) FILTER (WHERE state IN ('ready', 'scheduled') AND run_at <= now()))::float8
           AS oldest_ready
FROM (
    SELECT queue, state, run_at, lease_until, finished_at FROM zhuji_jobs.job
    WHERE state IN ('ready', 'scheduled', 'running', 'dead')
    UNION ALL
    SELECT queue, state, NULL, NULL, finished_at FROM zhuji_jobs.finished WHERE state = 'dead'
) AS open
GROUP BY queue
ORDER BY queue";

pub(super) const RECENT_COUNTS: &str = "SELECT * FROM zhuji_jobs.recent_counts($1)";

pub(super) const BATCH: &str = "
INSERT INTO zhuji_jobs.batch (id, queue, total, pending, next_id, next_kind, next_payload, next_priority,
    next_max_attempts, traceparent, request_id, ended_at)
VALUES ($1, $2, $3, $3, $4, $5, $6::text::json, $7, $8, $9, $10, CASE WHEN $3 = 0 THEN now() END)";

pub(super) const GET_BATCH: &str = "
SELECT id, queue, total, pending, failed, created_at, ended_at, next_id FROM zhuji_jobs.batch WHERE id = $1";

/// Kind '' is the queue as a whole. What is unchanged keeps its bucket.
pub(super) const SET_LIMITS: &str = "
INSERT INTO zhuji_jobs.rule AS r (queue, kind, max_running, rate, rate_per, tokens)
SELECT $1, n.kind, n.max_running, n.rate, n.rate_per, coalesce(n.rate, 0)
FROM unnest($2::text[], $3::int4[], $4::int4[], $5::float8[]) AS n(kind, max_running, rate, rate_per)
WHERE n.max_running IS NOT NULL OR n.rate IS NOT NULL
   OR EXISTS (SELECT FROM zhuji_jobs.rule o WHERE o.queue = $1 AND o.kind = n.kind)
ORDER BY n.kind
ON CONFLICT (queue, kind) DO UPDATE
SET max_running = excluded.max_running, rate = excluded.rate, rate_per = excluded.rate_per,
    tokens = excluded.tokens, refilled_at = now()
WHERE (r.max_running, r.rate, r.rate_per) IS DISTINCT FROM (excluded.max_running, excluded.rate, excluded.rate_per)";

pub(super) const RULES: &str = "
SELECT queue, kind, paused, max_running, rate, rate_per FROM zhuji_jobs.rule ORDER BY queue, kind";

pub(super) const SET_PAUSED: &str = "
INSERT INTO zhuji_jobs.rule (queue, paused) VALUES ($1, $2)
ON CONFLICT (queue, kind) DO UPDATE SET paused = excluded.paused";

pub(super) const HISTORY: &str = "
SELECT attempt, worker, started_at, ended_at, outcome, error FROM zhuji_jobs.attempt WHERE job = $1 ORDER BY claim";

pub(super) const RETRY_SCHEDULED: &str = "
UPDATE zhuji_jobs.job SET state = 'ready', run_at = now()
WHERE id = $1 AND state IN ('ready', 'scheduled') AND run_at > now()";

pub(super) const RETRY_FINISHED: &str = "
SELECT zhuji_jobs.replay(ARRAY(
    SELECT id FROM zhuji_jobs.finished WHERE id = $1 AND state IN ('dead', 'cancelled')
    ORDER BY finished_at DESC LIMIT 1))";

pub(super) const CANCEL: &str = "SELECT zhuji_jobs.cancel($1)";

/// One step, and the last job looked at.
pub(super) const REPLAY_DEAD: &str = "
WITH step AS (
    SELECT id FROM zhuji_jobs.finished
    WHERE state = 'dead' AND ($1::text IS NULL OR queue = $1) AND ($2::text IS NULL OR kind = $2)
      AND ($3::uuid IS NULL OR id > $3)
    ORDER BY id LIMIT $4
), found AS (
    SELECT array_agg(id ORDER BY id) AS ids FROM step
)
SELECT cardinality(ids) AS looked_at, ids[cardinality(ids)] AS last,
       (SELECT count(*) FROM zhuji_jobs.replay(ids)) AS changed
FROM found WHERE ids IS NOT NULL";

pub(super) const DROP_DEAD: &str = "
WITH step AS (
    SELECT id, finished_at FROM zhuji_jobs.finished
    WHERE state = 'dead' AND ($1::text IS NULL OR queue = $1) AND ($2::text IS NULL OR kind = $2)
    ORDER BY id LIMIT $3
), gone AS (
    DELETE FROM zhuji_jobs.finished f USING step WHERE f.id = step.id AND f.state = 'dead' RETURNING f.id
), attempts AS (
    DELETE FROM zhuji_jobs.attempt a USING gone WHERE a.job = gone.id
)
SELECT id FROM gone ORDER BY id";

pub(super) const SET_SCHEDULE: &str = "
INSERT INTO zhuji_jobs.schedule AS s
    (queue, name, cron, zone, kind, payload, priority, max_attempts, overlap, next_at)
VALUES ($1, $2, $3, $4, $5, $6::text::json, $7, $8, $9, $10)
ON CONFLICT (queue, name) DO UPDATE
SET cron = excluded.cron, zone = excluded.zone, kind = excluded.kind, payload = excluded.payload,
    priority = excluded.priority, max_attempts = excluded.max_attempts, overlap = excluded.overlap,
    next_at = CASE WHEN (s.cron, s.zone) = (excluded.cron, excluded.zone) THEN s.next_at ELSE excluded.next_at END,
    seen_at = now()";

/// Those that no instance has had for a while.
pub(super) const DROP_SCHEDULES: &str = "
DELETE FROM zhuji_jobs.schedule
WHERE queue = $1 AND kind = ANY($2) AND name <> ALL($3) AND seen_at < now() - interval '15 minutes'";

pub(super) const KEEP_SCHEDULES: &str = "
UPDATE zhuji_jobs.schedule SET seen_at = now() WHERE queue = $1 AND name = ANY($2)";

pub(super) const SCHEDULES: &str = "
SELECT queue, name, cron, zone, kind, payload::text AS payload, priority, max_attempts, overlap, next_at, last_at,
       last_job, now() AS now
FROM zhuji_jobs.schedule WHERE $1::text[] IS NULL OR queue = ANY($1) ORDER BY queue, name";

/// Whoever moves the entry on from this tick has it; nobody does before its time.
pub(super) const FIRE: &str = "
WITH fired AS (
    UPDATE zhuji_jobs.schedule s
    SET next_at = $4, last_at = $3,
        last_job = CASE WHEN s.overlap OR NOT EXISTS (
            SELECT FROM zhuji_jobs.job j
            WHERE j.queue = s.queue AND j.kind = s.kind AND j.unique_key = 'schedule ' || s.name
              AND j.unique_key IS NOT NULL AND j.state IN ('ready', 'scheduled', 'running')
        ) THEN $5 ELSE s.last_job END
    WHERE s.queue = $1 AND s.name = $2 AND s.next_at = $3 AND s.next_at <= now()
    RETURNING s.*
), enqueued AS (
    INSERT INTO zhuji_jobs.job (id, queue, kind, payload, priority, max_attempts, unique_key)
    SELECT $5, queue, kind, payload, priority, max_attempts, CASE WHEN NOT overlap THEN 'schedule ' || name END
    FROM fired
    ON CONFLICT (queue, kind, unique_key) WHERE unique_key IS NOT NULL AND state IN ('ready', 'scheduled', 'running')
    DO NOTHING
    RETURNING id
)
SELECT count(*) FROM enqueued";

pub(super) const IS_PRESENT: &str = "SELECT to_regclass('zhuji_jobs.finished') IS NOT NULL";
