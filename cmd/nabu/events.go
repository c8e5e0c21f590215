package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

const eventsHelp = `Show the history, from the first event on: one event a line, cut to the terminal's
width, or as JSON lines with everything that is stored (-o json, and where the output is
no terminal).

A --from below zero counts from the end: --from=-20 shows the last 20. With --follow the
history goes on as it grows, from the last ten events unless --from or --since says
otherwise. --since and --until take a time such as 2026-03-01T10:00:00Z, or how long ago
it was, such as 15m; what was recorded at the time of --until is not shown any more.
--message shows all that concerns one message, through purges, moves and sweeps.`

// eventsAsked is what the command's flags ask for.
type eventsAsked struct {
	eventstore.Selection
	from    int64
	limit   int
	follow  bool
	message string
	// since and until bound what is shown; without them: the zero moment.
	since, until moment
}

func newEvents(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "events",
		Short: "Show the history",
		Long:  eventsHelp,
		Args:  noArguments,
	}
	f := c.Flags()
	var asked eventsAsked
	f.StringVar(&asked.Stream, "stream", "", "only of this stream, such as queue/PROJECT/NAME")
	f.StringVar(&asked.Project, "project", "", "only what was asked for in this project")
	f.StringVar(&asked.Actor, "actor", "", "only what this user has asked for")
	f.StringSliceVar(&asked.Types, "type", nil, "only of these types, such as messages.posted.v1")
	f.StringVar(&asked.RequestID, "request", "", "only what the request with this id has led to, or the one with this global id")
	f.Int64Var(&asked.from, "from", 1, "first position; below zero: so many before the end")
	f.Int64Var(&asked.Upto, "to", 0, "last position; 0: the end")
	f.Var(&asked.since, "since", "only what was recorded from this time on, or since so long ago")
	f.Var(&asked.until, "until", "only what was recorded before this time, or so long ago")
	f.IntVar(&asked.limit, "limit", 0, "most events; 0: all")
	f.BoolVar(&asked.follow, "follow", false, "go on as the history grows")
	f.StringVar(&asked.message, "message", "", "all that concerns the message with this id")
	form := addForm(f)
	f.Lookup("output").DefValue = "" // it depends, so that the help says it in words
	f.Lookup("output").Usage = "table or json (default table on a terminal, json elsewhere)"
	addSettings(c, wayToDatabase...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := asked.check(c); err != nil {
			return misused(err)
		}
		p := &eventPrinter{out: bufio.NewWriter(c.OutOrStdout()), form: *form, limit: asked.limit}
		if !c.Flags().Changed("output") && !isTerminal(c.OutOrStdout()) {
			p.form = asJSON
		}
		p.width = terminalWidth(c.OutOrStdout())
		return withLedger(c, environ, func(ctx context.Context, db *sql.DB) error {
			return errors.Join(asked.show(ctx, c, db, p), p.out.Flush())
		})
	}
	return c
}

// check looks at what concerns several flags, and fills in where a tail begins.
func (a *eventsAsked) check(c *cobra.Command) error {
	changed := c.Flags().Changed
	for _, other := range []string{"stream", "project", "actor", "type", "request", "from", "to", "since", "until", "follow"} {
		if a.message != "" && changed(other) {
			return fmt.Errorf("--message and --%s do not go together", other)
		}
	}
	if shortID.MatchString(a.RequestID) {
		return fmt.Errorf("--request: %q is the beginning of an id; nabu events -o json shows it whole", a.RequestID)
	}
	if a.Stream != "" && !isStream(a.Stream) {
		return fmt.Errorf("--stream: %q is no stream; they are %s", a.Stream, streams)
	}
	if _, isID := domain.ParseMessageID(a.message); a.message != "" && !isID {
		return fmt.Errorf("--message: %q is no id of a message", a.message)
	}
	for _, name := range a.Types {
		if !slices.Contains(eventstore.EventTypes(), name) {
			same := func(name string) string { return name }
			return fmt.Errorf("--type: unknown type %q%s", name, suggestion(name, eventstore.EventTypes(), same))
		}
	}
	if a.limit < 0 || a.Upto < 0 {
		return errors.New("--limit and --to must not be below zero")
	}
	if a.follow && a.until.given() {
		return errors.New("--follow and --until do not go together")
	}
	if a.follow && !changed("from") && !a.since.given() {
		a.from = -10
	}
	return nil
}

