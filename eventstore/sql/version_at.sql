-- The version that a stream had at a position: the greatest of an event up to there, 0 if
-- there is none. Versions have no hole and grow with positions, so it is found by halving:
-- a probe of an index for each bit, however long the history is. An event that is not in
-- the ledger any more lies before those that are.
-- $1 stream, $2 position.
WITH RECURSIVE halving (low, high) AS (
    SELECT 0::bigint, coalesce((
        SELECT e.version FROM ledger.events e
        WHERE hashtextextended(e.stream, 0) = hashtextextended($1::text, 0) AND e.stream = $1::text
        ORDER BY e.version DESC LIMIT 1), 0) + 1
    UNION ALL
    SELECT CASE WHEN middle.later THEN h.low ELSE h.middle END, CASE WHEN middle.later THEN h.middle ELSE h.high END
    FROM (SELECT low, high, (low + high) / 2 AS middle FROM halving WHERE high - low > 1) AS h
    CROSS JOIN LATERAL (
        SELECT coalesce((
            SELECT e.position FROM ledger.events e
            WHERE hashtextextended(e.stream, 0) = hashtextextended($1::text, 0) AND e.stream = $1::text
                AND e.version = h.middle
            LIMIT 1), 0) > $2::bigint
    ) AS middle (later)
)
SELECT low FROM halving WHERE high - low <= 1;
