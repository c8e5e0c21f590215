package commands_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/eventually"
	"nabu/internal/pgtest"
)

// prepared is a command that is ready to be given, and what it has to record.
type prepared struct {
	give    func(ctx context.Context) error
	records []string
}

// preparation does what a command needs before it, in a queue that nobody has used.
type preparation func(h *house, e *commands.Executor, q domain.QueueID) prepared

func ready[R any](e *commands.Executor, cmd commands.Command[R], records ...string) prepared {
	return prepared{func(ctx context.Context) error {
		_, err := commands.Run(ctx, e, cmd)
		return err
	}, records}
}

// everyCommand is each kind of command.
var everyCommand = map[string]preparation{
	"create a queue": func(_ *house, e *commands.Executor, q domain.QueueID) prepared {
		return ready(e, commands.CreateQueue{Queue: q}, "queue.created.v1")
	},
	"change a queue": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, commands.CreateQueue{Queue: q})
		patch := domain.MetadataPatch{{Op: "add", Key: "colour", Value: []byte(`"red"`)}}
		return ready(e, commands.ChangeQueue{Queue: q, Patch: patch}, "queue.metadata-changed.v1")
	},
	"delete a queue": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`))
		return ready(e, commands.DeleteQueue{Queue: q}, "queue.deleted.v1")
	},
	"purge": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`))
		return ready(e, commands.PurgeQueue{Queue: q, Messages: true}, "queue.purged.v1")
	},
	"post to a new queue": func(_ *house, e *commands.Executor, q domain.QueueID) prepared {
		return ready(e, post(q, `1`), "queue.created.v1", "messages.posted.v1")
	},
	"post": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`))
		return ready(e, post(q, `2`, `3`), "messages.posted.v1")
	},
	"delete a message": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		ids := run(h, e, post(q, `1`))
		return ready(e, commands.DeleteMessage{Queue: q, ID: ids[0]}, "messages.deleted.v1")
	},
	"delete messages": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		ids := run(h, e, post(q, `1`, `2`, `3`))
		return ready(e, commands.DeleteMessages{Queue: q, IDs: ids[1:]}, "messages.deleted.v1")
	},
	"pop": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`, `2`, `3`))
		return ready(e, commands.PopMessages{Queue: q, Limit: 2}, "messages.popped.v1")
	},
	"claim": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`, `2`, `3`))
		return ready(e, claim(q, 2), "messages.claimed.v1")
	},
	"renew": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`, `2`))
		held := claim(q, 1)
		run(h, e, held)
		return ready(e, commands.RenewClaim{Queue: q, Claim: held.Claim, Life: domain.ClaimLife{TTL: 120, Grace: 60}}, "claim.renewed.v1")
	},
	"release": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`, `2`))
		held := claim(q, 1)
		run(h, e, held)
		return ready(e, commands.ReleaseClaim{Queue: q, Claim: held.Claim}, "claim.released.v1")
	},
	"revoke a signed URL": func(_ *house, e *commands.Executor, q domain.QueueID) prepared {
		return ready(e, commands.RevokeShare{Share: domain.Share{Queue: q, Digest: "d", Expires: time.Now().Add(time.Hour)}}, "share.revoked.v1")
	},
	"revoke all signed URLs": func(_ *house, e *commands.Executor, q domain.QueueID) prepared {
		return ready(e, commands.RevokeShares{Queue: q}, "shares.revoked.v1")
	},
	"post what gets the first key": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, commands.CreateQueue{Queue: q, Metadata: encrypting})
		return ready(e, post(q, `1`), "messages.posted.v1")
	},
	"post what is encrypted": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, commands.CreateQueue{Queue: q, Metadata: encrypting})
		run(h, e, post(q, `1`))
		run(h, e, post(q, `2`))
		return ready(e, post(q, `3`), "messages.posted.v1")
	},
	"claim what is encrypted": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, commands.CreateQueue{Queue: q, Metadata: encrypting})
		run(h, e, post(q, `1`))
		return ready(e, claim(q, 2), "messages.claimed.v1")
	},
	"destroy keys": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, commands.CreateQueue{Queue: q, Metadata: encrypting})
		run(h, e, post(q, `1`))
		return ready(e, commands.DestroyKeys{Queue: q}, "queue.keys-destroyed.v1")
	},
	"sweep": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`))
		run(h, e, commands.PurgeQueue{Queue: q, Messages: true})
		return ready(e, commands.SweepQueue{Queue: q, Number: h.queueNumber(q)}, "messages.swept.v1")
	},
	"subscribe": func(_ *house, e *commands.Executor, q domain.QueueID) prepared {
		return ready(e, subscribe(q, "http://a"), "queue.created.v1", "subscription.created.v1")
	},
	"change a subscription": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		id := run(h, e, subscribe(q, "http://a"))
		return ready(e, commands.ChangeSubscription{Queue: q, ID: id, Change: domain.SubscriptionChange{TTL: 60}}, "subscription.updated.v1")
	},
	"report deliveries": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		id := run(h, e, subscribe(q, "http://a"))
		return ready(e, report(q, id, 1, 7), "deliveries.attempted.v1")
	},
	"confirm a subscription": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		id := run(h, e, subscribe(q, "http://a"))
		return ready(e, commands.ConfirmSubscription{Queue: q, ID: id, Confirmed: true}, "subscription.confirmed.v1")
	},
	"delete a subscription": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		id := run(h, e, subscribe(q, "http://a"))
		return ready(e, commands.DeleteSubscription{Queue: q, ID: id}, "subscription.deleted.v1")
	},
	"purge everything": func(h *house, e *commands.Executor, q domain.QueueID) prepared {
		run(h, e, post(q, `1`))
		run(h, e, subscribe(q, "http://a"))
		return ready(e, commands.PurgeQueue{Queue: q, Messages: true, Subscriptions: true}, "queue.purged.v1", "subscription.deleted.v1")
	},
}

