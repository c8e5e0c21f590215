-- Which events concern which message. A message is named by the place of posting that its
-- id carries, which moving does not change; the event that posted it is known from that
-- place and has no row.
CREATE TABLE message_events (
    message  bigint NOT NULL,
    position bigint NOT NULL,
    CONSTRAINT message_events_pkey PRIMARY KEY (message, position)
);
ALTER TABLE message_events ALTER message SET STATISTICS 10, ALTER position SET STATISTICS 0; -- as for messages

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

-- Adds rows to message_events. Those of a slice of the feed are new unless an operator has
-- set the consumer back, and looking for each of them first would double what they cost.
CREATE FUNCTION index_messages(messages bigint[], positions bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_events (message, position) SELECT * FROM unnest(messages, positions);
EXCEPTION WHEN unique_violation THEN
    INSERT INTO message_events (message, position) SELECT * FROM unnest(messages, positions) ON CONFLICT DO NOTHING;
END
$$;
