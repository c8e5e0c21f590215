-- Which events concern which message. A message is named by the place of posting that its
-- id carries, which moving does not change; the event that posted it is known from that
-- place and is not among them. Messages that were posted together are claimed and deleted
-- together, so a row is about the messages posted at sixteen positions and the events at 256: it
-- holds pairs of a message and a position, counted from where the two stretches begin. Where
-- they are together, a row for each pair would be eight times the room or more; where each
-- message is alone, two thirds of it.
CREATE TABLE message_events (
    posted_from   bigint     NOT NULL, -- position
    recorded_from bigint     NOT NULL, -- position
    messages      integer[]  NOT NULL, -- places behind that of posted_from
    positions     smallint[] NOT NULL, -- behind recorded_from, of the same pairs, in order
    CONSTRAINT message_events_pkey PRIMARY KEY (posted_from, recorded_from)
);
ALTER TABLE message_events ALTER posted_from SET STATISTICS 10, ALTER recorded_from SET STATISTICS 0, -- as for messages
    ALTER messages SET STATISTICS 0, ALTER positions SET STATISTICS 0;

-- Events that concern whatever stood between two places of a queue: purges and deletions of
-- the queue, and sweeps. first is 0 where all up to last is gone; otherwise it is gone if
-- it had expired by the time of the event.
CREATE TABLE message_ranges (
    queue    bigint NOT NULL,
    last     bigint NOT NULL,
    first    bigint NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT message_ranges_pkey PRIMARY KEY (queue, last, first, position)
);

-- Adds pairs to message_events. Rows of the stretch of events that a slice of the feed begins in
-- may be there from the slice before, and most often what comes now comes behind. All others are
-- new unless events were parked or an operator has set the consumer back, and looking for each of
-- them first would double what they cost.
CREATE FUNCTION index_messages(
    begun bigint, all_posted_from bigint[], all_recorded_from bigint[], all_messages text[], all_positions text[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        INSERT INTO message_events (posted_from, recorded_from, messages, positions)
        SELECT e.posted_from, e.recorded_from, e.messages::integer[], e.positions::smallint[]
        FROM unnest(all_posted_from, all_recorded_from, all_messages, all_positions)
            AS e (posted_from, recorded_from, messages, positions)
        WHERE e.recorded_from > begun;
    EXCEPTION WHEN unique_violation THEN
        SELECT max(e.recorded_from) INTO begun FROM unnest(all_recorded_from) AS e (recorded_from);
    END;
    INSERT INTO message_events AS was (posted_from, recorded_from, messages, positions)
    SELECT e.posted_from, e.recorded_from, e.messages::integer[], e.positions::smallint[]
    FROM unnest(all_posted_from, all_recorded_from, all_messages, all_positions)
        AS e (posted_from, recorded_from, messages, positions)
    WHERE e.recorded_from <= begun
    ON CONFLICT (posted_from, recorded_from) DO UPDATE SET (messages, positions) = (
        SELECT was.messages || excluded.messages, was.positions || excluded.positions
        WHERE was.positions[cardinality(was.positions)] < excluded.positions[1]
        UNION ALL
        SELECT array_agg(pair.message ORDER BY pair.position, pair.message),
            array_agg(pair.position ORDER BY pair.position, pair.message)
        FROM (
            SELECT * FROM unnest(was.messages, was.positions) AS p (message, position)
            UNION
            SELECT * FROM unnest(excluded.messages, excluded.positions) AS p (message, position)
        ) AS pair
        HAVING was.positions[cardinality(was.positions)] >= excluded.positions[1]);
END
$$;
