-- The messages there are: what clients read and what decisions are made on. Only
-- the event that a message has gone takes its row away; whether it has expired or
-- is still delayed is asked of the time of reading.
CREATE TABLE messages (
    queue      bigint      NOT NULL, -- the queue's number
    place      bigint      NOT NULL,
    id         uuid        NOT NULL,
    client     text        COLLATE "C" NOT NULL,
    ttl        integer     NOT NULL,
    created_at timestamptz NOT NULL,
    visible_at timestamptz NOT NULL, -- when the delay is over
    expires_at timestamptz NOT NULL,
    body       text        NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (queue, place)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0);

-- Adds posted messages. It stands here, and not in the program, so that the ledger's
-- append and this can share one statement and so one round trip; its plan is kept by
-- the session even where a pooler forbids named statements.
CREATE FUNCTION insert_messages(
    queues bigint[], places bigint[], ids uuid[], clients text[], ttls integer[], delays integer[],
    bodies text[], times timestamptz[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, body)
    SELECT m.queue, m.place, m.id, m.client, m.ttl, m.at,
        m.at + make_interval(secs => m.delay), m.at + make_interval(secs => m.ttl), m.body
    FROM unnest(queues, places, ids, clients, ttls, delays, bodies, times)
        AS m (queue, place, id, client, ttl, delay, body, at);
END
$$;
