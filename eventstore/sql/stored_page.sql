-- A page of the whole history, with all columns; the reader puts it in order. To sort here
-- would hold back the first row until the last is found wherever statistics are behind,
-- although the rows nearly always come in order.
-- $1 position before the first, $2 last position.
SELECT e.position, e.id, e.batch, e.stream, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM ledger.events e
WHERE e.position > $1::bigint AND e.position <= $2::bigint;
