package commands_test

import (
	"strconv"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// TestClaimsAndDeletesNeedOneRoundTrip: what a claim or a delete will want next is
// remembered.
func TestClaimsAndDeletesNeedOneRoundTrip(t *testing.T) {
	h, proxy, db := newProxiedHouse(t)
	e := h.executor(db)
	var texts []string
	for i := range 100 {
		texts = append(texts, strconv.Itoa(i))
	}
	run(t, e, post(orders, texts...))
	run(t, e, claim(orders, 1)) // looks at the queue
	taken := claim(orders, 10)
	trips := func(what string, work func()) {
		t.Helper()
		before := proxy.Trips()
		work()
		if cost := proxy.Trips() - before; cost != 1 {
			t.Errorf("%s: %d round trips", what, cost)
		}
	}
	var got []commands.Taken
	trips("a claim", func() { got = run(t, e, taken) })
	for i, m := range got {
		if m.Body != texts[1+i] {
			t.Fatalf("message %d of the claim is %s", i, m.Body)
		}
		trips("a delete", func() {
			cmd := commands.DeleteMessage{Queue: orders, ID: m.ID, WithClaim: true, Claim: taken.Claim}
			if !run(t, e, cmd) {
				t.Errorf("message %d was not there", i)
			}
		})
	}
	h.sound()
}

// TestThatThereIsNothingIsProved: a claim that finds nothing is answered by memory, but not
// before it is sure that nobody else has written.
func TestThatThereIsNothingIsProved(t *testing.T) {
	h, proxy, db := newProxiedHouse(t)
	e, other := h.executor(db), h.executor(nil)
	ids := run(t, e, post(orders, `1`))
	run(t, e, commands.DeleteMessage{Queue: orders, ID: ids[0]})
	for range 3 {
		before := proxy.Trips()
		if got := run(t, e, claim(orders, 1)); len(got) > 0 {
			t.Fatalf("a claim of an empty queue: %v", got)
		}
		if report := h.lastReport(); report.Way != commands.NoWay || proxy.Trips() != before+1 {
			t.Errorf("%d round trips: %+v", proxy.Trips()-before, report)
		}
	}
	run(t, other, post(orders, `2`))
	if got := run(t, e, claim(orders, 1)); len(got) != 1 || got[0].Body != `2` {
		t.Errorf("a claim of what another replica has posted: %v", got)
	}
	h.sound()
}

// TestNothingIsDeniedThatHasBecomeFree: the database's clock may be believed to be earlier than
// it is, when its answer took long. A claim that finds nothing is decided by what it says then.
func TestNothingIsDeniedThatHasBecomeFree(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	other := domain.QueueID{Project: "p1", Name: "other"}
	run(t, e, post(other, `1`))
	run(t, e, commands.CreateQueue{Queue: orders})
	run(t, e, commands.ChangeQueue{Queue: orders, Patch: domain.MetadataPatch{{Op: "add", Key: "_default_message_delay", Value: []byte(`2`)}}})
	run(t, e, claim(orders, 1)) // so that all posts are seen
	run(t, e, post(orders, `"slow"`))
	if got := run(t, e, claim(orders, 1)); len(got) > 0 {
		t.Fatalf("a claim of what is delayed: %v", got)
	}
	wait := func(before string) {
		t.Helper()
		if _, err := h.db.Exec(`SELECT pg_sleep_until(max(visible_at) - $1::interval) FROM messages`, before); err != nil {
			t.Fatal(err)
		}
	}
	wait("0.95 seconds") // for longer nobody has asked for the time than it is known
	lock, err := h.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.Exec(`LOCK TABLE live.messages IN SHARE MODE`); err != nil { // behind the batch's time, before its messages
		t.Fatal(err)
	}
	posted := make(chan error, 1)
	go func() {
		_, err := commands.Run(as(t.Context(), ""), e, post(other, `2`))
		posted <- err
	}()
	wait("0 seconds")
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-posted; err != nil {
		t.Fatal(err)
	}
	if got := run(t, e, claim(orders, 1)); len(got) != 1 {
		t.Errorf("a claim after the delay: %v", got)
	}
	h.sound()
}

// TestWhatIsRememberedGrowsOld: free messages are remembered, and yet what becomes free
// in front of them by itself comes first; and nothing is remembered of what is over.
func TestWhatIsRememberedGrowsOld(t *testing.T) {
	delayed := domain.MetadataPatch{{Op: "add", Key: "_default_message_delay", Value: []byte(`1`)}}
	slow := post(orders, `"slow"`)
	slow.Messages[0].Delay = []byte(`50`)
	brief := post(orders, `"brief"`)
	brief.Messages[0].TTL = 60
	for name, try := range map[string]struct {
		before []commands.PostMessages
		claim  int
		ttl    int // of the claim
		pass   time.Duration
		want   string
	}{
		"a delay ends":    {[]commands.PostMessages{slow, post(orders, `1`, `2`)}, 1, 300, 51 * time.Second, `"slow" 2`},
		"a claim ends":    {[]commands.PostMessages{post(orders, `1`, `2`, `3`)}, 2, 60, 61 * time.Second, `1 2 3`},
		"a message ends":  {[]commands.PostMessages{post(orders, `1`), brief, post(orders, `2`)}, 1, 300, 61 * time.Second, `2`},
		"nothing happens": {[]commands.PostMessages{slow, post(orders, `1`, `2`)}, 1, 300, 10 * time.Second, `2`},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
			e := h.executor(nil, c.config)
			run(t, e, commands.CreateQueue{Queue: orders})
			run(t, e, commands.ChangeQueue{Queue: orders, Patch: delayed})
			run(t, e, claim(orders, 1)) // so that all posts are seen
			for _, cmd := range try.before {
				if cmd.Messages[0].Delay == nil {
					for i := range cmd.Messages {
						cmd.Messages[i].Delay = []byte(`0`)
					}
				}
				run(t, e, cmd)
			}
			first := claim(orders, try.claim)
			first.Life.TTL = try.ttl
			run(t, e, first)
			c.now = c.now.Add(try.pass)
			if got := bodies(run(t, e, claim(orders, 10))); got != try.want {
				t.Errorf("got %s, want %s", got, try.want)
			}
			h.sound()
		})
	}
}