// queueNumber is the number of a queue that has a message or had one.
func (h *house) queueNumber(q domain.QueueID) (number int64) {
	h.Helper()
	if err := h.db.QueryRow(`SELECT number FROM queues WHERE project = $1 AND name = $2`, q.Project, q.Name).Scan(&number); err != nil {
		h.Fatal(err)
	}
	return number
}

// TestEveryCallOfTheDriverMayFail lets each call fail that the driver gets for each kind
// of command, on both ways. Once failed, a command is carried out all the same, exactly
// once. If nothing works any more its caller is told so, and with a key it may ask again
// until it is told of the one time that it was carried out. Each run strikes a third of the
// calls, others each time; with NABU_TORTURE, which make torture sets, all of them.
func TestEveryCallOfTheDriverMayFail(t *testing.T) {
	tests := map[string]struct {
		blow    blow
		lasting bool
		prepare bool
	}{
		"unseen once":                      {blow: unseen},
		"unseen once, prepared":            {blow: unseen, prepare: true},
		"unseen from then on":              {blow: unseen, lasting: true},
		"unanswered once":                  {blow: unanswered},
		"unanswered once, prepared":        {blow: unanswered, prepare: true},
		"unanswered from then on":          {blow: unanswered, lasting: true},
		"given up by PostgreSQL":           {blow: refused},
		"given up by PostgreSQL, prepared": {blow: refused, prepare: true},
	}
	step := 3
	if os.Getenv("NABU_TORTURE") != "" {
		step = 1
	}
	all := make(chan *strikes, len(tests))
	t.Cleanup(func() {
		if !t.Failed() {
			reportStrikes(all)
		}
	})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Open(t)
			driver, db := openFaulty(t, server.URL())
			s := &strikes{house: &house{TB: t, db: server.DB()}, driver: driver, blow: test.blow, lasting: test.lasting, step: step}
			s.e = s.executor(db, func(cfg *commands.Config) { cfg.Prepare = test.prepare })
			for what, prepare := range everyCommand {
				if !s.lasting {
					s.strikeAll(what, false, prepare)
				}
				s.strikeAll(what, true, prepare)
			}
			s.ordered()
			s.keysKept()
			all <- s
		})
	}
}

// TestAPoolerThatNobodyToldOfIsFoundOut: where prepared statements get lost, commands are
// carried out all the same, and soon nothing is prepared any more.
func TestAPoolerThatNobodyToldOfIsFoundOut(t *testing.T) {
	server := pgtest.Open(t)
	driver, db := openFaulty(t, server.URL())
	h := &house{TB: t, db: server.DB()}
	e := h.executor(db, func(cfg *commands.Config) { cfg.Prepare = true })
	ids := run(t, e, post(orders, `1`))
	lost := 0
	driver.onCall(func(int) blow { lost++; return forgotten })
	ids = append(ids, run(t, e, post(orders, `2`))...)
	first := lost
	ids = append(ids, run(t, e, post(orders, `3`))...)
	driver.onCall(nil)
	if n := run(t, e, commands.DeleteMessages{Queue: orders, IDs: ids}); n != 3 {
		t.Errorf("%d messages deleted", n)
	}
	if calls := lost - first; calls != 2 { // the statement, and its row
		t.Errorf("%d calls of the driver for one more post", calls)
	}
	h.sound()
}

