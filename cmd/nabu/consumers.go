package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nabu/eventstore"
)

func newConsumers(environ environment) *cobra.Command {
	return group(&cobra.Command{Use: "consumers", Short: "Look at who follows the history, and mend what stands in the way"},
		newConsumersList(environ), newConsumersRetry(environ), newConsumersSkip(environ))
}

// mostParked is how many parked events the list shows at most; the consumers' figures
// count them all.
const mostParked = 1000

func newConsumersList(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the consumers, how far they are behind, and what is parked for them",
		Args:  noArguments,
	}
	form := addForm(c.Flags())
	addSettings(c, wayToDatabase...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return withLedger(c, environ, func(ctx context.Context, db *sql.DB) error {
			consumers, err := eventstore.Consumers(ctx, db)
			if err != nil {
				return err
			}
			parked, err := eventstore.ParkedEvents(ctx, db, mostParked)
			if err != nil {
				return err
			}
			if *form == asJSON {
				return writeJSON(c.OutOrStdout(), showConsumers(consumers, parked))
			}
			return writeConsumers(c.OutOrStdout(), consumers, parked)
		})
	}
	return c
}

func newConsumersRetry(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "retry NAME [POSITION]",
		Short: "Deliver parked events again, with what waits behind them, in order",
		Long: `Deliver again what is parked for a consumer, in order: all of it, or the event at
POSITION with what waits behind it on its stream. The running nabu does it, within
seconds; what is refused once more stays parked.`,
		Args: consumerArguments(1),
	}
	form := addForm(c.Flags())
	addSettings(c, wayToDatabase...)
	c.RunE = func(c *cobra.Command, args []string) error {
		position := int64(0)
		if len(args) > 1 {
			position, _ = strconv.ParseInt(args[1], 10, 64) // checked with the arguments
		}
		return withLedger(c, environ, func(ctx context.Context, db *sql.DB) error {
			n, err := eventstore.Retry(ctx, db, args[0], position)
			if err != nil {
				return err
			}
			return tellAsked(c.OutOrStdout(), *form, n)
		})
	}
	return c
}

func newConsumersSkip(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "skip NAME POSITION --reason TEXT",
		Short: "Give up one parked event, for a reason that is kept",
		Long: `Give up one parked event: the consumer never handles it. The reason is kept with it in
ledger.parked. If it was the first of its stream, what waits behind it is delivered.`,
		Args: consumerArguments(2),
	}
	reason := c.Flags().String("reason", "", "why (must be given)")
	form := addForm(c.Flags())
	addSettings(c, wayToDatabase...)
	c.RunE = func(c *cobra.Command, args []string) error {
		if strings.TrimSpace(*reason) == "" {
			return missing(c, "--reason")
		}
		position, _ := strconv.ParseInt(args[1], 10, 64)
		return withLedger(c, environ, func(ctx context.Context, db *sql.DB) error {
			n, err := eventstore.Skip(ctx, db, args[0], position, *reason)
			if err != nil {
				return err
			}
			return tellAsked(c.OutOrStdout(), *form, n)
		})
	}
	return c
}

// consumerArguments wants a consumer's name and a position; so many are a must.
func consumerArguments(least int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := checkArguments(c, args, least, "NAME", "POSITION"); err != nil {
			return err
		}
		if len(args) == 2 {
			if n, err := strconv.ParseInt(args[1], 10, 64); err != nil || n < 1 {
				return misused(fmt.Errorf("POSITION must be a whole number from 1 on, not %q", args[1]))
			}
		}
		return nil
	}
}

func tellAsked(out io.Writer, f form, n int64) error {
	if f == asJSON {
		return writeJSON(out, map[string]int64{"asked": n})
	}
	_, err := fmt.Fprintf(out, "%s will be delivered again\n", count(int(n), "event"))
	return err
}

// shownConsumer is a consumer as JSON; times are seconds.
type shownConsumer struct {
	Name       string    `json:"name"`
	Position   int64     `json:"position"`
	LagEvents  int64     `json:"lag_events"`
	LagSeconds float64   `json:"lag_seconds"`
	UpdatedAt  time.Time `json:"updated_at"`
	Parked     int       `json:"parked"`
	ParkedAge  float64   `json:"parked_seconds"`
}

// shownParked is a parked event as JSON.
type shownParked struct {
	Consumer string     `json:"consumer"`
	Position int64      `json:"position"`
	Stream   string     `json:"stream"`
	Error    *string    `json:"error"` // null: it waits behind another of its stream
	Attempts int        `json:"attempts"`
	ParkedAt time.Time  `json:"parked_at"`
	TriedAt  *time.Time `json:"tried_at"`
	Asked    bool       `json:"asked"`
}

func showConsumers(consumers []eventstore.Consumer, parked []eventstore.Parked) any {
	list := struct {
		Consumers []shownConsumer `json:"consumers"`
		Parked    []shownParked   `json:"parked"`
	}{[]shownConsumer{}, []shownParked{}}
	for _, c := range consumers {
		list.Consumers = append(list.Consumers, shownConsumer{
			c.Name, c.Position, c.Events, c.Age.Seconds(), c.UpdatedAt.UTC(), c.Parked, c.ParkedAge.Seconds(),
		})
	}
	for _, p := range parked {
		s := shownParked{
			Consumer: p.Consumer, Position: p.Position, Stream: p.Stream, Attempts: p.Attempts,
			ParkedAt: p.ParkedAt.UTC(), Asked: p.Asked,
		}
		if !p.TriedAt.IsZero() {
			at := p.TriedAt.UTC()
			s.Error, s.TriedAt = &p.Error, &at
		}
		list.Parked = append(list.Parked, s)
	}
	return list
}

func writeConsumers(out io.Writer, consumers []eventstore.Consumer, parked []eventstore.Parked) error {
	rows := [][]string{{"consumer", "position", "behind", "behind since", "parked", "parked since"}}
	for _, c := range consumers {
		rows = append(rows, []string{
			c.Name, fmt.Sprint(c.Position), count(int(c.Events), "event"), ageText(c.Age), fmt.Sprint(c.Parked), ageText(c.ParkedAge),
		})
	}
	if err := writeTable(out, rows); err != nil || len(parked) == 0 {
		return err
	}
	rows = [][]string{{"parked for", "position", "stream", "since", "tried", "because"}}
	for _, p := range parked {
		because := oneLine(p.Error)
		if p.TriedAt.IsZero() {
			because = "waits behind another"
		}
		if p.Asked {
			because = "about to be delivered again; " + because
		}
		rows = append(rows, []string{
			p.Consumer, fmt.Sprint(p.Position), p.Stream, ageText(p.Age), count(p.Attempts, "time"), because,
		})
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	return writeTable(out, rows)
}

func ageText(age time.Duration) string {
	if age == 0 {
		return "-"
	}
	return age.Round(time.Second).String()
}
