package reactors_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
	"nabu/reactors"
)

// userMessages counts those that there are.
func (h *house) userMessages() int {
	h.Helper()
	page, err := h.views.UserMessages(h.Context(), projections.UserMessageList{All: true, Limit: 1000})
	if err != nil {
		h.Fatal(err)
	}
	return len(page)
}

// User messages end by the sweeper at its interval, and not by the clock.
func TestSweepUserMessages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range 150 {
		run(h, commands.RecordUserMessage{
			Message: domain.NewUserMessage{Project: "p", ID: uuid.New(), Action: "001"}, Rules: domain.DefaultUserMessageRules(),
		})
	}
	h.sweep()
	h.advance(30*24*time.Hour + time.Second)
	h.sweep() // it looked a moment ago
	if n := h.userMessages(); n != 150 {
		t.Fatalf("%d are left before the interval is over", n)
	}
	h.sweeper.ReapUserMessages = 0
	h.sweep()
	if n := h.userMessages(); n != 0 {
		t.Errorf("%d are left", n)
	}
	// A new sweeper looks at once.
	run(h, commands.RecordUserMessage{
		Message: domain.NewUserMessage{Project: "p", ID: uuid.New(), Action: "001"}, Rules: domain.DefaultUserMessageRules(),
	})
	h.advance(30*24*time.Hour + time.Second)
	h.sweeper = reactors.NewSweeper(h.executor, h.views, slog.New(slog.DiscardHandler))
	h.sweep()
	if n := h.userMessages(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// The producer hears of what comes, however it falls together with its looking.
func TestProducer(t *testing.T) {
	t.Parallel()
	news := commands.NewNews()
	h := newHouse(t, func(cfg *commands.Config) { cfg.News = news })
	producer := reactors.Producer{
		Executor: h.executor, News: news, ServiceProject: "service", Rules: domain.DefaultUserMessageRules(), Log: slog.New(slog.DiscardHandler),
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		producer.Run(ctx)
		close(ended)
	}()
	heard, cancel, ok := news.ListenToUserMessages("p")
	if !ok {
		t.Fatal("too many readers")
	}
	defer cancel()
	queue := domain.ProduceQueue("service")
	for range 250 {
		run(h, commands.PostMessages{Post: domain.Post{Queue: queue, Client: "c", Salts: []uint64{1, 2}, Messages: []domain.NewMessage{
			{Body: `"bad"`}, {Body: `{"project_id": "p", "message": {"action_id": "001"}}`},
		}}})
	}
	for h.userMessages() < 250 {
		<-heard
	}
	stop()
	<-ended
	for _, its := range []struct {
		queue domain.QueueID
		want  int
	}{{queue, 0}, {domain.RefusedQueue("service"), 250}} {
		stats, err := h.views.Stats(t.Context(), its.queue)
		if err != nil || stats.Total != its.want {
			t.Errorf("%s has %d, %v", its.queue.Name, stats.Total, err)
		}
	}
}