// TestWhatLeftOtherwiseIsNotRemembered: a message that a claim held, and that has gone
// since, is not deleted once more.
func TestWhatLeftOtherwiseIsNotRemembered(t *testing.T) {
	h := newHouse(t)
	c := &clock{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	e := h.executor(nil, c.config)
	ids := run(t, e, post(orders, `1`, `2`))
	run(t, e, claim(orders, 2))
	c.now = c.now.Add(61 * time.Second)
	run(t, e, commands.PopMessages{Queue: orders, Limit: 1})
	for i, want := range []bool{false, true} {
		if deleted := run(t, e, commands.DeleteMessage{Queue: orders, ID: ids[i]}); deleted != want {
			t.Errorf("message %d: deleted %t, want %t", i+1, deleted, want)
		}
	}
	h.sound()
}

// TestAnotherReplicaIsNotOverlooked: what one replica remembers of a queue is worth
// nothing once another has written to it.
func TestAnotherReplicaIsNotOverlooked(t *testing.T) {
	h := newHouse(t)
	e, other := h.executor(nil), h.executor(nil)
	ids := run(t, e, post(orders, `1`, `2`, `3`, `4`))
	first := claim(orders, 1)
	run(t, e, first)
	run(t, other, commands.DeleteMessages{Queue: orders, IDs: ids[1:2]})
	run(t, other, claim(orders, 1))
	run(t, other, commands.ReleaseClaim{Queue: orders, Claim: first.Claim})
	held := commands.DeleteMessage{Queue: orders, ID: ids[0], WithClaim: true, Claim: first.Claim}
	if _, err := commands.Run(t.Context(), e, held); refusal(err) == "" {
		t.Error("deleted with a claim that was released")
	}
	if got := bodies(run(t, e, claim(orders, 10))); got != `1 4` {
		t.Errorf("got %s", got)
	}
	views := projections.Views{DB: h.db}
	if stats, err := views.Stats(t.Context(), orders); err != nil || stats.Total != 3 || stats.Claimed != 3 {
		t.Errorf("%+v, %v", stats, err)
	}
	h.sound()
}
