-- The next events of some types after a position, up to another: at most so many, and
-- none after the one that makes their data and bodies reach so many bytes.
-- $1 position before the first, $2 last position, $3 most rows, $4 bytes, $5 types.
WITH RECURSIVE slice AS (
    (SELECT e.*, 1 AS n, octet_length(e.data::text) + coalesce(octet_length(e.bodies::text), 0) AS bytes
    FROM ledger.events e
    WHERE e.position > $1::bigint AND e.position <= $2::bigint AND e.type = ANY ($5::text[])
    ORDER BY e.position
    LIMIT 1)
    UNION ALL
    SELECT e.*, s.n + 1, s.bytes + octet_length(e.data::text) + coalesce(octet_length(e.bodies::text), 0)
    FROM slice s
    CROSS JOIN LATERAL (
        SELECT *
        FROM ledger.events
        WHERE position > s.position AND position <= $2::bigint AND type = ANY ($5::text[])
        ORDER BY position
        LIMIT 1
    ) AS e
    WHERE s.n < $3::int AND s.bytes < $4::int
)
SELECT e.position, e.id, e.batch, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM slice e
ORDER BY e.position;
