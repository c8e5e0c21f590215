package bench

import (
	"context"
	"errors"
	"sync"
	"time"
)

// CycleLoad posts messages one by one, and claims and deletes them at the same time.
type CycleLoad struct {
	Address   string
	Producers int // connections that post
	Consumers int // connections that claim and delete
	Body      int // bytes
	Warmup    time.Duration
	Duration  time.Duration
	Rate      float64 // of posts, requests per second; 0: as many as get answered
	Wait      int     // seconds that a claim may wait for messages; 0: it does not
	Parts     int     // into how many the time is cut; 0: it is not
}

// Cycled is what a cycle came to.
type Cycled struct {
	*Posted // with the posts' figures
	// Claims are the claims and deletes. Their times are the messages', from when
	// each should have been posted to when it was handed out.
	Claims *Measured
}

// Run makes the load and returns when it is over. Requests that fail are counted; it fails
// itself only when the load cannot be made.
func (l CycleLoad) Run(ctx context.Context) (*Cycled, error) {
	if err := checkBody(l.Body); err != nil {
		return nil, err
	}
	cycled := &Cycled{Posted: newPosted(1)}
	posts := PostLoad{
		Addresses: []string{l.Address}, Connections: l.Producers, Queues: 1, PerRequest: 1, Body: l.Body,
		Warmup: l.Warmup, Duration: l.Duration, Rate: l.Rate,
	}
	producing := posts.load(cycled.addPosters(posts))
	consuming := load{
		addresses: posts.Addresses, connections: l.Consumers, workers: make([]worker, l.Consumers),
		warmup: l.Warmup, duration: l.Duration, parts: l.Parts,
	}
	producing.parts = l.Parts
	how := claimTen(deleteEach, timeWaits)
	how.wait = l.Wait
	for i := range consuming.workers {
		consuming.workers[i] = cycled.addConsumer(nil, how)
	}
	var both sync.WaitGroup
	var producer, consumer error
	both.Go(func() { cycled.Measured, producer = producing.run(ctx) })
	both.Go(func() { cycled.Claims, consumer = consuming.run(ctx) })
	both.Wait()
	return cycled, errors.Join(producer, consumer)
}
