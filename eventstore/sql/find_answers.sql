-- The answers kept for idempotency keys.
-- $1 projects, $2 keys, $3 time.
SELECT k.project, k.key, k.request_hash, k.result
FROM unnest($1::text[], $2::text[]) AS asked (project, key)
JOIN ledger.idempotency_keys k USING (project, key)
WHERE k.expires_at > $3::timestamptz;
