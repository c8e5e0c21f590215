package projections_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
	"nabu/internal/postgres"
	"nabu/projections"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// house is a database with an executor, views and a clock that stands still.
type house struct {
	testing.TB
	db       *sql.DB
	direct   *sql.DB            // around the pooler, if there is one
	recent   *eventstore.Recent // what the executor has appended
	executor *commands.Executor
	views    *projections.Views
	now      time.Time
	project  string
	from     int64 // position behind which the project's history begins
}

func newHouse(t testing.TB) *house {
	database := pgtest.Open(t)
	h := &house{TB: t, db: database.DB(), now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), project: "p", recent: &eventstore.Recent{}}
	var err error
	if h.direct, err = postgres.Open(database.URL(), 4); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.direct.Close(); err != nil {
			t.Error(err)
		}
	})
	h.views = &projections.Views{DB: h.db, Now: func() time.Time { return h.now }}
	h.executor = commands.NewExecutor(commands.Config{
		DB: h.db, Prepare: !pgtest.Pooled(), Loader: projections.States{}, Projector: projections.Inlines{}, Limits: domain.DefaultLimits(),
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return h.now }, Recent: h.recent,
	})
	t.Cleanup(func() {
		if err := h.executor.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *house) id(name string) domain.QueueID { return domain.QueueID{Project: h.project, Name: name} }

func (h *house) create(name, metadata string) {
	h.Helper()
	m, err := domain.ParseMetadata([]byte(metadata))
	if err != nil {
		h.Fatal(err)
	}
	run(h, commands.CreateQueue{Queue: h.id(name), Metadata: m})
}

func (h *house) post(name, client string, messages ...domain.NewMessage) []domain.MessageID {
	h.Helper()
	p := domain.Post{Queue: h.id(name), Client: client, Messages: messages, Size: 10}
	for range messages {
		p.Salts = append(p.Salts, rand.Uint64())
	}
	return run(h, commands.PostMessages{Post: p})
}

func run[R any](h *house, cmd commands.Command[R]) R {
	h.Helper()
	result, err := commands.Run(h.request(), h.executor, cmd)
	if err != nil {
		h.Fatal(err)
	}
	return result
}

func (h *house) request() context.Context {
	return commands.WithRequest(context.Background(), commands.Request{Origin: domain.Origin{Project: h.project}})
}

func plain(body string) domain.NewMessage { return domain.NewMessage{Body: body} }

// list is the bodies of a page.
func (h *house) list(list projections.MessageList) []string {
	h.Helper()
	page, err := h.views.Messages(context.Background(), list)
	if err != nil {
		h.Fatal(err)
	}
	bodies := []string{}
	for _, m := range page.Messages {
		bodies = append(bodies, string(m.Body))
	}
	return bodies
}

func TestMessagesAreListedInTheOrderOfPosting(t *testing.T) {
	h := newHouse(t)
	h.post("a", "me", plain(`1`), plain(`2`))
	h.post("b", "me", plain(`9`))
	h.post("a", "you", plain(`3`), plain(`4`))
	tests := map[string]struct {
		list projections.MessageList
		want []string
	}{
		"all":                     {projections.MessageList{Queue: h.id("a"), Limit: 10, Echo: true}, []string{`1`, `2`, `3`, `4`}},
		"a page":                  {projections.MessageList{Queue: h.id("a"), Limit: 3, Echo: true}, []string{`1`, `2`, `3`}},
		"not my own":              {projections.MessageList{Queue: h.id("a"), Limit: 10, Client: "me"}, []string{`3`, `4`}},
		"a page of others'":       {projections.MessageList{Queue: h.id("a"), Limit: 1, Client: "me"}, []string{`3`}},
		"an absent queue":         {projections.MessageList{Queue: h.id("c"), Limit: 10, Echo: true}, []string{}},
		"another project's queue": {projections.MessageList{Queue: domain.QueueID{Project: "q", Name: "a"}, Limit: 10, Echo: true}, []string{}},
	}
	for name, test := range tests {
		if diff := cmp.Diff(test.want, h.list(test.list)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	var walked []string
	for after := domain.Place(0); ; {
		page, err := h.views.Messages(t.Context(), projections.MessageList{Queue: h.id("a"), After: after, Limit: 1, Echo: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Messages) == 0 {
			break
		}
		walked, after = append(walked, string(page.Messages[0].Body)), page.Messages[0].Place
	}
	if diff := cmp.Diff([]string{`1`, `2`, `3`, `4`}, walked); diff != "" {
		t.Errorf("one by one (-want +got):\n%s", diff)
	}
}

func TestMessagesExpireAndAppearByTheClock(t *testing.T) {
	h := newHouse(t)
	h.create("slow", `{"_default_message_delay": 30}`)
	h.now = h.now.Add(time.Second) // the next batch has this very time
	ids := h.post("slow", "c", domain.NewMessage{TTL: 60, Body: `1`}, domain.NewMessage{TTL: 120, Delay: json.RawMessage(`0`), Body: `2`})
	all := projections.MessageList{Queue: h.id("slow"), Limit: 10, Echo: true}
	withDelayed := all
	withDelayed.IncludeDelayed = true
	at := func(seconds int, wantSeen, wantAll []string) {
		t.Helper()
		h.now = time.Date(2030, 1, 1, 0, 0, 1+seconds, 0, time.UTC)
		if diff := cmp.Diff(wantSeen, h.list(all)); diff != "" {
			t.Errorf("after %d s (-want +got):\n%s", seconds, diff)
		}
		if diff := cmp.Diff(wantAll, h.list(withDelayed)); diff != "" {
			t.Errorf("after %d s, with delayed (-want +got):\n%s", seconds, diff)
		}
	}
	at(0, []string{`2`}, []string{`1`, `2`})
	at(29, []string{`2`}, []string{`1`, `2`})
	at(30, []string{`1`, `2`}, []string{`1`, `2`})
	at(59, []string{`1`, `2`}, []string{`1`, `2`})
	found, err := h.views.MessagesByID(t.Context(), h.id("slow"), []domain.MessageID{ids[1], ids[0], ids[1], domain.NewMessageID(5, 5)})
	if err != nil || len(found) != 2 || found[0].Age != 59 || found[0].TTL != 60 || found[1].TTL != 120 {
		t.Fatalf("by id: %+v, %v", found, err)
	}
	at(60, []string{`2`}, []string{`2`})
	if deleted := run(h, commands.DeleteMessage{Queue: h.id("slow"), ID: ids[0]}); deleted {
		t.Error("an expired message was deleted")
	}
	at(120, []string{}, []string{})
}

func TestADeletedQueuesMessagesAreGone(t *testing.T) {
	h := newHouse(t)
	old := h.post("a", "c", plain(`1`))
	run(h, commands.DeleteQueue{Queue: h.id("a")})
	all := projections.MessageList{Queue: h.id("a"), Limit: 10, Echo: true}
	if got := h.list(all); len(got) != 0 {
		t.Errorf("listed: %v", got)
	}
	h.post("a", "c", plain(`2`))
	if diff := cmp.Diff([]string{`2`}, h.list(all)); diff != "" {
		t.Errorf("in the new queue (-want +got):\n%s", diff)
	}
	if found, err := h.views.MessagesByID(t.Context(), h.id("a"), old); err != nil || len(found) > 0 {
		t.Errorf("by id: %v, %v", found, err)
	}
	if n := run(h, commands.DeleteMessages{Queue: h.id("a"), IDs: old}); n > 0 {
		t.Error("deleted again")
	}
}

func TestQueuesAreListedByName(t *testing.T) {
	h := newHouse(t)
	for name, metadata := range map[string]string{
		"b": `{"color": "red", "size": 5}`, "B": `{"color": "red", "size": "5"}`, "a-1": `{"color": "red,blue", "big": 9007199254740993}`,
		"a_1": `{"color": 5.0, "a": "\u0000"}`, "z.9": `{"color": null, "deep": {"size": 5}}`,
	} {
		h.create(name, metadata)
	}
	h.create("gone", `{"color": "red"}`)
	run(h, commands.DeleteQueue{Queue: h.id("gone")})
	tests := map[string]struct {
		list projections.QueueList
		want []string
	}{
		"all, bytewise":                  {projections.QueueList{}, []string{"B", "a-1", "a_1", "b", "z.9"}},
		"after a name that is not there": {projections.QueueList{After: "a0"}, []string{"a_1", "b", "z.9"}},
		"names that contain":             {projections.QueueList{Name: "_"}, []string{"a_1"}},
		"names, as plain text":           {projections.QueueList{Name: "."}, []string{"z.9"}},
		"a text":                         {projections.QueueList{Labels: map[string]string{"color": "red"}}, []string{"B", "b"}},
		"a number matches both":          {projections.QueueList{Labels: map[string]string{"size": "5"}}, []string{"B", "b"}},
		"written otherwise, the number":  {projections.QueueList{Labels: map[string]string{"size": "05"}}, []string{"b"}},
		"a comma is part of the text":    {projections.QueueList{Labels: map[string]string{"color": "red,blue"}}, []string{"a-1"}},
		"beyond 2^53":                    {projections.QueueList{Labels: map[string]string{"big": "9007199254740993"}}, []string{"a-1"}},
		"its neighbour":                  {projections.QueueList{Labels: map[string]string{"big": "9007199254740992"}}, []string{}},
		"all must hold":                  {projections.QueueList{Labels: map[string]string{"color": "red", "size": "5"}, Name: "B"}, []string{"B"}},
		"null is no text":                {projections.QueueList{Labels: map[string]string{"color": "null"}}, []string{}},
		"an unknown member":              {projections.QueueList{Labels: map[string]string{"none": "x"}}, []string{}},
		"a text that cannot be stored":   {projections.QueueList{Labels: map[string]string{"a": "\x00"}}, []string{}},
		"bytes that are no text":         {projections.QueueList{Labels: map[string]string{"a\xff": "x"}}, []string{}},
		"two":                            {projections.QueueList{Limit: 2}, []string{"B", "a-1"}},
	}
	for name, test := range tests {
		test.list.Project = "p"
		if test.list.Limit == 0 {
			test.list.Limit = 20
		}
		items, err := h.views.Queues(t.Context(), test.list)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := []string{}
		for _, item := range items {
			got = append(got, item.Name)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if n, err := h.views.CountQueues(t.Context(), "p"); err != nil || n != 5 {
		t.Errorf("counted %d, %v", n, err)
	}
	metadata, exists, err := h.views.Queue(t.Context(), h.id("a_1"))
	if err != nil || !exists || metadata.Text() != `{"color":5.0,"a":"\u0000"}` {
		t.Errorf("metadata %s, %v, %v", metadata.Text(), exists, err)
	}
	if _, exists, err := h.views.Queue(t.Context(), h.id("gone")); err != nil || exists {
		t.Errorf("a deleted queue: %v, %v", exists, err)
	}
}

// TestAFoldOfTheHistoryIsTheLiveTable: whatever clients do, folding the history into
// other tables, in slices of any size, gives the rows of the live ones; and what is
// kept count of is what stands there.
func TestAFoldOfTheHistoryIsTheLiveTable(t *testing.T) {
	h := newHouse(t)
	rapid.Check(t, func(rt *rapid.T) {
		h.project = uuid.NewString() // as good as a database of its own
		if err := h.db.QueryRow(`SELECT coalesce(max(position), 0) FROM ledger.events`).Scan(&h.from); err != nil {
			rt.Fatal(err)
		}
		w := walk{house: h, T: rt}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			h.now = h.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds"))*time.Second + time.Millisecond)
			w.step()
		}
		if diff := cmp.Diff(h.rows(h.db), h.fold(rapid.IntRange(1, 9).Draw(rt, "slice"))); diff != "" {
			rt.Fatalf("(-live +folded):\n%s", diff)
		}
		h.counted(rt)
	})
}

// walk is a random history.
type walk struct {
	*house
	*rapid.T
	posted     []domain.MessageID
	claims     []domain.ClaimRef
	subscribed []domain.SubscriptionID
	tasks      []domain.TaskID
	told       []domain.UserMessageID
}

func (w *walk) step() {
	name := rapid.SampledFrom([]string{"a", "b"}).Draw(w.T, "queue")
	queue := w.id(name)
	switch rapid.SampledFrom([]string{
		"post", "post", "post", "many", "claim", "claim", "claim", "renew", "release", "delete", "pop", "purge",
		"patch", "delete queue", "create", "sweep", "sweep", "subscribe", "subscribe", "subscription", "subscription", "deliver",
		"revoke", "revoke", "revoke all", "task", "report", "report", "report",
		"tell", "tell", "tell",
	}).Draw(w.T, "step") {
	case "tell":
		w.tellOrUntell()
	case "post":
		w.posted = append(w.posted, w.post(name, "c", slices.Repeat([]domain.NewMessage{plain(`1`)}, rapid.IntRange(1, 4).Draw(w.T, "n"))...)...)
	case "many":
		w.post(name, "c", slices.Repeat([]domain.NewMessage{{TTL: 100, Body: `2`}}, 1100)...)
	case "claim":
		id := uuid.New()
		run(w.house, commands.ClaimMessages{Queue: queue, Claiming: domain.Claiming{
			Claim: id, Life: domain.ClaimLife{TTL: 60 * rapid.IntRange(1, 3).Draw(w.T, "ttl"), Grace: 60},
			Limit: rapid.IntRange(1, 5).Draw(w.T, "limit"),
		}})
		w.claims = append(w.claims, domain.ClaimRef{Queue: queue, ID: id})
	case "renew":
		if len(w.claims) > 0 {
			ref := rapid.SampledFrom(w.claims).Draw(w.T, "claim")
			_, _ = commands.Run(w.request(), w.executor, commands.RenewClaim{Queue: ref.Queue, Claim: ref.ID, Life: domain.ClaimLife{TTL: 80, Grace: 70}})
		}
	case "release":
		if len(w.claims) > 0 {
			ref := rapid.SampledFrom(w.claims).Draw(w.T, "claim")
			run(w.house, commands.ReleaseClaim{Queue: ref.Queue, Claim: ref.ID})
		}
	case "delete":
		if len(w.posted) > 0 {
			run(w.house, commands.DeleteMessages{Queue: queue, IDs: rapid.SliceOfN(rapid.SampledFrom(w.posted), 1, 5).Draw(w.T, "ids")})
		}
	case "pop":
		run(w.house, commands.PopMessages{Queue: queue, Limit: rapid.IntRange(1, 5).Draw(w.T, "limit")})
	case "purge":
		run(w.house, commands.PurgeQueue{Queue: queue, Messages: true, Subscriptions: rapid.Bool().Draw(w.T, "all")})
	case "patch":
		patch := domain.MetadataPatch{{Op: "add", Key: "k", Value: fmt.Append(nil, rapid.IntRange(0, 3).Draw(w.T, "value"))}}
		_, _ = commands.Run(w.request(), w.executor, commands.ChangeQueue{Queue: queue, Patch: patch})
	case "delete queue":
		run(w.house, commands.DeleteQueue{Queue: queue})
	case "create":
		w.create(name, `{"_default_message_delay": 7, "_max_claim_count": 1, "_dead_letter_queue": "b", "_dead_letter_queue_messages_ttl": 60}`)
	case "sweep":
		w.sweep()
	case "subscribe":
		w.subscribe(queue)
	case "deliver":
		if len(w.subscribed) > 0 {
			w.deliver(queue, rapid.SampledFrom(w.subscribed).Draw(w.T, "subscription"))
		}
	case "subscription":
		if len(w.subscribed) > 0 {
			w.changeSubscription(queue, rapid.SampledFrom(w.subscribed).Draw(w.T, "subscription"))
		}
	case "revoke":
		run(w.house, commands.RevokeShare{Share: domain.Share{
			Queue: queue, Digest: rapid.SampledFrom([]string{"d1", "d2", "d3"}).Draw(w.T, "digest"),
			Expires: w.now.Add(time.Duration(rapid.IntRange(-5, 300).Draw(w.T, "seconds left")) * time.Second).Truncate(time.Second),
		}})
	case "task":
		w.makeTask()
	case "report":
		if len(w.tasks) > 0 {
			w.reportTask(rapid.SampledFrom(w.tasks).Draw(w.T, "task"))
		}
	case "revoke all":
		run(w.house, commands.RevokeShares{Queue: queue})
	}
}

// sweep sweeps all there is, and the queues that may be worth a count.
func (w *walk) sweep() {
	by, err := w.views.Clock(context.Background())
	if err != nil {
		w.house.Fatal(err)
	}
	queues, err := w.views.Sweepable(context.Background(), projections.SweepLook[int64]{By: by, Most: 1000})
	if err != nil {
		w.house.Fatal(err)
	}
	for _, q := range queues {
		for swept := true; swept; {
			swept = run(w.house, commands.SweepQueue{Queue: q.Queue, Number: q.Number})
		}
	}
	expired, err := w.views.ExpiredSubscriptions(context.Background(), projections.SweepLook[domain.QueueID]{By: by, Most: 1000})
	if err != nil {
		w.house.Fatal(err)
	}
	for queue, ids := range expired {
		run(w.house, commands.SweepSubscriptions{Queue: queue, IDs: ids})
	}
	due, err := w.views.DueTasks(context.Background(), projections.SweepLook[string]{By: by, Most: 1000})
	if err != nil {
		w.house.Fatal(err)
	}
	run(w.house, commands.SweepTasks{IDs: due[w.project], Rules: w.taskRules()})
}

// counted compares what the stats say with what a plain count finds.
func (h *house) counted(rt *rapid.T) {
	for _, name := range []string{"a", "b"} {
		stats, err := h.views.Stats(context.Background(), h.id(name))
		if err != nil {
			rt.Fatal(err)
		}
		var total, claimed int
		if err := h.db.QueryRow(`
SELECT count(*), count(*) FILTER (WHERE m.claim_ends > $3)
FROM messages m
JOIN queues q ON q.number = m.queue
WHERE q.project = $1 AND q.name = $2 AND NOT q.deleted AND m.place > q.purged AND m.expires_at > $3`,
			h.project, name, h.now).Scan(&total, &claimed); err != nil {
			rt.Fatal(err)
		}
		if stats.Total != total || stats.Claimed != claimed {
			rt.Fatalf("%s: %d messages, %d claimed; there are %d and %d", name, stats.Total, stats.Claimed, total, claimed)
		}
	}
}

// fold makes the tables anew in a schema of their own, brings them forward slice by
// slice and returns their rows.
func (h *house) fold(slice int) []string {
	h.Helper()
	ctx := context.Background()
	tx, err := h.db.Begin()
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`CREATE SCHEMA scratch; SET LOCAL search_path = scratch, ledger`); err != nil {
		h.Fatal(err)
	}
	if err := projections.Create(ctx, tx); err != nil {
		h.Fatal(err)
	}
	var history []eventstore.RecordedEvent
	for e, err := range eventstore.ReadAll(ctx, tx, h.from, 1<<62) {
		if err != nil {
			h.Fatal(err)
		}
		if e.Origin.Project == h.project {
			history = append(history, e)
		}
	}
	for part := range slices.Chunk(history, slice) {
		if err := (projections.Inlines{}).Apply(ctx, tx, part); err != nil {
			h.Fatal(err)
		}
	}
	return h.rows(tx)
}

func (h *house) rows(tx eventstore.Tx) []string {
	h.Helper()
	rows, err := tx.QueryContext(context.Background(), `
SELECT 'queue ' || row_to_json(q)::text AS row FROM queues q WHERE q.project = $1
UNION ALL SELECT 'message ' || row_to_json(m)::text FROM messages m JOIN queues q ON q.number = m.queue WHERE q.project = $1
UNION ALL SELECT 'claim ' || row_to_json(c)::text FROM claims c JOIN queues q ON q.number = c.queue WHERE q.project = $1
UNION ALL SELECT 'subscription ' || row_to_json(s)::text FROM subscriptions s WHERE s.project = $1
UNION ALL SELECT 'task ' || row_to_json(t)::text FROM tasks t WHERE t.owner = $1
UNION ALL SELECT 'cursor ' || row_to_json(c)::text FROM delivery_cursors c WHERE c.project = $1
UNION ALL SELECT 'delivery ' || row_to_json(d)::text FROM deliveries d JOIN delivery_cursors c USING (subscription) WHERE c.project = $1
UNION ALL SELECT 'share ' || row_to_json(r)::text FROM revoked_shares r WHERE r.project = $1
UNION ALL SELECT 'user message ' || row_to_json(u)::text FROM user_messages u WHERE u.project = $1
UNION ALL SELECT 'count ' || row_to_json(n)::text FROM message_counts n JOIN queues q ON q.number = n.queue WHERE q.project = $1
ORDER BY row`, h.project)
	if err != nil {
		h.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			h.Fatal(err)
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		h.Fatal(err)
	}
	return all
}
