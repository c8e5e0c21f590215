-- The next events of some types after a position, up to another: at most so many, and
-- none after the one that makes their data and bodies reach so many bytes.
-- $1 position before the first, $2 last position, $3 most rows, $4 bytes, $5 types.
SELECT e.position, e.id, e.batch, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM (
    SELECT e.*, coalesce(sum(octet_length(e.data::text) + coalesce(octet_length(e.bodies::text), 0)) OVER before, 0) AS bytes
    FROM (
        SELECT *
        FROM ledger.events
        WHERE position > $1::bigint AND position <= $2::bigint AND type = ANY ($5::text[])
        ORDER BY position
        LIMIT $3::int
    ) AS e
    WINDOW before AS (ORDER BY e.position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS e
WHERE e.bytes < $4::int
ORDER BY e.position;
