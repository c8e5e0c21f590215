-- How far the messages of its queue have been dealt with for each subscription.
CREATE TABLE delivery_cursors (
    subscription uuid   NOT NULL,
    project      text   COLLATE "C" NOT NULL,
    queue        text   COLLATE "C" NOT NULL,
    cursor       bigint NOT NULL, -- the place of the last message that was
    confirmed    bigint NOT NULL, -- the place of the event that confirmed it last; 0: none did
    CONSTRAINT delivery_cursors_pkey PRIMARY KEY (subscription)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX delivery_cursors_queue ON delivery_cursors (project, queue);

-- What waits: for a retry, for a message's delay, or, owed to the subscriber itself, for
-- a first attempt.
CREATE TABLE deliveries (
    subscription uuid        NOT NULL,
    place        bigint      NOT NULL, -- of the message, or of the event that owes something
    message      uuid,                 -- NULL: a confirmation is owed
    owes         text        NOT NULL,
    attempts     integer     NOT NULL, -- made so far
    due_at       timestamptz NOT NULL,
    CONSTRAINT deliveries_pkey PRIMARY KEY (subscription, place)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, vacuum_truncate = off); -- as for messages

-- Who has something due is found by a probe for each subscription that something waits for,
-- however much it is.
CREATE INDEX deliveries_due ON deliveries (subscription, due_at, place);

-- Writes the last word of a slice of history on deliveries. What is settled goes before
-- what is owed anew is written; what belongs to subscriptions that are gone goes last.
CREATE FUNCTION write_deliveries(
    cursor_ids uuid[], cursor_projects text[], cursor_queues text[], cursor_places bigint[], confirmed_places bigint[],
    settled_ids uuid[], settled_before bigint[], settled_all integer[],
    over_ids uuid[], over_places bigint[],
    waiting_ids uuid[], waiting_places bigint[], waiting_messages uuid[], waiting_owes text[],
    waiting_attempts integer[], waiting_due timestamptz[],
    gone_ids uuid[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(cursor_ids) > 0 THEN
        INSERT INTO delivery_cursors AS d (subscription, project, queue, cursor, confirmed)
        SELECT c.id, c.project, c.queue, c.place, c.confirmed
        FROM unnest(cursor_ids, cursor_projects, cursor_queues, cursor_places, confirmed_places)
            AS c (id, project, queue, place, confirmed)
        ON CONFLICT (subscription) DO UPDATE
        SET cursor = greatest(d.cursor, excluded.cursor), confirmed = greatest(d.confirmed, excluded.confirmed);
    END IF;
    IF cardinality(settled_ids) > 0 THEN
        DELETE FROM deliveries d USING unnest(settled_ids, settled_before, settled_all) AS s (id, place, everything)
        WHERE d.subscription = s.id AND d.place < s.place AND (s.everything > 0 OR d.owes <> '');
    END IF;
    IF cardinality(over_ids) > 0 THEN
        DELETE FROM deliveries d USING unnest(over_ids, over_places) AS o (id, place)
        WHERE d.subscription = o.id AND d.place = o.place;
    END IF;
    IF cardinality(waiting_ids) > 0 THEN
        INSERT INTO deliveries (subscription, place, message, owes, attempts, due_at)
        SELECT w.id, w.place, w.message, w.owes, w.attempts, w.due
        FROM unnest(waiting_ids, waiting_places, waiting_messages, waiting_owes, waiting_attempts, waiting_due)
            AS w (id, place, message, owes, attempts, due)
        ON CONFLICT (subscription, place) DO UPDATE
        SET message = excluded.message, owes = excluded.owes, attempts = excluded.attempts, due_at = excluded.due_at;
    END IF;
    IF cardinality(gone_ids) > 0 THEN
        DELETE FROM deliveries d WHERE d.subscription = ANY (gone_ids);
        DELETE FROM delivery_cursors d WHERE d.subscription = ANY (gone_ids);
    END IF;
END
$$;
