-- Makes the roles of nabu's databases. May run again and again.
-- nabu_owner is a member of nabu_app so that it can make schemas that nabu_app owns.
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('nabu roles'));
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nabu_owner') THEN
        CREATE ROLE nabu_owner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nabu_app') THEN
        CREATE ROLE nabu_app LOGIN;
    END IF;
    IF NOT pg_has_role('nabu_owner', 'nabu_app', 'MEMBER') THEN
        GRANT nabu_app TO nabu_owner;
    END IF;
    ALTER ROLE nabu_owner SET search_path = live, ledger;
    ALTER ROLE nabu_app SET search_path = live, ledger;
END $$;
