-- What nobody can see any more of queues, by their numbers, at a time: at most so many messages
-- and claims of each, claims once they have been over for so many seconds; and up to where
-- the messages can be kept count of, if it is worth it for so many messages, or events in the
-- ledger, at most so many messages in one step. As in load_messages, rows are looked up by the
-- keys.
CREATE FUNCTION load_sweeps(
    numbers bigint[], now timestamptz, most integer, rest integer, least_counted integer, most_counted integer
) RETURNS TABLE (
    project text, name text, number bigint, deleted boolean, purged bigint, expired_firsts bigint[], expired_lasts bigint[],
    upto bigint, clean boolean, claims uuid[], lowest bigint, counted bigint, nothing_else boolean
)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET enable_material = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT q.project, q.name, q.number, q.deleted, q.purged, ranges.firsts, ranges.lasts, coalesce(gone.upto, 0),
        NOT q.deleted AND q.purged > q.swept AND gone.rows < most, over.ids, over.lowest, coalesce(counted.upto, 0),
        q.deleted AND gone.rows < most AND NOT EXISTS (
            SELECT FROM claims c WHERE c.queue = q.number AND NOT c.id = ANY (over.ids))
    FROM (SELECT DISTINCT asked.number FROM unnest(numbers) AS asked (number)) AS asked
    CROSS JOIN LATERAL (SELECT * FROM queues q WHERE q.number = asked.number OFFSET 0) AS q
    CROSS JOIN LATERAL (SELECT CASE WHEN q.deleted THEN 9223372036854775807 ELSE q.purged END AS mark) AS w
    CROSS JOIN LATERAL (
        SELECT count(*) AS rows, max(m.place) AS upto
        FROM (SELECT m.place FROM messages m WHERE m.queue = q.number AND m.place <= w.mark ORDER BY m.place LIMIT most) AS m
    ) AS gone
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(m.place ORDER BY m.place), '{}') AS places
        FROM (SELECT m.place FROM messages m
            WHERE m.ttl >= 0 AND m.expires_at <= load_sweeps.now AND m.queue = q.number AND m.place > w.mark
            ORDER BY m.expires_at LIMIT most) AS m
    ) AS expired
    CROSS JOIN LATERAL ( -- a range has few others in it: whoever takes it away walks over these as well
        WITH near AS MATERIALIZED (
            SELECT m.place, m.expires_at <= load_sweeps.now AS gone, row_number() OVER (ORDER BY m.place) AS nth
            FROM (SELECT m.place, m.expires_at FROM messages m
                WHERE m.queue = q.number AND m.place >= expired.places[1] ORDER BY m.place LIMIT 4 * most) AS m
        )
        SELECT coalesce(array_agg(r.first ORDER BY r.first), '{}') AS firsts, coalesce(array_agg(r.last ORDER BY r.first), '{}') AS lasts
        FROM (
            SELECT min(e.place) AS first, max(e.place) AS last
            FROM (
                SELECT e.place, count(*) FILTER (WHERE (e.apart <= 8) IS NOT TRUE) OVER (ORDER BY e.place) AS nth
                FROM (
                    SELECT e.place, e.nth - lag(e.nth) OVER (ORDER BY e.place) AS apart
                    FROM (
                        SELECT n.place, n.nth FROM near n WHERE n.gone
                        UNION ALL
                        SELECT far.place, NULL FROM unnest(expired.places) AS far (place)
                        WHERE far.place > (SELECT max(n.place) FROM near n)
                        ORDER BY place LIMIT most
                    ) AS e
                ) AS e
            ) AS e
            GROUP BY e.nth
        ) AS r
    ) AS ranges
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(c.id), '{}') AS ids, coalesce(min(c.lowest), 0) AS lowest
        FROM (SELECT c.id, c.lowest
            FROM (VALUES (false), (true)) AS of (emptied) -- as the index has them
            CROSS JOIN LATERAL (
                SELECT c.id, CASE WHEN NOT of.emptied THEN (SELECT min(p.place) FROM unnest(c.places) AS p (place)) END AS lowest
                FROM claims c
                WHERE c.place >= 0 AND c.queue = q.number AND c.emptied = of.emptied
                    AND c.ends_at <= CASE WHEN q.deleted THEN 'infinity' ELSE load_sweeps.now - make_interval(secs => rest) END
                ORDER BY c.ends_at LIMIT most) AS c
            LIMIT most) AS c
    ) AS over
    CROSS JOIN LATERAL (
        SELECT coalesce(max(e.position), 0) AS position
        FROM (SELECT e.position FROM ledger.events e ORDER BY e.position DESC LIMIT 1) AS e
    ) AS head
    CROSS JOIN LATERAL (
        SELECT greatest(q.purged, q.number << 16, coalesce((SELECT n.upto FROM message_counts n WHERE n.queue = q.number), 0)) AS upto
    ) AS was
    LEFT JOIN LATERAL ( -- whether they are still there or not: dead rows cost those who count as well
        SELECT CASE WHEN count(*) = most_counted THEN max(m.place)
            WHEN greatest(count(*), head.position - (was.upto >> 16)) >= least_counted THEN (head.position + 1 << 16) - 1 END AS upto
        FROM (SELECT m.place FROM messages m
            WHERE m.queue = q.number AND NOT q.deleted AND gone.rows < most AND cardinality(expired.places) < most
                AND m.place > was.upto
            ORDER BY m.place LIMIT most_counted) AS m
        HAVING NOT q.deleted AND gone.rows < most AND cardinality(expired.places) < most
    ) AS counted ON true;
