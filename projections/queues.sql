-- The queues there are. A queue bears the number of the event that created it; its
-- messages are found by that number, so a deleted queue's messages cannot be seen
-- in a later queue of the same name. The row of a deleted queue stays for as long
-- as messages of it may be in the messages table.
CREATE TABLE queues (
    number        bigint  NOT NULL,
    project       text    COLLATE "C" NOT NULL,
    name          text    COLLATE "C" NOT NULL,
    metadata      text    NOT NULL,
    labels        jsonb   NOT NULL,
    default_delay integer NOT NULL,
    purged        bigint  NOT NULL DEFAULT 0, -- messages up to this place are gone
    swept         bigint  NOT NULL DEFAULT 0, -- and their rows, up to this place
    deleted       boolean NOT NULL DEFAULT false,
    CONSTRAINT queues_pkey PRIMARY KEY (number)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);

CREATE UNIQUE INDEX queues_name ON queues (project, name) WHERE NOT deleted;

-- Queues with messages to take away.
CREATE INDEX queues_to_sweep ON queues (number) WHERE deleted OR purged > swept;

-- Writes the last word of a slice of history on each queue. Names are freed before
-- they are taken again, and what is over goes last.
CREATE FUNCTION write_queues(
    deleted_numbers bigint[],
    created_numbers bigint[], created_projects text[], created_names text[], created_metadata text[],
    created_labels text[], created_delays integer[], created_deleted integer[],
    changed_numbers bigint[], changed_metadata text[], changed_labels text[], changed_delays integer[],
    purged_numbers bigint[], purged_places bigint[], swept_numbers bigint[], swept_places bigint[],
    over_numbers bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(deleted_numbers) > 0 THEN
        UPDATE queues q SET deleted = true WHERE q.number = ANY (deleted_numbers);
    END IF;
    IF cardinality(created_numbers) > 0 THEN
        INSERT INTO queues (number, project, name, metadata, labels, default_delay, deleted)
        SELECT c.number, c.project, c.name, c.metadata, c.labels::jsonb, c.delay, c.deleted > 0
        FROM unnest(created_numbers, created_projects, created_names, created_metadata, created_labels,
            created_delays, created_deleted) AS c (number, project, name, metadata, labels, delay, deleted);
    END IF;
    IF cardinality(changed_numbers) > 0 THEN
        UPDATE queues q
        SET metadata = c.metadata, labels = c.labels::jsonb, default_delay = c.delay
        FROM unnest(changed_numbers, changed_metadata, changed_labels, changed_delays)
            AS c (number, metadata, labels, delay)
        WHERE q.number = c.number;
    END IF;
    IF cardinality(purged_numbers) > 0 THEN
        UPDATE queues q SET purged = p.place
        FROM unnest(purged_numbers, purged_places) AS p (number, place)
        WHERE q.number = p.number;
    END IF;
    IF cardinality(swept_numbers) > 0 THEN
        UPDATE queues q SET swept = s.place
        FROM unnest(swept_numbers, swept_places) AS s (number, place)
        WHERE q.number = s.number;
    END IF;
    IF cardinality(over_numbers) > 0 THEN
        DELETE FROM queues q WHERE q.number = ANY (over_numbers);
    END IF;
END
$$;
