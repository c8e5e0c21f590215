-- Keeps answers, in the place of ones that are over. Drops at most 200 others that
-- are over, so that the table stays as large as a day's keys.
-- $1 projects, $2 keys, $3 request hashes, $4 results, $5 time, $6 when they are over.
WITH new AS (
    SELECT n.project, n.key, n.request_hash, n.result
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) AS n (project, key, request_hash, result)
), over AS (
    DELETE FROM ledger.idempotency_keys k
    USING (
        SELECT o.project, o.key
        FROM ledger.idempotency_keys o
        WHERE o.expires_at <= $5::timestamptz
        ORDER BY o.expires_at
        LIMIT 200
    ) AS o
    WHERE (k.project, k.key) = (o.project, o.key)
        AND NOT EXISTS (SELECT FROM new n WHERE (n.project, n.key) = (k.project, k.key))
)
INSERT INTO ledger.idempotency_keys AS k (project, key, request_hash, result, expires_at)
SELECT n.project, n.key, n.request_hash, n.result::json, $6::timestamptz
FROM new n
ON CONFLICT (project, key) DO UPDATE
SET request_hash = excluded.request_hash, result = excluded.result, expires_at = excluded.expires_at
WHERE k.expires_at <= $5::timestamptz;
