package commands_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

var (
	produce     = domain.QueueID{Project: "service", Name: "messages.produce"}
	notProduced = domain.QueueID{Project: "service", Name: "messages.produce.refused"}
)

// noVolume is a user message about nothing in particular.
func noVolume(id domain.UserMessageID, named bool) commands.RecordUserMessage {
	return commands.RecordUserMessage{
		Message: domain.NewUserMessage{Project: "p1", ID: id, Named: named, Action: "001", Detail: "003"},
		Rules:   domain.DefaultUserMessageRules(),
	}
}

// userMessages are those of all projects, the newest first.
func (h *house) userMessages() (ids []domain.UserMessageID) {
	h.Helper()
	page, err := (&projections.Views{DB: h.db}).UserMessages(h.Context(), projections.UserMessageList{All: true, Limit: 1000})
	if err != nil {
		h.Fatal(err)
	}
	for _, m := range page {
		ids = append(ids, m.ID)
	}
	return ids
}

// leave puts messages into the queue for user messages.
func (h *house) leave(e *commands.Executor, bodies ...string) (ids []domain.MessageID) {
	h.Helper()
	post := domain.Post{Queue: produce, Client: "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4"}
	for i, body := range bodies {
		post.Messages = append(post.Messages, domain.NewMessage{Body: body})
		post.Salts = append(post.Salts, uint64(i))
	}
	ids, err := commands.Run(h.Context(), e, commands.PostMessages{Post: post})
	if err != nil {
		h.Fatal(err)
	}
	return ids
}

func (h *house) produce(e *commands.Executor, limit int) commands.Produced {
	h.Helper()
	p, err := commands.Run(h.Context(), e, commands.ProduceUserMessages{
		ServiceProject: "service", Limit: limit, Rules: domain.DefaultUserMessageRules(),
	})
	if err != nil {
		h.Fatal(err)
	}
	return p
}

