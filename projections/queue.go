package projections

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
	"nabu/internal/sealing"
)

// Queues are the queues that each project has.
var Queues = Projection{Name: "queues", DDL: mustDDL("queues"), Apply: applyToQueues}

// queueRow is the last word of a slice of history on one queue.
type queueRow struct {
	number        int64
	project, name string
	metadata      domain.Metadata
	created       bool // within the slice
	changed       bool
	deleted       bool
	purged        domain.Place // 0: not within the slice
	swept         domain.Place // 0: not within the slice
	over          bool         // deleted, and nothing of it is left
}

func applyToQueues(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	rows := foldQueues(history)
	if len(rows) == 0 {
		return nil
	}
	args, err := queueArgs(rows)
	if err != nil {
		return err
	}
	return call(ctx, tx, "write_queues", args)
}

// queueArgs are the parameters of write_queues.
func queueArgs(rows []*queueRow) ([]any, error) {
	var deleted, over []int64
	var purged, swept []placed
	var changed, created []*queueRow
	for _, row := range rows {
		switch {
		case row.created:
			created = append(created, row)
		case row.changed:
			changed = append(changed, row)
		}
		if row.deleted && !row.created {
			deleted = append(deleted, row.number)
		}
		if row.purged > 0 {
			purged = append(purged, placed{row.number, row.purged})
		}
		if row.swept > 0 {
			swept = append(swept, placed{row.number, row.swept})
		}
		if row.over {
			over = append(over, row.number)
		}
	}
	its, err := queueColumns(created)
	if err != nil {
		return nil, err
	}
	others, err := queueColumns(changed)
	if err != nil {
		return nil, err
	}
	args := []any{
		pgarray.BigInts(deleted),
		its.numbers, its.projects, its.names, its.metadata, its.labels, its.delays, its.deleted,
		others.numbers, others.metadata, others.labels, others.delays,
	}
	args = append(append(args, placedArgs(purged)...), placedArgs(swept)...)
	return append(args, pgarray.BigInts(over)), nil
}

// queueParams are queues column by column, as parameters.
type queueParams struct{ numbers, projects, names, metadata, labels, delays, deleted []byte }

func queueColumns(rows []*queueRow) (queueParams, error) {
	n := len(rows)
	numbers, delays, deleted := make([]int64, n), make([]int, n), make([]int, n)
	projects, names, metadata, labels := make([]string, n), make([]string, n), make([]string, n), make([][]byte, n)
	for i, row := range rows {
		var err error
		if labels[i], err = json.Marshal(row.metadata.Labels()); err != nil {
			return queueParams{}, fmt.Errorf("encode labels: %w", err)
		}
		numbers[i], delays[i] = row.number, row.metadata.DefaultDelay()
		projects[i], names[i], metadata[i] = row.project, row.name, row.metadata.Text()
		if row.deleted {
			deleted[i] = 1
		}
	}
	return queueParams{
		pgarray.BigInts(numbers), pgarray.Texts(projects), pgarray.Texts(names), pgarray.Texts(metadata),
		pgarray.Texts(labels), pgarray.Ints(delays), pgarray.Ints(deleted),
	}, nil
}

// foldQueues is the last word on each queue, in the order of first mention.
func foldQueues(history []eventstore.RecordedEvent) []*queueRow {
	var queues mentions[int64, queueRow]
	row := func(number int64) *queueRow {
		r := queues.of(number)
		r.number = number
		return r
	}
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.QueueCreated:
			r := row(recorded.Position)
			r.project, r.name, r.metadata, r.created = e.Project, e.Name, e.Metadata, true
		case domain.QueueMetadataChanged:
			r := row(e.Number)
			r.metadata, r.changed = e.Metadata, true
		case domain.QueuePurged:
			row(e.Number).purged = domain.PlaceOf(recorded.Position, 0)
		case domain.QueueDeleted:
			row(e.Number).deleted = true
		case domain.MessagesSwept:
			if e.Clean {
				row(e.Number).swept = e.Upto
			}
			if e.Over {
				row(e.Number).over = true
			}
		}
	}
	return queues.rows
}

// States are the states that decisions load.
type States struct{}

// Queues finds queues and the versions of their streams. One that is not there is
// the zero Queue.
func (States) Queues(
	ctx context.Context, tx eventstore.Tx, ids []domain.QueueID,
) (map[domain.QueueID]eventstore.Versioned[domain.Queue], error) {
	projects, names, streams := make([]string, len(ids)), make([]string, len(ids)), make([]string, len(ids))
	for i, id := range ids {
		projects[i], names[i], streams[i] = id.Project, id.Name, id.Stream()
	}
	rows, err := tx.QueryContext(ctx, `
SELECT asked.project, asked.name, coalesce(q.number, 0), coalesce(q.metadata, ''), coalesce(q.purged, 0), `+eventstore.LastVersion("asked.stream")+`
FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (project, name, stream)
LEFT JOIN queues q ON q.project = asked.project AND q.name = asked.name AND NOT q.deleted`,
		pgarray.Texts(projects), pgarray.Texts(names), pgarray.Texts(streams))
	queues := make(map[domain.QueueID]eventstore.Versioned[domain.Queue], len(ids))
	err = pgrows.Each("load queues", rows, err, func() error {
		var id domain.QueueID
		var q eventstore.Versioned[domain.Queue]
		var metadata []byte
		if err := rows.Scan(&id.Project, &id.Name, &q.State.Number, &metadata, &q.State.Purged, &q.Version); err != nil {
			return err
		}
		if q.State.Metadata, err = domain.ParseMetadata(metadata); err != nil {
			return fmt.Errorf("queue %s: %w", id.Stream(), err)
		}
		queues[id] = q
		return nil
	})
	return queues, err
}

