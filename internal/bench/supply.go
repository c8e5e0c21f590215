package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// supply is a queue that is filled for others to use up.
type supply struct {
	*Posted
	address string
	body    int    // bytes
	members string // of each message, see PostLoad
	fillers []*poster
	users   []*consumer  // of claimLoad
	left    atomic.Int64 // messages that nobody has asked for yet
}

// newSupply names a queue that is not there yet.
func newSupply(address string, body int) *supply {
	return &supply{Posted: newPosted(1), address: address, body: body}
}

// of is the same queue, filled from now on with other messages. Those that are there
// already are nothing that it knows of.
func (s *supply) of(members string) *supply {
	return &supply{Posted: s.Posted, address: s.address, body: s.body, members: members}
}

// take asks for some messages; false: there are not so many.
func (s *supply) take(messages int) bool {
	if s == nil || s.left.Add(-int64(messages)) >= 0 {
		return true
	}
	s.left.Add(int64(messages))
	return false
}

// give is for messages that were added, or asked for and not handed out.
func (s *supply) give(messages int) {
	if s != nil {
		s.left.Add(int64(messages))
	}
}

// A filling is made of requests as large as nabu takes them.
const (
	fillers       = 4 // connections
	mostOfRequest = 500
	bytesOfFill   = 200_000 // of a request, at most
	bytesAround   = 60      // a body, in a request
)

// untilDone is the duration of loads that end by themselves.
const untilDone = 100 * time.Hour

// perRequest is how many of some messages go into one request.
func perRequest(messages, body int) int {
	return max(1, min(mostOfRequest, messages, bytesOfFill/(body+bytesAround)))
}

// Fill posts messages until there are at least so many. In an empty queue there are
// exactly so many, if they fit one request or make full ones for each connection.
func (s *supply) Fill(ctx context.Context, messages int) error {
	missing := messages - int(s.left.Load())
	if missing <= 0 {
		return nil
	}
	if err := checkBody(s.body); err != nil {
		return err
	}
	if s.fillers == nil {
		each := perRequest(missing, s.body)
		s.fillers = s.addPosters(PostLoad{
			Addresses: []string{s.address}, Connections: min(fillers, (missing+each-1)/each), Queues: 1,
			PerRequest: each, Body: s.body, Members: s.members, Duration: untilDone,
		})
	}
	filling, before := s.fillers[0].load, s.filled()
	round := filling.PerRequest * len(s.fillers)
	for _, filler := range s.fillers {
		filler.load.Requests = filler.requests + (missing+round-1)/round
	}
	m, err := filling.load(s.fillers).run(ctx)
	s.give(s.filled() - before)
	if err == nil && m.Errors > 0 {
		err = fmt.Errorf("fill a queue: %s", m.FirstErr)
	}
	return err
}

func (s *supply) filled() int {
	n := 0
	for _, filler := range s.fillers {
		n += filler.acknowledged()
	}
	return n
}

// Create makes the queue with its metadata, a JSON object.
func (s *supply) Create(metadata string) error { return s.create(s.address, metadata) }

// UseUp has whatever is left claimed, and deleted if that is asked for.
func (s *supply) UseUp(ctx context.Context, how consuming) error {
	const connections = 8
	workers := make([]worker, connections)
	for i := range workers {
		workers[i] = s.addConsumer(s, how)
	}
	m, err := load{
		addresses: []string{s.address}, connections: connections, workers: workers, duration: untilDone,
	}.run(ctx)
	if err == nil && m.Errors > 0 {
		err = fmt.Errorf("use up a queue: %s", m.FirstErr)
	}
	return err
}
