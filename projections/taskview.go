package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Task is a task as clients see it.
type Task struct {
	domain.Task
}

// TaskSortKeys are the columns that a list of tasks can be sorted by.
var TaskSortKeys = []string{
	"id", "type", "status", "owner", "created_at", "updated_at", "expires_at", "image_id", "request_id", "user_id",
}

// TaskFilters are the columns that a list of tasks can be asked for by, for equal values.
var TaskFilters = []string{"id", "type", "status", "owner", "image_id", "request_id", "user_id"}

// TaskList asks for a page of the tasks of a project, or of all.
type TaskList struct {
	Owner string // a project
	All   bool   // of all projects; Owner plays no role
	// Filters are values by TaskFilters. A value that no task can have finds none.
	Filters    map[string]string
	SortKey    string // one of TaskSortKeys; empty: created_at
	Descending bool
	// Marker is the task that the page comes after, which may be one that the list has not
	// got; nil: it begins with the first.
	Marker *Task
	Limit  int
}

// taskUnexpired: a task that is there for clients, at a time that is the first parameter.
const taskUnexpired = `(t.expires_at = '-infinity' OR t.expires_at > coalesce($1::timestamptz, statement_timestamp()))`

// Tasks lists tasks that have not expired, without what is large of them: their inputs,
// results and messages. They are in the order of the key, and of making where that is
// equal. What a task has not got comes before all else.
func (v *Views) Tasks(ctx context.Context, list TaskList) ([]Task, error) {
	q := taskQuery{parameters: parameters{v.now()}, where: []string{taskUnexpired}}
	if !q.filter(list) {
		return nil, nil
	}
	statement := q.page(list) // has parameters of its own
	return v.tasks(ctx, statement, q.parameters, func(rows *sql.Rows, t *domain.Task) error { return readTask(rows, t) })
}

// taskQuery is a statement that is being written.
type taskQuery struct {
	where []string
	parameters
}

// filter adds what the list asks for. It tells whether there can be such a task.
func (q *taskQuery) filter(list TaskList) bool {
	if !list.All {
		q.where = append(q.where, `t.owner = `+q.add(list.Owner))
	}
	for _, column := range TaskFilters { // always in the same order, so that there are few statements
		value, asked := list.Filters[column]
		switch {
		case !asked:
			continue
		case !domain.Storable(value):
			return false
		case column == "id":
			id, err := uuid.Parse(value)
			if err != nil {
				return false
			}
			q.where = append(q.where, `t.id = `+q.add(id))
		default:
			q.where = append(q.where, `t.`+column+` = `+q.add(value))
		}
	}
	return true
}

// page is the statement for a page of the list.
func (q *taskQuery) page(list TaskList) string {
	if list.SortKey == "expires_at" && list.ended() > 0 { // to begin behind all that have not
		q.where = append(q.where, `t.expires_at > '-infinity'`)
	}
	columns := list.order()
	direction, beyond := ``, `>`
	if list.Descending {
		direction, beyond = ` DESC`, `<`
	}
	if list.Marker != nil { // in values: to plan a look-up of them costs more than the page
		at := make([]string, len(columns))
		for i, column := range columns {
			at[i] = q.add(taskColumn(list.Marker.Task, column))
		}
		q.where = append(q.where, `(t.`+strings.Join(columns, `, t.`)+`) `+beyond+` (`+strings.Join(at, `, `)+`)`)
	}
	return `SELECT ` + taskReadSmall + ` FROM tasks t
WHERE ` + strings.Join(q.where, ` AND `) + `
ORDER BY t.` + strings.Join(columns, direction+`, t.`) + direction + ` LIMIT ` + q.add(list.Limit)
}

// taskColumn is what a task has in one of TaskSortKeys.
func taskColumn(t domain.Task, column string) any {
	switch column {
	case "id":
		return t.ID
	case "type":
		return t.Type
	case "status":
		return string(t.Status)
	case "owner":
		return t.Owner
	case "user_id":
		return t.User
	case "request_id":
		return t.RequestID
	case "image_id":
		return t.ImageID
	case "updated_at":
		return t.Updated
	case "expires_at":
		if t.Expires.IsZero() {
			return "-infinity"
		}
		return t.Expires
	}
	return t.Created
}