// Views are the questions that clients ask of the read models.
type Views struct {
	DB *sql.DB
	// Now is the clock of tests; nil: the database's, at each statement.
	Now func() time.Time
	// Keys open sealed bodies; nil: there are none.
	Keys *sealing.Keys
}

// readPatience is how long one view may take. A read that costs more is refused, so
// that a few of them cannot hold up everybody else's.
const readPatience = 5 * time.Second

// within bounds a view. It begins nothing for a caller that has gone, but lets what has
// begun come to its end: to cancel a statement costs more than the rest of one, and
// pgbouncer 1.18 (Debian 12's) may end when it passes a cancellation on, and with it
// everybody's connections.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), readPatience)
}

// now is a statement's time: NULL stands for the database's own.
func (v *Views) now() any {
	if v.Now == nil {
		return nil
	}
	return v.Now()
}

// Queue finds a queue's metadata as stored. A queue that is not there has none and
// is no error.
func (v *Views) Queue(ctx context.Context, id domain.QueueID) (metadata domain.Metadata, exists bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var text []byte
	err = v.DB.QueryRowContext(ctx,
		`SELECT metadata FROM queues WHERE project = $1 AND name = $2 AND NOT deleted`, id.Project, id.Name).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read queue: %w", err)
	}
	metadata, err = domain.ParseMetadata(text)
	return metadata, true, err
}

// QueueList asks for a page of a project's queues in the order of their names.
type QueueList struct {
	Project string
	After   string // names greater than this one, bytewise; empty: from the start
	Limit   int
	Name    string            // only names that contain this text
	Labels  map[string]string // only queues with these members in their metadata
}

// possible tells whether any queue can be in the list.
func (list QueueList) possible() bool {
	texts := list.After + list.Name
	for key, text := range list.Labels {
		texts += key + text
	}
	return domain.Storable(texts)
}

// QueueItem is one queue of a list.
type QueueItem struct {
	Name     string
	Metadata domain.Metadata
}

// Queues lists queues. A label's text matches the same text; one that is a whole
// number also matches that number.
func (v *Views) Queues(ctx context.Context, list QueueList) ([]QueueItem, error) {
	if !list.possible() {
		return []QueueItem{}, nil
	}
	ctx, cancel := within(ctx)
	defer cancel()
	keys, texts, numbers, err := labelFilters(list.Labels)
	if err != nil {
		return nil, err
	}
	rows, err := v.DB.QueryContext(ctx, `
SELECT q.name, q.metadata
FROM queues q
WHERE q.project = $1 AND q.name > $2 AND NOT q.deleted
    AND ($3 = '' OR strpos(q.name, $3) > 0)
    AND (cardinality($4::text[]) = 0 OR cardinality($4::text[]) = (
        SELECT count(*)
        FROM jsonb_each(q.labels) AS l
        JOIN unnest($4::text[], $5::text[], $6::text[]) AS f (key, as_text, as_number) ON f.key = l.key
        WHERE l.value = f.as_text::jsonb OR l.value = f.as_number::jsonb
    ))
ORDER BY q.name
LIMIT $7`,
		list.Project, list.After, list.Name, pgarray.Texts(keys), pgarray.Texts(texts), pgarray.Texts(numbers), list.Limit)
	items := []QueueItem{}
	err = pgrows.Each("list queues", rows, err, func() error {
		var item QueueItem
		var metadata []byte
		if err := rows.Scan(&item.Name, &metadata); err != nil {
			return err
		}
		if item.Metadata, err = domain.ParseMetadata(metadata); err != nil {
			return fmt.Errorf("queue %s: %w", item.Name, err)
		}
		items = append(items, item)
		return nil
	})
	return items, err
}

// labelFilters writes each label's text as a JSON text, and as a number where it is
// one, the text again where it is not.
func labelFilters(labels map[string]string) (keys, texts, numbers []string, err error) {
	for key, text := range labels {
		quoted, err := json.Marshal(text)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("encode filter: %w", err)
		}
		number := string(quoted)
		if n, isNumber := strconv.ParseInt(text, 10, 64); isNumber == nil {
			number = strconv.FormatInt(n, 10)
		}
		keys, texts, numbers = append(keys, key), append(texts, string(quoted)), append(numbers, number)
	}
	return keys, texts, numbers, nil
}

// CountQueues counts all queues of a project.
func (v *Views) CountQueues(ctx context.Context, project string) (int, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	var n int
	err := v.DB.QueryRowContext(ctx, `SELECT count(*) FROM queues WHERE project = $1 AND NOT deleted`, project).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count queues: %w", err)
	}
	return n, nil
}
