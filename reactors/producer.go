package reactors

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"nabu/commands"
	"nabu/domain"
)

// How much the producer takes at once, and how often it looks though it has heard nothing.
const (
	produceBatch = 100
	produceEvery = 10 * time.Second
)

// Producer records the user messages that services leave in the queue messages.produce. What
// it decides is one command, so any number of producers may be at work and none has to
// remember how far it has come.
type Producer struct {
	Executor       *commands.Executor
	News           *commands.News
	ServiceProject string
	Rules          domain.UserMessageRules
	Log            *slog.Logger
}

// Run records what comes until ctx ends.
func (p *Producer) Run(ctx context.Context) {
	heard, cancel := p.News.Follow(domain.ProduceQueue(p.ServiceProject))
	defer cancel()
	tick := time.NewTicker(produceEvery)
	defer tick.Stop()
	for {
		if err := p.Produce(ctx); err != nil && ctx.Err() == nil {
			p.Log.Warn("user messages wait in their queue", "error", err)
		}
		select {
		case <-heard:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Produce records what there is now, and returns when there is nothing left.
func (p *Producer) Produce(ctx context.Context) error {
	request := commands.WithRequest(ctx, commands.Request{Origin: domain.Origin{Project: p.ServiceProject}})
	for {
		done, err := commands.Run(request, p.Executor, commands.ProduceUserMessages{
			ServiceProject: p.ServiceProject, Limit: produceBatch, Rules: p.Rules,
		})
		if err != nil {
			return fmt.Errorf("record user messages out of the queue: %w", err)
		}
		for _, reason := range done.Refused {
			p.Log.Info("a user message was refused", "queue", domain.ProduceQueue(p.ServiceProject).Name,
				"moved to", domain.RefusedQueue(p.ServiceProject).Name, "reason", reason)
		}
		if done.Recorded+len(done.Refused) == 0 {
			return nil
		}
	}
}
