package commands_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/eventually"
	"nabu/projections"
)

func TestWhatIsPostedIsRecordedAndThere(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ids := run(t, e, post(orders, `{"a": 1}`, `"b\u0000"`))
	past := h.history()
	if len(past) != 2 {
		t.Fatalf("%d events, want the queue and its messages", len(past))
	}
	posted := past[1].Event.(domain.MessagesPosted)
	want := domain.MessagesPosted{
		Project: "p1", Queue: "orders", Number: 1, Client: "c", Messages: []domain.PostedMessage{
			{ID: ids[0], TTL: 3600, Body: `{"a": 1}`}, {ID: ids[1], TTL: 3600, Body: `"b\u0000"`},
		},
	}
	if diff := cmp.Diff(want, posted); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if domain.PostingPlace(ids[1]) != domain.PlaceOf(2, 1) {
		t.Fatalf("the second message stands at %d", domain.PostingPlace(ids[1]))
	}
	origin := domain.Origin{Project: "p1", Actor: "u1", RequestID: "req-1", CorrelationID: "req-1"}
	if past[1].Origin != origin || past[0].Batch != past[1].Batch || past[0].RecordedAt != past[1].RecordedAt {
		t.Fatalf("recorded as %+v", past[1])
	}
	h.sound()
}

func TestARefusalConcernsItsOwnCommandOnly(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	errs := h.gathered(e,
		poster(ctx, e, post(orders, `1`)),
		poster(ctx, e, post(orders)), // no message: refused
		poster(ctx, e, post(orders, `2`)))
	if errs[0] != nil || errs[2] != nil || refusal(errs[1]) != domain.Invalid {
		t.Fatalf("answers: %v", errs)
	}
	if n := len(h.messages()); n != 3 { // with the one that kept the executor busy
		t.Fatalf("%d messages", n)
	}
	h.sound()
}

func TestDeletesAreDecidedBeforePosts(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	run(t, e, post(orders, `1`))
	ctx := as(t.Context(), "")
	errs := h.gathered(e, poster(ctx, e, post(orders, `2`)), func() error {
		_, err := commands.Run(ctx, e, commands.DeleteQueue{Queue: orders})
		return err
	})
	if errs[0] != nil || errs[1] != nil {
		t.Fatal(errs)
	}
	// The post came first in time but goes second: its message is in the new queue.
	posted := h.lastPosted()
	views := &projections.Views{DB: h.db}
	page, err := views.Messages(ctx, projections.MessageList{Queue: orders, Limit: 10, Echo: true})
	if err != nil || len(page.Messages) != 1 || page.Messages[0].ID != posted.Messages[0].ID {
		t.Fatalf("the queue has %v, %v", page.Messages, err)
	}
	if posted.Number == 1 {
		t.Fatal("posted to the deleted queue")
	}
}

func TestABatchThatDecidesNothingIsRolledBack(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	run(t, e, commands.CreateQueue{Queue: orders})
	head := h.lastReport().Head
	nothing := map[string]func(){
		"a queue that is there":       func() { run(t, e, commands.CreateQueue{Queue: orders}) },
		"a message that is not there": func() { run(t, e, commands.DeleteMessage{Queue: orders, ID: domain.NewMessageID(1, 1)}) },
		"messages that are not there": func() {
			run(t, e, commands.DeleteMessages{Queue: orders, IDs: []domain.MessageID{domain.NewMessageID(1, 1)}})
		},
		"a queue that is not there":    func() { run(t, e, commands.DeleteQueue{Queue: domain.QueueID{Project: "p1", Name: "none"}}) },
		"a patch that changes nothing": func() { run(t, e, commands.ChangeQueue{Queue: orders}) },
		"a refusal": func() {
			if _, err := commands.Run(as(t.Context(), ""), e, post(orders)); refusal(err) != domain.Invalid {
				t.Errorf("answer: %v", err)
			}
		},
	}
	for what, ask := range nothing {
		ask()
		if report := h.lastReport(); report.Way != commands.NoWay || report.Head != head || report.Events != 0 {
			t.Errorf("%s: %+v", what, report)
		}
	}
}

