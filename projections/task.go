package projections

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Tasks are the tasks that have not been taken away, though they may have expired.
var Tasks = Projection{Name: "tasks", DDL: mustDDL("tasks"), Apply: applyToTasks}

// taskRow is the last word of a slice of history on one task. Of one that was not made
// within the slice, what is zero was not said.
type taskRow struct {
	domain.Task
	says       int // what of it was said that may be empty
	made, gone bool
}

// What may be empty, as write_tasks has it.
const (
	saysMessage = 1
	saysWorker  = 2
)

// foldTasks is the last word on each task, in the order of first mention.
func foldTasks(history []eventstore.RecordedEvent) []*taskRow {
	var tasks mentions[domain.TaskID, taskRow]
	fold := func(id domain.TaskID, recorded eventstore.RecordedEvent, says int) *taskRow {
		r := tasks.of(id)
		r.Apply(recorded.RecordedAt, recorded.Event)
		r.ID = id
		r.says |= says
		return r
	}
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.TaskCreated:
			fold(e.ID, recorded, 0).made = true
		case domain.TaskBegun:
			fold(e.ID, recorded, saysWorker)
		case domain.TaskProgressed:
			fold(e.ID, recorded, saysMessage)
		case domain.TaskSucceeded:
			fold(e.ID, recorded, 0)
		case domain.TaskFailed:
			fold(e.ID, recorded, saysMessage)
		case domain.TaskRequeued:
			fold(e.ID, recorded, saysMessage)
		case domain.TaskExpired:
			fold(e.ID, recorded, 0).gone = true
		}
	}
	return tasks.rows
}

func applyToTasks(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	rows := foldTasks(history)
	if len(rows) == 0 {
		return nil
	}
	var gone, changed, made taskColumns
	for _, r := range rows {
		switch {
		case r.gone && !r.made:
			gone.add(r)
		case r.gone: // it came and went within the slice
		case r.made:
			made.add(r)
		default:
			changed.add(r)
		}
	}
	args := append([]any{pgarray.UUIDs(gone.ids)}, changed.words(true)...)
	args = append(append(args, made.words(false)...), made.rest()...)
	return call(ctx, tx, "write_tasks", args)
}

// taskColumns are rows column by column.
type taskColumns struct {
	ids, handed                                               []uuid.UUID
	types, statuses, owners, users, requests, images, workers []string
	inputs, results, messages                                 []string
	says, attempts                                            []int
	deadlines, created, updated, ends                         []time.Time
}

func (c *taskColumns) add(r *taskRow) {
	c.ids, c.handed = append(c.ids, r.ID), append(c.handed, r.Handed)
	c.types, c.statuses = append(c.types, r.Type), append(c.statuses, string(r.Status))
	c.owners, c.users = append(c.owners, r.Owner), append(c.users, r.User)
	c.requests, c.images = append(c.requests, r.RequestID), append(c.images, r.ImageID)
	c.workers, c.messages = append(c.workers, r.Worker), append(c.messages, r.Message)
	c.inputs, c.results = append(c.inputs, r.Input), append(c.results, r.Result)
	c.says, c.attempts = append(c.says, r.says), append(c.attempts, r.Attempts)
	c.deadlines, c.ends = append(c.deadlines, r.Deadline), append(c.ends, r.Expires)
	c.created, c.updated = append(c.created, r.Created), append(c.updated, r.Updated)
}

// words are the columns that change.
func (c *taskColumns) words(changed bool) []any {
	args := []any{pgarray.UUIDs(c.ids), pgarray.TextsOrNull(c.statuses)}
	if changed {
		args = append(args, pgarray.Ints(c.says))
	}
	return append(args, pgarray.Texts(c.messages), pgarray.Texts(c.workers), pgarray.TextsOrNull(c.results),
		pgarray.Ints(c.attempts), pgarray.TimesOrNull(c.deadlines), pgarray.Times(c.updated), pgarray.TimesOrNull(c.ends))
}

// rest are the columns that stay as they were made.
func (c *taskColumns) rest() []any {
	return []any{
		pgarray.Texts(c.types), pgarray.Texts(c.owners), pgarray.Texts(c.users), pgarray.Texts(c.requests),
		pgarray.Texts(c.images), pgarray.TextsOrNull(c.inputs), pgarray.UUIDsOrNull(c.handed), pgarray.Times(c.created),
	}
}

// taskRead are the columns that every reader of a task wants, as readTask takes them.
const taskRead = `t.id, t.type, t.status, t.owner, t.user_id, t.request_id, t.image_id, t.message, t.worker, t.attempts,
    t.handed, t.deadline, t.created_at, t.updated_at, nullif(t.expires_at, '-infinity')`

// taskReadSmall is taskRead without what may be large.
var taskReadSmall = strings.Replace(taskRead, `t.message`, `''`, 1)

// loadTasks: $1 tasks by id, with all they have, $2 by the message that hands them out,
// without what may be large.
var loadTasks = `
SELECT ` + taskRead + `, t.input, t.result, made.id, made.correlation_id, ` + eventstore.LastVersion("'task/' || t.id") + `, true
FROM unnest($1::uuid[]) AS asked (id) JOIN tasks t USING (id)` + taskMade + `
UNION ALL
SELECT ` + taskReadSmall + `, NULL, NULL, made.id, made.correlation_id, ` + eventstore.LastVersion("'task/' || t.id") + `, false
FROM unnest($2::uuid[]) AS asked (handed) JOIN tasks t USING (handed)` + taskMade

// taskMade joins the event that made the task t.
var taskMade = `
LEFT JOIN LATERAL (` + eventstore.FirstEvent("'task/' || t.id") + `) AS made ON true`

// Tasks finds tasks by id, and by the message that hands them out, expired ones as well,
// and the versions of their streams. What is large of the others (input, result and message)
// is not loaded.
func (States) Tasks(
	ctx context.Context, tx eventstore.Tx, ids []domain.TaskID, handed []domain.MessageID,
) (map[domain.TaskID]eventstore.Versioned[domain.Task], error) {
	rows, err := tx.QueryContext(ctx, loadTasks, pgarray.UUIDs(ids), pgarray.UUIDs(handed))
	found := map[domain.TaskID]eventstore.Versioned[domain.Task]{}
	err = pgrows.Each("load tasks", rows, err, func() error {
		var its eventstore.Versioned[domain.Task]
		var input, result, correlation sql.NullString
		var madeBy uuid.NullUUID
		var whole bool
		if err := readTask(rows, &its.State, &input, &result, &madeBy, &correlation, &its.Version, &whole); err != nil {
			return err
		}
		its.State.Input, its.State.Result = input.String, result.String
		its.State.MadeBy, its.State.Correlation = madeBy.UUID, correlation.String
		if _, there := found[its.State.ID]; whole || !there {
			found[its.State.ID] = its
		}
		return nil
	})
	return found, err
}

// readTask reads the columns of taskRead, and more.
func readTask(rows interface{ Scan(...any) error }, t *domain.Task, more ...any) error {
	var handed uuid.NullUUID
	var deadline, expires sql.NullTime
	err := rows.Scan(append([]any{
		&t.ID, &t.Type, &t.Status, &t.Owner, &t.User, &t.RequestID, &t.ImageID, &t.Message, &t.Worker, &t.Attempts,
		&handed, &deadline, &t.Created, &t.Updated, &expires,
	}, more...)...)
	t.Handed, t.Deadline, t.Expires = handed.UUID, deadline.Time, expires.Time
	return err
}
