-- Which signed URLs were taken back: each by itself, or (an empty digest) all that a queue
-- had at a position of the history. The queue need not be there: a URL that was taken back
-- is not worth anything in a later queue of the same name either.
CREATE TABLE revoked_shares (
    project  text        COLLATE "C" NOT NULL,
    queue    text        COLLATE "C" NOT NULL,
    digest   text        COLLATE "C" NOT NULL,
    position bigint      NOT NULL, -- of the event; of all: of the last one
    expires  timestamptz, -- when it ends by itself; NULL: all
    CONSTRAINT revoked_shares_pkey PRIMARY KEY (project, queue, digest)
);

CREATE INDEX revoked_shares_expiry ON revoked_shares (expires) WHERE expires IS NOT NULL;
