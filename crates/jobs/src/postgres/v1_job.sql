CREATE TABLE zhuji_jobs.job (
    id           uuid        PRIMARY KEY,
    queue        text        NOT NULL,
    kind         text        NOT NULL,
    payload      json        NOT NULL,
    state        text        NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'running', 'done', 'dead')),
    priority     smallint    NOT NULL DEFAULT 0,
    attempt      integer     NOT NULL DEFAULT 0,
    max_attempts integer     NOT NULL,
    run_at       timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    finished_at  timestamptz,
    -- Who has it and until when. The worker stays after the end, as a note; only a running job's worker counts.
    worker       uuid,
    lease_until  timestamptz,
    unique_key   text,
    error        text,
    traceparent  text,
    request_id   text,
    CHECK (state <> 'running' OR (worker IS NOT NULL AND lease_until IS NOT NULL))
) WITH (
    -- Rows are short-lived and change state three times: leave room on the page, and clean up early.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0.05
);

-- The claim reads this from its start.
CREATE INDEX job_ready ON zhuji_jobs.job (queue, priority DESC, run_at, id) WHERE state = 'ready';
-- The rescue, and the counts.
CREATE INDEX job_lease ON zhuji_jobs.job (lease_until) WHERE state = 'running';
-- The sweep, and the count of the dead.
CREATE INDEX job_done ON zhuji_jobs.job (finished_at) WHERE state = 'done';
CREATE INDEX job_dead ON zhuji_jobs.job (finished_at) WHERE state = 'dead';
CREATE UNIQUE INDEX job_unique ON zhuji_jobs.job (queue, kind, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('ready', 'running');
