-- The tasks there are. A row stays until the sweeper has taken away what had expired;
-- whether it has is asked of the time of reading. What a task has not got sorts before
-- all else, so it is an empty text, and -infinity for the time at which it expires.
CREATE TABLE tasks (
    id         uuid        NOT NULL,
    type       text        COLLATE "C" NOT NULL,
    status     text        COLLATE "C" NOT NULL,
    owner      text        COLLATE "C" NOT NULL, -- a project
    user_id    text        COLLATE "C" NOT NULL,
    request_id text        COLLATE "C" NOT NULL,
    image_id   text        COLLATE "C" NOT NULL,
    input      text,                 -- as the client sent it; NULL: null
    result     text,                 -- as the worker sent it; NULL: null
    message    text        NOT NULL,
    worker     text        NOT NULL, -- that began it last
    attempts   integer     NOT NULL,
    handed     uuid,                 -- the message that hands it out
    deadline   timestamptz,          -- when it fails unless somebody reports
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL, -- -infinity: it has not ended
    CONSTRAINT tasks_pkey PRIMARY KEY (id)
) WITH (fillfactor = 85, vacuum_truncate = off, toast.vacuum_truncate = off, -- as for messages
    autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);

-- One for each key that a list can be sorted by: a page costs the same wherever it
-- begins. Those of owner, status, type and the other ids also find what is asked for
-- by them, in the order of making.
CREATE INDEX tasks_created ON tasks (created_at, id);
CREATE INDEX tasks_updated ON tasks (updated_at, created_at, id);
CREATE INDEX tasks_expires ON tasks (expires_at, created_at, id);
CREATE INDEX tasks_type ON tasks (type, created_at, id);
CREATE INDEX tasks_status ON tasks (status, created_at, id);
CREATE INDEX tasks_owner ON tasks (owner, created_at, id);
CREATE INDEX tasks_user ON tasks (user_id, created_at, id);
CREATE INDEX tasks_request ON tasks (request_id, created_at, id);
CREATE INDEX tasks_image ON tasks (image_id, created_at, id);
-- For claims of the queues that hand tasks out.
CREATE INDEX tasks_handed ON tasks (handed) WHERE handed IS NOT NULL;
-- For the sweeper.
CREATE INDEX tasks_deadline ON tasks (deadline) WHERE deadline IS NOT NULL;

-- Writes the last word of a slice of history on each task. What is NULL of a changed one
-- stays as it was, but for its deadline, which every change gives or takes away; its
-- message and its worker are said if that is told (1: the message, 2: the worker).
CREATE FUNCTION write_tasks(
    gone uuid[],
    changed uuid[], changed_statuses text[], changed_says integer[], changed_messages text[], changed_workers text[],
    changed_results text[], changed_attempts integer[], changed_deadlines timestamptz[], changed_times timestamptz[],
    changed_ends timestamptz[],
    made uuid[], made_statuses text[], made_messages text[], made_workers text[],
    made_results text[], made_attempts integer[], made_deadlines timestamptz[], made_updates timestamptz[],
    made_ends timestamptz[], made_types text[], made_owners text[], made_users text[], made_requests text[],
    made_images text[], made_inputs text[], made_handed uuid[], made_times timestamptz[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(gone) > 0 THEN
        DELETE FROM tasks t USING unnest(gone) AS g (id) WHERE t.id = g.id;
    END IF;
    IF cardinality(changed) > 0 THEN
        UPDATE tasks t
        SET status = coalesce(c.status, t.status),
            message = CASE WHEN c.says & 1 > 0 THEN c.message ELSE t.message END,
            worker = CASE WHEN c.says & 2 > 0 THEN c.worker ELSE t.worker END,
            result = coalesce(c.result, t.result), attempts = greatest(c.attempts, t.attempts),
            deadline = c.deadline, updated_at = c.updated_at, expires_at = coalesce(c.ends_at, t.expires_at)
        FROM unnest(changed, changed_statuses, changed_says, changed_messages, changed_workers, changed_results,
            changed_attempts, changed_deadlines, changed_times, changed_ends)
            AS c (id, status, says, message, worker, result, attempts, deadline, updated_at, ends_at)
        WHERE t.id = c.id;
    END IF;
    IF cardinality(made) > 0 THEN
        INSERT INTO tasks
            (id, type, status, owner, user_id, request_id, image_id, input, result, message, worker, attempts, handed,
            deadline, created_at, updated_at, expires_at)
        SELECT m.id, m.type, m.status, m.owner, m.user_id, m.request_id, m.image_id, m.input, m.result, m.message, m.worker,
            m.attempts, m.handed, m.deadline, m.created_at, m.updated_at, coalesce(m.ends_at, '-infinity')
        FROM unnest(made, made_statuses, made_messages, made_workers, made_results, made_attempts, made_deadlines,
            made_updates, made_ends, made_types, made_owners, made_users, made_requests, made_images, made_inputs,
            made_handed, made_times)
            AS m (id, status, message, worker, result, attempts, deadline, updated_at, ends_at, type, owner, user_id,
                request_id, image_id, input, handed, created_at);
    END IF;
END
$$;
