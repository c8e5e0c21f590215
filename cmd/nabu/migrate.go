package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nabu/internal/postgres"
	"nabu/migrations"
	"nabu/projections"
)

func newMigrate(environ environment) *cobra.Command {
	return group(&cobra.Command{Use: "migrate", Short: "Look at and change the database's schema"},
		newMigrateStatus(environ), newMigrateUp(environ))
}

func newMigrateUp(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "up",
		Short: "Bring the schema to what this nabu works with",
		Long:  "Bring the schema to what this nabu works with. nabu serve does so by itself at its start.",
		Args:  noArguments,
	}
	addSettings(c, wayToDatabase...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDatabase(c, environ, postgres.AttachOrMake, func(ctx context.Context, w ways) error {
			before, err := migrations.Status(ctx, w.owner)
			if err != nil {
				return w.explain(w.ownerKey, err)
			}
			if err := migrations.Up(ctx, w.owner); err != nil {
				return w.explain(w.ownerKey, err)
			}
			n := 0
			for _, step := range before {
				if step.AppliedAt.IsZero() {
					n++
				}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d of %d steps were missing and are taken\n", n, len(before))
			return err
		})
	}
	return c
}

func newMigrateStatus(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "List the steps of the schema and when they were taken",
		Args:  noArguments,
	}
	form := addForm(c.Flags())
	addSettings(c, wayToDatabase...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withDatabase(c, environ, postgres.Attach, func(ctx context.Context, w ways) error {
			steps, err := migrations.Status(ctx, w.owner)
			if err != nil {
				return w.explain(w.ownerKey, err)
			}
			err = migrations.CheckFit(ctx, w.owner)
			stale, is := errors.AsType[*projections.StaleError](err)
			switch {
			case err == nil:
				stale = &projections.StaleError{}
			case !is:
				return w.explain(w.ownerKey, err)
			}
			return showSteps(c.OutOrStdout(), *form, steps, stale.Projections)
		})
	}
	return c
}

// shownStep is a step of the schema as the command shows it.
type shownStep struct {
	Version int64      `json:"version"`
	Name    string     `json:"name"`  // empty: this nabu does not know the step
	Taken   *time.Time `json:"taken"` // null: not yet
	// Stale are the read models that nabu replay has to make anew.
	Stale []string `json:"stale,omitempty"`
}

func showSteps(out io.Writer, f form, steps []migrations.Migration, stale []string) error {
	shown := []shownStep{}
	rows := [][]string{{"version", "name", "taken"}}
	for _, step := range steps {
		s, taken := shownStep{Version: step.Version, Name: step.Name}, "not yet"
		if !step.AppliedAt.IsZero() {
			at := step.AppliedAt.UTC()
			s.Taken, taken = &at, at.Format(time.RFC3339)
		}
		if step.Name == migrations.LiveStep && len(stale) > 0 {
			s.Stale = stale
			taken += ", to be made anew by nabu replay: " + strings.Join(stale, ", ")
		}
		name := s.Name
		if name == "" {
			name = "(of a later nabu)"
		}
		shown = append(shown, s)
		rows = append(rows, []string{fmt.Sprint(s.Version), name, taken})
	}
	if f == asJSON {
		return writeJSON(out, shown)
	}
	return writeTable(out, rows)
}
