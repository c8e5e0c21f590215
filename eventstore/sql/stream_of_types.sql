-- The next events of some types in one stream's history: at most so many, and none after
-- the one that makes their bodies reach so many bytes. The index is on a hash of the name.
-- $1 stream, $2 version before the first, $3 types, $4 most rows, $5 bytes, $6 last version.
SELECT e.position, e.id, e.batch, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM (
    SELECT e.*, coalesce(sum(octet_length(e.bodies::text)) OVER before, 0) AS bytes
    FROM (
        SELECT *
        FROM ledger.events
        WHERE hashtextextended(stream, 0) = hashtextextended($1::text, 0) AND stream = $1::text
            AND version > $2::bigint AND version <= $6::bigint AND type = ANY ($3::text[])
        ORDER BY version
        LIMIT $4::int
    ) AS e
    WINDOW before AS (ORDER BY e.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
) AS e
WHERE e.bytes < $5::int
ORDER BY e.version;