// TestPreparedStatementsDifferInTheirParameters: so PostgreSQL refuses one that is taken for
// another, which a pooler may make of them.
func TestPreparedStatementsDifferInTheirParameters(t *testing.T) {
	server := pgtest.Open(t)
	driver, db := openFaulty(t, server.URL())
	db.SetMaxOpenConns(2) // one of them loads ahead
	h := &house{TB: t, db: server.DB()}
	e := h.executor(db, func(cfg *commands.Config) { cfg.Prepare, cfg.Ahead = true, db })
	for name, prepare := range everyCommand {
		if err := prepare(h, e, domain.QueueID{Project: "p1", Name: fmt.Sprint(rand.Uint64())}).give(as(t.Context(), "")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	run(t, e, commands.CreateQueue{Queue: orders})
	for range 2 { // the second is answered from memory
		run(t, e, claim(orders, 1))
	}
	run(t, e, post(orders, numbered(1000)...))
	for left := 1000; left > 0 && !e.LoadsAhead(); left -= 20 {
		run(t, e, claim(orders, 20))
	}
	eventually.Holds(t, "more is loaded ahead", e.LoadedAhead)
	by := map[int]string{}
	for query, inputs := range driver.prepared() {
		if other, taken := by[inputs]; taken {
			t.Errorf("two statements have %d parameters:%s\nand%s", inputs, other, query)
		}
		by[inputs] = query
	}
	if len(by) != 6 {
		t.Errorf("%d statements are prepared: %v", len(by), by)
	}
}

// reportStrikes prints what this torture came to, like those of the whole program. Of
// what was lost or doubled it knows nothing: that fails the test at once.
func reportStrikes(all chan *strikes) {
	var sum strikes
	close(all)
	for s := range all {
		sum.struck += s.struck
		sum.acknowledged += s.acknowledged
		sum.longest = max(sum.longest, s.longest)
	}
	fmt.Printf("%-44s %4d rounds, %7d acknowledged, 0 lost, 0 doubled, %6.2f s without an answer at most\n",
		"a driver of which each call fails", sum.struck, sum.acknowledged, sum.longest.Seconds())
}

// strikes are the calls that one kind of blow strikes.
type strikes struct {
	*house
	e       *commands.Executor
	driver  *faulty
	blow    blow
	lasting bool
	step    int // of the calls, one in so many is struck

	struck, acknowledged int
	longest              time.Duration // that a caller waited
	seen                 int64         // position up to which the ledger was looked at
}

// strikeAll strikes the calls of a command: with a key it goes the long way, without one
// the short way where it can.
func (s *strikes) strikeAll(what string, keyed bool, prepare preparation) {
	s.Helper()
	for k := 1 + rand.IntN(s.step); s.strike(fmt.Sprintf("%s, key %v, call %d", what, keyed, k), k, keyed, prepare); k += s.step {
	}
}

// strike strikes the k-th call and tells whether there was one.
func (s *strikes) strike(what string, k int, keyed bool, prepare preparation) bool {
	s.Helper()
	key := ""
	if keyed {
		key = fmt.Sprint(rand.Uint64())
	}
	ctx := as(s.Context(), key)
	cmd := prepare(s.house, s.e, domain.QueueID{Project: "p1", Name: fmt.Sprint(rand.Uint64())})
	s.recorded()
	reached := false
	s.driver.onCall(func(call int) blow {
		if call == k || s.lasting && call > k {
			reached = true
			return s.blow
		}
		return passes
	})
	asked := time.Now()
	err := cmd.give(ctx)
	s.longest = max(s.longest, time.Since(asked))
	s.driver.onCall(nil)
	got := s.recorded()
	switch {
	case err == nil:
	case !s.lasting || refusal(err) != domain.Unavailable:
		s.Fatalf("%s: %v", what, err)
	default:
		if err := cmd.give(ctx); err != nil {
			s.Fatalf("%s, asked again: %v", what, err)
		}
		got = append(got, s.recorded()...)
	}
	s.acknowledged++
	if !slices.Equal(got, cmd.records) {
		s.Fatalf("%s: recorded %v, not %v", what, got, cmd.records)
	}
	if reached {
		s.struck++
	}
	return reached
}

// recorded is the types of the events since it was last asked for. It waits for whoever
// holds the lock: a session that was cut off may be about to commit.
func (s *strikes) recorded() (types []string) {
	s.Helper()
	s.release(s.holdLock(), "ROLLBACK")
	for _, e := range s.historyAfter(s.seen) {
		types, s.seen = append(types, e.Event.EventType()), e.Position
	}
	return types
}