// TestRoundTripsOfABatch counts what a batch costs, however many commands it has.
func TestRoundTripsOfABatch(t *testing.T) {
	h, proxy, db := newProxiedHouse(t)
	var trips []int64 // after each batch
	e := h.executor(db, func(cfg *commands.Config) {
		cfg.Observe = func(commands.BatchReport) { trips = append(trips, proxy.Trips()) }
	})
	ctx := as(t.Context(), "")
	known := domain.QueueID{Project: "p1", Name: "known"}
	ids := run(t, e, post(known, `1`, `2`, `3`, `4`))
	other := h.executor(nil) // another replica, so that memory is old
	beside := false          // the other replica
	count := func(what string, most int64, cmds ...func() error) {
		t.Helper()
		if beside {
			run(t, other, post(known, `9`))
		}
		for i, err := range h.gathered(e, cmds...) {
			if err != nil {
				t.Fatalf("%s: command %d: %v", what, i, err)
			}
		}
		n := len(trips)
		cost := trips[n-1] - trips[n-2]
		t.Logf("%s: %d round trips", what, cost)
		if cost > most {
			t.Errorf("%s: %d round trips, at most %d", what, cost, most)
		}
	}
	posts := func(n int, queue func(int) domain.QueueID) (cmds []func() error) {
		for i := range n {
			cmds = append(cmds, poster(ctx, e, post(queue(i), `1`)))
		}
		return cmds
	}
	before := proxy.Trips()
	run(t, e, post(known, `5`))
	if alone := proxy.Trips() - before; alone != 1 {
		t.Errorf("a post to a known queue, with no other replica: %d round trips", alone)
	}
	count("posts to new queues", 6, posts(20, func(i int) domain.QueueID { return domain.QueueID{Project: "p1", Name: fmt.Sprint("newer", i)} })...)
	// One of them is the try that finds out that another replica has written.
	count("posts to a known queue", 4, posts(20, func(int) domain.QueueID { return known })...)
	count("posts to new queues", 6, posts(20, func(i int) domain.QueueID { return domain.QueueID{Project: "p1", Name: fmt.Sprint("new", i)} })...)
	held := claim(known, 1)
	run(t, e, held)
	broken := domain.QueueID{Project: "p1", Name: "broken"}
	run(t, e, commands.CreateQueue{Queue: broken, Metadata: domain.Metadata{
		{Key: domain.MaxClaimCountKey, Value: []byte(`1`)}, {Key: domain.DeadLetterQueueKey, Value: []byte(`"dead"`)},
	}})
	run(t, e, post(broken, `1`, `2`))
	dead := claim(broken, 1)
	run(t, e, dead)
	run(t, e, commands.ReleaseClaim{Queue: broken, Claim: dead.Claim})
	count("a mix of everything", 12, append(posts(5, func(i int) domain.QueueID { return domain.QueueID{Project: "p1", Name: fmt.Sprint("mix", i)} }),
		poster(as(t.Context(), "key"), e, post(known, `1`)),
		func() error {
			_, err := commands.Run(ctx, e, commands.DeleteMessages{Queue: known, IDs: ids[:2]})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.DeleteMessage{Queue: known, ID: ids[2]})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.DeleteQueue{Queue: domain.QueueID{Project: "p1", Name: "new1"}})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.CreateQueue{Queue: orders})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.ChangeQueue{Queue: known, Patch: domain.MetadataPatch{{Op: "add", Key: "a", Value: []byte(`1`)}}})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, claim(broken, 1))
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.PopMessages{Queue: known, Limit: 1})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.RenewClaim{Queue: known, Claim: held.Claim, Life: domain.ClaimLife{TTL: 60, Grace: 60}})
			return err
		},
		func() error {
			_, err := commands.Run(ctx, e, commands.PurgeQueue{Queue: domain.QueueID{Project: "p1", Name: "new2"}, Messages: true})
			return err
		})...)
	var subscribers []func() error
	for i := range 20 {
		subscribers = append(subscribers, giver(ctx, e, subscribe(known, fmt.Sprint("http://h/", i)), new(domain.SubscriptionID)))
	}
	count("subscriptions", 6, subscribers...) // two of them write: the list, and where deliveries begin
	count("claims and deletes", 6,
		func() error { _, err := commands.Run(ctx, e, claim(known, 2)); return err },
		func() error { _, err := commands.Run(ctx, e, claim(known, 2)); return err },
		func() error {
			_, err := commands.Run(ctx, e, commands.DeleteMessage{Queue: known, ID: ids[3]})
			return err
		})
	h.sound()
}

