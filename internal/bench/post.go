package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// PostLoad asks for posts of messages whose bodies tell who sent them when, so that
// every one of them can be found again.
type PostLoad struct {
	Addresses   []string // of nabu, host:port; connections are dealt to them in turn
	Connections int
	Queues      int // they are filled in turn
	PerRequest  int // messages of one request
	Body        int // bytes of one message's body
	// Members are what each message says besides its ttl and its body, such as
	// `"delay":900,`.
	Members  string
	Metadata string // of the queues, which are made with it; empty: the first posts make them
	Warmup   time.Duration
	Duration time.Duration
	Rate     float64 // requests per second; 0: as many as get answered
	Requests int     // of one connection, at most; 0: until the time is over
	// OnAcknowledged is told of each request that was acknowledged, by many
	// goroutines at once; nil: nobody is.
	OnAcknowledged func()
}

// Posted is what was sent to some queues, what of it was acknowledged, and who took
// it from there.
type Posted struct {
	Measured  *Measured
	queues    int
	prefix    string // of the queues' names
	posters   []*poster
	consumers []*consumer
	purged    bool // everything was
}

const (
	project  = "bench"
	sender   = "8c9e5b1a-6c1f-4d0c-9b53-6f4e3c1d2a01"
	reader   = "8c9e5b1a-6c1f-4d0c-9b53-6f4e3c1d2a02"
	idLength = 36
)

// MinBody is how short a message's body may be: it has to hold the stamp.
const MinBody = len(`{"n":"","pad":""}`) + len(stampPlace)

// Run makes the load and returns when it is over. Requests that fail are counted; it fails
// itself only when the load cannot be made.
func (l PostLoad) Run(ctx context.Context) (*Posted, error) {
	if err := checkBody(l.Body); err != nil {
		return nil, err
	}
	p := newPosted(l.Queues)
	var err error
	if l.Metadata != "" {
		if err := p.create(l.Addresses[0], l.Metadata); err != nil {
			return p, err
		}
	}
	p.Measured, err = l.load(p.addPosters(l)).run(ctx)
	return p, err
}

func checkBody(bytes int) error {
	if bytes < MinBody {
		return fmt.Errorf("a body takes at least %d bytes, not %d", MinBody, bytes)
	}
	return nil
}

func (l PostLoad) load(posters []*poster) load {
	workers := make([]worker, len(posters))
	for i, poster := range posters {
		workers[i] = poster
	}
	return load{
		addresses: l.Addresses, connections: len(workers), workers: workers,
		warmup: l.Warmup, duration: l.Duration, rate: l.Rate,
	}
}

// newPosted names some queues that nobody has.
func newPosted(queues int) *Posted {
	return &Posted{queues: queues, prefix: "bench-" + strings.ToLower(rand.Text()[:8]) + "-"}
}

// create makes the queues with their metadata, a JSON object.
func (p *Posted) create(address, metadata string) error {
	for i := range p.queues {
		if err := ask(address, http.MethodPut, "/v2/queues/"+p.queue(i), metadata, http.StatusCreated); err != nil {
			return err
		}
	}
	return nil
}

// addPosters adds a load's connections to those that post to the queues.
func (p *Posted) addPosters(l PostLoad) []*poster {
	first := len(p.posters)
	for range l.Connections {
		p.posters = append(p.posters, newPoster(l, p.prefix, len(p.posters)))
	}
	return p.posters[first:]
}

// Acknowledged is how many messages nabu said it has, warm-up included.
func (p *Posted) Acknowledged() int {
	n := 0
	for _, poster := range p.posters {
		n += poster.acknowledged()
	}
	return n
}

// remaining is how many of them nobody has deleted.
func (p *Posted) remaining() int {
	n := p.Acknowledged()
	for _, c := range p.consumers {
		for _, h := range c.log {
			if h.end == deleted {
				n--
			}
		}
	}
	return n
}

func (p *Posted) queue(i int) string { return fmt.Sprintf("%s%04d", p.prefix, i) }

// queueOf is the queue into which a connection puts its n-th request.
func (l PostLoad) queueOf(connection, n int) int { return (n*l.Connections + connection) % l.Queues }

// poster is one connection's posts.
type poster struct {
	load       PostLoad
	connection int
	requests   int // sent so far

	request []byte
	queueAt int   // where the queue's number stands in the request
	stamps  []int // where the stamps stand

	acked []int  // the requests that were acknowledged, in order
	ids   []byte // their messages' ids, one behind the other
}

func newPoster(l PostLoad, prefix string, connection int) *poster {
	p := &poster{load: l, connection: connection}
	before, after, _ := strings.Cut(messageBody(l.Body), stampPlace)
	text := []byte(`{"messages":[`)
	for i := range l.PerRequest {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, `{"ttl":3600,`+l.Members+`"body":`+before...)
		p.stamps = append(p.stamps, len(text))
		text = append(text, stampPlace+after+`}`...)
	}
	text = append(text, `]}`...)

	path := "/v2/queues/" + prefix
	p.queueAt = len("POST ") + len(path)
	p.request = requestText("POST", path+"0000/messages", sender, string(text))
	for i := range p.stamps {
		p.stamps[i] += len(p.request) - len(text)
	}
	return p
}

// messageBody is a JSON text of a length, with a place for the stamp.
func messageBody(length int) string {
	return `{"n":"` + stampPlace + `","pad":"` + strings.Repeat("x", length-MinBody) + `"}`
}

func (p *poster) next(from time.Time) []byte {
	if p.load.Requests > 0 && p.requests == p.load.Requests {
		return nil
	}
	number(p.request[p.queueAt:][:4], p.load.queueOf(p.connection, p.requests))
	for i, at := range p.stamps {
		stamp{p.connection, p.requests*p.load.PerRequest + i, from.UnixMicro()}.write(p.request[at:])
	}
	p.requests++
	return p.request
}

func (p *poster) answered(r response, err error) (outcome, error) {
	if err := wanted(r, err, "POST messages", http.StatusCreated); err != nil {
		return outcome{}, err
	}
	ids, rest := len(p.ids), r.body
	for range p.load.PerRequest {
		at := bytes.Index(rest, []byte("/messages/"))
		if at < 0 || len(rest) < at+len("/messages/")+idLength {
			p.ids = p.ids[:ids]
			return outcome{}, errors.New("an answer with too few ids")
		}
		rest = rest[at+len("/messages/"):]
		p.ids = append(p.ids, rest[:idLength]...)
	}
	p.acked = append(p.acked, p.requests-1)
	if p.load.OnAcknowledged != nil {
		p.load.OnAcknowledged()
	}
	return outcome{messages: p.load.PerRequest}, nil
}

// acknowledged is how many messages were.
func (p *poster) acknowledged() int { return len(p.acked) * p.load.PerRequest }
