package commands_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/eventually"
	"nabu/internal/pgproxy"
)

func TestDataTheDatabaseRefusesConcernsItsOwnCommandOnly(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	var cmds []func() error
	for i := range 9 {
		body := `1`
		if i == 5 {
			body = "\"\x00\"" // no layer above lets this through
		}
		cmds = append(cmds, poster(ctx, e, post(orders, body)))
	}
	for i, err := range h.gathered(e, cmds...) {
		if i == 5 && refusal(err) != domain.Invalid || i != 5 && err != nil {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	if n := len(h.messages()); n != 9 {
		t.Fatalf("%d messages", n)
	}
	h.sound()
}

func TestACallerThatLeftIsDropped(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	leaving, leave := context.WithCancel(as(t.Context(), ""))
	errs := h.gathered(e, poster(leaving, e, post(orders, `1`)), func() error {
		leave() // while the first one waits
		return poster(as(t.Context(), ""), e, post(domain.QueueID{Project: "p1", Name: "stays"}, `1`))()
	})
	if !errors.Is(errs[0], context.Canceled) || errs[1] != nil {
		t.Fatalf("answers: %v", errs)
	}
	for _, event := range h.history() {
		if event.Event.Stream() == orders.Stream() {
			t.Fatalf("recorded for a caller that had left: %v", event.Event)
		}
	}
}

// TestACallerThatLeavesTooLateIsAnswered: what is being carried out cannot be given up, and who
// is told that it was would ask again.
func TestACallerThatLeavesTooLateIsAnswered(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	conn := h.holdLock()
	leaving, leave := context.WithCancel(as(t.Context(), ""))
	var caller sync.WaitGroup
	var ids []domain.MessageID
	var err error
	caller.Go(func() { ids, err = commands.Run(leaving, e, post(orders, `1`)) })
	eventually.Holds(t, "the command waits for the lock", h.waitsForLock)
	leave()
	h.release(conn, "ROLLBACK")
	caller.Wait()
	if err != nil || len(ids) != 1 {
		t.Fatalf("the answer is %v, %v", ids, err)
	}
	if got := h.messages(); len(got) != 1 {
		t.Fatalf("%d messages", len(got))
	}
}

func TestAfterCloseNothingIsTaken(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	conn := h.holdLock()
	var callers sync.WaitGroup
	errs := make([]error, 20)
	ask := func(i int) { callers.Go(func() { _, errs[i] = commands.Run(ctx, e, post(orders, `1`)) }) }
	ask(0)
	eventually.Holds(t, "the first waits for the lock", h.waitsForLock)
	for i := range 19 {
		ask(i + 1)
	}
	eventually.Holds(t, "the others wait behind it", func() bool { return e.Waiting() == 19 })
	closed := make(chan error)
	go func() { closed <- e.Close(context.Background()) }()
	gone, leave := context.WithCancel(ctx)
	leave()
	eventually.Holds(t, "the executor takes no more", func() bool {
		_, err := commands.Run(gone, e, commands.DeleteQueue{Queue: domain.QueueID{Project: "p1", Name: "other"}})
		return refusal(err) == domain.Unavailable
	})
	h.release(conn, "ROLLBACK")
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	callers.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("a command that was waiting: %v", err)
		}
	}
	if n := len(h.messages()); n != 20 {
		t.Fatalf("%d messages", n)
	}
}

// TestEveryCutIsSurvived cuts the connection at each round trip of each kind of
// batch, before the server saw it and after it answered. The command is carried out
// exactly once, whether its commit was lost or only the answer.
func TestEveryCutIsSurvived(t *testing.T) {
	for name, test := range map[string]struct {
		cut     pgproxy.Cut
		prepare bool
	}{
		"unseen":               {pgproxy.Before, false},
		"unseen, prepared":     {pgproxy.Before, true},
		"unanswered":           {pgproxy.After, false},
		"unanswered, prepared": {pgproxy.After, true},
	} {
		t.Run(name, func(t *testing.T) {
			h, proxy, db := newProxiedHouse(t)
			e := h.executor(db, func(cfg *commands.Config) { cfg.Prepare = test.prepare })
			run(t, e, post(orders, `0`))
			kept := len(h.messages())
			steps := map[string]func() int{
				"a post, the short way": func() int { return len(run(t, e, post(orders, `1`))) },
				"a post, the long way": func() int {
					ctx := as(t.Context(), fmt.Sprint(rand.Uint64()))
					ids, err := commands.Run(ctx, e, post(orders, `1`))
					if err != nil {
						t.Error(err)
					}
					return len(ids)
				},
				"a post and a delete": func() int {
					ids := run(t, e, post(orders, `1`, `2`))
					if n := run(t, e, commands.DeleteMessages{Queue: orders, IDs: ids}); n != 2 {
						t.Errorf("%d messages deleted", n)
					}
					return 0
				},
				"a new queue": func() int {
					return len(run(t, e, post(domain.QueueID{Project: "p1", Name: fmt.Sprint(rand.Uint64())}, `1`)))
				},
			}
			for what, step := range steps {
				for k := int64(1); ; k++ {
					reached := false
					proxy.OnTrip(func(trip int64) pgproxy.Cut {
						if trip != k {
							return pgproxy.Pass
						}
						reached = true
						return test.cut
					})
					kept += step()
					if n := len(h.messages()); n != kept {
						t.Fatalf("%s, cut at round trip %d: %d messages, want %d", what, k, n, kept)
					}
					if proxy.OnTrip(nil); !reached {
						break
					}
				}
			}
			h.sound()
		})
	}
}

func TestWithoutADatabaseTheAnswerIsUnavailable(t *testing.T) {
	h, proxy, db := newProxiedHouse(t)
	e := h.executor(db)
	proxy.OnTrip(func(int64) pgproxy.Cut { return pgproxy.Before })
	if _, err := commands.Run(as(t.Context(), ""), e, post(orders, `1`)); refusal(err) != domain.Unavailable {
		t.Fatalf("answer: %v", err)
	}
	proxy.OnTrip(nil)
	run(t, e, post(orders, `1`)) // and goes on without help
}

// TestABatchThatMeetsAnotherSchemaIsNoAbsence: clients are told that nothing can be written,
// and those who operate nabu why, until a batch is.
func TestABatchThatMeetsAnotherSchemaIsNoAbsence(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	run(h, e, post(orders, `1`))
	rename := func(from, to string) {
		t.Helper()
		if _, err := h.db.Exec(`ALTER TABLE live.` + from + ` RENAME TO ` + to); err != nil {
			t.Fatal(err)
		}
	}
	rename("queues", "queues_of_old")
	_, err := commands.Run(as(t.Context(), ""), e, post(domain.QueueID{Project: "p1", Name: "other"}, `1`))
	rename("queues_of_old", "queues")
	if !errors.Is(err, commands.ErrUnwritable) || !strings.Contains(e.Failing(), "nabu replay") {
		t.Errorf("answered with %v, failing because of %q", err, e.Failing())
	}
	run(h, e, post(orders, `2`))
	if e.Failing() != "" {
		t.Errorf("still failing: %s", e.Failing())
	}
}