// order is the columns that the list is sorted by; together they are unlike in any two
// tasks. A key in which all tasks of the list are alike is left out: the planner would not
// see that it sorts nothing.
func (l TaskList) order() []string {
	_, alike := l.Filters[l.SortKey]
	alike = alike || l.SortKey == "owner" && !l.All || l.SortKey == "expires_at" && l.ended() < 0
	switch {
	case l.SortKey == "id":
		return []string{"id"}
	case l.SortKey != "created_at" && !alike && slices.Contains(TaskSortKeys, l.SortKey):
		return []string{l.SortKey, "created_at", "id"}
	}
	return []string{"created_at", "id"}
}

// ended tells whether all tasks of the list have come to their end, by the status that is
// asked for: 1, or none has: -1.
func (l TaskList) ended() int {
	switch domain.TaskStatus(l.Filters["status"]) {
	case domain.TaskPending, domain.TaskProcessing:
		return -1
	case domain.TaskSuccess, domain.TaskFailure:
		return 1
	}
	return 0
}

func (v *Views) tasks(
	ctx context.Context, statement string, args []any, read func(*sql.Rows, *domain.Task) error,
) ([]Task, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, statement, args...)
	return pgrows.Collect("list tasks", rows, err, func(t *Task) error {
		return read(rows, &t.Task)
	})
}

// Task finds a task of any project that has not expired.
func (v *Views) Task(ctx context.Context, id domain.TaskID) (t Task, exists bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var input, result sql.NullString
	err = readTask(v.DB.QueryRowContext(ctx, `
SELECT `+taskRead+`, t.input, t.result FROM tasks t WHERE `+taskUnexpired+` AND t.id = $2`, v.now(), id), &t.Task, &input, &result)
	if errors.Is(err, sql.ErrNoRows) {
		return t, false, nil
	}
	if err != nil {
		return t, false, fmt.Errorf("read task: %w", err)
	}
	t.Input, t.Result = input.String, result.String
	return t, true, nil
}

// Bounds of a list that has no pages, which anybody may ask for: in tasks, and in bytes of
// what is large of them. The last task that is listed may go over it.
const (
	maxImageTasks     = 1000
	maxImageTaskBytes = 4 << 20
)

// ImageTasks lists the tasks of an image that have not expired, with all they have: those
// of a project, or of all; the last ones, if there are very many or they are very large.
func (v *Views) ImageTasks(ctx context.Context, image, owner string, all bool) ([]Task, error) {
	if image == "" || !domain.Storable(image) {
		return nil, nil
	}
	return v.tasks(ctx, `
SELECT `+taskRead+`, t.input, t.result
FROM (
    SELECT t.*, sum(octet_length(t.message) + coalesce(octet_length(t.input), 0) + coalesce(octet_length(t.result), 0))
        OVER (ORDER BY t.created_at DESC, t.id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM (
        SELECT * FROM tasks t WHERE `+taskUnexpired+` AND t.image_id = $2 AND ($3 OR t.owner = $4)
        ORDER BY t.created_at DESC, t.id DESC LIMIT $5
    ) AS t
) AS t
WHERE coalesce(t.before, 0) < $6
ORDER BY t.created_at DESC, t.id DESC`,
		[]any{v.now(), image, all, owner, maxImageTasks, maxImageTaskBytes}, func(rows *sql.Rows, t *domain.Task) error {
			var input, result sql.NullString
			err := readTask(rows, t, &input, &result)
			t.Input, t.Result = input.String, result.String
			return err
		})
}

// DueTasks lists tasks that have something to sweep, by their owners: those that are
// past their deadline and those that have expired.
func (v *Views) DueTasks(ctx context.Context, l SweepLook[string]) (map[string][]domain.TaskID, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT due.owner, due.id
FROM (
    (SELECT t.owner, t.id, t.deadline AS since FROM tasks t
    WHERE t.deadline <= $1 AND t.owner <> ALL ($3::text[]) ORDER BY t.deadline LIMIT $2)
    UNION ALL
    (SELECT t.owner, t.id, t.expires_at FROM tasks t
    WHERE t.expires_at > '-infinity' AND t.expires_at <= $1 AND t.owner <> ALL ($3::text[]) ORDER BY t.expires_at LIMIT $2)
) AS due
ORDER BY due.since LIMIT $2`, l.By, l.Most, pgarray.Texts(l.Except))
	return idsByProject("list due tasks", rows, err)
}

// idsByProject reads rows of a project and an id.
func idsByProject(doing string, rows *sql.Rows, err error) (map[string][]uuid.UUID, error) {
	ids := map[string][]uuid.UUID{}
	err = pgrows.Each(doing, rows, err, func() error {
		var project string
		var id uuid.UUID
		if err := rows.Scan(&project, &id); err != nil {
			return err
		}
		ids[project] = append(ids[project], id)
		return nil
	})
	return ids, err
}
