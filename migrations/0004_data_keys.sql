-- +goose Up
-- The keys that message bodies are sealed with, each wrapped by a master key that is in
-- nabu's configuration and never here. They are outside of the ledger and of the read
-- models: an event that cannot be changed is forgotten by taking its key away.

CREATE SCHEMA IF NOT EXISTS secrets;

CREATE TABLE secrets.data_keys (
    id           uuid        NOT NULL,
    project      text        COLLATE "C" NOT NULL,
    queue        text        COLLATE "C" NOT NULL,
    number       bigint      NOT NULL, -- the queue's: one made again under the name has another
    master       text        COLLATE "C" NOT NULL, -- the id of the master key that wraps it
    wrapped      bytea,                -- NULL: destroyed, and nothing sealed with it opens again
    made_at      timestamptz NOT NULL DEFAULT now(),
    wrapped_at   timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CONSTRAINT data_keys_pkey PRIMARY KEY (id),
    CONSTRAINT data_keys_destroyed CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);
CREATE INDEX data_keys_number ON secrets.data_keys (number);
CREATE INDEX data_keys_queue ON secrets.data_keys (project, queue);

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nabu_app' AND rolname <> current_user
               AND pg_has_role(current_user, oid, 'MEMBER')) THEN
        GRANT USAGE ON SCHEMA secrets TO nabu_app;
        GRANT SELECT, INSERT, UPDATE ON secrets.data_keys TO nabu_app;
    END IF;
END
$$;
-- +goose StatementEnd
