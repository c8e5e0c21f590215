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
