-- The messages there are: what clients read and what decisions are made on. Only
-- the event that a message has gone takes its row away; whether it has expired, is
-- still delayed or is claimed is asked of the time of reading. No index has a column
-- that a claim changes, so that claiming rewrites the row alone.
CREATE TABLE messages (
    queue       bigint      NOT NULL, -- the queue's number
    place       bigint      NOT NULL,
    id          uuid        NOT NULL,
    client      text        COLLATE "C" NOT NULL,
    ttl         integer     NOT NULL,
    created_at  timestamptz NOT NULL,
    visible_at  timestamptz NOT NULL, -- when the delay is over
    expires_at  timestamptz NOT NULL,
    claim       uuid,                 -- the last one to hold it
    claim_ends  timestamptz,
    claim_count integer     NOT NULL DEFAULT 0,
    moved       boolean     NOT NULL DEFAULT false, -- stands elsewhere than its id says
    key         uuid,                 -- that the body is sealed with; NULL: it is plain
    body        text        NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (queue, place)
) WITH (fillfactor = 80, vacuum_truncate = off, toast.vacuum_truncate = off,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 1, autovacuum_vacuum_cost_limit = 300,
    -- TOAST with an option of its own takes none over.
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 1000,
    toast.autovacuum_vacuum_cost_delay = 1, toast.autovacuum_vacuum_cost_limit = 300);
-- Vacuum comes often, and has a pace: see ledger.extend.
-- Nobody can read or write a table while a vacuum gives back the room at its end: after a snapshot
-- had been held open for 90 s, for 42 and for 45 ms. That room is wanted again in any case.

-- These tables change all over within seconds, and each time PostgreSQL looks at 30,000 rows
-- for its statistics, for a third of a second. A tenth is enough, and none of the columns that
-- no condition names alone.
ALTER TABLE messages ALTER queue SET STATISTICS 10, ALTER place SET STATISTICS 10,
    ALTER id SET STATISTICS 10, ALTER client SET STATISTICS 10, ALTER ttl SET STATISTICS 0,
    ALTER created_at SET STATISTICS 0, ALTER visible_at SET STATISTICS 10, ALTER expires_at SET STATISTICS 10,
    ALTER claim SET STATISTICS 0, ALTER claim_ends SET STATISTICS 10, ALTER claim_count SET STATISTICS 0,
    ALTER moved SET STATISTICS 10, ALTER key SET STATISTICS 10, ALTER body SET STATISTICS 0;

-- For the sweeper, and to leave out what has expired where messages are counted. A
-- claim changes this time only if the message would not outlive it. Who wants it says that each
-- has a ttl, as all have: who looks for a message by its place never walks over it, also by a
-- plan that was made when there was no message.
CREATE INDEX messages_expiry ON messages (expires_at, queue) WHERE ttl >= 0;
-- What a delay ends with: messages that become free below the mark of a queue.
CREATE INDEX messages_delay ON messages (queue, visible_at) WHERE visible_at > created_at;
CREATE INDEX messages_moved ON messages (id) WHERE moved;
-- What is sealed with a key that was destroyed is looked for, to be deleted.
CREATE INDEX messages_key ON messages (key) WHERE key IS NOT NULL;

-- The claims there are, also those that are over and not swept yet: the messages
-- they held became free when they ended.
CREATE TABLE claims (
    queue      bigint      NOT NULL, -- the queue's number
    id         uuid        NOT NULL,
    place      bigint      NOT NULL, -- of the event: a purge behind it empties the claim
    ttl        integer     NOT NULL,
    renewed_at timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL,
    released   boolean     NOT NULL DEFAULT false, -- given up before its end
    held       integer     NOT NULL, -- how many of its messages were not deleted
    emptied    boolean     NOT NULL GENERATED ALWAYS AS (held = 0) STORED,
    places     bigint[]    NOT NULL, -- of the messages it got hold of
    CONSTRAINT claims_pkey PRIMARY KEY (queue, id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 1, autovacuum_vacuum_cost_limit = 300, vacuum_truncate = off);

ALTER TABLE claims ALTER queue SET STATISTICS 10, ALTER id SET STATISTICS 0, ALTER place SET STATISTICS 10,
    ALTER ttl SET STATISTICS 0, ALTER renewed_at SET STATISTICS 0, ALTER ends_at SET STATISTICS 10,
    ALTER released SET STATISTICS 10, ALTER held SET STATISTICS 0,
    ALTER emptied SET STATISTICS 10, ALTER places SET STATISTICS 0;

-- For who asks when claims of a queue end, and says that each has a place, as all have: who looks
-- for one by its id cannot have this index, which leads over all of the queue's, and over those
-- that are swept while somebody still holds an old snapshot. Made when there were few claims, a
-- plan did that. Of most claims all messages are deleted long before their end: who wants to know
-- what claims hold walks over the few others. A claim's row gets new entries in the indexes with the
-- last of its messages, and when its end changes, but not with each message.
CREATE INDEX claims_end ON claims (queue, emptied, ends_at) WHERE place >= 0;
-- For the sweeper alone, which looks for queues whose claims are over, and says that each
-- has a ttl, as all have. Who asks for the claims of one queue, or for one by its id, never walks
-- over those of all others by it, whatever the statistics say.
CREATE INDEX claims_over ON claims (ends_at) WHERE ttl >= 0;

-- How many messages of a queue stand behind one place and up to another. Who wants
-- to know how many there are counts only those behind. Posts leave it alone; the
-- sweeper moves it on. Queues without a row are counted whole.
CREATE TABLE message_counts (
    queue    bigint NOT NULL, -- the queue's number
    after    bigint NOT NULL,
    upto     bigint NOT NULL,
    messages bigint NOT NULL,
    CONSTRAINT message_counts_pkey PRIMARY KEY (queue)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
