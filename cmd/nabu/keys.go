package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/user"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/postgres"
	"nabu/internal/sealing"
	"nabu/projections"
)

func newKeys(environ environment) *cobra.Command {
	return group(&cobra.Command{Use: "keys", Short: "Look after the keys of queues that encrypt their messages"},
		newKeysGenerate(), newKeysList(environ), newKeysRotate(environ), newKeysDestroy(environ))
}

func newKeysGenerate() *cobra.Command {
	return &cobra.Command{
		Use:   "generate ID",
		Short: "Print a line for encryption_keys_file, with a new master key",
		Long: `Print a line for encryption_keys_file, with a new master key under an id that no other has.
The file's first line is the active master key, which wraps new data keys.`,
		Args: wantArguments("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			line, err := sealing.NewMaster(args[0])
			if err != nil {
				return misused(err)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), line)
			return err
		},
	}
}

func newKeysList(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the data keys, by queue, and which master key wraps each",
		Args:  noArguments,
	}
	form := addForm(c.Flags())
	addSettings(c, append(wayToDatabase, "encryption_keys_file")...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withLedger(c, environ, func(ctx context.Context, db *sql.DB) error {
			keys, err := sealing.List(ctx, db, "", "")
			if err != nil {
				return err
			}
			return writeKeys(c.OutOrStdout(), *form, keys)
		})
	}
	return c
}

// shownKey is a data key as JSON.
type shownKey struct {
	Project     string     `json:"project"`
	Queue       string     `json:"queue"`
	Number      int64      `json:"number"`
	Key         uuid.UUID  `json:"key"`
	Master      string     `json:"master"`
	MadeAt      time.Time  `json:"made_at"`
	WrappedAt   time.Time  `json:"wrapped_at"`
	DestroyedAt *time.Time `json:"destroyed_at"` // null: it is there
}

func writeKeys(out io.Writer, f form, keys []sealing.StoredKey) error {
	shown := []shownKey{}
	rows := [][]string{{"project", "queue", "number", "key", "master", "made", "state"}}
	for _, k := range keys {
		one := shownKey{
			k.Queue.Project, k.Queue.Name, k.Queue.Number, k.ID, k.Master, k.MadeAt.UTC(), k.WrappedAt.UTC(), nil,
		}
		state := "in use"
		if !k.DestroyedAt.IsZero() {
			at := k.DestroyedAt.UTC()
			one.DestroyedAt, state = &at, "destroyed "+at.Format(time.RFC3339)
		}
		shown = append(shown, one)
		rows = append(rows, []string{
			one.Project, one.Queue, fmt.Sprint(one.Number), one.Key.String(), one.Master, one.MadeAt.Format(time.RFC3339), state,
		})
	}
	if f == asJSON {
		return writeJSON(out, shown)
	}
	return writeTable(out, rows)
}

func newKeysRotate(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Wrap all data keys by the active master key",
		Long: `Wrap all data keys by the active master key, the first of encryption_keys_file. Messages
stay as they are, and nabu goes on serving. Every nabu must have that master key in its file
before. Afterwards no data key needs the others any more.`,
		Args: noArguments,
	}
	form := addForm(c.Flags())
	addSettings(c, append(wayToDatabase, "encryption_keys_file")...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, _, err := loadConfig(c.Flags(), environ)
		if err != nil {
			return err
		}
		if cfg.masters == nil {
			return misconfigured(errors.New("encryption_keys_file is not set"))
		}
		return withLedger(c, environ, func(ctx context.Context, db *sql.DB) error {
			n, err := sealing.Rotate(ctx, db, cfg.masters)
			if err != nil {
				return err
			}
			if *form == asJSON {
				return writeJSON(c.OutOrStdout(), map[string]any{"wrapped": n, "master": cfg.masters.Active()})
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s wrapped anew by %s\n", count(n, "data key"), cfg.masters.Active())
			return err
		})
	}
	return c
}

