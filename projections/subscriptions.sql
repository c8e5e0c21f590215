-- The subscriptions to each queue. They belong to a queue's name, whether there is such a
-- queue or not. The id tells when a subscription was made, so the primary key is also the
-- order of the list. A row stays until the sweeper has taken what had expired away.
CREATE TABLE subscriptions (
    project        text        COLLATE "C" NOT NULL,
    queue          text        COLLATE "C" NOT NULL,
    id             uuid        NOT NULL,
    subscriber     text        NOT NULL,
    subscriber_key uuid        NOT NULL, -- out of the subscriber, which may be longer than what an index takes
    ttl            bigint      NOT NULL, -- seconds
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    options        text        NOT NULL, -- as the client sent them
    confirmed      boolean     NOT NULL,
    CONSTRAINT subscriptions_pkey PRIMARY KEY (project, queue, id),
    -- Two subscriptions may trade their subscribers within a slice of history.
    CONSTRAINT subscriptions_subscriber UNIQUE (project, queue, subscriber_key) DEFERRABLE INITIALLY DEFERRED
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX subscriptions_ends ON subscriptions (expires_at);

-- Writes the last word of a slice of history on each subscription. What is NULL of a
-- changed one stays as it was.
CREATE FUNCTION write_subscriptions(
    gone_projects text[], gone_queues text[], gone_ids uuid[],
    changed_projects text[], changed_queues text[], changed_ids uuid[], changed_subscribers text[], changed_keys uuid[],
    changed_ttls bigint[], changed_ends timestamptz[], changed_options text[], changed_confirmed integer[],
    made_projects text[], made_queues text[], made_ids uuid[], made_subscribers text[], made_keys uuid[],
    made_ttls bigint[], made_times timestamptz[], made_ends timestamptz[], made_options text[], made_confirmed integer[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(gone_ids) > 0 THEN
        DELETE FROM subscriptions s
        USING unnest(gone_projects, gone_queues, gone_ids) AS g (project, queue, id)
        WHERE s.project = g.project AND s.queue = g.queue AND s.id = g.id;
    END IF;
    IF cardinality(changed_ids) > 0 THEN
        UPDATE subscriptions s
        SET subscriber = coalesce(c.subscriber, s.subscriber), subscriber_key = coalesce(c.key, s.subscriber_key),
            ttl = CASE WHEN c.ends_at IS NULL THEN s.ttl ELSE c.ttl END, expires_at = coalesce(c.ends_at, s.expires_at),
            options = coalesce(c.options, s.options),
            confirmed = CASE c.confirmed WHEN 0 THEN s.confirmed ELSE c.confirmed > 0 END
        FROM unnest(changed_projects, changed_queues, changed_ids, changed_subscribers, changed_keys, changed_ttls,
            changed_ends, changed_options, changed_confirmed)
            AS c (project, queue, id, subscriber, key, ttl, ends_at, options, confirmed)
        WHERE s.project = c.project AND s.queue = c.queue AND s.id = c.id;
    END IF;
    IF cardinality(made_ids) > 0 THEN
        INSERT INTO subscriptions
            (project, queue, id, subscriber, subscriber_key, ttl, created_at, expires_at, options, confirmed)
        SELECT m.project, m.queue, m.id, m.subscriber, m.key, m.ttl, m.created_at, m.ends_at, m.options, m.confirmed > 0
        FROM unnest(made_projects, made_queues, made_ids, made_subscribers, made_keys, made_ttls, made_times, made_ends,
            made_options, made_confirmed)
            AS m (project, queue, id, subscriber, key, ttl, created_at, ends_at, options, confirmed);
    END IF;
END
$$;
