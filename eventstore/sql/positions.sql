-- Some events, in order.
-- $1 positions.
SELECT e.position, e.id, e.batch, e.version, e.type, e.data, e.bodies, e.project, e.actor,
    e.request_id, e.global_request_id, e.correlation_id, e.causation_id, e.recorded_at
FROM ledger.events e
WHERE e.position = ANY ($1::bigint[])
ORDER BY e.position;
