-- The user messages there are. A row stays until the sweeper has recorded that the message
-- has expired, also if a user deleted it before: its id is taken until then. What a message
-- has not got is an empty text.
CREATE TABLE user_messages (
    id                uuid        NOT NULL,
    project           text        COLLATE "C" NOT NULL,
    event_id          text        COLLATE "C" NOT NULL,
    action_id         text        COLLATE "C" NOT NULL, -- empty: event_id is an older id
    detail_id         text        COLLATE "C" NOT NULL,
    message_level     text        COLLATE "C" NOT NULL,
    resource_type     text        COLLATE "C" NOT NULL, -- in capitals
    resource_uuid     text        COLLATE "C" NOT NULL,
    request_id        text        COLLATE "C" NOT NULL,
    global_request_id text        COLLATE "C" NOT NULL,
    created_at        timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL, -- until then it is guaranteed
    sent              text        COLLATE "C" NOT NULL,
    position          bigint      NOT NULL, -- of the event that recorded it
    deleted           boolean     NOT NULL,
    CONSTRAINT user_messages_pkey PRIMARY KEY (id)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02);

-- A page costs the same wherever it begins, by whatever key it is sorted and whichever of
-- the usual filters it has: in a project, and for administrators in all of them.
CREATE INDEX user_messages_created ON user_messages (created_at, id);
CREATE INDEX user_messages_event ON user_messages (event_id, created_at, id);
CREATE INDEX user_messages_level ON user_messages (message_level, created_at, id);
CREATE INDEX user_messages_type ON user_messages (resource_type, created_at, id);
CREATE INDEX user_messages_resource ON user_messages (resource_uuid, created_at, id);
CREATE INDEX user_messages_request ON user_messages (request_id, created_at, id);
CREATE INDEX user_messages_global_request ON user_messages (global_request_id, created_at, id);
CREATE INDEX user_messages_project_created ON user_messages (project, created_at, id);
CREATE INDEX user_messages_project_event ON user_messages (project, event_id, created_at, id);
CREATE INDEX user_messages_project_level ON user_messages (project, message_level, created_at, id);
CREATE INDEX user_messages_project_type ON user_messages (project, resource_type, created_at, id);
CREATE INDEX user_messages_project_resource ON user_messages (project, resource_uuid, created_at, id);
CREATE INDEX user_messages_project_request ON user_messages (project, request_id, created_at, id);
-- For the sweeper.
CREATE INDEX user_messages_expires ON user_messages (expires_at, created_at, id);
-- For those who wait for new ones.
CREATE INDEX user_messages_position ON user_messages (position);
CREATE INDEX user_messages_project_position ON user_messages (project, position);

-- Writes the last word of a slice of history on each user message.
CREATE FUNCTION write_user_messages(
    gone uuid[], deleted_ids uuid[],
    ids uuid[], projects text[], events text[], actions text[], details text[], levels text[], types text[],
    resources text[], requests text[], global_requests text[], created timestamptz[], expires timestamptz[], sents text[],
    positions bigint[], deleteds integer[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(gone) > 0 THEN
        DELETE FROM user_messages m USING unnest(gone) AS g (id) WHERE m.id = g.id;
    END IF;
    IF cardinality(deleted_ids) > 0 THEN
        UPDATE user_messages m SET deleted = true FROM unnest(deleted_ids) AS d (id) WHERE m.id = d.id;
    END IF;
    IF cardinality(ids) > 0 THEN
        INSERT INTO user_messages
            (id, project, event_id, action_id, detail_id, message_level, resource_type, resource_uuid, request_id,
            global_request_id, created_at, expires_at, sent, position, deleted)
        SELECT n.id, n.project, n.event_id, n.action_id, n.detail_id, n.message_level, n.resource_type, n.resource_uuid,
            n.request_id, n.global_request_id, n.created_at, n.expires_at, n.sent, n.position, n.deleted > 0
        FROM unnest(ids, projects, events, actions, details, levels, types, resources, requests, global_requests, created,
            expires, sents, positions, deleteds)
            AS n (id, project, event_id, action_id, detail_id, message_level, resource_type, resource_uuid, request_id,
                global_request_id, created_at, expires_at, sent, position, deleted);
    END IF;
END
$$;