END
$$;

-- Takes away what events tell to be over: messages between places, all of them or
-- those that had expired at a time, and claims; forgets the counts of queues that are
-- over; and moves counts on. "forgotten" were purged, "anew" were purged and counted
-- since, and the others add what stands between the former last place and the new one.
-- The rest of the slice is written: what is counted is what is left.
CREATE FUNCTION sweep_messages(
    swept_queues bigint[], swept_firsts bigint[], swept_lasts bigint[], swept_times timestamptz[],
    over_queues bigint[], over_claims uuid[],
    forgotten_queues bigint[], forgotten_afters bigint[], forgotten_uptos bigint[],
    anew_queues bigint[], anew_afters bigint[], anew_uptos bigint[],
    counted_queues bigint[], counted_afters bigint[], counted_uptos bigint[],
    gone_queues bigint[]
) RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET enable_material = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT * FROM unnest(swept_queues, swept_firsts, swept_lasts, swept_times) AS r (queue, first, last, at)
    LOOP
        WITH gone AS (
            DELETE FROM messages m
            WHERE m.queue = r.queue AND m.place >= r.first AND m.place <= r.last AND (r.at IS NULL OR m.expires_at <= r.at)
            RETURNING m.place
        )
        UPDATE message_counts n
        SET messages = n.messages - (SELECT count(*) FROM gone g WHERE g.place > n.after AND g.place <= n.upto)
        WHERE n.queue = r.queue;
    END LOOP;
    FOR r IN SELECT * FROM unnest(over_queues, over_claims) AS r (queue, id) LOOP
        DELETE FROM claims c WHERE c.queue = r.queue AND c.id = r.id;
    END LOOP;
    FOR r IN SELECT * FROM unnest(forgotten_queues, forgotten_afters, forgotten_uptos) AS r (queue, after, upto) LOOP
        UPDATE message_counts n SET after = r.after, upto = r.upto, messages = 0 WHERE n.queue = r.queue;
    END LOOP;

    INSERT INTO message_counts AS n (queue, after, upto, messages)
    SELECT a.queue, a.after, a.upto, (
        SELECT count(*) FROM messages m WHERE m.queue = a.queue AND m.place > a.after AND m.place <= a.upto)
    FROM unnest(anew_queues, anew_afters, anew_uptos) AS a (queue, after, upto)
    ON CONFLICT (queue) DO UPDATE SET after = excluded.after, upto = excluded.upto, messages = excluded.messages;

    INSERT INTO message_counts AS n (queue, after, upto, messages)
    SELECT c.queue, coalesce(was.after, c.after), c.upto, coalesce(was.messages, 0) + (
        SELECT count(*) FROM messages m
        WHERE m.queue = c.queue AND m.place > coalesce(was.upto, c.after) AND m.place <= c.upto)
    FROM unnest(counted_queues, counted_afters, counted_uptos) AS c (queue, after, upto)
    LEFT JOIN LATERAL (SELECT * FROM message_counts k WHERE k.queue = c.queue OFFSET 0) AS was ON true
    ON CONFLICT (queue) DO UPDATE SET upto = excluded.upto, messages = excluded.messages;

    DELETE FROM message_counts n WHERE n.queue = ANY (gone_queues);
END
$$;
