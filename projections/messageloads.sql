-- When something of a queue becomes free next, by the end of a claim or of a delay, seen from a
-- time; it may turn out to be nothing. Of each claim that was emptied, an entry in the index may stay
-- behind that is dead, and that somebody's old snapshot keeps: where 50 of them end, looking ends
-- as well.
CREATE FUNCTION next_free(the_queue bigint, now timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET enable_material = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    far_enough timestamptz;
BEGIN
    SELECT c.ends_at INTO far_enough
    FROM claims c
    WHERE c.place >= 0 AND c.queue = the_queue AND c.emptied AND c.ends_at > now
    ORDER BY c.ends_at OFFSET 49 LIMIT 1;
    RETURN least(
        (SELECT c.ends_at FROM claims c
            WHERE c.place >= 0 AND c.queue = the_queue AND NOT c.emptied AND c.ends_at > now
                AND c.ends_at <= coalesce(far_enough, 'infinity')
            ORDER BY c.ends_at LIMIT 1),
        far_enough,
        (SELECT d.visible_at FROM messages d
            WHERE d.queue = the_queue AND d.visible_at > d.created_at AND d.visible_at > now
            ORDER BY d.visible_at LIMIT 1));
END
$$;

-- The oldest free messages of queues, for decisions made at a time: for each queue at
-- most as many as are wanted and 100 that were claimed too often (most_claims; 0: no
-- such rule). Below its mark nothing was free at the time since; what has become free
-- there since then is found by the claims and delays that ended. Bodies are left out
-- once they have come to body_bytes, except of messages that were claimed too often.
-- Of queues without such a rule so many ahead come besides, while their bodies come to
-- no more than 256 KiB: the next decisions will want them. What is sealed with a key that
-- was destroyed is free for nobody.
-- Each queue ends with a row without an id: from its place on nothing was looked at
-- (null: all was), and by its created_at something else will have become free (null:
-- nothing will, by itself).
CREATE FUNCTION free_messages(
    asked_queues bigint[], purged bigint[], marks bigint[], sinces timestamptz[], wanted integer[], most_claims integer[],
    now timestamptz, body_bytes bigint, ahead integer
) RETURNS TABLE (
    queue bigint, place bigint, id uuid, client text, ttl integer, created_at timestamptz, expires_at timestamptz,
    claim_count integer, key uuid, body text
)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    mark bigint;
    freed bigint[];
    live integer;
    dead integer;
    most_live integer;
    dead_bytes bigint;
    ahead_bytes bigint;
    full_at bigint;
    too_often boolean;
BEGIN
    FOR i IN 1 .. cardinality(asked_queues) LOOP
        mark := greatest(marks[i], purged[i] + 1);
        live := 0;
        dead := 0;
        dead_bytes := 0;
        ahead_bytes := 0;
        most_live := wanted[i] + CASE WHEN most_claims[i] = 0 THEN ahead ELSE 0 END;
        full_at := NULL;
        freed := NULL;
        IF marks[i] > purged[i] + 1 THEN
            SELECT array_agg(DISTINCT f.place ORDER BY f.place) INTO freed
            FROM (
                SELECT p.place
                FROM (SELECT c.places FROM claims c
                    WHERE c.place >= 0 AND c.queue = asked_queues[i] AND NOT c.emptied
                        AND c.ends_at >= sinces[i] AND c.ends_at <= free_messages.now
                    ORDER BY c.ends_at) AS c
                CROSS JOIN LATERAL unnest(c.places) AS p (place)
                UNION ALL
                (SELECT d.place
                FROM messages d
                WHERE d.queue = asked_queues[i] AND d.visible_at > d.created_at
                    AND d.visible_at >= sinces[i] AND d.visible_at <= free_messages.now
                ORDER BY d.visible_at)
            ) AS f
            WHERE f.place < mark AND f.place > purged[i];
            -- A few are looked up one by one; for many it is better to walk again.
            IF cardinality(freed) > 200 THEN
                mark := freed[1];
                freed := NULL;
            END IF;
        END IF;
        queue := asked_queues[i];
        FOR place, id, client, ttl, created_at, expires_at, claim_count, key, body IN
            (SELECT f.place, f.id, f.client, f.ttl, f.created_at, f.expires_at, f.claim_count, f.key, f.body
            FROM unnest(freed) AS u (place) -- in order, and OFFSET 0 keeps it the outer side
            CROSS JOIN LATERAL (
                SELECT *
                FROM messages f
                WHERE f.queue = asked_queues[i] AND f.place = u.place
                    AND f.visible_at <= free_messages.now AND f.expires_at > free_messages.now
                    AND (f.claim_ends IS NULL OR f.claim_ends <= free_messages.now)
                    AND (f.key IS NULL OR (SELECT k.wrapped IS NULL FROM secrets.data_keys k WHERE k.id = f.key) IS NOT TRUE)
                OFFSET 0
            ) AS f)
            UNION ALL
            (SELECT f.place, f.id, f.client, f.ttl, f.created_at, f.expires_at, f.claim_count, f.key, f.body
            FROM messages f
            WHERE f.queue = asked_queues[i] AND f.place >= mark
                AND f.visible_at <= free_messages.now AND f.expires_at > free_messages.now
                AND (f.claim_ends IS NULL OR f.claim_ends <= free_messages.now)
                AND (f.key IS NULL OR (SELECT k.wrapped IS NULL FROM secrets.data_keys k WHERE k.id = f.key) IS NOT TRUE)
            ORDER BY f.place)
        LOOP
            IF live >= wanted[i] THEN
                ahead_bytes := ahead_bytes + octet_length(body);
            END IF;
            too_often := most_claims[i] > 0 AND claim_count >= most_claims[i];
            IF live >= most_live OR ahead_bytes > 262144 OR too_often AND (dead >= 100 OR dead_bytes > 4194304) THEN
                full_at := place;
                EXIT;
            END IF;
            IF too_often THEN
                dead := dead + 1;
                dead_bytes := dead_bytes + octet_length(body);
            ELSE
                live := live + 1;
                body_bytes := body_bytes - octet_length(body);
                IF body_bytes < 0 THEN
                    body := NULL;
                END IF;
            END IF;
            RETURN NEXT;
        END LOOP;
        place := full_at;
        id := NULL;
        body := NULL;
        created_at := next_free(asked_queues[i], free_messages.now);
        RETURN NEXT;
    END LOOP;
END
$$;

-- The free messages of queues from a place of each on, one more than so many, for decisions that
-- come next; by its place the one more tells where looking ended. Those behind a body with which
-- they came to more than body_bytes have none. It walks as free_messages does, and costs half of
-- it: a loop of PL/pgSQL over rows takes longer than to find them. What it sees must have the event
-- at head: it is asked for without the lock, over a connection of its own.
CREATE FUNCTION free_ahead(
    head bigint, head_id uuid, asked_queues bigint[], asked_places bigint[], now timestamptz, most integer, body_bytes bigint
) RETURNS TABLE (
    queue bigint, place bigint, id uuid, client text, ttl integer, created_at timestamptz, expires_at timestamptz,
    claim_count integer, key uuid, body text
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET enable_material = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger.events e WHERE e.position = head AND e.id = head_id) THEN
        RAISE EXCEPTION 'event % is not in this ledger', head;
    END IF;
    RETURN QUERY
    SELECT a.queue, w.place, w.id, w.client, w.ttl, w.created_at, w.expires_at, w.claim_count, w.key,
        CASE WHEN w.upto - octet_length(w.body) <= free_ahead.body_bytes THEN w.body END
    FROM unnest(asked_queues, asked_places) AS a (queue, place)
    CROSS JOIN LATERAL (
        SELECT s.*, sum(octet_length(s.body)) OVER (ORDER BY s.place ROWS UNBOUNDED PRECEDING) AS upto
        FROM (
            SELECT f.place, f.id, f.client, f.ttl, f.created_at, f.expires_at, f.claim_count, f.key, f.body
            FROM messages f
            WHERE f.queue = a.queue AND f.place >= a.place
                AND f.visible_at <= free_ahead.now AND f.expires_at > free_ahead.now
                AND (f.claim_ends IS NULL OR f.claim_ends <= free_ahead.now)
                AND (f.key IS NULL OR (SELECT k.wrapped IS NULL FROM secrets.data_keys k WHERE k.id = f.key) IS NOT TRUE)
            ORDER BY f.place
            LIMIT most + 1
        ) AS s
    ) AS w;
END
$$;

-- The messages that decisions made at a time need, in one round trip. Given a head of
-- the ledger, they are made behind it and without the lock: "now" is the clock (null: the
-- database's), the first row tells the batch's time, as created_at, and there is none at
-- all when the ledger has moved on. Then come those that are alive of some that are asked
-- for, by number, by their ids and the places that these carry; one that was moved stands
-- elsewhere. asked is its number, and lives tells
-- whether the claim named with it is live: only one that does not hold the message has
-- to be looked for. Then claims, where lives tells that asked is the number of one that
-- is live: with the messages that it still holds, and once without. Then, without asked,
-- the free messages of queues.
-- Its plans are kept, and one may be made when a table is empty, or full of dead rows with
-- few live ones: then a lookup is believed to cost as much as a walk over the index.
-- Whatever the statistics say, rows are looked up by the keys: by those that a subquery with
-- OFFSET 0 is given, or by that of the order asked for, since sorting is forbidden.
CREATE FUNCTION load_messages(
    head bigint, head_id uuid, now timestamptz,
    asked_queues bigint[], asked_purged bigint[], asked_ids uuid[], asked_places bigint[], asked_claims uuid[],
    claim_queues bigint[], claim_purged bigint[], claim_ids uuid[],
    free_queues bigint[], free_purged bigint[], marks bigint[], sinces timestamptz[], wanted integer[], most_claims integer[],
    body_bytes bigint, ahead integer
) RETURNS TABLE (
    asked bigint, of_claim boolean, lives boolean, queue bigint, place bigint, id uuid, client text, ttl integer,
    created_at timestamptz, expires_at timestamptz, claim uuid, claim_ends timestamptz, claim_count integer,
    key uuid, body text
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET enable_material = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
BEGIN
    IF head IS NOT NULL THEN
        now := ledger.peek(head, head_id, now);
        IF now IS NULL THEN
            RETURN;
        END IF;
        created_at := now;
        RETURN NEXT;
    END IF;
    IF cardinality(asked_queues) > 0 THEN
        RETURN QUERY
        SELECT a.n, false,
            a.claim IS NOT NULL AND (
                a.claim IS NOT DISTINCT FROM m.claim AND m.claim_ends > load_messages.now
                OR EXISTS (
                    SELECT FROM (SELECT * FROM claims f WHERE f.queue = a.queue AND f.id = a.claim OFFSET 0) AS c
                    WHERE c.ends_at > load_messages.now AND NOT c.released)),
            m.queue, m.place, m.id, m.client, m.ttl, m.created_at, m.expires_at, m.claim, m.claim_ends, m.claim_count,
            m.key, NULL
        FROM unnest(asked_queues, asked_purged, asked_ids, asked_places, asked_claims)
            WITH ORDINALITY AS a (queue, purged, id, place, claim, n)
        CROSS JOIN LATERAL (
            SELECT f.* FROM messages f WHERE f.queue = a.queue AND f.place = a.place AND f.id = a.id
            UNION ALL
            SELECT f.* FROM (SELECT * FROM messages f WHERE f.moved AND f.id = a.id OFFSET 0) AS f WHERE f.queue = a.queue
            LIMIT 1 -- a message stands in one place: the second is looked for only without the first
        ) AS m
        WHERE m.expires_at > load_messages.now AND m.place > a.purged;
    END IF;
    IF cardinality(claim_queues) > 0 THEN
        RETURN QUERY
        SELECT a.n, true, true,
            m.queue, m.place, m.id, m.client, m.ttl, m.created_at, m.expires_at, m.claim, m.claim_ends, m.claim_count,
            m.key, NULL
        FROM unnest(claim_queues, claim_purged, claim_ids) WITH ORDINALITY AS a (queue, purged, id, n)
        CROSS JOIN LATERAL (SELECT * FROM claims f WHERE f.queue = a.queue AND f.id = a.id OFFSET 0) AS c
        CROSS JOIN LATERAL unnest(c.places || NULL::bigint) AS p (place) -- the last one stands for the claim itself
        LEFT JOIN LATERAL (SELECT * FROM messages f WHERE f.queue = c.queue AND f.place = p.place OFFSET 0) AS m
            ON m.claim = c.id AND m.expires_at > load_messages.now AND m.place > a.purged
        WHERE c.ends_at > load_messages.now AND NOT c.released AND (p.place IS NULL OR m.place IS NOT NULL);
    END IF;
    IF cardinality(free_queues) > 0 THEN
        RETURN QUERY
        SELECT NULL::bigint, false, false, f.queue, f.place, f.id, f.client, f.ttl, f.created_at, f.expires_at,
            NULL::uuid, NULL::timestamptz, f.claim_count, f.key, f.body
        FROM free_messages(free_queues, free_purged, marks, sinces, wanted, most_claims, load_messages.now, body_bytes, ahead) AS f;
    END IF;
END
$$;
