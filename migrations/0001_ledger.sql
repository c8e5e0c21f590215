-- +goose Up
-- The ledger: one append-only table of events, the functions that add to it, the
-- answers kept for idempotency keys, and how far each consumer has read. Everything
-- here belongs to the role that migrates; the application may only do what is granted
-- at the end.

CREATE TABLE ledger.events (
    position          bigint      NOT NULL,
    id                uuid        NOT NULL,
    batch             uuid        NOT NULL,
    stream            text        COLLATE "C" NOT NULL,
    version           bigint      NOT NULL,
    type              text        COLLATE "C" NOT NULL,
    data              json        NOT NULL,
    bodies            text[],
    project           text        COLLATE "C" NOT NULL,
    actor             text,
    request_id        text,
    global_request_id text,
    correlation_id    text,
    causation_id      uuid,
    recorded_at       timestamptz NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (position)
) PARTITION BY RANGE (position);

-- A hash takes less than half the room of a name, and comparing it a fraction of the
-- time: posts are a tenth faster for it. Whoever looks up a stream asks for both.
CREATE INDEX events_stream ON ledger.events (hashtextextended(stream, 0), version);
CREATE INDEX events_project ON ledger.events (project, position);

-- Which partitions there are; past is the first position that is not in it.
CREATE TABLE ledger.partitions (
    name  text   PRIMARY KEY,
    first bigint NOT NULL UNIQUE,
    past  bigint NOT NULL,
    CONSTRAINT partitions_range CHECK (first < past)
);

-- +goose StatementBegin
CREATE FUNCTION ledger.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
-- +goose StatementEnd

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Makes partitions of the given size until the ledger has room up to a position,
-- and returns the first position without room. A partition is made on its own and
-- attached when ready, which does not lock out writers and readers. Where something
-- else locks the table (an ANALYZE by hand), it gives up soon: there is time.
-- A ledger that grows is looked at for statistics again and again, at 30,000 rows each
-- time if nothing else is said. A tenth of that will do, and none of the columns that
-- nobody looks rows up by.
-- Vacuum has one thing to do on each page, once it is full: mark it as seen by all and
-- frozen. Soon, that costs 280 bytes of WAL a page with PostgreSQL 15; behind the next
-- checkpoint it costs the page itself besides. What it could not mark before, while
-- somebody held an old snapshot, it marks at PostgreSQL's own pace, whatever that of the
-- server is: as fast as it could, it wrote 1 GB of WAL within 7 s for 5 minutes' events,
-- and posts waited for 1.3 to 2.9 s. Frozen, a full page is never written again.
-- +goose StatementBegin
CREATE FUNCTION ledger.extend(upto bigint, size bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    start bigint;
    partition text;
    expression text;
BEGIN
    PERFORM pg_advisory_xact_lock(7881299347898368);
    SELECT coalesce(max(p.past), 1) INTO start FROM ledger.partitions p;
    WHILE start <= upto LOOP
        partition := 'events_' || start;
        EXECUTE format(
            'CREATE TABLE ledger.%1$I (LIKE ledger.events INCLUDING ALL,
                 CONSTRAINT %2$I CHECK (position >= %3$s AND position < %4$s))
             WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 10000,
                 autovacuum_freeze_min_age = 0, autovacuum_vacuum_cost_delay = 2, autovacuum_vacuum_cost_limit = 200,
                 toast.autovacuum_vacuum_insert_scale_factor = 0.02, toast.autovacuum_vacuum_insert_threshold = 10000,
                 toast.autovacuum_freeze_min_age = 0,
                 toast.autovacuum_vacuum_cost_delay = 2, toast.autovacuum_vacuum_cost_limit = 200)',
            partition, partition || '_range', start, start + size);
        EXECUTE (
            SELECT format('ALTER TABLE ledger.%I ', partition) || string_agg(format('ALTER %I SET STATISTICS %s', a.attname,
                CASE WHEN a.attname IN ('position', 'version', 'type', 'project', 'recorded_at') THEN 10 ELSE 0 END), ', ')
            FROM pg_attribute a WHERE a.attrelid = 'ledger.events'::regclass AND a.attnum > 0 AND NOT a.attisdropped);
        FOR expression IN
            SELECT format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 10', i.indexrelid::regclass, k.n)
            FROM pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attribute, n)
            WHERE i.indrelid = format('ledger.%I', partition)::regclass AND k.attribute = 0
        LOOP
            EXECUTE expression;
        END LOOP;
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.%I
                 FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', partition);
        EXECUTE format(
            'ALTER TABLE ledger.events ATTACH PARTITION ledger.%I FOR VALUES FROM (%s) TO (%s)',
            partition, start, start + size);
        EXECUTE format('ALTER TABLE ledger.%I DROP CONSTRAINT %I', partition, partition || '_range');
        INSERT INTO ledger.partitions (name, first, past) VALUES (partition, start, start + size);
        start := start + size;
    END LOOP;
    RETURN start;