// shortID is what the table shows of a request's id.
var shortID = regexp.MustCompile(`^(req-)?[0-9a-f]{8}$`)

// streams are those that there may be.
const streams = "queue/PROJECT/NAME, subscription/PROJECT/ID, task/ID, user-message/PROJECT/ID, server/ID and read-models"

func isStream(text string) bool {
	_, isQueue := domain.QueueOfStream(text)
	_, isSubscription := domain.SubscriptionOfStream(text)
	_, isTask := domain.TaskOfStream(text)
	_, isUserMessage := domain.UserMessageOfStream(text)
	_, isServer := domain.ServerOfStream(text)
	return isQueue || isSubscription || isTask || isUserMessage || isServer || text == domain.ReadModelsRebuilt{}.Stream()
}

func (a *eventsAsked) show(ctx context.Context, c *cobra.Command, db *sql.DB, p *eventPrinter) error {
	if a.message != "" {
		return a.showMessage(ctx, c, db, p)
	}
	head, err := eventstore.ReadHead(ctx, db)
	if err != nil {
		return err
	}
	nothing := a.nothing()
	if a.Stream != "" {
		version, _, err := eventstore.StreamEnd(ctx, db, a.Stream, math.MaxInt64)
		if err != nil {
			return err
		}
		if version == 0 {
			nothing = ""
			c.PrintErrf("There is no stream %s yet.\n", a.Stream)
		}
	}
	a.After = max(a.from-1, 0)
	if a.from < 0 {
		a.After = max(head.Position+a.from, 0)
	}
	last := a.Upto
	switch empty, err := a.bound(ctx, db, &last); {
	case err != nil:
		return err
	case empty:
		c.PrintErr(nothing)
		return nil
	}
	if err := a.walk(ctx, db, p, head, last); err != nil {
		return err
	}
	if p.printed == 0 && !a.follow && ctx.Err() == nil {
		c.PrintErr(nothing)
	}
	return nil
}

// walk prints the events up to the last position that was asked for (0: any), or follows them
// without end.
func (a *eventsAsked) walk(ctx context.Context, db *sql.DB, p *eventPrinter, head eventstore.Head, last int64) (err error) {
	for {
		a.Upto = head.Position
		if last > 0 {
			a.Upto = min(last, head.Position)
		}
		for e, err := range eventstore.ReadStored(ctx, db, a.Selection) {
			if err != nil {
				return endOfTail(ctx, err)
			}
			if more, err := p.print(e); err != nil || !more {
				return err
			}
		}
		a.After = max(a.After, a.Upto)
		if !a.follow || last > 0 && a.After >= last {
			return nil
		}
		if err := p.out.Flush(); err != nil {
			return err
		}
		if head, err = awaitEvents(ctx, db, a.After); err != nil {
			return endOfTail(ctx, err)
		}
	}
}

// nothing is what is said when no event was found.
func (a *eventsAsked) nothing() string {
	text := "There is no such event"
	if a.Project != "" {
		text += " in the project " + a.Project
	}
	if a.RequestID != "" {
		text += " of the request " + a.RequestID
	}
	return text + ".\n"
}

// bound makes positions of the times that were asked for. Empty: there is nothing between.
func (a *eventsAsked) bound(ctx context.Context, db *sql.DB, last *int64) (empty bool, err error) {
	if a.since.given() {
		before, err := a.since.position(ctx, db)
		if err != nil {
			return false, err
		}
		a.After = max(a.After, before)
	}
	if a.until.given() {
		upto, err := a.until.position(ctx, db)
		if err != nil || upto == 0 {
			return true, err
		}
		if *last == 0 || upto < *last {
			*last = upto
		}
	}
	return false, nil
}

// endOfTail is how a tail ends that somebody stops: well.
func endOfTail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// tailPace is how often a tail looks for more.
const tailPace = 250 * time.Millisecond

// awaitEvents waits until there are events behind a position, and returns the head.
func awaitEvents(ctx context.Context, db *sql.DB, after int64) (eventstore.Head, error) {
	tick := time.NewTicker(tailPace)
	defer tick.Stop()
	for {
		head, err := eventstore.ReadHead(ctx, db)
		if err != nil || head.Position > after {
			return head, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return head, ctx.Err()
		}
	}
}

