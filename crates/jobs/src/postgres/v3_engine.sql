-- The queue holds only what is not finished, so that its size is that of the backlog and not that of the past. What is
-- due apart from what is scheduled: a claim must not read its way past jobs of next week. The end of an attempt and the
-- claim are functions, because they decide on what they read, and because a function can carry its own planner
-- settings: a plan made while the table was empty reads it from end to end, and stays in use when it is full.

CREATE TABLE zhuji_jobs.finished (
    id             uuid        NOT NULL,
    queue          text        NOT NULL,
    kind           text        NOT NULL,
    payload        json        NOT NULL,
    state          text        NOT NULL CHECK (state IN ('done', 'dead', 'cancelled')),
    priority       smallint    NOT NULL,
    attempt        integer     NOT NULL,
    max_attempts   integer     NOT NULL,
    claims         bigint      NOT NULL,
    run_at         timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    started_at     timestamptz,
    finished_at    timestamptz NOT NULL,
    worker         uuid,
    unique_key     text,
    error          text,
    traceparent    text,
    request_id     text,
    batch          uuid,
    progress_done  bigint,
    progress_total bigint,
    result         json
) WITH (
    -- Only ever appended to and, at its other end, deleted from.
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.1
);

INSERT INTO zhuji_jobs.finished (id, queue, kind, payload, state, priority, attempt, max_attempts, claims, run_at,
    created_at, started_at, finished_at, worker, unique_key, error, traceparent, request_id)
SELECT id, queue, kind, payload, state, priority, attempt, max_attempts, claims, run_at, created_at, started_at,
    coalesce(finished_at, now()), worker, unique_key, error, traceparent, request_id
FROM zhuji_jobs.job WHERE state IN ('done', 'dead');
DELETE FROM zhuji_jobs.job WHERE state IN ('done', 'dead');

-- Not unique: a caller may enqueue an id again after its first job has finished.
CREATE INDEX finished_id ON zhuji_jobs.finished (id);
CREATE INDEX finished_old ON zhuji_jobs.finished (finished_at) WHERE state <> 'dead';
CREATE INDEX finished_dead ON zhuji_jobs.finished (queue, finished_at) WHERE state = 'dead';

ALTER TABLE zhuji_jobs.job
    DROP CONSTRAINT job_state_check,
    ADD CONSTRAINT job_state_check CHECK (state IN ('ready', 'scheduled', 'running', 'done', 'dead')),
    ADD COLUMN batch uuid,
    ADD COLUMN cancel boolean NOT NULL DEFAULT false,
    ADD COLUMN progress_done bigint,
    ADD COLUMN progress_total bigint;

UPDATE zhuji_jobs.job SET state = 'scheduled' WHERE state = 'ready' AND run_at > now();

-- A program of before this change still writes 'done' and 'dead' here; the sweep moves those on.
DROP INDEX zhuji_jobs.job_done, zhuji_jobs.job_dead, zhuji_jobs.job_lease, zhuji_jobs.job_unique;
CREATE INDEX job_ended ON zhuji_jobs.job (finished_at) WHERE state IN ('done', 'dead');
CREATE INDEX job_scheduled ON zhuji_jobs.job (queue, run_at) WHERE state = 'scheduled';
-- Without the lease's end, so that renewing it touches no index. What runs is little: the rescue reads all of it.
CREATE INDEX job_running ON zhuji_jobs.job (queue, kind) WHERE state = 'running';
CREATE UNIQUE INDEX job_unique ON zhuji_jobs.job (queue, kind, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('ready', 'scheduled', 'running');

ALTER TABLE zhuji_jobs.job SET (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_analyze_threshold = 1000
);

-- Attempts that did not end well. The one that did is told by the job itself.
CREATE TABLE zhuji_jobs.attempt (
    job        uuid        NOT NULL,
    claim      bigint      NOT NULL,
    attempt    integer     NOT NULL,
    worker     uuid,
    started_at timestamptz,
    ended_at   timestamptz NOT NULL DEFAULT now(),
    outcome    text        NOT NULL,
    error      text,
    PRIMARY KEY (job, claim)
);

-- What the fleet keeps to. Kind '' stands for the queue as a whole.
CREATE TABLE zhuji_jobs.rule (
    queue       text        NOT NULL,
    kind        text        NOT NULL DEFAULT '',
    paused      boolean     NOT NULL DEFAULT false,
    max_running integer,
    rate        integer,
    rate_per    float8,
    -- The bucket: so many starts are left, as of then.
    tokens      float8      NOT NULL DEFAULT 0,
    refilled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, kind),
    CHECK ((rate IS NULL) = (rate_per IS NULL)),
    CHECK (rate > 0 AND rate_per > 0)
) WITH (fillfactor = 20);