END
$$;
-- +goose StatementEnd

-- Takes the append lock for a transaction that is about to decide a batch, and
-- returns first the clock and the ledger's last event (nulls in an empty ledger), then
-- the events from a known position on, at most so many, without what they say: it may
-- be large, and this is read under the lock. The lock is a statement of its own:
-- whatever is read is read behind it.
-- It also sets the transaction's limits, and how its statements are planned: the
-- functions of the read models keep their plans, and one may be made when a table is
-- empty. Whatever the statistics say then, rows are looked up by the keys. The time is
-- that of the batch, never before the last event's.
-- +goose StatementBegin
CREATE FUNCTION ledger.begin_batch(known bigint, most integer) RETURNS TABLE (
    now timestamptz, at_position bigint, id uuid, recorded_at timestamptz,
    stream text, version bigint, type text
)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '5s', true), set_config('statement_timeout', '5s', true),
        set_config('idle_in_transaction_session_timeout', '2s', true),
        set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
        set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
        set_config('enable_sort', 'off', true), set_config('enable_material', 'off', true),
        set_config('jit', 'off', true);
    PERFORM pg_advisory_xact_lock(7881299347898367);
    SELECT e.position, e.id, e.recorded_at INTO at_position, id, recorded_at
    FROM ledger.events e ORDER BY e.position DESC LIMIT 1;
    now := greatest(clock_timestamp(), recorded_at + interval '1 microsecond');
    RETURN NEXT;
    IF known > 0 THEN
        RETURN QUERY
        SELECT NULL::timestamptz, e.position, e.id, NULL::timestamptz, e.stream, e.version, e.type
        FROM ledger.events e
        WHERE e.position >= known
        ORDER BY e.position
        LIMIT most;
    END IF;
END
$$;
-- +goose StatementEnd

