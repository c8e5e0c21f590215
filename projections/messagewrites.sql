-- Appends a batch of nothing but posts to the ledger and adds its messages, and
-- returns the batch's time, or NULL when the head is another and nothing was done.
-- Being one call it is one round trip; being a function whose parameters have types
-- it is parsed in no time, and its plans are kept by the session, also where a pooler
-- forbids named statements. Fewer keys than messages are followed by nulls: where nothing
-- is sealed none are given. It inserts what write_messages would; it does not share
-- a function with it, since PL/pgSQL copies every array that is handed on.
CREATE FUNCTION append_messages(
    head bigint, head_id uuid, else_now timestamptz, most_off interval, batch uuid,
    ids uuid[], streams text[], versions bigint[], types text[], data text[], event_bodies text[],
    projects text[], actors text[], request_ids text[], global_request_ids text[],
    correlation_ids text[], causation_ids uuid[],
    queues bigint[], places bigint[], message_ids uuid[], clients text[], ttls integer[], delays integer[],
    keys uuid[], bodies text[]
) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    now timestamptz;
BEGIN
    now := ledger.append(head, head_id, else_now, most_off, batch, ids, streams, versions, types, data, event_bodies,
        projects, actors, request_ids, global_request_ids, correlation_ids, causation_ids);
    IF now IS NOT NULL THEN
        INSERT INTO messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, key, body)
        SELECT m.queue, m.place, m.id, m.client, m.ttl, now,
            now + make_interval(secs => m.delay), now + make_interval(secs => m.ttl), m.key, m.body
        FROM unnest(queues, places, message_ids, clients, ttls, delays, keys, bodies)
            AS m (queue, place, id, client, ttl, delay, key, body);
    END IF;
    RETURN now;
END
$$;

