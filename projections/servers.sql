-- Where servers were seen last. One that was forgotten stays, so that what somebody saw
-- before that is known to be old.
CREATE TABLE server_hosts (
    server_uuid uuid        NOT NULL,
    host        text        COLLATE "C",  -- this and the next three: NULL, there is none
    node        text,
    source_host text        COLLATE "C",  -- that it migrates from
    dest_host   text        COLLATE "C",  -- that it migrates to
    state       text,
    project     text,                     -- whose it is; NULL: nobody has said
    deleted     boolean     NOT NULL,     -- it was forgotten
    observed_at timestamptz NOT NULL,
    source      text        NOT NULL,     -- who said it
    CONSTRAINT server_hosts_pkey PRIMARY KEY (server_uuid)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);

-- For lists by host. An observation that changes the time alone changes none of them.
CREATE INDEX server_hosts_host ON server_hosts (host, server_uuid) WHERE host IS NOT NULL;
CREATE INDEX server_hosts_source ON server_hosts (source_host, server_uuid) WHERE source_host IS NOT NULL;
CREATE INDEX server_hosts_dest ON server_hosts (dest_host, server_uuid) WHERE dest_host IS NOT NULL;
