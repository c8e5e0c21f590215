package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// repeatLoad makes one request over and over.
type repeatLoad struct {
	address     string
	connections int
	request     []byte
	asked       string // what the request is, for people
	status      int    // of a good answer
	good        func(body []byte) error
	warmup      time.Duration
	duration    time.Duration
}

func (l repeatLoad) run(ctx context.Context) (*Measured, error) {
	workers := make([]worker, l.connections)
	for i := range workers {
		workers[i] = l
	}
	return load{
		addresses: []string{l.address}, connections: l.connections, workers: workers,
		warmup: l.warmup, duration: l.duration,
	}.run(ctx)
}

func (l repeatLoad) next(time.Time) []byte { return l.request }

func (l repeatLoad) answered(r response, err error) (outcome, error) {
	if err := wanted(r, err, l.asked, l.status); err != nil {
		return outcome{}, err
	}
	return outcome{}, l.good(r.body)
}

// pollLoad claims from a queue that has nothing to give.
func pollLoad(s *stage, queue *supply, connections int) repeatLoad {
	return repeatLoad{
		address: queue.address, connections: connections, warmup: s.Warmup, duration: s.Duration,
		request: requestText(http.MethodPost, "/v2/queues/"+queue.queue(0)+"/claims?limit=10", reader, claimBody),
		asked:   "POST claims", status: http.StatusNoContent,
		good: func([]byte) error { return nil },
	}
}

// statsLoad asks for a queue's figures, which must be right.
func statsLoad(s *stage, queue *supply, connections int) repeatLoad {
	path, wanted := statsPath(queue.queue(0)), queue.remaining()
	return repeatLoad{
		address: queue.address, connections: connections, warmup: s.Warmup, duration: s.Duration,
		request: getRequest(path), asked: "GET stats", status: http.StatusOK,
		good: func(body []byte) error {
			var counted stats
			if err := json.Unmarshal(body, &counted); err != nil {
				return fmt.Errorf("GET %s: %w", path, err)
			}
			if counted.Messages.Total != wanted {
				return fmt.Errorf("GET %s counts %d messages, not %d", path, counted.Messages.Total, wanted)
			}
			return nil
		},
	}
}