-- Writes the last word of a slice of history on each message and claim. Rows are
-- added first and taken away last, so one that comes and goes within the slice is no
-- special case. "held" are messages whose claim, count or life has changed. All rows that
-- change alike come together, their keys in an array as text, and are one statement. It
-- finds them by key in a subquery and then goes to where they stand: a join with them, or a
-- list of keys, may be planned as a walk over the table, by statistics of a moment when it
-- was nearly empty, and the plan is kept. It is generic, as in all that a batch calls: left
-- alone, PostgreSQL plans some of these for each claim. Nor is it compiled: a plan that knows no
-- bounds is believed to cost a lot. A kind of change that there is none of is given as NULLs,
-- since PL/pgSQL copies every array when the function begins.
CREATE FUNCTION write_messages(
    posted_queues bigint[], posted_places bigint[], posted_ids uuid[], posted_clients text[], posted_ttls integer[],
    posted_delays integer[], posted_keys uuid[], posted_bodies text[], posted_times timestamptz[],
    moved_queues bigint[], moved_places bigint[], moved_ids uuid[], moved_clients text[], moved_ttls integer[],
    moved_times timestamptz[], moved_expiries timestamptz[], moved_keys uuid[], moved_bodies text[],
    held_queues bigint[], held_claims uuid[], held_ends timestamptz[], held_counts integer[],
    held_ttls integer[], held_expiries timestamptz[], held_places text[],
    claim_queues bigint[], claim_ids uuid[], claim_places bigint[], claim_ttls integer[], claim_times timestamptz[],
    claim_ends timestamptz[], claim_held integer[], claim_released integer[], claim_messages text[],
    changed_queues bigint[], changed_ttls integer[], changed_times timestamptz[], changed_ends timestamptz[],
    changed_held integer[], changed_released integer[], changed_claims text[],
    gone_queues bigint[], gone_places text[]
) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET enable_material = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    uncounted bigint;
BEGIN
    IF cardinality(posted_queues) > 0 THEN
        INSERT INTO messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, key, body)
        SELECT m.queue, m.place, m.id, m.client, m.ttl, m.at,
            m.at + make_interval(secs => m.delay), m.at + make_interval(secs => m.ttl), m.key, m.body
        FROM unnest(posted_queues, posted_places, posted_ids, posted_clients, posted_ttls, posted_delays,
            posted_keys, posted_bodies, posted_times) AS m (queue, place, id, client, ttl, delay, key, body, at);
    END IF;
    IF cardinality(moved_queues) > 0 THEN
        INSERT INTO messages (queue, place, id, client, ttl, created_at, visible_at, expires_at, moved, key, body)
        SELECT m.queue, m.place, m.id, m.client, m.ttl, m.at, m.at, m.expires_at, true, m.key, m.body
        FROM unnest(moved_queues, moved_places, moved_ids, moved_clients, moved_ttls, moved_times, moved_expiries,
            moved_keys, moved_bodies) AS m (queue, place, id, client, ttl, at, expires_at, key, body);
    END IF;
    FOR i IN 1 .. coalesce(cardinality(held_queues), 0) LOOP
        UPDATE messages m
        SET claim = held_claims[i], claim_ends = held_ends[i], claim_count = m.claim_count + held_counts[i],
            ttl = coalesce(nullif(held_ttls[i], 0), m.ttl),
            expires_at = CASE WHEN held_ttls[i] = 0 THEN m.expires_at ELSE held_expiries[i] END
        WHERE m.ctid = ANY (ARRAY(
            SELECT its.ctid
            FROM unnest(held_places[i]::bigint[]) AS p (place)
            CROSS JOIN LATERAL (
                SELECT f.ctid FROM messages f WHERE f.queue = held_queues[i] AND f.place = p.place OFFSET 0) AS its));
    END LOOP;
    IF cardinality(claim_queues) > 0 THEN
        INSERT INTO claims (queue, id, place, ttl, renewed_at, ends_at, held, released, places)
        SELECT c.queue, c.id, c.place, c.ttl, c.at, c.ends_at, c.held, c.released > 0, c.places::bigint[]
        FROM unnest(claim_queues, claim_ids, claim_places, claim_ttls, claim_times, claim_ends, claim_held, claim_released,
            claim_messages) AS c (queue, id, place, ttl, at, ends_at, held, released, places);
    END IF;
    FOR i IN 1 .. coalesce(cardinality(changed_queues), 0) LOOP
        UPDATE claims c
        SET ttl = coalesce(nullif(changed_ttls[i], 0), c.ttl), held = c.held + changed_held[i],
            renewed_at = CASE WHEN changed_ttls[i] = 0 THEN c.renewed_at ELSE changed_times[i] END,
            ends_at = coalesce(changed_ends[i], c.ends_at), released = c.released OR changed_released[i] > 0
        WHERE c.ctid = ANY (ARRAY(
            SELECT its.ctid
            FROM unnest(changed_claims[i]::uuid[]) AS k (id)
            CROSS JOIN LATERAL (
                SELECT f.ctid FROM claims f WHERE f.queue = changed_queues[i] AND f.id = k.id OFFSET 0) AS its));
    END LOOP;
    FOR i IN 1 .. coalesce(cardinality(gone_queues), 0) LOOP
        WITH gone AS (
            DELETE FROM messages m
            WHERE m.ctid = ANY (ARRAY(
                SELECT its.ctid
                FROM unnest(gone_places[i]::bigint[]) AS p (place)
                CROSS JOIN LATERAL (
                    SELECT f.ctid FROM messages f WHERE f.queue = gone_queues[i] AND f.place = p.place OFFSET 0) AS its))
            RETURNING m.place
        )
        SELECT count(*) INTO uncounted
        FROM message_counts n JOIN gone g ON g.place > n.after AND g.place <= n.upto
        WHERE n.queue = gone_queues[i];
        IF uncounted > 0 THEN
            UPDATE message_counts n SET messages = n.messages - uncounted WHERE n.queue = gone_queues[i];
        END IF;
    END LOOP;
END
$$;
