-- The next events after a position, up to another: at most so many, and none after the
-- one that makes their data and bodies reach so many bytes. It goes from event to event
-- by the primary key, so it reads no large text that it does not return, and a missing
-- event ends it. LIMIT keeps the planner from joining whole partitions.
-- $1 position before the first, $2 last position, $3 most rows, $4 bytes.
WITH RECURSIVE slice AS (
    SELECT e.*, 1 AS n, octet_length(e.data::text) + coalesce(octet_length(e.bodies::text), 0) AS bytes
    FROM ledger.events e
    WHERE e.position = $1::bigint + 1
    UNION ALL
    SELECT e.*, s.n + 1, s.bytes + octet_length(e.data::text) + coalesce(octet_length(e.bodies::text), 0)
    FROM slice s
    CROSS JOIN LATERAL (
        SELECT * FROM ledger.events WHERE position = s.position + 1 LIMIT 1
    ) AS e
    WHERE s.position < $2::bigint AND s.n < $3::int AND s.bytes < $4::int
)
SELECT e.position, e.id, e.batch, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM slice e
ORDER BY e.position;