-- The time that a batch behind the given event would have, or NULL when that is not the
-- last event of the ledger (any more). It takes no lock: whoever reads in the same
-- statement reads the state behind that event, since both have one snapshot, and a
-- snapshot sees a whole number of batches.
-- Given (tests), else_now is taken for the clock.
-- +goose StatementBegin
CREATE FUNCTION ledger.peek(head bigint, head_id uuid, else_now timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
    last_position bigint;
    last_id uuid;
    last_time timestamptz;
BEGIN
    SELECT e.position, e.id, e.recorded_at INTO last_position, last_id, last_time
    FROM ledger.events e ORDER BY e.position DESC LIMIT 1;
    IF last_position = head AND last_id = head_id THEN
        RETURN greatest(coalesce(else_now, clock_timestamp()), last_time + interval '1 microsecond');
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- Adds one batch to the end of the ledger and returns its time, or NULL when the
-- last event is not the one the caller believes it to be (head and head_id; 0 and
-- NULL for an empty ledger). The lock is taken in a statement of its own and the
-- head is read in the next, so nothing here is older than the lock.
-- A batch's time is never before that of the event in front of it. Given, else_now is
-- taken for the clock; but if it is further off than that is allowed to be (null: tests),
-- nothing is done either. Bodies of one event are joined by the record separator, a
-- character that no JSON text contains.
-- +goose StatementBegin
CREATE FUNCTION ledger.append(
    head bigint, head_id uuid, else_now timestamptz, most_off interval, batch uuid,
    ids uuid[], streams text[], versions bigint[], types text[], data text[], bodies text[],
    projects text[], actors text[], request_ids text[], global_request_ids text[],
    correlation_ids text[], causation_ids uuid[]
) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    last_position bigint := 0;
    last_id uuid;
    last_time timestamptz;
    now timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the ledger is appended to at READ COMMITTED, not at %', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    IF NOT pg_try_advisory_xact_lock(7881299347898367) THEN
        PERFORM set_config('lock_timeout', '5s', true);
        PERFORM pg_advisory_xact_lock(7881299347898367);
    END IF;
    SELECT e.position, e.id, e.recorded_at INTO last_position, last_id, last_time
    FROM ledger.events e ORDER BY e.position DESC LIMIT 1;
    IF coalesce(last_position, 0) <> head OR last_id IS DISTINCT FROM head_id
        OR abs(extract(epoch FROM clock_timestamp() - else_now)) > extract(epoch FROM most_off)
    THEN
        RETURN NULL;
    END IF;
    now := greatest(coalesce(else_now, clock_timestamp()), last_time + interval '1 microsecond');
    INSERT INTO ledger.events (position, id, batch, stream, version, type, data, bodies, project,
        actor, request_id, global_request_id, correlation_id, causation_id, recorded_at)
    SELECT head + n, e.id, append.batch, e.stream, e.version, e.type, e.data::json,
        string_to_array(e.bodies, E'\x1e'), e.project,
        e.actor, e.request_id, e.global_request_id, e.correlation_id, e.causation_id, now
    FROM unnest(ids, streams, versions, types, data, bodies, projects, actors, request_ids,
        global_request_ids, correlation_ids, causation_ids)
        WITH ORDINALITY AS e (id, stream, version, type, data, bodies, project, actor, request_id,
            global_request_id, correlation_id, causation_id, n);
    RETURN now;
END
$$;
-- +goose StatementEnd

-- The first answers given to idempotency keys. They are no part of the history:
-- a day later they are gone.
CREATE TABLE ledger.idempotency_keys (
    project      text        COLLATE "C" NOT NULL,
    key          text        COLLATE "C" NOT NULL,
    request_hash bytea       NOT NULL,
    result       json        NOT NULL,
    expires_at   timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (project, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX idempotency_keys_expiry ON ledger.idempotency_keys (expires_at);

-- How far each consumer of the feed has read: its last position, 0 before the first. A
-- row is written for every slice, so what it was before has to go soon.
CREATE TABLE ledger.consumers (
    name       text        COLLATE "C" NOT NULL,
    position   bigint      NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT consumers_pkey PRIMARY KEY (name),
    CONSTRAINT consumers_name CHECK (name <> ''),
    CONSTRAINT consumers_position CHECK (position >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Events that a consumer could not handle, and those behind them on their streams, which
-- wait so that each stream is handled in order. Those that were given up stay, with the
-- reason.
CREATE TABLE ledger.parked (
    consumer   text        COLLATE "C" NOT NULL,
    position   bigint      NOT NULL,
    stream     text        COLLATE "C" NOT NULL,
    error      text, -- of the last try; NULL: it waits behind another
    attempts   integer     NOT NULL DEFAULT 0,
    parked_at  timestamptz NOT NULL,
    tried_at   timestamptz,
    asked      boolean     NOT NULL DEFAULT false, -- to be delivered again
    skipped_at timestamptz, -- given up
    reason     text,
    CONSTRAINT parked_pkey PRIMARY KEY (consumer, position),
    CONSTRAINT parked_reason CHECK ((skipped_at IS NULL) = (reason IS NULL))
);
CREATE INDEX parked_streams ON ledger.parked (consumer, stream, position) WHERE skipped_at IS NULL;
CREATE INDEX parked_asked ON ledger.parked (consumer, position) WHERE asked AND skipped_at IS NULL;

SELECT ledger.extend(1, 10000000);

REVOKE ALL ON FUNCTION ledger.extend(bigint, bigint) FROM PUBLIC;

-- +goose StatementBegin
DO $$
BEGIN
    -- Two roles: the one that migrates is a member of the application's.
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nabu_app' AND rolname <> current_user
               AND pg_has_role(current_user, oid, 'MEMBER')) THEN
        GRANT USAGE ON SCHEMA ledger TO nabu_app;
        GRANT SELECT, INSERT ON ledger.events TO nabu_app;
        GRANT SELECT ON ledger.partitions, ledger.migrations TO nabu_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ledger.idempotency_keys, ledger.consumers, ledger.parked TO nabu_app;
        GRANT EXECUTE ON FUNCTION ledger.extend(bigint, bigint) TO nabu_app;
    END IF;
END
$$;
-- +goose StatementEnd
