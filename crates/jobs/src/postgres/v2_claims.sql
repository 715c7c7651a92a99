-- How often the job was claimed. It only ever grows, so that (id, claims) names one claim and no other; `attempt` goes
-- back when an attempt is given back. A program of before this change leaves it as it is; its claims are told apart from
-- ours by the worker.
ALTER TABLE zhuji_jobs.job ADD COLUMN claims bigint NOT NULL DEFAULT 0;
