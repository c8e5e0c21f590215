package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	Warmup      time.Duration
	Duration    time.Duration
	Rate        float64 // requests per second; 0: as many as get answered
	Requests    int     // of one connection, at most; 0: until the time is over
	// OnAcknowledged is told of each request that was acknowledged, by many
	// goroutines at once; nil: nobody is.
	OnAcknowledged func()
}

// Posted is what was sent and acknowledged.
type Posted struct {
	Measured *Measured
	load     PostLoad
	prefix   string // of the queues' names
	posters  []*poster
}

const (
	project  = "bench"
	sender   = "8c9e5b1a-6c1f-4d0c-9b53-6f4e3c1d2a01"
	reader   = "8c9e5b1a-6c1f-4d0c-9b53-6f4e3c1d2a02"
	idLength = 36

	// A message's stamp is its connection and its number there.
	stampFormat = "%04d-%010d"
	stampLength = 4 + 1 + 10
)

// MinBody is how short a message's body may be: it has to hold the stamp.
const MinBody = len(`{"n":"","pad":""}`) + stampLength

// Run makes the load.
func (l PostLoad) Run(ctx context.Context) (*Posted, error) {
	if l.Body < MinBody {
		return nil, fmt.Errorf("a body takes at least %d bytes, not %d", MinBody, l.Body)
	}
	p := &Posted{load: l, prefix: "bench-" + strings.ToLower(rand.Text()[:8]) + "-"}
	workers := make([]worker, l.Connections)
	for i := range workers {
		poster := newPoster(l, p.prefix, i)
		p.posters = append(p.posters, poster)
		workers[i] = poster
	}
	var err error
	p.Measured, err = load{
		addresses: l.Addresses, connections: l.Connections, workers: workers,
		warmup: l.Warmup, duration: l.Duration, rate: l.Rate,
	}.run(ctx)
	return p, err
}

// Acknowledged is how many messages nabu said it has, warm-up included.
func (p *Posted) Acknowledged() int {
	n := 0
	for _, poster := range p.posters {
		n += len(poster.acked) * p.load.PerRequest
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
		text = append(text, `{"ttl":3600,"body":`+before...)
		p.stamps = append(p.stamps, len(text))
		text = append(text, stampPlace+after+`}`...)
	}
	text = append(text, `]}`...)

	path := "POST /v2/queues/" + prefix
	p.queueAt = len(path)
	head := path + "0000/messages HTTP/1.1\r\nHost: nabu\r\nClient-ID: " + sender + "\r\nX-Project-ID: " + project +
		"\r\nContent-Type: application/json\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(text))
	for i := range p.stamps {
		p.stamps[i] += len(head)
	}
	p.request = append([]byte(head), text...)
	return p
}

// stampPlace is what a stamp is written over.
const stampPlace = "0000-0000000000"

// messageBody is a JSON text of a length, with a place for the stamp.
func messageBody(length int) string {
	return `{"n":"` + stampPlace + `","pad":"` + strings.Repeat("x", length-MinBody) + `"}`
}

func (p *poster) next() []byte {
	if p.load.Requests > 0 && p.requests == p.load.Requests {
		return nil
	}
	number(p.request[p.queueAt:][:4], p.load.queueOf(p.connection, p.requests))
	for i, at := range p.stamps {
		stamp := p.request[at:][:stampLength]
		number(stamp[:4], p.connection)
		number(stamp[5:], p.requests*p.load.PerRequest+i)
	}
	p.requests++
	return p.request
}

// number writes a number over a place, with zeros in front.
func number(place []byte, n int) {
	for i := len(place) - 1; i >= 0; i-- {
		place[i] = byte('0' + n%10)
		n /= 10
	}
}

func (p *poster) answered(r response, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	if r.status != 201 {
		return 0, fmt.Errorf("status %d: %.200s", r.status, r.body)
	}
	ids, rest := len(p.ids), r.body
	for range p.load.PerRequest {
		at := bytes.Index(rest, []byte("/messages/"))
		if at < 0 || len(rest) < at+len("/messages/")+idLength {
			p.ids = p.ids[:ids]
			return 0, errors.New("an answer with too few ids")
		}
		rest = rest[at+len("/messages/"):]
		p.ids = append(p.ids, rest[:idLength]...)
	}
	p.acked = append(p.acked, p.requests-1)
	if p.load.OnAcknowledged != nil {
		p.load.OnAcknowledged()
	}
	return p.load.PerRequest, nil
}
