-- A page of one stream's history. The index is on a hash of the name.
-- $1 stream, $2 version before the first, $3 most rows.
SELECT e.position, e.id, e.batch, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM ledger.events e
WHERE hashtextextended(e.stream, 0) = hashtextextended($1::text, 0) AND e.stream = $1::text
    AND e.version > $2::bigint
ORDER BY e.version
LIMIT $3::int;