func TestRecordAndDeleteUserMessages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := h.executor(nil)
	id := uuid.New()
	first, err := commands.Run(h.Context(), e, noVolume(id, true))
	if err != nil || first.EventID != "VOLUME_VOLUME_001_003" {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := commands.Run(h.Context(), e, noVolume(id, true))
	if diff := cmp.Diff(first, again); diff != "" || err != nil {
		t.Fatalf("%v (-first +again):\n%s", err, diff)
	}
	other := noVolume(id, true)
	other.Message.Detail = "006"
	if _, err := commands.Run(h.Context(), e, other); refusal(err) != domain.KeyReused {
		t.Fatalf("another message with the same id: %v", err)
	}
	if _, err := commands.Run(h.Context(), e, commands.DeleteUserMessage{ID: id, Project: "p2"}); refusal(err) != domain.NotFound {
		t.Fatalf("deleted by another project: %v", err)
	}
	if _, err := commands.Run(h.Context(), e, commands.DeleteUserMessage{ID: id, All: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := commands.Run(h.Context(), e, noVolume(id, true)); err != nil {
		t.Fatalf("said again after its deletion: %v", err)
	}
	if diff := cmp.Diff([]string{"user-message.recorded", "user-message.deleted"}, h.kinds(0)); diff != "" || len(h.userMessages()) != 0 {
		t.Fatalf("recorded (-want +got):\n%s", diff)
	}
	h.ordered()
}

// Commands of one batch see what those before them have recorded.
func TestUserMessagesInOneBatch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := h.executor(nil)
	id := uuid.New()
	same := noVolume(id, true)
	other := same
	other.Message.Action = "002"
	recording := func(cmd commands.RecordUserMessage) func() error {
		return func() error {
			_, err := commands.Run(context.Background(), e, cmd)
			return err
		}
	}
	reused := 0
	for _, err := range h.gathered(e, recording(same), recording(same), recording(other)) {
		if refusal(err) == domain.KeyReused {
			reused++
		} else if err != nil {
			t.Error(err)
		}
	}
	if got := h.kinds(0); strings.Count(strings.Join(got, " "), "user-message.recorded") != 1 || reused != 1 {
		t.Errorf("recorded %v, %d refused", got, reused)
	}
	h.ordered()
}

// An id that one project's message gives up is free for another's in the same batch, and for
// nobody who has had it.
func TestAnIDThatIsGivenUpInTheBatch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	watch := &handClock{now: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	e := h.executor(nil, func(cfg *commands.Config) { cfg.Now = watch.Now })
	id := uuid.New()
	first, second := noVolume(id, true), noVolume(id, true)
	second.Message.Project = "p2"
	var m domain.UserMessage
	record := func(cmd commands.RecordUserMessage) func() error { return runner[domain.UserMessage](h, e, cmd, &m) }
	var swept bool
	sweep := func(project string) func() error {
		return runner[bool](h, e, commands.SweepUserMessages{Project: project, IDs: []domain.UserMessageID{id}}, &swept)
	}
	later := func() {
		watch.mu.Lock()
		defer watch.mu.Unlock()
		watch.now = watch.now.Add(31 * 24 * time.Hour)
	}
	if err := record(first)(); err != nil {
		t.Fatal(err)
	}
	later()
	if errs := h.gathered(e, sweep("p1"), record(second)); errs[0] != nil || errs[1] != nil || m.Project != "p2" {
		t.Fatalf("%v: %+v", errs, m)
	}
	later()
	if errs := h.gathered(e, sweep("p2"), record(first)); errs[0] != nil || refusal(errs[1]) != domain.Conflict {
		t.Fatalf("%v: %+v", errs, m)
	}
	var kinds []string
	for _, kind := range h.kinds(0) {
		if strings.HasPrefix(kind, "user-message.") {
			kinds = append(kinds, strings.TrimPrefix(kind, "user-message."))
		}
	}
	if diff := cmp.Diff([]string{"recorded", "expired", "recorded", "expired"}, kinds); diff != "" {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
	h.ordered()
	err := projections.Checking{DB: h.db, Projections: projections.Inline, Found: func(d projections.Difference) error {
		t.Errorf("differs: %+v", d)
		return nil
	}}.Run(t.Context())
	if err != nil {
		t.Error(err)
	}
}

func TestUserMessagesExpire(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	e := h.executor(nil, func(cfg *commands.Config) { cfg.Now = func() time.Time { return now } })
	id, other := uuid.New(), uuid.New()
	for _, id := range []uuid.UUID{id, other} {
		if _, err := commands.Run(h.Context(), e, noVolume(id, true)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := commands.Run(h.Context(), e, commands.DeleteUserMessage{ID: other, Project: "p1"}); err != nil {
		t.Fatal(err)
	}
	sweep := func() bool {
		views := &projections.Views{DB: h.db, Now: func() time.Time { return now }}
		due, err := views.ExpiredUserMessages(h.Context(), projections.SweepLook[string]{By: now, Most: 10})
		if err != nil || len(due) == 0 {
			return false
		}
		swept, err := commands.Run(h.Context(), e, commands.SweepUserMessages{Project: "p1", IDs: due["p1"]})
		if err != nil {
			t.Fatal(err)
		}
		return swept
	}
	now = now.Add(2592000 * time.Second)
	if sweep() || len(h.userMessages()) != 1 {
		t.Fatal("swept while it is guaranteed")
	}
	now = now.Add(time.Second)
	if len(h.userMessages()) != 1 {
		t.Fatal("the clock alone has ended it")
	}
	if !sweep() || len(h.userMessages()) != 0 || sweep() {
		t.Fatal("not swept once")
	}
	if _, err := commands.Run(h.Context(), e, noVolume(id, true)); refusal(err) != domain.Conflict {
		t.Fatalf("said again after its end: %v", err)
	}
	want := []string{"user-message.recorded", "user-message.recorded", "user-message.deleted", "user-message.expired", "user-message.expired"}
	if diff := cmp.Diff(want, h.kinds(0)); diff != "" {
		t.Fatalf("recorded (-want +got):\n%s", diff)
	}
	h.ordered()
}

// What services leave in the queue is recorded once, in the decision that takes it out; what
// cannot be goes to another queue, and stands in nobody's way.
func TestProduceUserMessages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := h.executor(nil)
	const named = `{"project_id": "p1", "message": {"id": "384468b0-e1d6-4772-afc5-ef9de64d0331", "action_id": "001"}}`
	ids := h.leave(e,
		`{"project_id": "p1", "message": {"action_id": "001", "detail_id": "003"}}`,
		`{"project_id": "p1", "message": {"action_id": "001", "user_message": "text"}}`,
		named, `"nothing"`, named,
		`{"project_id": "p2", "message": {"id": "384468b0-e1d6-4772-afc5-ef9de64d0331", "action_id": "001"}}`,
	)
	before := h.head()
	p := h.produce(e, 100)
	if p.Recorded != 3 || len(p.Refused) != 3 || !strings.Contains(p.Refused[0], "user_message") ||
		!strings.Contains(p.Refused[1], "JSON object") || !strings.Contains(p.Refused[2], "another message") {
		t.Fatalf("produced %+v", p)
	}
	want := []string{"user-message.recorded", "user-message.recorded", "messages.popped", "queue.created", "messages.posted"}
	if diff := cmp.Diff(want, h.kinds(before)); diff != "" {
		t.Fatalf("recorded (-want +got):\n%s", diff)
	}
	all := h.historyAfter(before)
	first := all[0].Event.(domain.UserMessageRecorded)
	posting := h.historyAfter(0)[1].RecordedAt
	if first.ID != ids[0] || !first.Created.Equal(posting) {
		t.Errorf("the first is %+v, posted at %v", first, posting)
	}
	refused := all[len(all)-1].Event.(domain.MessagesPosted)
	if body := refused.Messages[1].Body; refused.Queue != notProduced.Name || !strings.Contains(body, `"body":"nothing"`) || !strings.Contains(body, ids[3].String()) {
		t.Errorf("refused: %s", body)
	}
	if again := h.produce(e, 100); again.Recorded+len(again.Refused) > 0 {
		t.Errorf("produced again: %+v", again)
	}
	h.leave(e, named, named, named)
	for want := range []int{2, 1, 0} {
		if p := h.produce(e, 2); p.Recorded != []int{2, 1, 0}[want] {
			t.Errorf("produced in parts: %+v", p)
		}
	}
	if len(h.userMessages()) != 2 {
		t.Errorf("there are %v", h.userMessages())
	}
	h.ordered()
}

// A queue that encrypts keeps what is left in it sealed, and it is recorded all the same.
func TestProduceSealedUserMessages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := h.executor(nil)
	for _, queue := range []domain.QueueID{produce, notProduced} {
		metadata, err := domain.ParseMetadata([]byte(`{"_enable_encrypt_messages": true}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := commands.Run(h.Context(), e, commands.CreateQueue{Queue: queue, Metadata: metadata}); err != nil {
			t.Fatal(err)
		}
	}
	h.leave(e, `{"project_id": "p1", "message": {"action_id": "001"}}`, `"secret"`)
	if p := h.produce(e, 100); p.Recorded != 1 || len(p.Refused) != 1 {
		t.Fatalf("produced %+v", p)
	}
	for _, recorded := range h.history() {
		if posted, ok := recorded.Event.(domain.MessagesPosted); ok {
			for _, m := range posted.Messages {
				if strings.Contains(m.Body, "secret") {
					t.Errorf("in %s: %s", posted.Queue, m.Body)
				}
			}
		}
	}
}

// Two replicas that take from the queue at once record each message once.
func TestReplicasProduceEachOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one, two := h.executor(nil), h.executor(nil)
	const n = 40
	for range n {
		h.leave(one, `{"project_id": "p1", "message": {"action_id": "001"}}`)
	}
	counts := make(chan int, 2)
	for _, e := range []*commands.Executor{one, two} {
		go func() {
			count := 0
			for {
				p, err := commands.Run(context.Background(), e, commands.ProduceUserMessages{
					ServiceProject: "service", Limit: 3, Rules: domain.DefaultUserMessageRules(),
				})
				if err != nil || p.Recorded == 0 {
					counts <- count
					return
				}
				count += p.Recorded
			}
		}()
	}
	if sum := <-counts + <-counts; sum != n || len(h.userMessages()) != n {
		t.Errorf("%d recorded, %d there", sum, len(h.userMessages()))
	}
	h.ordered()
}

// A task that fails tells its owner in the batch in which it fails.
func TestTaskFailuresBecomeUserMessages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	rules := taskRules(1, true)
	e := h.executor(nil, worksWith(rules), func(cfg *commands.Config) {
		cfg.UserMessages = domain.DefaultUserMessageRules()
		cfg.UserMessages.TaskFailures = true
	})
	made, err := commands.Run(h.Context(), e, createTask(rules))
	if err != nil {
		t.Fatal(err)
	}
	before := h.head()
	if _, err := commands.Run(h.Context(), e, says(made.ID, domain.TaskFail, "", "host7 is broken", rules)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"task.failed", "user-message.recorded", "messages.posted"}, h.kinds(before)); diff != "" {
		t.Fatalf("recorded (-want +got):\n%s", diff)
	}
	if ids := h.userMessages(); len(ids) != 1 || ids[0] != domain.TaskFailureID(made.ID) {
		t.Fatalf("there are %v", ids)
	}
	incomplete := createTask(rules)
	incomplete.Task.Input = `{"x": 1}`
	if _, err := commands.Run(h.Context(), e, incomplete); err != nil {
		t.Fatal(err)
	}
	// Whoever has taken the id beforehand does not stop the task from failing.
	squatted := createTask(rules)
	if _, err := commands.Run(h.Context(), e, squatted); err != nil {
		t.Fatal(err)
	}
	if _, err := commands.Run(h.Context(), e, noVolume(domain.TaskFailureID(squatted.Task.ID), true)); err != nil {
		t.Fatal(err)
	}
	if _, err := commands.Run(h.Context(), e, says(squatted.Task.ID, domain.TaskFail, "", "x", rules)); err != nil {
		t.Fatal(err)
	}
	if n := len(h.userMessages()); n != 3 {
		t.Errorf("there are %d", n)
	}
	h.ordered()
}
