package reactors_test

import (
	"context"
	"database/sql"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
	"nabu/projections"
	"nabu/reactors"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// house is a database with an executor, views, a sweeper and a clock that stands still.
type house struct {
	testing.TB
	db       *sql.DB
	executor *commands.Executor
	views    *projections.Views
	sweeper  *reactors.Sweeper
	url      string
	cfg      commands.Config

	mu  sync.Mutex
	now time.Time
}

func newHouse(t testing.TB, changes ...func(*commands.Config)) *house {
	database := pgtest.Open(t)
	h := &house{TB: t, db: database.DB(), url: database.URL(), now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	clock := func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.now
	}
	h.views = &projections.Views{DB: h.db, Now: clock}
	cfg := commands.Config{
		DB: h.db, Prepare: !pgtest.Pooled(), Loader: projections.States{}, Projector: projections.Inlines{}, Limits: domain.DefaultLimits(),
		Log: slog.New(slog.DiscardHandler), Now: clock,
		Observe: func(r commands.BatchReport) { h.sweeper.Posted(r.Posted) },
	}
	for _, change := range changes {
		change(&cfg)
	}
	h.executor, h.cfg = commands.NewExecutor(cfg), cfg
	t.Cleanup(func() {
		if err := h.executor.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	h.sweeper = reactors.NewSweeper(h.executor, h.views, slog.New(slog.DiscardHandler))
	h.sweeper.Backoff, h.sweeper.Pass = 0, time.Hour
	return h
}

// direct is a pool of connections that no pooler gives to others in between.
func (h *house) direct() *sql.DB {
	h.Helper()
	db, err := postgres.Open(h.url, 4)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = db.Close() })
	return db
}

func (h *house) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func queue(name string) domain.QueueID { return domain.QueueID{Project: "p", Name: name} }

func run[R any](h *house, cmd commands.Command[R]) R {
	h.Helper()
	ctx := commands.WithRequest(h.Context(), commands.Request{Origin: domain.Origin{Project: "p"}})
	result, err := commands.Run(ctx, h.executor, cmd)
	if err != nil {
		h.Fatal(err)
	}
	return result
}

// post posts messages that live for some seconds.
func (h *house) post(name string, n, ttl int) {
	h.Helper()
	p := domain.Post{Queue: queue(name), Client: "c", Size: 10, Salts: make([]uint64, n)}
	p.Messages = slices.Repeat([]domain.NewMessage{{TTL: ttl, Body: `1`}}, n)
	run(h, commands.PostMessages{Post: p})
}

func (h *house) claim(name string) (domain.ClaimID, []commands.Taken) {
	h.Helper()
	id := uuid.New()
	return id, run(h, commands.ClaimMessages{Queue: queue(name), Claiming: domain.Claiming{
		Claim: id, Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: 10,
	}})
}

// emptiedClaim claims messages and deletes them.
func (h *house) emptiedClaim(name string) {
	h.Helper()
	id, taken := h.claim(name)
	for _, m := range taken {
		run(h, commands.DeleteMessage{Queue: queue(name), ID: m.ID, WithClaim: true, Claim: id})
	}
}

// rows counts the rows of all tables of the read models.
func (h *house) rows() (queues, messages, claims, counts int) {
	h.Helper()
	if err := h.db.QueryRow(`SELECT (SELECT count(*) FROM queues), (SELECT count(*) FROM messages),
    (SELECT count(*) FROM claims), (SELECT count(*) FROM message_counts)`).Scan(&queues, &messages, &claims, &counts); err != nil {
		h.Fatal(err)
	}
	return queues, messages, claims, counts
}

func (h *house) sweep() {
	h.Helper()
	if err := h.sweeper.Sweep(h.Context()); err != nil {
		h.Fatal(err)
	}
}

func (h *house) events() int {
	h.Helper()
	n := 0
	for _, err := range eventstore.ReadAll(h.Context(), h.db, 0, 1<<62) {
		if err != nil {
			h.Fatal(err)
		}
		n++
	}
	return n
}

func TestWhatNobodyCanSeeIsSwept(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"expiring", "purged", "deleted", "kept"} {
		h.post(name, 2500, 100)
		h.claim(name)
	}
	h.post("kept", 3, 1000)
	h.emptiedClaim("deleted")
	h.post("emptied", 2, 1000)
	h.emptiedClaim("emptied")
	run(h, commands.PurgeQueue{Queue: queue("purged"), Messages: true})
	run(h, commands.DeleteQueue{Queue: queue("deleted")})
	h.sweep()
	if queues, messages, claims, _ := h.rows(); queues != 4 || messages != 5003 || claims != 4 {
		t.Fatalf("after a purge and a deletion: %d queues, %d messages, %d claims", queues, messages, claims)
	}
	h.advance(101 * time.Second)
	h.sweep()
	if queues, messages, claims, _ := h.rows(); queues != 4 || messages != 3 || claims != 4 {
		t.Fatalf("after the messages' end: %d queues, %d messages, %d claims", queues, messages, claims)
	}
	h.advance(20 * time.Second) // claims rest for a minute after their end
	h.sweep()
	if queues, messages, claims, _ := h.rows(); queues != 4 || messages != 3 || claims != 0 {
		t.Fatalf("after the claims' end: %d queues, %d messages, %d claims", queues, messages, claims)
	}
	before := h.events()
	h.sweep()
	if after := h.events(); after != before {
		t.Fatalf("a sweep that finds nothing recorded %d events", after-before)
	}
}

