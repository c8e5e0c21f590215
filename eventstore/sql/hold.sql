-- Parks a consumer's next events whose streams have something parked, and returns their
-- positions. The caller has locked what is parked.
-- $1 consumer, $2 positions, $3 their streams.
WITH held AS (
    SELECT e.position, e.stream, first.asked
    FROM unnest($2::bigint[], $3::text[]) AS e (position, stream)
    CROSS JOIN LATERAL (
        SELECT p.asked
        FROM ledger.parked p
        WHERE p.consumer = $1::text AND p.stream = e.stream AND p.skipped_at IS NULL
        ORDER BY p.position
        LIMIT 1
    ) AS first
), added AS (
    INSERT INTO ledger.parked (consumer, position, stream, parked_at, asked)
    SELECT $1::text, h.position, h.stream, clock_timestamp(), h.asked
    FROM held h
    ON CONFLICT (consumer, position) DO NOTHING
)
SELECT h.position FROM held h;
