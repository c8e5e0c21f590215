package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os/exec"
	"time"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/eventually"
	"nabu/internal/postgres"
)

// ledgered is what the ledger says of the messages of a torture, as far as it was read.
type ledgered struct {
	seen     int64 // position
	last     time.Time
	versions map[string]int64
	messages map[domain.MessageID]*recorded
	times    map[string]int // how often each name was posted
}

type recorded struct {
	name    string
	deleted bool
	claim   domain.ClaimID
	until   time.Time
}

func newLedgered() *ledgered {
	return &ledgered{
		versions: map[string]int64{}, messages: map[domain.MessageID]*recorded{}, times: map[string]int{},
	}
}

// read reads on, and finds what must never be in a ledger: a hole in the positions or
// versions, a time that goes back, a message in two live claims, or anything done to a
// message that is gone.
func (l *ledgered) read(ctx context.Context, tx eventstore.Tx) error {
	for e, err := range eventstore.ReadAll(ctx, tx, l.seen, math.MaxInt64) {
		if err != nil {
			return err
		}
		stream := e.Event.Stream()
		if e.Position != l.seen+1 || e.Version != l.versions[stream]+1 || e.RecordedAt.Before(l.last) {
			return fmt.Errorf("position %d behind %d, version %d behind %d of %s, time %v behind %v",
				e.Position, l.seen, e.Version, l.versions[stream], stream, e.RecordedAt, l.last)
		}
		l.seen, l.versions[stream], l.last = e.Position, e.Version, e.RecordedAt
		if err := l.apply(e); err != nil {
			return fmt.Errorf("event %d: %w", e.Position, err)
		}
	}
	return nil
}

func (l *ledgered) apply(e eventstore.RecordedEvent) error {
	switch event := e.Event.(type) {
	case domain.MessagesPosted:
		for _, m := range event.Messages {
			if l.messages[m.ID] != nil {
				return fmt.Errorf("message %s is posted once more", m.ID)
			}
			var name string
			if err := json.Unmarshal([]byte(m.Body), &name); err != nil {
				return err
			}
			l.messages[m.ID] = &recorded{name: name}
			l.times[name]++
		}
	case domain.MessagesClaimed:
		for _, m := range event.Messages {
			there := l.messages[m.ID]
			if there == nil || there.deleted || e.RecordedAt.Before(there.until) {
				return fmt.Errorf("message %s is claimed by %s: %+v", m.ID, event.Claim, there)
			}
			there.claim, there.until = event.Claim, e.RecordedAt.Add(time.Duration(event.TTL)*time.Second)
		}
	case domain.ClaimReleased:
		for _, m := range event.Messages {
			l.messages[m.ID].until = time.Time{}
		}
	case domain.MessagesDeleted:
		for _, m := range event.Messages {
			there := l.messages[m.ID]
			if there == nil || there.deleted {
				return fmt.Errorf("message %s is deleted: %+v", m.ID, there)
			}
			there.deleted = true
		}
	}
	return nil
}

// verdict is what a torture came to.
type verdict struct {
	acknowledged, lost, doubled, risen int
}

// judge compares what clients know with what the ledger says.
func (l *ledgered) judge(clients *tormented) (v verdict, err error) {
	clients.mu.Lock()
	defer clients.mu.Unlock()
	v.doubled, v.risen = clients.doubled, clients.risen
	for _, n := range l.times {
		v.doubled += n - 1
	}
	for name, m := range clients.messages {
		if m.id == "" {
			continue
		}
		v.acknowledged++
		id, ok := domain.ParseMessageID(m.id)
		if !ok {
			return v, fmt.Errorf("%q is no message's id", m.id)
		}
		switch there := l.messages[id]; {
		case there == nil, there.name != name, there.deleted && !m.asked:
			v.lost++
		case m.gone && !there.deleted:
			v.risen++
		}
	}
	return v, nil
}

// check reads the ledger on and compares it with what clients know, with the table that
// is read and decided on, and with what nabu says. Nobody may be asking meanwhile.
func (w *tortured) check() verdict {
	w.Helper()
	url := w.database(postgres.App)
	db, err := postgres.Open(url, 1)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := w.ledger.read(context.Background(), db); err != nil {
		w.Fatalf("the ledger is not sound: %v", err)
	}
	v, err := w.ledger.judge(w.load)
	if err != nil {
		w.Fatal(err)
	}
	if v.lost+v.doubled+v.risen > 0 {
		w.Fatalf("of %d acknowledged messages %d are lost, %d doubled; %d came back from the dead",
			v.acknowledged, v.lost, v.doubled, v.risen)
	}
	w.sameTable(db)
	w.sameFigures()
	w.sameFold()
	return v
}

// sameTable wants the table of messages to hold what the ledger says, and nothing else.
func (w *tortured) sameTable(tx eventstore.Tx) {
	w.Helper()
	rows, err := tx.QueryContext(context.Background(), `SELECT id FROM messages`)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	n := 0
	for ; rows.Next(); n++ {
		var id domain.MessageID
		if err := rows.Scan(&id); err != nil {
			w.Fatal(err)
		}
		if there := w.ledger.messages[id]; there == nil || there.deleted {
			w.Fatalf("message %s is in the table and not in the ledger: %+v", id, there)
		}
	}
	if err := rows.Err(); err != nil {
		w.Fatal(err)
	}
	if want := w.ledger.live(); n != want {
		w.Fatalf("%d messages in the table, %d in the ledger", n, want)
	}
}

func (l *ledgered) live() int {
	n := 0
	for _, m := range l.messages {
		if !m.deleted {
			n++
		}
	}
	return n
}

// sameFigures wants each nabu to count what the ledger holds.
func (w *tortured) sameFigures() {
	w.Helper()
	for _, nabu := range w.load.nabus {
		total := 0
		for q := range tortureQueues {
			total += w.totalOf(nabu, fmt.Sprintf("/v2/queues/torture-%d/stats", q))
		}
		if want := w.ledger.live(); total != want {
			w.Fatalf("a nabu counts %d messages, the ledger has %d", total, want)
		}
	}
}

func (w *tortured) totalOf(nabu *answering, path string) int {
	w.Helper()
	var counted struct{ Messages struct{ Total int } }
	eventually.Holds(w.T, "the figures of a queue can be had", func() bool {
		got, text, err := w.load.send(nabu, "GET", path, "", "")
		return err == nil && got == http.StatusOK && json.Unmarshal(text, &counted) == nil
	})
	return counted.Messages.Total
}

// sameFold has the program itself compare the read models with the ledger, where it has
// a command for that.
func (w *tortured) sameFold() {
	w.Helper()
	args := []string{"replay", "--check", "--database-url", w.database(postgres.App), "--direct-database-url", w.database(postgres.Owner)}
	cmd := exec.Command(built(w.T), args...)
	cmd.Env = cleanEnviron()
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil || out.Len() > 0 {
		w.Fatalf("nabu replay --check: %v\n%s%s", err, out.String(), problem.String())
	}
}
