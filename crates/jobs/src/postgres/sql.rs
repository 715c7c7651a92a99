//! Every statement of the adapter. Names are qualified, so they work whatever the caller's search path is.

/// A conflict with an unfinished job of the same key "updates" that one to what it already is, which is what makes
/// `RETURNING` tell its id, and waits if a transaction is just finishing it.
pub(super) const ENQUEUE: &str = "
WITH enqueued AS (
INSERT INTO zhuji_jobs.job
    (id, queue, kind, payload, priority, max_attempts, run_at, unique_key, traceparent, request_id)
SELECT n.id, n.queue, n.kind, n.payload::json, n.priority, n.max_attempts,
       coalesce(n.run_at, now()) + make_interval(secs => n.delay), n.unique_key, n.traceparent, n.request_id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int2[], $6::int4[], $7::timestamptz[],
            $8::float8[], $9::text[], $10::text[], $11::text[])
     AS n(id, queue, kind, payload, priority, max_attempts, run_at, delay, unique_key, traceparent, request_id)
ON CONFLICT (queue, kind, unique_key) WHERE unique_key IS NOT NULL AND state IN ('ready', 'running')
DO UPDATE SET unique_key = excluded.unique_key
RETURNING id, queue, kind, unique_key
)
SELECT id, queue, kind, unique_key FROM enqueued";

/// For one job, by far the most frequent case: no arrays, and a plan as short as can be.
pub(super) const ENQUEUE_ONE: &str = "
INSERT INTO zhuji_jobs.job
    (id, queue, kind, payload, priority, max_attempts, run_at, unique_key, traceparent, request_id)
VALUES ($1, $2, $3, $4::text::json, $5, $6, coalesce($7, now()) + make_interval(secs => $8), $9, $10, $11)
ON CONFLICT (queue, kind, unique_key) WHERE unique_key IS NOT NULL AND state IN ('ready', 'running')
DO UPDATE SET unique_key = excluded.unique_key
RETURNING id, queue, kind, unique_key";

pub(super) const CLAIM: &str = "
WITH next AS (
    SELECT id FROM zhuji_jobs.job
    WHERE state = 'ready' AND queue = $1 AND kind = ANY($2::text[]) AND run_at <= now()
    ORDER BY priority DESC, run_at, id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
UPDATE zhuji_jobs.job j
SET state = 'running', attempt = j.attempt + 1, claims = j.claims + 1, started_at = now(), worker = $4,
    lease_until = now() + make_interval(secs => $5)
FROM next WHERE j.id = next.id
RETURNING j.id, j.kind, j.payload::text AS payload, j.claims, j.attempt, j.max_attempts, j.traceparent, j.request_id,
          extract(epoch FROM now() - j.run_at)::float8 AS waited";

/// A row that is locked is being completed in its handler's own transaction: it is left alone, because waiting for it
/// would hold up the other leases, and counts as still owned.
pub(super) const RENEW: &str = "
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::uuid[]) AS w(id, claims, worker)
), held AS (
    SELECT j.id FROM zhuji_jobs.job j JOIN wanted w ON j.id = w.id AND j.claims = w.claims AND j.worker = w.worker
    WHERE j.state = 'running'
    FOR UPDATE OF j SKIP LOCKED
), renewed AS (
    UPDATE zhuji_jobs.job j SET lease_until = now() + make_interval(secs => $4) FROM held WHERE j.id = held.id
)
SELECT j.id, j.claims, j.worker FROM zhuji_jobs.job j JOIN wanted w ON j.id = w.id AND j.claims = w.claims AND j.worker = w.worker
WHERE j.state = 'running'";

pub(super) const FINISH: &str = "
UPDATE zhuji_jobs.job j
SET state = CASE r.finish WHEN 'done' THEN 'done' WHEN 'dead' THEN 'dead' ELSE 'ready' END,
    attempt = CASE r.finish WHEN 'hand_back' THEN j.attempt - 1 ELSE j.attempt END,
    run_at = CASE r.finish WHEN 'retry' THEN now() + make_interval(secs => r.delay) ELSE j.run_at END,
    finished_at = CASE WHEN r.finish IN ('done', 'dead') THEN now() END,
    error = coalesce(r.error, j.error),
    lease_until = NULL
