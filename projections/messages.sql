-- The messages there are: what clients read and what decisions are made on. Only
-- the event that a message has gone takes its row away; whether it has expired, is
-- still delayed or is claimed is asked of the time of reading. No index has a column
-- that a claim changes, so that claiming rewrites the row alone.
CREATE TABLE messages (
    queue       bigint      NOT NULL, -- the queue's number
    place       bigint      NOT NULL,
    id          uuid        NOT NULL,
    client      text        COLLATE "C" NOT NULL,
    ttl         integer     NOT NULL,
    created_at  timestamptz NOT NULL,
    visible_at  timestamptz NOT NULL, -- when the delay is over
    expires_at  timestamptz NOT NULL,
    claim       uuid,                 -- the last one to hold it
    claim_ends  timestamptz,
    claim_count integer     NOT NULL DEFAULT 0,
    moved       boolean     NOT NULL DEFAULT false, -- stands elsewhere than its id says
    key         uuid,                 -- that the body is sealed with; NULL: it is plain
    body        text        NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (queue, place)
) WITH (fillfactor = 80, vacuum_truncate = off, toast.vacuum_truncate = off,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 1, autovacuum_vacuum_cost_limit = 300,
    -- TOAST with an option of its own takes none over.
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_cost_delay = 1, toast.autovacuum_vacuum_cost_limit = 300);
-- Vacuum comes often, and has a pace: see ledger.extend.
-- Nobody can read or write a table while a vacuum gives back the room at its end: after a snapshot
-- had been held open for 90 s, for 42 and for 45 ms. That room is wanted again in any case.

-- These tables change all over within seconds, and each time PostgreSQL looks at 30,000 rows
-- for its statistics, for a third of a second. A tenth is enough, and none of the columns that
-- no condition names alone.
ALTER TABLE messages ALTER queue SET STATISTICS 10, ALTER place SET STATISTICS 10,
    ALTER id SET STATISTICS 10, ALTER client SET STATISTICS 10, ALTER ttl SET STATISTICS 0,
    ALTER created_at SET STATISTICS 0, ALTER visible_at SET STATISTICS 10, ALTER expires_at SET STATISTICS 10,
    ALTER claim SET STATISTICS 0, ALTER claim_ends SET STATISTICS 10, ALTER claim_count SET STATISTICS 0,
    ALTER moved SET STATISTICS 10, ALTER key SET STATISTICS 10, ALTER body SET STATISTICS 0;

-- For the sweeper, and to leave out what has expired where messages are counted. A
-- claim changes this time only if the message would not outlive it. Who wants it says that each
-- has a ttl, as all have: who looks for a message by its place never walks over it, also by a
-- plan that was made when there was no message.
CREATE INDEX messages_expiry ON messages (expires_at, queue) WHERE ttl >= 0;
-- What a delay ends with: messages that become free below the mark of a queue.
CREATE INDEX messages_delay ON messages (queue, visible_at) WHERE visible_at > created_at;
CREATE INDEX messages_moved ON messages (id) WHERE moved;
-- What is sealed with a key that was destroyed is looked for, to be deleted.
CREATE INDEX messages_key ON messages (key) WHERE key IS NOT NULL;

