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