FROM unnest($1::uuid[], $2::int8[], $3::uuid[], $4::text[], $5::float8[], $6::text[])
     AS r(id, claims, worker, finish, delay, error)
WHERE j.id = r.id AND j.claims = r.claims AND j.worker = r.worker AND j.state = 'running'
RETURNING j.id, r.claims, r.worker";

pub(super) const FINISH_IN: &str = "
UPDATE zhuji_jobs.job SET state = 'done', finished_at = now(), lease_until = NULL
WHERE id = $1 AND claims = $2 AND worker = $3 AND state = 'running'";

pub(super) const RESCUE: &str = "
WITH lost AS (
    SELECT id FROM zhuji_jobs.job
    WHERE state = 'running' AND lease_until < now()
    ORDER BY lease_until
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
UPDATE zhuji_jobs.job j
SET state = CASE WHEN j.attempt >= j.max_attempts THEN 'dead' ELSE 'ready' END,
    finished_at = CASE WHEN j.attempt >= j.max_attempts THEN now() END,
    run_at = now(),
    error = 'the worker was lost: its lease ended',
    lease_until = NULL
FROM lost WHERE j.id = lost.id
RETURNING j.state";

pub(super) const RELEASE: &str = "
UPDATE zhuji_jobs.job SET state = 'ready', attempt = attempt - 1, lease_until = NULL
WHERE state = 'running' AND worker = $1
  AND NOT EXISTS (SELECT FROM unnest($2::uuid[], $3::int8[]) AS k(id, claims)
                  WHERE k.id = job.id AND k.claims = job.claims)";

pub(super) const SWEEP: &str = "
WITH done AS (
    SELECT id FROM zhuji_jobs.job
    WHERE state = 'done' AND finished_at < now() - make_interval(secs => $1)
    ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED
), dead AS (
    SELECT id FROM zhuji_jobs.job
    WHERE state = 'dead' AND finished_at < now() - make_interval(secs => $2)
    ORDER BY finished_at LIMIT $3 FOR UPDATE SKIP LOCKED
)
DELETE FROM zhuji_jobs.job j USING (SELECT id FROM done UNION ALL SELECT id FROM dead) AS old WHERE j.id = old.id";

pub(super) const GET: &str = "
SELECT id, queue, kind, payload::text AS payload, state, priority, attempt, max_attempts, run_at, created_at,
       started_at, finished_at, error, unique_key, traceparent, request_id
FROM zhuji_jobs.job WHERE id = $1";

/// Three parts, so that each can use its own partial index and none looks at what is done.
pub(super) const COUNTS: &str = "
SELECT queue,
       count(*) FILTER (WHERE state = 'ready' AND run_at <= now()) AS ready,
       count(*) FILTER (WHERE state = 'ready' AND run_at > now()) AS scheduled,
       count(*) FILTER (WHERE state = 'running') AS running,
       count(*) FILTER (WHERE state = 'running' AND lease_until < now()) AS stuck,
       count(*) FILTER (WHERE state = 'dead') AS dead,
       count(*) FILTER (WHERE state = 'dead' AND finished_at > now() - interval '1 hour') AS dead_lately,
       extract(epoch FROM now() - min(run_at) FILTER (WHERE state = 'ready' AND run_at <= now()))::float8
           AS oldest_ready
FROM (
    SELECT queue, state, run_at, lease_until, finished_at FROM zhuji_jobs.job WHERE state = 'ready'
    UNION ALL
    SELECT queue, state, run_at, lease_until, finished_at FROM zhuji_jobs.job WHERE state = 'running'
    UNION ALL
    SELECT queue, state, run_at, lease_until, finished_at FROM zhuji_jobs.job WHERE state = 'dead'
) AS open
GROUP BY queue
ORDER BY queue";
