-- A page of one stream's history, with all columns. The index is on a hash of the name.
-- $1 position before the first, $2 last position, $3 stream, $4 version before the first,
-- $5 project or empty, $6 types or none, $7 most rows,
-- $8 request or empty, $9 actor or empty.
SELECT e.position, e.id, e.batch, e.stream, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM ledger.events e
WHERE hashtextextended(e.stream, 0) = hashtextextended($3::text, 0) AND e.stream = $3::text
    AND e.version > $4::bigint AND e.position > $1::bigint AND e.position <= $2::bigint
    AND ($5::text = '' OR e.project = $5::text)
    AND (cardinality($6::text[]) = 0 OR e.type = ANY ($6::text[]))
    AND ($8::text = '' OR $8::text IN (e.request_id, e.global_request_id, e.correlation_id))
    AND ($9::text = '' OR e.actor = $9::text)
ORDER BY e.version
LIMIT $7::int;
