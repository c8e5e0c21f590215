package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nabu/internal/postgres"
	"nabu/migrations"
	"nabu/projections"
)

const replayHelp = `Make read models anew out of the history, beside the live ones, and put them in their
place. nabu goes on serving: no request waits longer than a moment. All read models are
made anew unless some are named. It may be interrupted at any time: then everything is as
it was, and the next replay begins from the start.

With --check nothing is changed. The rows of the live read models that are not what the
history adds up to are printed, and the exit code is 1 if there are any.

Without database_url the private PostgreSQL is used: that of a running nabu serve, or one
started for this.`

// replayConnections are one to write with, one to read the history with and one to look up
// what queues are called.
const replayConnections = 3

func newReplay(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "replay [PROJECTION…]",
		Short: "Make the read models anew out of the history, or check them",
		Long:  replayHelp,
	}
	for _, p := range projections.All {
		c.ValidArgs = append(c.ValidArgs, p.Name)
	}
	check := c.Flags().Bool("check", false, "compare the live read models with the history, and change nothing")
	form := addForm(c.Flags())
	addSettings(c, wayToDatabase...)
	c.RunE = func(c *cobra.Command, names []string) error {
		tuneCollector(environ)
		chosen, err := namedProjections(names)
		if err != nil {
			return err
		}
		return withURLs(c, environ, func(ctx context.Context, w ways) (err error) {
			if err := migrations.CheckKnown(ctx, w.owner); err != nil {
				return w.explain(w.ownerKey, err)
			}
			db, err := postgres.Open(w.owner, replayConnections)
			if err != nil {
				return misconfigured(err)
			}
			defer func() { err = errors.Join(err, db.Close()) }()
			bar := newBar(c.ErrOrStderr(), !*check)
			defer bar.end()
			if *check {
				checking := projections.Checking{DB: db, Projections: chosen, Tell: bar.tell}
				return explainReplay(ctx, checkReadModels(ctx, checking, bar.around(c.OutOrStdout()), *form))
			}
			if err := (projections.Rebuilding{DB: db, Projections: chosen, Tell: bar.tell}).Run(ctx); err != nil {
				return explainReplay(ctx, err)
			}
			bar.end()
			return bar.sum(c.OutOrStdout(), *form)
		})
	}
	return c
}

// explainReplay says what an interruption has left, and what to do where a role lacks what
// no dump has.
func explainReplay(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted: the live read models are as they were")
	}
	if postgres.IsForbidden(err) {
		return misconfigured(fmt.Errorf("%w; in a database that was restored from a dump run nabu migrate up first", err))
	}
	return err
}

// namedProjections are the projections of these names; all without names.
func namedProjections(names []string) (chosen []projections.Projection, err error) {
	var known []string
	for _, p := range projections.All {
		known = append(known, p.Name)
		if len(names) == 0 || slices.Contains(names, p.Name) {
			chosen = append(chosen, p)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			same := func(name string) string { return name }
			return nil, misused(fmt.Errorf("there is no projection %q, but %s%s", name, strings.Join(known, ", "), suggestion(name, known, same)))
		}
	}
	return chosen, nil
}

// checkReadModels prints what differs, and fails if anything does.
func checkReadModels(ctx context.Context, checking projections.Checking, out io.Writer, f form) error {
	n := 0
	found := []projections.Difference{}
	names := queueNames{db: checking.DB, known: map[int64]string{}}
	checking.Found = func(d projections.Difference) error {
		n++
		if f == asJSON {
			found = append(found, d)
			return nil
		}
		_, err := fmt.Fprintln(out, describe(d, names.of(ctx, d)))
		return err
	}
	if err := checking.Run(ctx); err != nil {
		return err
	}
	if f == asJSON {
		if err := writeJSON(out, found); err != nil {
			return err
		}
	}
	if n > 0 {
		return fmt.Errorf("the live read models differ from the history in %d places; nabu replay makes them anew", n)
	}
	return nil
}

// maxShown is how much of a value is printed, in characters.
const maxShown = 60

// queueNames finds what queues are called whose numbers stand in read models.
type queueNames struct {
	db    *sql.DB
	known map[int64]string // by number; empty: nobody knows
}

// of is what the queue of a row is called; empty if the row has none, or nobody knows.
func (q queueNames) of(ctx context.Context, d projections.Difference) string {
	// Where the first column is another, such as the project, the queue stands there by name.
	if len(d.Key) == 0 || d.Key[0].Column != "queue" || d.Key[0].Text == nil {
		return ""
	}
	number, err := strconv.ParseInt(*d.Key[0].Text, 10, 64)
	if err != nil {
		return ""
	}
	name, known := q.known[number]
	if !known {
		var project, queue string
		// It only helps to read the line: without an answer the number has to do.
		if q.db.QueryRowContext(ctx, `SELECT project, name FROM queues WHERE number = $1`, number).Scan(&project, &queue) == nil {
			name = queue + " of project " + project
		}
		q.known[number] = name
	}
	return name
}

// describe is a difference in one line. queue is what its queue is called, if that is known.
func describe(d projections.Difference, queue string) string {
	head := d.Table + " (" + values(d.Key, " ")
	if queue != "" {
		head += "; the queue is " + escaped(queue)
	}
	head += "): "
	switch {
	case len(d.Live) == 0:
		return head + "missing; the history has " + values(d.Folded, "=")
	case len(d.Folded) == 0:
		return head + "not in the history; live is " + values(d.Live, "=")
	}
	columns := make([]string, len(d.Live))
	for i := range d.Live {
		columns[i] = fmt.Sprintf("%s is %s, the history has %s", d.Live[i].Column, shown(d.Live[i]), shown(d.Folded[i]))
	}
	return head + strings.Join(columns, "; ")
}

func values(all []projections.Value, between string) string {
	words := make([]string, len(all))
	for i, v := range all {
		words[i] = v.Column + between + shown(v)
	}
	return strings.Join(words, ", ")
}

// escaped is a text that changes neither line nor terminal.
func escaped(text string) string {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`, "\x1b", `\x1b`).Replace(text)
}

// shown is a value on one line, cut where it is long.
func shown(v projections.Value) string {
	if v.Text == nil {
		return "NULL"
	}
	text := []rune(escaped(*v.Text))
	if len(text) > maxShown {
		return string(text[:maxShown]) + "…"
	}
	return string(text)
}
