-- The clock and the ledger's last event, or nulls in an empty ledger.
SELECT clock_timestamp(), e.position, e.id, e.recorded_at
FROM (SELECT) AS one
LEFT JOIN LATERAL (
    SELECT e.position, e.id, e.recorded_at
    FROM ledger.events e
    ORDER BY e.position DESC
    LIMIT 1
) AS e ON true;

-- The events from a known head on (first parameter, a position from 1 on), at most
-- so many (second parameter), as far as states in memory need them.
SELECT e.position, e.id, e.stream, e.version, e.type,
    CASE WHEN e.type LIKE 'queue.%%' THEN e.data END,
    CASE WHEN e.type LIKE 'queue.%%' THEN e.bodies END
FROM ledger.events e
WHERE e.position >= %[1]d
ORDER BY e.position
LIMIT %[2]d
