-- +goose Up
-- Keys that nabu made for itself. They are outside of the ledger and of the read models,
-- so no event, no replay and no export shows them; only a copy of the database has them.
-- The application adds keys and reads them; it neither changes nor removes one.

CREATE SCHEMA secrets;

CREATE TABLE secrets.keys (
    name    text        COLLATE "C" NOT NULL,
    key     bytea       NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT keys_pkey PRIMARY KEY (name),
    CONSTRAINT keys_name CHECK (name <> ''),
    CONSTRAINT keys_key CHECK (octet_length(key) >= 16)
);

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nabu_app' AND rolname <> current_user
               AND pg_has_role(current_user, oid, 'MEMBER')) THEN
        GRANT USAGE ON SCHEMA secrets TO nabu_app;
        GRANT SELECT, INSERT ON secrets.keys TO nabu_app;
    END IF;
END
$$;
-- +goose StatementEnd
