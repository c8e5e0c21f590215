-- The first events that are parked for a consumer and asked for, behind its checkpoint: at
-- most so many, and none after the one that makes their data and bodies reach so many
-- bytes.
-- $1 consumer, $2 most rows, $3 bytes.
SELECT e.position, e.id, e.batch, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM (
    SELECT e.*, sum(octet_length(e.data::text) + coalesce(octet_length(e.bodies::text), 0))
        OVER (ORDER BY e.position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (
        SELECT p.position
        FROM ledger.parked p
        WHERE p.consumer = $1::text AND p.asked AND p.skipped_at IS NULL
            AND p.position <= (SELECT c.position FROM ledger.consumers c WHERE c.name = $1::text)
        ORDER BY p.position
        LIMIT $2::int
    ) AS first
    CROSS JOIN LATERAL (SELECT * FROM ledger.events WHERE position = first.position LIMIT 1) AS e
) AS e
WHERE coalesce(e.before, 0) < $3::int
ORDER BY e.position;
