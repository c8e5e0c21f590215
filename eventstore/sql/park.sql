-- Parks an event that a consumer refuses and moves the consumer's checkpoint past it.
-- Returns 0 and does nothing when the checkpoint is elsewhere.
-- $1 consumer, $2 its checkpoint, $3 the next one, $4 position, $5 stream, $6 error,
-- $7 attempts.
WITH moved AS (
    UPDATE ledger.consumers
    SET position = $3::bigint, updated_at = clock_timestamp()
    WHERE name = $1::text AND position = $2::bigint
    RETURNING name
), added AS (
    INSERT INTO ledger.parked (consumer, position, stream, error, attempts, parked_at, tried_at)
    SELECT name, $4::bigint, $5::text, $6::text, $7::int, clock_timestamp(), clock_timestamp()
    FROM moved
    ON CONFLICT (consumer, position) DO UPDATE
    SET error = excluded.error, attempts = excluded.attempts, tried_at = excluded.tried_at, asked = false,
        skipped_at = NULL, reason = NULL
)
SELECT count(*) FROM moved;
