-- The last position before a time, 0 if there is none: the times of events grow with their
-- positions, so it is found by halving: a probe of the primary key for each bit, however long
-- the history is. An event that is not in the ledger any more lies before those that are, and
-- counts as recorded when the next one was.
-- $1 time, $2 last position of the ledger.
WITH RECURSIVE halving (low, high) AS (
    SELECT 0::bigint, $2::bigint + 1
    UNION ALL
    SELECT CASE WHEN middle.later THEN h.low ELSE h.middle END, CASE WHEN middle.later THEN h.middle ELSE h.high END
    FROM (SELECT low, high, (low + high) / 2 AS middle FROM halving WHERE high - low > 1) AS h
    CROSS JOIN LATERAL (
        SELECT (
            SELECT e.recorded_at FROM ledger.events e WHERE e.position >= h.middle ORDER BY e.position LIMIT 1
        ) >= $1::timestamptz
    ) AS middle (later)
)
SELECT low FROM halving WHERE high - low <= 1;