-- The claims there are, also those that are over and not swept yet: the messages
-- they held became free when they ended.
CREATE TABLE claims (
    queue      bigint      NOT NULL, -- the queue's number
    id         uuid        NOT NULL,
    place      bigint      NOT NULL, -- of the event: a purge behind it empties the claim
    ttl        integer     NOT NULL,
    renewed_at timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL,
    released   boolean     NOT NULL DEFAULT false, -- given up before its end
    held       integer     NOT NULL, -- how many of its messages were not deleted
    emptied    boolean     NOT NULL GENERATED ALWAYS AS (held = 0) STORED,
    places     bigint[]    NOT NULL, -- of the messages it got hold of
    CONSTRAINT claims_pkey PRIMARY KEY (queue, id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 1, autovacuum_vacuum_cost_limit = 300, vacuum_truncate = off);

ALTER TABLE claims ALTER queue SET STATISTICS 10, ALTER id SET STATISTICS 0, ALTER place SET STATISTICS 10,
    ALTER ttl SET STATISTICS 0, ALTER renewed_at SET STATISTICS 0, ALTER ends_at SET STATISTICS 10,
    ALTER released SET STATISTICS 10, ALTER held SET STATISTICS 0,
    ALTER emptied SET STATISTICS 10, ALTER places SET STATISTICS 0;

-- For who asks when claims of a queue end, and says that each has a place, as all have: who looks
-- for one by its id cannot have this index, which leads over all of the queue's, and over those
-- that are swept while somebody still holds an old snapshot. Made when there were few claims, a
-- plan did that. Of most claims all messages are deleted long before their end: who wants to know
-- what claims hold walks over the few others. A claim's row gets new entries in the indexes with the
-- last of its messages, and when its end changes, but not with each message.
CREATE INDEX claims_end ON claims (queue, emptied, ends_at) WHERE place >= 0;
-- For the sweeper alone, which looks for queues whose claims are over, and says that each
-- has a ttl, as all have. Who asks for the claims of one queue, or for one by its id, never walks
-- over those of all others by it, whatever the statistics say.
CREATE INDEX claims_over ON claims (ends_at) WHERE ttl >= 0;

-- How many messages of a queue stand behind one place and up to another. Who wants
-- to know how many there are counts only those behind. Posts leave it alone; the
-- sweeper moves it on. Queues without a row are counted whole.
CREATE TABLE message_counts (
    queue    bigint NOT NULL, -- the queue's number
    after    bigint NOT NULL,
    upto     bigint NOT NULL,
    messages bigint NOT NULL,
    CONSTRAINT message_counts_pkey PRIMARY KEY (queue)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

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
            IF live >= most_live OR ahead_bytes > 262144 OR dead >= 100 OR dead_bytes > 4194304 THEN
                full_at := place;
                EXIT;
            END IF;
            IF most_claims[i] > 0 AND claim_count >= most_claims[i] THEN
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

-- How many messages a queue has at a time, exactly: by what is kept count of, by what was
-- posted since that was last moved on, and without what has expired or ended since the
-- last sweep; how many of them claims hold; and which stand at its ends. No row: no such
-- queue. As in load_messages, rows are looked up by the keys: few messages have expired, of
-- all queues, and a queue may have a million that have not.
CREATE FUNCTION queue_stats(
    of_project text, of_name text, at timestamptz
) RETURNS TABLE (
    total bigint, claimed bigint, oldest uuid, oldest_at timestamptz, newest uuid, newest_at timestamptz
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET enable_material = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    the_queue bigint;
    gone bigint; -- messages up to this place
    counted bigint;
    uncounted_after bigint;
BEGIN
    SELECT q.number, q.purged INTO the_queue, gone
    FROM queues q
    WHERE q.project = of_project AND q.name = of_name AND NOT q.deleted;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT n.messages, n.upto INTO counted, uncounted_after FROM message_counts n WHERE n.queue = the_queue;
    total := coalesce(counted, 0)
        + (SELECT count(*) FROM messages m WHERE m.queue = the_queue AND m.place > greatest(gone, coalesce(uncounted_after, 0)))
        - (SELECT count(*) FROM (
            SELECT FROM messages m
            WHERE m.ttl >= 0 AND m.expires_at <= at AND m.queue = the_queue AND m.place > gone
            ORDER BY m.expires_at) AS expired);
    SELECT coalesce(sum(c.held), 0) INTO claimed
    FROM (SELECT c.held FROM claims c
        WHERE c.place >= 0 AND c.queue = the_queue AND NOT c.emptied AND c.ends_at > at AND c.place > gone AND NOT c.released
        ORDER BY c.ends_at) AS c;
    SELECT m.id, m.created_at INTO oldest, oldest_at
    FROM messages m
    WHERE m.queue = the_queue AND m.place > gone AND m.expires_at > at
    ORDER BY m.place LIMIT 1;
    SELECT m.id, m.created_at INTO newest, newest_at
    FROM messages m
    WHERE m.queue = the_queue AND m.place > gone AND m.expires_at > at
    ORDER BY m.place DESC LIMIT 1;
    RETURN NEXT;
END
$$;