func TestTheSweeperMovesTheCountsOn(t *testing.T) {
	h := newHouse(t)
	h.post("q", 25_000, 1000)
	h.post("small", 999, 1000)
	h.sweep()
	_, _, _, counts := h.rows()
	var counted int
	if err := h.db.QueryRow(`SELECT messages FROM message_counts`).Scan(&counted); err != nil || counts != 1 || counted < 24_000 {
		t.Fatalf("%d counts, of %d messages, %v", counts, counted, err)
	}
	for range 3 {
		h.post("small", 1, 1000)
	}
	h.sweep() // what comes bit by bit adds up
	if _, _, _, counts := h.rows(); counts != 2 {
		t.Fatalf("%d counts", counts)
	}
	for name, want := range map[string]int{"q": 25_000, "small": 1002} {
		stats, err := h.views.Stats(t.Context(), queue(name))
		if err != nil || stats.Total != want {
			t.Errorf("%s: %d messages, want %d, %v", name, stats.Total, want, err)
		}
	}
}

// watchedViews note the queues whose counts are about to be moved on.
type watchedViews struct {
	*projections.Views
	counted []domain.QueueID
}

func (v *watchedViews) QueueNumber(ctx context.Context, id domain.QueueID) (int64, error) {
	v.counted = append(v.counted, id)
	return v.Views.QueueNumber(ctx, id)
}

// TestWhatADeletedQueueGotIsForgotten, and not added to what another of its name gets.
func TestWhatADeletedQueueGotIsForgotten(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	views := &watchedViews{Views: h.views}
	h.sweeper.Views = views
	h.sweep() // it looks back but once
	h.post("deleted", 999, 1000)
	h.post("kept", 999, 1000)
	run(h, commands.DeleteQueue{Queue: queue("deleted")})
	feed := eventstore.NewFeed(eventstore.FeedConfig{
		DB: h.direct(), Log: slog.New(slog.DiscardHandler), Types: map[string][]string{reactors.SweeperConsumer: reactors.SweeperTypes},
	})
	messages, err := feed.Subscribe(t.Context(), reactors.SweeperConsumer)
	if err != nil {
		t.Fatal(err)
	}
	msg := <-messages
	if err := h.sweeper.React(msg); err != nil {
		t.Fatal(err)
	}
	msg.Ack()
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	h.post("deleted", 1, 1000)
	h.post("kept", 1, 1000)
	for range 2 {
		h.sweep()
	}
	if !slices.Equal(slices.Compact(views.counted), []domain.QueueID{queue("kept")}) {
		t.Errorf("the counts of %v were moved on", views.counted)
	}
}
