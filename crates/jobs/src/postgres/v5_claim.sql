-- A claim does not wait for the disk, which is half of the time between enqueuing a job and its start. The end of the
-- attempt does, and everything before it is on the disk then, so a claim can be lost only while its job runs: with the
-- server, in the fraction of a second until it is written. The job is ready again then, the end of the lost claim is
-- refused, and the job runs once more. To tell such claims apart their numbers come from the clock; a number that was
-- counted up would come again, as it would after a switch to a replica that lags behind.
--
-- Otherwise as before.
CREATE OR REPLACE FUNCTION zhuji_jobs.claim(from_queue text, kinds text[], most integer, claimer uuid, lease float8)
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
    number   bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
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
            SET state = 'running', attempt = j.attempt + 1, claims = greatest(j.claims + 1, number), started_at = now(),
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
            SET state = 'running', attempt = j.attempt + 1, claims = greatest(j.claims + 1, number), started_at = now(),
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