func TestTheWaitingLineIsBounded(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	conn := h.holdLock()
	large := bulky{post(orders, `1`)}
	var callers sync.WaitGroup
	ask := func() {
		callers.Go(func() {
			if _, err := commands.Run[[]domain.MessageID](as(t.Context(), ""), e, large); err != nil {
				t.Errorf("within the bound: %v", err)
			}
		})
	}
	ask()
	eventually.Holds(t, "the first waits for the lock", h.waitsForLock)
	for range 4 {
		ask()
	}
	eventually.Holds(t, "four wait behind it", func() bool { return e.Waiting() == 4 })
	if _, err := commands.Run[[]domain.MessageID](as(t.Context(), ""), e, large); refusal(err) != domain.Unavailable {
		t.Fatalf("beyond the bound: %v", err)
	}
	h.release(conn, "ROLLBACK")
	callers.Wait()
}

// bulky is a post that says it adds 16 MB to its batch.
type bulky struct{ commands.PostMessages }

func (b bulky) Needs() commands.Needs {
	needs := b.PostMessages.Needs()
	needs.Size = 16 << 20
	return needs
}

func TestTimeNeverGoesBack(t *testing.T) {
	h := newHouse(t)
	times := []time.Time{
		time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2030, 6, 1, 0, 0, 0, 0, time.UTC), time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	next := 0
	e := h.executor(nil, func(cfg *commands.Config) {
		cfg.Now = func() time.Time { return times[next] }
	})
	for next = range times {
		run(t, e, post(orders, `1`)) // the short way, but for the first
		run(t, e, commands.CreateQueue{Queue: domain.QueueID{Project: "p1", Name: fmt.Sprint("q", next)}})
	}
	h.sound()
	past := h.history()
	if last := past[len(past)-1].RecordedAt; !last.Equal(times[3].Add(time.Microsecond)) && !last.Equal(times[3]) {
		t.Fatalf("the last event's time is %v", last)
	}
}

// TestPartitionsAreMadeAhead starts with a ledger whose one partition is full.
func TestPartitionsAreMadeAhead(t *testing.T) {
	h := newHouse(t)
	if _, err := h.db.Exec(`
INSERT INTO ledger.events (position, id, batch, stream, version, type, data, project, recorded_at)
SELECT past - 1, gen_random_uuid(), gen_random_uuid(), 'queue/p0/q', 1, 'queue.deleted.v1', '{}', 'p0', now()
FROM ledger.partitions`); err != nil {
		t.Fatal(err)
	}
	e := h.executor(nil, func(cfg *commands.Config) { cfg.PartitionSize = 8 })
	for range 50 {
		run(t, e, post(orders, `1`))
	}
	var partitions int
	if err := h.db.QueryRow(`SELECT count(DISTINCT tableoid) FROM ledger.events`).Scan(&partitions); err != nil {
		t.Fatal(err)
	}
	if partitions < 7 {
		t.Fatalf("51 events stand in %d partitions", partitions)
	}
	if n := len(h.messages()); n != 50 {
		t.Fatalf("%d messages", n)
	}
}
