-- What a fleet needs to know of itself.

-- When an instance that has this entry in its program last said so. Instances of two versions run side by side in a
-- rolling deploy, and neither may drop what only the other one has.
ALTER TABLE zhuji_jobs.schedule ADD COLUMN seen_at timestamptz NOT NULL DEFAULT now();

-- What was counted last. Counting reads the whole backlog, so one instance does it for all.
CREATE TABLE zhuji_jobs.census (
    one      boolean     PRIMARY KEY DEFAULT true CHECK (one),
    taken_at timestamptz NOT NULL,
    counts   json        NOT NULL
) WITH (fillfactor = 20);

-- What waits, runs and has died, by queue, as it was at most so many seconds ago (a little more while another instance
-- is counting). In parts, so that each can use its own partial index and none looks at what is done.
CREATE FUNCTION zhuji_jobs.recent_counts(max_age float8)
RETURNS TABLE (queue text, ready bigint, scheduled bigint, running bigint, stuck bigint, dead bigint,
    dead_lately bigint, oldest_ready float8)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    age float8;
BEGIN
    SELECT extract(epoch FROM now() - c.taken_at)::float8 INTO age FROM zhuji_jobs.census c;
    IF age IS NULL OR (age > max_age AND pg_try_advisory_xact_lock(hashtextextended('zhuji_jobs.census', 0))) THEN
        INSERT INTO zhuji_jobs.census (taken_at, counts)
        SELECT now(), coalesce(json_agg(q), '[]') FROM (
            SELECT queue,
                count(*) FILTER (WHERE state IN ('ready', 'scheduled') AND run_at <= now()) AS ready,
                count(*) FILTER (WHERE state IN ('ready', 'scheduled') AND run_at > now()) AS scheduled,
                count(*) FILTER (WHERE state = 'running') AS running,
                count(*) FILTER (WHERE state = 'running' AND lease_until < now()) AS stuck,
                count(*) FILTER (WHERE state = 'dead') AS dead,
                count(*) FILTER (WHERE state = 'dead' AND finished_at > now() - interval '1 hour') AS dead_lately,
                extract(epoch FROM now() - min(run_at)
                    FILTER (WHERE state IN ('ready', 'scheduled') AND run_at <= now()))::float8 AS oldest_ready
            FROM (
                SELECT j.queue, j.state, j.run_at, j.lease_until, j.finished_at FROM zhuji_jobs.job j
                WHERE j.state IN ('ready', 'scheduled', 'running', 'dead')
                UNION ALL
                SELECT f.queue, f.state, NULL, NULL, f.finished_at FROM zhuji_jobs.finished f WHERE f.state = 'dead'
            ) AS open
            GROUP BY queue
            ORDER BY queue
        ) AS q
        ON CONFLICT (one) DO UPDATE SET taken_at = excluded.taken_at, counts = excluded.counts;
        age := 0;
    END IF;
    RETURN QUERY
    SELECT r.queue, r.ready, r.scheduled, r.running, r.stuck, r.dead, r.dead_lately, r.oldest_ready + age
    FROM zhuji_jobs.census c, json_to_recordset(c.counts) AS r(queue text, ready bigint, scheduled bigint,
        running bigint, stuck bigint, dead bigint, dead_lately bigint, oldest_ready float8);
END $$;
