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

-- Appends a batch of nothing but posts to the ledger and adds its messages, and
-- returns the batch's time, or NULL when the head is another and nothing was done.
-- Being one call it is one round trip; being a function whose parameters have types
-- it is parsed in no time, and its plans are kept by the session, also where a pooler
-- forbids named statements. It inserts what applyToMessages would; it does not share
-- a function with it, since PL/pgSQL copies every array that is handed on.
CREATE FUNCTION append_messages(
    head bigint, head_id uuid, else_now timestamptz, batch uuid,
    ids uuid[], streams text[], versions bigint[], types text[], data text[], event_bodies text[],
    projects text[], actors text[], request_ids text[], global_request_ids text[],
    correlation_ids text[], causation_ids uuid[],
    queues bigint[], places bigint[], message_ids uuid[], clients text[], ttls integer[], delays integer[],
    bodies text[]
) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
BEGIN
    now := ledger.append(head, head_id, else_now, batch, ids, streams, versions, types, data, event_bodies,
        projects, actors, request_ids, global_request_ids, correlation_ids, causation_ids);
    IF now IS NOT NULL THEN
        INSERT INTO messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, body)
        SELECT m.queue, m.place, m.id, m.client, m.ttl, now,
            now + make_interval(secs => m.delay), now + make_interval(secs => m.ttl), m.body
        FROM unnest(queues, places, message_ids, clients, ttls, delays, bodies)
            AS m (queue, place, id, client, ttl, delay, body);
    END IF;
    RETURN now;
END
$$;
