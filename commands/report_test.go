package commands_test

import (
	"context"
	"errors"
	"testing"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
)

// reporter is a consumer of the feed that reports by commands.
type reporter struct {
	*house
	e *commands.Executor
}

func newReporter(t *testing.T) reporter {
	h := newHouse(t)
	if _, err := h.db.Exec(`INSERT INTO ledger.consumers VALUES ('reporter', 0, now())`); err != nil {
		t.Fatal(err)
	}
	return reporter{h, h.executor(nil)}
}

func (r reporter) context(slice eventstore.Slice) context.Context {
	return commands.WithRequest(r.Context(), commands.Request{Origin: domain.Origin{Project: "p1"}, Handled: &slice})
}

func (r reporter) report(slice eventstore.Slice, cmd commands.PostMessages) error {
	return poster(r.context(slice), r.e, cmd)()
}

// stands wants the checkpoint and the number of events.
func (r reporter) stands(checkpoint int64, events int) {
	r.Helper()
	var at int64
	if err := r.db.QueryRow(`SELECT position FROM ledger.consumers`).Scan(&at); err != nil {
		r.Fatal(err)
	}
	if n := len(r.history()); at != checkpoint || n != events {
		r.Errorf("the checkpoint is %d with %d events, want %d with %d", at, n, checkpoint, events)
	}
}

func slice(from, to int64) eventstore.Slice {
	return eventstore.Slice{Consumer: "reporter", From: from, To: to}
}

// TestAReportMovesTheCheckpoint: in the transaction of its events, or neither.
func TestAReportMovesTheCheckpoint(t *testing.T) {
	r := newReporter(t)
	run(t, r.e, post(orders, `1`)) // 2 events
	if err := r.report(slice(0, 2), post(orders, `2`)); err != nil {
		t.Fatal(err)
	}
	r.stands(2, 3)
	if err := r.report(slice(0, 2), post(orders, `2`)); !errors.Is(err, eventstore.ErrMoved) {
		t.Errorf("the same again: %v", err)
	}
	r.stands(2, 3)
	if err := r.report(slice(2, 3), post(orders)); refusal(err) != domain.Invalid {
		t.Errorf("nothing to post: %v", err)
	}
	r.stands(2, 3)
	for range 2 { // the queue is there: nothing to record
		if _, err := commands.Run(r.context(slice(2, 3)), r.e, commands.CreateQueue{Queue: orders}); err != nil {
			if !errors.Is(err, eventstore.ErrMoved) {
				t.Error(err)
			}
		}
		r.stands(3, 3)
	}
	r.sound()
}

// TestReportsOfOneBatch: of two reports on the same slice one counts, and neither a late
// one nor a bad one disturbs the commands beside it.
func TestReportsOfOneBatch(t *testing.T) {
	r := newReporter(t)
	errs := r.gathered(r.e,
		poster(r.context(slice(0, 1)), r.e, post(orders, `1`)),
		poster(as(t.Context(), ""), r.e, post(orders, `2`)),
		poster(r.context(slice(0, 1)), r.e, post(orders, `3`)),
		poster(r.context(slice(7, 8)), r.e, post(orders, `4`)),
	)
	if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], eventstore.ErrMoved) || !errors.Is(errs[3], eventstore.ErrMoved) {
		t.Errorf("%v", errs)
	}
	if n := len(r.messages()); n != 3 { // one is the house's own
		t.Errorf("%d messages", n)
	}
	r.stands(1, 5)
	r.sound()
}

// TestAReportOnWhatWasParked takes it off the list, once.
func TestAReportOnWhatWasParked(t *testing.T) {
	r := newReporter(t)
	run(t, r.e, post(orders, `1`))
	if _, err := r.db.Exec(`
INSERT INTO ledger.parked (consumer, position, stream, parked_at, asked)
VALUES ('reporter', 1, 'queue/p1/orders', now(), true)`); err != nil {
		t.Fatal(err)
	}
	parked := eventstore.Slice{Consumer: "reporter", From: 0, To: 1, Parked: true, Events: r.history()[:1]}
	if err := r.report(parked, post(orders, `2`)); err != nil {
		t.Fatal(err)
	}
	if err := r.report(parked, post(orders, `2`)); !errors.Is(err, eventstore.ErrMoved) {
		t.Errorf("the same again: %v", err)
	}
	r.stands(0, 3)
}
