-- A page of the whole history, with all columns. What is not asked for costs nothing: the
-- statement is planned with its parameters.
-- $1 position before the first, $2 last position, $3 project or empty, $4 types or none,
-- $5 most rows, $6 request or empty, $7 actor or empty.
SELECT e.position, e.id, e.batch, e.stream, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM ledger.events e
WHERE e.position > $1::bigint AND e.position <= $2::bigint
    AND ($3::text = '' OR e.project = $3::text)
    AND (cardinality($4::text[]) = 0 OR e.type = ANY ($4::text[]))
    AND ($6::text = '' OR $6::text IN (e.request_id, e.global_request_id, e.correlation_id))
    AND ($7::text = '' OR e.actor = $7::text)
ORDER BY e.position
LIMIT $5::int;