func newKeysDestroy(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "destroy QUEUE --project PROJECT",
		Short: "Destroy the data keys of a queue: what they have sealed can never be read again",
		Long: `Destroy the data keys of a queue, and of queues that bore its name before. What was sealed
with them can never be read again: its messages are deleted, dead letters of it in other queues
too, and of their bodies the history keeps what nothing opens. It is recorded as an event. The
queue stays, and gets a new key with its next message.

Copies of the keys remain in backups and in PostgreSQL's log until those are gone; they are
worthless once the master key that wraps them was replaced (nabu keys rotate) and thrown away.`,
		Args: wantArguments("QUEUE"),
	}
	project := c.Flags().String("project", "", "the queue's project (must be given)")
	actor := c.Flags().String("actor", "", "who asks for it, for the history; empty: this account's name")
	yes := c.Flags().Bool("yes", false, "yes, destroy them")
	form := addForm(c.Flags())
	addSettings(c, append(wayToDatabase, "encryption_keys_file")...)
	c.RunE = func(c *cobra.Command, args []string) error {
		if *project == "" {
			return missing(c, "--project")
		}
		queue := domain.QueueID{Project: *project, Name: args[0]}
		if err := queue.Check(); err != nil {
			return misused(fmt.Errorf("%s: %w", c.CommandPath(), err))
		}
		if !*yes {
			return misused(fmt.Errorf("%s cannot be undone: say --yes", c.CommandPath()))
		}
		return withURLs(c, environ, func(ctx context.Context, w ways) error {
			d := destroying{queue: queue, actor: actorName(*actor)}
			if err := d.run(ctx, w.app, w.owner); err != nil {
				return err
			}
			if *form == asJSON {
				return writeJSON(c.OutOrStdout(), map[string]any{"destroyed": d.keys, "deleted": d.deleted})
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s destroyed, %s deleted\n", count(d.keys, "data key"), count(d.deleted, "message"))
			return err
		})
	}
	return c
}

// actorName is who asks, if he does not say it.
func actorName(given string) string {
	if given != "" {
		return given
	}
	if account, err := user.Current(); err == nil {
		return account.Username
	}
	return ""
}

// destroying destroys a queue's keys as one more replica of nabu.
type destroying struct {
	queue         domain.QueueID
	actor         string
	keys, deleted int
}

func (d *destroying) run(ctx context.Context, app, owner string) (err error) {
	write, err := postgres.OpenWriter(app, answerPatience)
	if err != nil {
		return misconfigured(err)
	}
	defer func() { err = errors.Join(err, write.Close()) }()
	read, err := postgres.Open(app, 1)
	if err != nil {
		return misconfigured(err)
	}
	defer func() { err = errors.Join(err, read.Close()) }()
	views := &projections.Views{DB: read}
	if err := d.mustExist(ctx, views); err != nil {
		return err
	}
	executor := commands.NewExecutor(commands.Config{
		DB: write, Loader: projections.States{}, Projector: projections.Inlines{}, Limits: domain.DefaultLimits(),
		Log: slog.New(slog.DiscardHandler),
	})
	defer func() { err = errors.Join(err, executor.Close(context.WithoutCancel(ctx))) }()
	origin := domain.Origin{Project: d.queue.Project, Actor: d.actor, RequestID: "req-" + uuid.NewString()}
	origin.CorrelationID = origin.RequestID
	ctx = commands.WithRequest(ctx, commands.Request{Origin: origin})
	destroyed, err := commands.Run(ctx, executor, commands.DestroyKeys{Queue: d.queue})
	if err != nil {
		return err
	}
	d.keys = len(destroyed)
	if err := d.clear(ctx, executor, views); err != nil {
		return err
	}
	return forgetOldRows(ctx, owner)
}

// mustExist refuses a queue that is not there and has left no keys behind.
func (d *destroying) mustExist(ctx context.Context, views *projections.Views) error {
	stored, err := sealing.List(ctx, views.DB, d.queue.Project, d.queue.Name)
	if err != nil || len(stored) > 0 {
		return err
	}
	_, exists, err := views.Queue(ctx, d.queue)
	if err == nil && !exists {
		return fmt.Errorf("project %s has no queue %s, and none has left keys behind", d.queue.Project, d.queue.Name)
	}
	return err
}

// clearPage is how many messages are deleted at once.
const clearPage = 500

// clear deletes what nobody can read any more, also what an interrupted destruction has
// left.
func (d *destroying) clear(ctx context.Context, executor *commands.Executor, views *projections.Views) error {
	stored, err := sealing.List(ctx, views.DB, d.queue.Project, d.queue.Name)
	if err != nil {
		return err
	}
	var keys []domain.KeyID
	for _, k := range stored {
		if !k.DestroyedAt.IsZero() {
			keys = append(keys, k.ID)
		}
	}
	for {
		found, err := views.Unreadable(ctx, keys, clearPage)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, f := range found {
			n, err := commands.Run(ctx, executor, commands.DeleteMessages{Queue: f.Queue, IDs: f.IDs})
			if err != nil {
				return err
			}
			d.deleted += n
		}
	}
}

// forgetOldRows takes what the destroyed keys were out of their table's file, as far as
// no transaction may still look at it.
func forgetOldRows(ctx context.Context, owner string) (err error) {
	db, err := postgres.Open(owner, 1)
	if err != nil {
		return misconfigured(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, `VACUUM secrets.data_keys`); err != nil {
		return fmt.Errorf("the keys are destroyed; clear their table of old rows: %w", err)
	}
	return nil
}