// showMessage shows the story of one message.
func (a *eventsAsked) showMessage(ctx context.Context, c *cobra.Command, db *sql.DB, p *eventPrinter) error {
	id, _ := domain.ParseMessageID(a.message)
	views := &projections.Views{DB: db}
	behind, err := awaitIndex(ctx, db)
	if err != nil {
		return err
	}
	story, err := views.MessageStory(ctx, id)
	if err != nil {
		return err
	}
	for _, known := range story {
		one := eventstore.Selection{After: known.Position - 1, Upto: known.Position}
		for e, err := range eventstore.ReadStored(ctx, db, one) {
			if err != nil {
				return err
			}
			if p.form != asJSON {
				e = onlyOf(id, e)
			}
			if more, err := p.print(e); err != nil || !more {
				return err
			}
		}
	}
	if behind > 0 {
		c.PrintErrf("The index of messages is %d events behind: what they say of this message may be missing, but for its posting.\n", behind)
	}
	return nil
}

// What was done just before a story is asked for belongs to it, and the index of messages knows it a
// moment later. Where no nabu serves it stands still, and is not waited for any longer than this.
const (
	indexPatience = 2 * time.Second
	indexPace     = 20 * time.Millisecond
)

// awaitIndex waits until the index of messages has come to where the ledger is now, or for as long
// as there is patience. It tells how many events are missing then.
func awaitIndex(ctx context.Context, db *sql.DB) (behind int64, err error) {
	head, err := eventstore.ReadHead(ctx, db)
	if err != nil {
		return 0, err
	}
	tick, deadline := time.NewTicker(indexPace), time.Now().Add(indexPatience)
	defer tick.Stop()
	for {
		upto, err := eventstore.ReadCheckpoint(ctx, db, projections.MessageIndex.Name)
		behind = max(0, head.Position-upto)
		if err != nil || behind == 0 || time.Now().After(deadline) {
			return behind, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return behind, ctx.Err()
		}
	}
}

// eventPrinter shows events, one a line.
type eventPrinter struct {
	out     *bufio.Writer
	form    form
	width   int // of the terminal; 0: lines are not cut
	limit   int // 0: none
	printed int
}

// print shows an event, and tells whether it may show more.
func (p *eventPrinter) print(e eventstore.StoredEvent) (more bool, err error) {
	if p.form == asJSON {
		err = writeEventJSON(p.out, e)
	} else {
		_, err = fmt.Fprintln(p.out, cutTo(p.width, eventLine(e)))
	}
	p.printed++
	return p.limit == 0 || p.printed < p.limit, err
}

// shownEvent is an event as JSON. Bodies are the texts that a client sent.
type shownEvent struct {
	Position        int64           `json:"position"`
	ID              uuid.UUID       `json:"id"`
	Batch           uuid.UUID       `json:"batch"`
	Stream          string          `json:"stream"`
	Version         int64           `json:"version"`
	Type            string          `json:"type"`
	Data            json.RawMessage `json:"data"`
	Bodies          []string        `json:"bodies,omitempty"`
	Project         string          `json:"project"`
	Actor           string          `json:"actor,omitempty"`
	RequestID       string          `json:"request_id,omitempty"`
	GlobalRequestID string          `json:"global_request_id,omitempty"`
	CorrelationID   string          `json:"correlation_id,omitempty"`
	CausationID     *uuid.UUID      `json:"causation_id,omitempty"`
	RecordedAt      time.Time       `json:"recorded_at"`
}

func writeEventJSON(out io.Writer, e eventstore.StoredEvent) error {
	shown := shownEvent{
		Position: e.Position, ID: e.ID, Batch: e.Batch, Stream: e.Stream, Version: e.Version, Type: e.Type,
		Data: e.Data, Bodies: e.Bodies, Project: e.Origin.Project, Actor: e.Origin.Actor,
		RequestID: e.Origin.RequestID, GlobalRequestID: e.Origin.GlobalRequestID,
		CorrelationID: e.Origin.CorrelationID, RecordedAt: e.RecordedAt.UTC(),
	}
	if e.Origin.CausationID != uuid.Nil {
		shown.CausationID = &e.Origin.CausationID
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(shown)
}
