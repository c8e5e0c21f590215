package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// ListLoad asks for pages of one queue.
type ListLoad struct {
	Address     string
	Connections int
	Filled      *Posted // by Fill
	Page        int     // messages of a page
	Anywhere    bool    // pages from all over the queue; otherwise always the first
	Warmup      time.Duration
	Duration    time.Duration
	Rate        float64 // requests per second; 0: as many as get answered
}

// Fill puts a number of messages into one new queue, over one connection, so that
// their order is known.
func Fill(ctx context.Context, address string, messages, body int) (*Posted, error) {
	each := perRequest(messages, body)
	posted, err := PostLoad{
		Addresses: []string{address}, Connections: 1, Queues: 1, PerRequest: each, Body: body,
		Duration: untilDone, Requests: (messages + each - 1) / each,
	}.Run(ctx)
	if err == nil && posted.Measured.Errors > 0 {
		err = fmt.Errorf("fill a queue: %s", posted.Measured.FirstErr)
	}
	return posted, err
}

// Run makes the load and returns when it is over. Requests that fail are counted; it fails
// itself only when the load cannot be made.
func (l ListLoad) Run(ctx context.Context) (*Measured, error) {
	workers := make([]worker, l.Connections)
	for i := range workers {
		workers[i] = newLister(l, i)
	}
	return load{
		addresses: []string{l.Address}, connections: l.Connections, workers: workers,
		warmup: l.Warmup, duration: l.Duration, rate: l.Rate,
	}.run(ctx)
}

// lister is one connection's pages.
type lister struct {
	load     ListLoad
	request  []byte
	markerAt int
	ids      []byte
	markers  int // how many of the ids have a full page behind them
	random   *rand.Rand
}

func newLister(l ListLoad, connection int) *lister {
	w := &lister{load: l, ids: l.Filled.posters[0].ids, random: rand.New(rand.NewPCG(1, uint64(connection)))}
	w.markers = len(w.ids)/idLength - l.Page
	path := fmt.Sprintf("/v2/queues/%s/messages?limit=%d", l.Filled.queue(0), l.Page)
	if l.Anywhere {
		path += "&marker="
		w.markerAt = len("GET ") + len(path)
		path += strings.Repeat("0", idLength)
	}
	w.request = getRequest(path)
	return w
}

func (w *lister) next(time.Time) []byte {
	if w.load.Anywhere {
		n := w.random.IntN(w.markers)
		copy(w.request[w.markerAt:], w.ids[n*idLength:][:idLength])
	}
	return w.request
}

func (w *lister) answered(r response, err error) (outcome, error) {
	if err := wanted(r, err, "GET messages", http.StatusOK); err != nil {
		return outcome{}, err
	}
	if len(r.body) < w.load.Page*w.load.Filled.posters[0].load.Body {
		return outcome{}, fmt.Errorf("no full page: %.200s", r.body)
	}
	return outcome{messages: w.load.Page}, nil
}