CREATE TABLE zhuji_jobs.schedule (
    queue      text        NOT NULL,
    name       text        NOT NULL,
    cron       text        NOT NULL,
    zone       text        NOT NULL,
    kind       text        NOT NULL,
    payload    json        NOT NULL,
    priority   smallint    NOT NULL,
    max_attempts integer   NOT NULL,
    overlap    boolean     NOT NULL,
    next_at    timestamptz NOT NULL,
    last_at    timestamptz,
    last_job   uuid,
    PRIMARY KEY (queue, name)
);

CREATE TABLE zhuji_jobs.batch (
    id         uuid        PRIMARY KEY,
    queue      text        NOT NULL,
    total      integer     NOT NULL,
    pending    integer     NOT NULL,
    failed     integer     NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    -- The job that follows when the last member has ended.
    next_id    uuid,
    next_kind  text,
    next_payload json,
    next_priority smallint,
    next_max_attempts integer,
    traceparent text,
    request_id text
) WITH (fillfactor = 50);
CREATE INDEX batch_ended ON zhuji_jobs.batch (ended_at) WHERE ended_at IS NOT NULL;

-- Counts members that have ended, and enqueues what follows the last one.
CREATE FUNCTION zhuji_jobs.leave_batches(batches uuid[], bad boolean[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- In one order everywhere, so that no two wait for one another.
    PERFORM FROM zhuji_jobs.batch WHERE id = ANY (batches) ORDER BY id FOR UPDATE;
    WITH left_now AS (
        SELECT m.batch, count(*) AS ended, count(*) FILTER (WHERE m.bad) AS failed
        FROM unnest(batches, bad) AS m(batch, bad) GROUP BY m.batch
    ), counted AS (
        UPDATE zhuji_jobs.batch b
        SET pending = b.pending - l.ended, failed = b.failed + l.failed,
            ended_at = CASE WHEN b.pending = l.ended THEN now() END
        FROM left_now l WHERE b.id = l.batch
        RETURNING b.*
    )
    INSERT INTO zhuji_jobs.job (id, queue, kind, payload, priority, max_attempts, traceparent, request_id)
    SELECT c.next_id, c.queue, c.next_kind, c.next_payload, c.next_priority, c.next_max_attempts, c.traceparent,
        c.request_id
    FROM counted c WHERE c.pending = 0 AND c.next_id IS NOT NULL;
END $$;

-- The settings of the functions: what is switched off counts as very dear, and what is dear would be compiled first.

-- A job runs as long as it has a lease. What looks a job up by its id says it that way and not by the state: otherwise the
-- planner takes the index of all that runs for the shorter way, and reads all of it for each.

-- Attempts that ended well: out of the queue and into the past, if job, claim and worker are still the same. Tells
-- which of them, by their place in the arrays.
CREATE FUNCTION zhuji_jobs.complete(ids uuid[], numbers bigint[], workers uuid[], results text[])
RETURNS SETOF integer LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    places  integer[];
    batches uuid[];
BEGIN
    WITH gone AS (
        DELETE FROM zhuji_jobs.job j
        USING ROWS FROM (unnest(ids), unnest(numbers), unnest(workers), unnest(results)) WITH ORDINALITY
            AS r(id, claims, worker, result, place)
        WHERE j.id = r.id AND j.claims = r.claims AND j.worker = r.worker AND j.lease_until IS NOT NULL
        RETURNING j.*, r.result, r.place::integer
    ), kept AS (
        INSERT INTO zhuji_jobs.finished (id, queue, kind, payload, state, priority, attempt, max_attempts, claims,
            run_at, created_at, started_at, finished_at, worker, unique_key, error, traceparent, request_id, batch,
            progress_done, progress_total, result)
        SELECT g.id, g.queue, g.kind, g.payload, 'done', g.priority, g.attempt, g.max_attempts, g.claims, g.run_at,
            g.created_at, g.started_at, now(), g.worker, g.unique_key, g.error, g.traceparent, g.request_id, g.batch,
            g.progress_done, g.progress_total, g.result::json
        FROM gone g
    )
    SELECT array_agg(g.place), array_agg(g.batch) FILTER (WHERE g.batch IS NOT NULL) INTO places, batches FROM gone g;
    IF batches IS NOT NULL THEN
        PERFORM zhuji_jobs.leave_batches(batches, array_fill(false, ARRAY[cardinality(batches)]));
    END IF;
    RETURN QUERY SELECT unnest(places);
END $$;

-- Attempts that ended otherwise. A verb is 'retry', 'dead', 'cancelled', 'hand_back' or 'lost'. Tells the place in the
-- arrays of each that took effect, and the state it is in now.
CREATE FUNCTION zhuji_jobs.fail(ids uuid[], numbers bigint[], workers uuid[], verbs text[], delays float8[],
    errors text[])
RETURNS TABLE (place integer, state text) LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    one     record;
    batches uuid[];
BEGIN
    FOR one IN
        SELECT j.id, j.claims, j.attempt, j.worker, j.started_at, j.batch, j.error AS former, r.place::integer AS place,
            r.verb, r.delay, r.error,
            CASE
                WHEN r.verb IN ('dead', 'cancelled') THEN r.verb
                WHEN j.cancel THEN 'cancelled'
                WHEN r.verb = 'lost' AND j.attempt >= j.max_attempts THEN 'dead'
                WHEN r.verb = 'retry' AND r.delay > 0 THEN 'scheduled'
                ELSE 'ready'
            END AS next
        FROM ROWS FROM (unnest(ids), unnest(numbers), unnest(workers), unnest(verbs), unnest(delays), unnest(errors))
            WITH ORDINALITY AS r(id, claims, worker, verb, delay, error, place)
        JOIN zhuji_jobs.job j ON j.id = r.id AND j.claims = r.claims AND j.worker = r.worker
        WHERE j.lease_until IS NOT NULL
        FOR UPDATE OF j
    LOOP
        IF one.verb <> 'hand_back' THEN
            INSERT INTO zhuji_jobs.attempt (job, claim, attempt, worker, started_at, outcome, error)
            VALUES (one.id, one.claims, one.attempt, one.worker, one.started_at,
                CASE WHEN one.next = 'cancelled' THEN 'cancelled' WHEN one.verb = 'lost' THEN 'lost' ELSE 'failed' END,
                one.error)
            ON CONFLICT DO NOTHING;
        END IF;
        IF one.next IN ('ready', 'scheduled') THEN
            UPDATE zhuji_jobs.job j
            SET state = one.next,
                attempt = j.attempt - CASE WHEN one.verb = 'hand_back' THEN 1 ELSE 0 END,
                run_at = CASE one.verb WHEN 'retry' THEN now() + make_interval(secs => one.delay)
                                       WHEN 'lost' THEN now() ELSE j.run_at END,
                error = coalesce(one.error, j.error),
                lease_until = NULL
            WHERE j.id = one.id;
        ELSE
            WITH gone AS (DELETE FROM zhuji_jobs.job j WHERE j.id = one.id RETURNING j.*)
            INSERT INTO zhuji_jobs.finished (id, queue, kind, payload, state, priority, attempt, max_attempts, claims,
                run_at, created_at, started_at, finished_at, worker, unique_key, error, traceparent, request_id, batch,
                progress_done, progress_total)
            SELECT g.id, g.queue, g.kind, g.payload, one.next, g.priority, g.attempt, g.max_attempts, g.claims,
                g.run_at, g.created_at, g.started_at, now(), g.worker, g.unique_key, coalesce(one.error, g.error),
                g.traceparent, g.request_id, g.batch, g.progress_done, g.progress_total
            FROM gone g;
            IF one.batch IS NOT NULL THEN
                batches := batches || one.batch;
            END IF;
        END IF;
        place := one.place;
        state := one.next;
        RETURN NEXT;
    END LOOP;
    IF batches IS NOT NULL THEN
        PERFORM zhuji_jobs.leave_batches(batches, array_fill(true, ARRAY[cardinality(batches)]));
    END IF;
END $$;

-- Jobs whose lease has ended, and what became of each.
CREATE FUNCTION zhuji_jobs.rescue(most integer) RETURNS SETOF text LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    ids     uuid[];
    numbers bigint[];
    workers uuid[];
BEGIN
    SELECT array_agg(l.id), array_agg(l.claims), array_agg(l.worker) INTO ids, numbers, workers
    FROM (
        SELECT j.id, j.claims, j.worker FROM zhuji_jobs.job j
        WHERE j.state = 'running' AND j.lease_until < now()
        LIMIT most FOR UPDATE SKIP LOCKED
    ) AS l;
    IF ids IS NOT NULL THEN
        RETURN QUERY
        SELECT f.state FROM zhuji_jobs.fail(ids, numbers, workers, array_fill('lost'::text, ARRAY[cardinality(ids)]),
            array_fill(0::float8, ARRAY[cardinality(ids)]),
            array_fill('the worker was lost: its lease ended'::text, ARRAY[cardinality(ids)])) AS f;
    END IF;
END $$;

-- Hands jobs to a worker. When fewer than asked for are there, a last row without an id tells in how many seconds there
-- may be more, if that is known.
CREATE FUNCTION zhuji_jobs.claim(from_queue text, kinds text[], most integer, claimer uuid, lease float8)
RETURNS TABLE (id uuid, kind text, payload text, claims bigint, attempt integer, max_attempts integer,
    traceparent text, request_id text, waited float8, batch uuid)
LANGUAGE plpgsql ROWS 100
SET jit = off SET enable_seqscan = off SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    asked    integer := most;
    got      integer;
    again    float8;
    at       timestamptz;
    one      record;
    limited  boolean := false;
    allowed  jsonb := '{}';
    running  bigint;
    left_now integer;
BEGIN
    FOR one IN SELECT r.paused, r.max_running, r.rate FROM zhuji_jobs.rule r WHERE r.queue = from_queue LOOP
        IF one.paused THEN
            RETURN;
        END IF;
        limited := limited OR one.max_running IS NOT NULL OR one.rate IS NOT NULL;
    END LOOP;

    UPDATE zhuji_jobs.job j SET state = 'ready'
    WHERE j.id IN (
        SELECT d.id FROM zhuji_jobs.job d
        WHERE d.state = 'scheduled' AND d.queue = from_queue AND d.run_at <= now()
        ORDER BY d.run_at LIMIT 1000 FOR UPDATE SKIP LOCKED
    );

    IF limited THEN
        -- One claim at a time from here on, so that what is counted stays true until the commit.
        PERFORM FROM zhuji_jobs.rule r WHERE r.queue = from_queue ORDER BY r.kind FOR UPDATE;
        at := clock_timestamp();
        UPDATE zhuji_jobs.rule r
        SET tokens = least(r.rate, r.tokens + extract(epoch FROM at - r.refilled_at)::float8 * r.rate / r.rate_per),
            refilled_at = at
        WHERE r.queue = from_queue AND r.rate IS NOT NULL;
        FOR one IN SELECT * FROM zhuji_jobs.rule r WHERE r.queue = from_queue LOOP
            CONTINUE WHEN one.max_running IS NULL AND one.rate IS NULL;
            left_now := 2147483647;
            IF one.max_running IS NOT NULL THEN
                SELECT count(*) INTO running FROM zhuji_jobs.job j
                WHERE j.state = 'running' AND j.queue = from_queue AND (one.kind = '' OR j.kind = one.kind);
                left_now := greatest(0, one.max_running - running);
                again := least(again, 0.1);
            END IF;
            IF one.rate IS NOT NULL THEN
                left_now := least(left_now, floor(one.tokens)::integer);
                again := least(again, (floor(one.tokens) + 1 - one.tokens) * one.rate_per / one.rate);
            END IF;
            IF one.kind = '' THEN
                most := least(most, left_now);
            ELSIF left_now = 0 THEN
                kinds := array_remove(kinds, one.kind);
            ELSE
                allowed := allowed || jsonb_build_object(one.kind, left_now);
            END IF;
        END LOOP;
    END IF;

    IF most > 0 AND cardinality(kinds) > 0 THEN
        IF allowed = '{}' THEN
            RETURN QUERY
            WITH next AS (
                SELECT r.id FROM zhuji_jobs.job r
                WHERE r.state = 'ready' AND r.queue = from_queue AND r.kind = ANY (kinds) AND r.run_at <= now()
                ORDER BY r.priority DESC, r.run_at, r.id
                LIMIT most FOR UPDATE SKIP LOCKED
            )
            UPDATE zhuji_jobs.job j
            SET state = 'running', attempt = j.attempt + 1, claims = j.claims + 1, started_at = now(),
                worker = claimer, lease_until = now() + make_interval(secs => lease), progress_done = NULL,
                progress_total = NULL
            FROM next WHERE j.id = next.id
            RETURNING j.id, j.kind, j.payload::text, j.claims, j.attempt, j.max_attempts, j.traceparent, j.request_id,
                extract(epoch FROM now() - j.run_at)::float8, j.batch;
        ELSE
            RETURN QUERY
            WITH next AS (
                SELECT r.id, r.kind, r.priority, r.run_at FROM zhuji_jobs.job r
                WHERE r.state = 'ready' AND r.queue = from_queue AND r.kind = ANY (kinds) AND r.run_at <= now()
                ORDER BY r.priority DESC, r.run_at, r.id
                LIMIT most FOR UPDATE SKIP LOCKED
            ), numbered AS (
                SELECT n.id, n.kind, row_number() OVER (PARTITION BY n.kind ORDER BY n.priority DESC, n.run_at, n.id)
                    AS number
                FROM next n
            )
            UPDATE zhuji_jobs.job j
            SET state = 'running', attempt = j.attempt + 1, claims = j.claims + 1, started_at = now(),
                worker = claimer, lease_until = now() + make_interval(secs => lease), progress_done = NULL,
                progress_total = NULL
            FROM numbered n
            WHERE j.id = n.id AND n.number <= coalesce((allowed ->> n.kind)::bigint, 2147483647)
            RETURNING j.id, j.kind, j.payload::text, j.claims, j.attempt, j.max_attempts, j.traceparent, j.request_id,
                extract(epoch FROM now() - j.run_at)::float8, j.batch;
        END IF;
        GET DIAGNOSTICS got = ROW_COUNT;
    ELSE
        got := 0;
    END IF;

    IF limited AND got > 0 THEN
        UPDATE zhuji_jobs.rule r SET tokens = r.tokens - taken.count
        FROM (
            SELECT j.kind, count(*) AS count FROM zhuji_jobs.job j
            WHERE j.state = 'running' AND j.queue = from_queue AND j.worker = claimer AND j.started_at = now()
            GROUP BY GROUPING SETS ((j.kind), ())
        ) AS taken
        WHERE r.queue = from_queue AND r.rate IS NOT NULL AND r.kind = coalesce(taken.kind, '');
    END IF;

    IF got < asked THEN
        -- What limits leave behind may go when others end or tokens come.
        IF again IS NOT NULL AND NOT EXISTS (
            SELECT FROM zhuji_jobs.job j WHERE j.state = 'ready' AND j.queue = from_queue
        ) THEN
            again := NULL;
        END IF;
        again := least(again, (
            SELECT extract(epoch FROM j.run_at - now())::float8 FROM zhuji_jobs.job j
            WHERE j.state = 'scheduled' AND j.queue = from_queue ORDER BY j.run_at LIMIT 1
        ));
        IF again IS NOT NULL THEN
            id := NULL;
            waited := greatest(again, 0);
            RETURN NEXT;
        END IF;
    END IF;
END $$;

-- Ends a job that waits, or asks the worker of one that runs: 'cancelled', 'asked', or nothing if it is not there.
CREATE FUNCTION zhuji_jobs.cancel(which uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    in_batch uuid;
BEGIN
    WITH gone AS (
        DELETE FROM zhuji_jobs.job j WHERE j.id = which AND j.state IN ('ready', 'scheduled') RETURNING j.*
    )
    INSERT INTO zhuji_jobs.finished (id, queue, kind, payload, state, priority, attempt, max_attempts, claims, run_at,
        created_at, started_at, finished_at, worker, unique_key, error, traceparent, request_id, batch, progress_done,
        progress_total)
    SELECT g.id, g.queue, g.kind, g.payload, 'cancelled', g.priority, g.attempt, g.max_attempts, g.claims, g.run_at,
        g.created_at, g.started_at, now(), g.worker, g.unique_key, g.error, g.traceparent, g.request_id, g.batch,
        g.progress_done, g.progress_total
    FROM gone g
    RETURNING batch INTO in_batch;
    IF FOUND THEN
        IF in_batch IS NOT NULL THEN
            PERFORM zhuji_jobs.leave_batches(ARRAY[in_batch], ARRAY[true]);
        END IF;
        RETURN 'cancelled';
    END IF;
    UPDATE zhuji_jobs.job SET cancel = true WHERE id = which AND state = 'running';
    RETURN CASE WHEN FOUND THEN 'asked' END;
END $$;

-- Puts finished jobs back into the queue with all their attempts; leaves those alone whose unique key is taken. Tells
-- which went back.
CREATE FUNCTION zhuji_jobs.replay(ids uuid[]) RETURNS SETOF uuid LANGUAGE sql AS $$
    WITH back AS (
        INSERT INTO zhuji_jobs.job (id, queue, kind, payload, priority, attempt, max_attempts, claims, created_at,
            started_at, worker, unique_key, error, traceparent, request_id)
        SELECT f.id, f.queue, f.kind, f.payload, f.priority, 0, f.max_attempts, f.claims, f.created_at, f.started_at,
            f.worker, f.unique_key, f.error, f.traceparent, f.request_id
        FROM zhuji_jobs.finished f WHERE f.id = ANY (ids)
        ON CONFLICT DO NOTHING
        RETURNING id
    ), gone AS (
        DELETE FROM zhuji_jobs.finished f USING back b WHERE f.id = b.id
    )
    SELECT id FROM back;
$$;

-- Moves leases on; tells the place in the arrays of those that are still owned, and whether somebody wants the job
-- cancelled. A row that is locked is being completed in its handler's own transaction: it is left alone, because waiting
-- for it would hold up the other leases, and counts as still owned.
CREATE FUNCTION zhuji_jobs.renew(ids uuid[], numbers bigint[], workers uuid[], lease float8)
RETURNS TABLE (place integer, cancel boolean) LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH wanted AS (
        SELECT * FROM ROWS FROM (unnest(ids), unnest(numbers), unnest(workers)) WITH ORDINALITY
            AS w(id, claims, worker, place)
    ), held AS (
        SELECT j.id FROM wanted w
        JOIN zhuji_jobs.job j ON j.id = w.id AND j.claims = w.claims AND j.worker = w.worker
        WHERE j.lease_until IS NOT NULL
        FOR UPDATE OF j SKIP LOCKED
    ), renewed AS (
        UPDATE zhuji_jobs.job j SET lease_until = now() + make_interval(secs => lease) FROM held WHERE j.id = held.id
    )
    SELECT w.place::integer, j.cancel FROM wanted w
    JOIN zhuji_jobs.job j ON j.id = w.id AND j.claims = w.claims AND j.worker = w.worker
    WHERE j.lease_until IS NOT NULL;
END $$;

-- Notes how far running jobs are.
CREATE FUNCTION zhuji_jobs.progress(ids uuid[], numbers bigint[], workers uuid[], dones bigint[], totals bigint[])
RETURNS void LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    WITH wanted AS (
        SELECT j.id, w.done, w.total
        FROM ROWS FROM (unnest(ids), unnest(numbers), unnest(workers), unnest(dones), unnest(totals))
            AS w(id, claims, worker, done, total)
        JOIN zhuji_jobs.job j ON j.id = w.id AND j.claims = w.claims AND j.worker = w.worker
        WHERE j.lease_until IS NOT NULL
        FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE zhuji_jobs.job j SET progress_done = w.done, progress_total = w.total FROM wanted w WHERE j.id = w.id;
END $$;

-- Gives back what a worker holds in the store besides what it knows of.
CREATE FUNCTION zhuji_jobs.release(holder uuid, known uuid[], numbers bigint[]) RETURNS bigint LANGUAGE plpgsql
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    ids    uuid[];
    claims bigint[];
BEGIN
    SELECT array_agg(j.id), array_agg(j.claims) INTO ids, claims
    FROM zhuji_jobs.job j
    WHERE j.state = 'running' AND j.worker = holder
      AND NOT EXISTS (SELECT FROM ROWS FROM (unnest(known), unnest(numbers)) AS k(id, claims)
                      WHERE k.id = j.id AND k.claims = j.claims);
    IF ids IS NULL THEN
        RETURN 0;
    END IF;
    RETURN (SELECT count(*) FROM zhuji_jobs.fail(ids, claims, array_fill(holder, ARRAY[cardinality(ids)]),
        array_fill('hand_back'::text, ARRAY[cardinality(ids)]), array_fill(0::float8, ARRAY[cardinality(ids)]),
        array_fill(NULL::text, ARRAY[cardinality(ids)])));
END $$;
