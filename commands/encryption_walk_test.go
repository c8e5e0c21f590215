package commands_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/pgtest"
	"nabu/internal/sealing"
	"nabu/projections"
)

// walkChecks is how many walks a run takes when -rapid.checks does not say.
const walkChecks = 40

// TestNoKeyIsLost walks two replicas at random through the lives of a few queues that
// encrypt now and then: they are deleted and made again, keys are forgotten and destroyed,
// commands are decided one by one or in one batch, and calls of the driver fail. Whatever
// is handed out opens, and has not been destroyed before; each key that the history names
// is kept.
func TestNoKeyIsLost(t *testing.T) {
	t.Parallel()
	server := pgtest.Open(t)
	driver, db := openFaulty(t, server.URL())
	h := &house{TB: t, db: server.DB()}
	executors := []*commands.Executor{h.executor(nil), h.executor(db)}
	most := walkChecks
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "rapid.checks" {
			most = 1 << 30
		}
	})
	walks, failed, seen := 0, false, int64(0)
	rapid.Check(t, func(rt *rapid.T) {
		if walks >= most && !failed { // a failure is still tried to be made shorter
			return
		}
		walks++
		passed := false
		defer func() { failed = failed || !passed }()
		w := &walk{
			T: rt, house: h, executors: executors, driver: driver, run: walks, after: seen,
		}
		for range rapid.IntRange(10, 40).Draw(rt, "steps") {
			w.step()
		}
		for _, queue := range w.queues() {
			for w.take(w.executors[walks%2], queue, 20) > 0 {
			}
		}
		seen = w.keysKept()
		passed = true
	})
	if !t.Failed() {
		h.keysKept()
	}
}

// walk is one of them.
type walk struct {
	*rapid.T
	house     *house
	executors []*commands.Executor
	driver    *faulty
	run       int
	after     int64 // where the history ended when it began
	bodies    int
	replica   int // that is asked
}

func (w *walk) queues() []domain.QueueID {
	return []domain.QueueID{{Project: "p1", Name: fmt.Sprint(w.run, "-one")}, {Project: "p1", Name: fmt.Sprint(w.run, "-two")}}
}

// drawn is a number from 0 to n-1, all of them equally often.
func (w *walk) drawn(n int) int { return fairly.Draw(w.T, "choice") * n / 1024 }

// fairly draws a number from 0 to 1023: rapid's own ranges prefer their ends.
var fairly = rapid.Custom(func(t *rapid.T) (n int) {
	for range 10 {
		n *= 2
		if rapid.Bool().Draw(t, "bit") {
			n++
		}
	}
	return n
})

// queue is mostly the first one.
func (w *walk) queue() domain.QueueID { return w.queues()[max(w.drawn(5)-3, 0)] }

// fresh are keys that remember nothing.
func (w *walk) fresh() *sealing.Keys {
	return sealing.NewKeys(w.house.db, w.house.masters(), w.executors[0].Log)
}

// step gives one command, or some in one batch.
func (w *walk) step() {
	if w.drawn(10) == 0 {
		w.replica = 1 - w.replica // seldom, so that it comes to rely on what it remembers
	}
	e := w.executors[w.replica]
	switch w.drawn(16) {
	case 0:
		e.Keys.Forget()
	case 1:
		w.take(e, w.queue(), 3)
	case 2:
		var cmds []func() error
		for range 2 + w.drawn(3) {
			cmds = append(cmds, w.command(e))
		}
		for _, err := range w.house.gathered(e, cmds...) {
			w.fine(err)
		}
	case 3, 4:
		k, struck := 1+w.drawn(12), []blow{unseen, unanswered, refused}[w.drawn(3)]
		cmd := w.command(w.executors[1])
		w.driver.onCall(func(call int) blow {
			if call == k {
				return struck
			}
			return passes
		})
		w.fine(cmd())
		w.driver.onCall(nil)
	default:
		w.fine(w.command(e)())
	}
}

// fine fails the walk for any error but that a queue to be changed is not there.
func (w *walk) fine(err error) {
	w.Helper()
	if err != nil && refusal(err) != domain.NotFound {
		w.Fatal(err)
	}
}

// command draws a command that takes nothing.
func (w *walk) command(e *commands.Executor) func() error {
	ctx, queue := as(context.Background(), ""), w.queue()
	switch w.drawn(16) {
	case 0, 1:
		return func() error { _, err := commands.Run(ctx, e, commands.DeleteQueue{Queue: queue}); return err }
	case 2, 3, 4:
		return func() error {
			_, err := commands.Run(ctx, e, commands.CreateQueue{Queue: queue, Metadata: encrypting})
			return err
		}
	case 5, 6:
		value := []string{`true`, `true`, `false`}[w.drawn(3)]
		return func() error {
			_, err := commands.Run(ctx, e, commands.ChangeQueue{Queue: queue, Patch: domain.MetadataPatch{
				{Op: "add", Key: domain.EncryptMessagesKey, Value: []byte(value)},
			}})
			return err
		}
	case 7:
		return func() error { _, err := commands.Run(ctx, e, commands.DestroyKeys{Queue: queue}); return err }
	}
	w.bodies++
	cmd := post(queue, fmt.Sprint(w.bodies))
	return func() error { _, err := commands.Run(ctx, e, cmd); return err }
}

// take claims messages, and opens them with keys that come from the database.
func (w *walk) take(e *commands.Executor, queue domain.QueueID, limit int) int {
	w.Helper()
	taken, err := commands.Run(as(context.Background(), ""), e, claim(queue, limit))
	if err != nil {
		w.Fatal(err)
	}
	for _, m := range taken {
		b := []sealing.Body{{Message: m.ID, Key: m.Key, Text: m.Body}}
		if err := projections.OpenBodies(context.Background(), w.fresh(), queue.Project, b); err != nil || b[0].Gone {
			w.Logf("message %s of %v: gone %v, %v", m.ID, queue, b[0].Gone, err)
			w.Fatal("a message that was handed out does not open") // the same each time, to be made shorter
		}
	}
	return len(taken)
}

// keysKept states that each key that the walk has sealed with is kept, and destroyed if and
// only if the history says so. It returns where that ends.
func (w *walk) keysKept() (end int64) {
	w.Helper()
	end = w.after
	named := map[domain.KeyID]bool{} // whether it was destroyed
	for _, e := range w.house.historyAfter(w.after) {
		end = e.Position
		switch event := e.Event.(type) {
		case domain.MessagesPosted:
			if named[event.Key] {
				w.Fatal("something is sealed with a key that was destroyed before")
			}
			if event.Key != uuid.Nil {
				named[event.Key] = false
			}
		case domain.QueueKeysDestroyed:
			for _, key := range event.Keys {
				named[key] = true
			}
		}
	}
	found, err := w.fresh().Find(context.Background(), w.house.db, slices.Collect(maps.Keys(named)))
	if err != nil {
		w.Fatal(err)
	}
	for id, destroyed := range named {
		if (found[id] == nil) != destroyed {
			w.Logf("key %s", id)
			w.Fatalf("a key is kept: %v; destroyed in the history: %v", found[id] != nil, destroyed)
		}
	}
	return end
}
