-- What another compute service is to get of external events, and has not: one row for all
-- of a request that are of the same server.
CREATE TABLE forwards (
    event       text        COLLATE "C" NOT NULL, -- the first of them
    position    bigint      NOT NULL,             -- where they were accepted
    server_uuid uuid        NOT NULL,
    request_id  text        COLLATE "C",          -- NULL: none
    accepted_at timestamptz NOT NULL,
    CONSTRAINT forwards_pkey PRIMARY KEY (event)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE UNIQUE INDEX forwards_position ON forwards (position);
CREATE INDEX forwards_server ON forwards (server_uuid, position);
