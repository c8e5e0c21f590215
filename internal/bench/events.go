package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What external events are told of: servers spread over hosts.
const (
	eventServers = 1000
	eventHosts   = 100
)

// eventProject is where the queues of hosts are, if a nabu's settings do not say otherwise.
const eventProject = "service"

// lagHost is the host of which it is measured how long events take to reach it, and
// lagRate how many a second it gets.
const (
	lagHost = "bench-lag"
	lagRate = 300
)

// measureEvents tells of external events one, ten and 500 at a time, and looks how long one
// takes to an agent that waits in a claim.
func measureEvents(ctx context.Context, s *stage, r *Report) error {
	var arrived Measured
	lines, err := s.measure(ctx,
		telling("events, 1 a request", s.Connections, 1),
		telling("events, 10 a request", s.Connections, 10),
		telling("events, 500 a request", s.Connections, 500),
		lagging(fmt.Sprintf("events %d/s, 1 host", lagRate), s.Connections, &arrived))
	if err != nil {
		return err
	}
	r.Lines = append(r.Lines, lines...)
	r.least("p50 from an event to its host, in a claim that waits", milliseconds(arrived.Latency.Quantile(0.5)), "ms", 0)
	r.least("p99 from an event to its host, in a claim that waits", milliseconds(arrived.Latency.Quantile(0.99)), "ms", 0)
	return nil
}

// eventServer is one of the servers.
func eventServer(i int) string { return fmt.Sprintf("be9c4000-0000-4000-8000-%012d", i) }

// seedServers tells nabu where the servers are.
func seedServers(address string) error {
	var body strings.Builder
	body.WriteString(`{"server_hosts":[`)
	for i := range eventServers {
		if i > 0 {
			body.WriteByte(',')
		}
		host := lagHost
		if i > 0 {
			host = "bench" + strconv.Itoa(i%eventHosts)
		}
		fmt.Fprintf(&body, `{"server_uuid":"%s","host":"%s"}`, eventServer(i), host)
	}
	body.WriteString(`]}`)
	return ask(address, "POST", "/v2.1/os-server-hosts", body.String(), http.StatusOK)
}

func telling(name string, connections, perRequest int) scenario {
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		address, err := s.address(ctx)
		if err != nil {
			return nil, nil, err
		}
		if err := seedServers(address); err != nil {
			return nil, nil, err
		}
		l := tellers(address, connections, perRequest, 1, eventServers-1)
		l.warmup, l.duration = s.Warmup, s.Duration
		m, err := l.run(ctx)
		return m, nil, err
	}}
}

// tellers tell of events of so many servers, from the first one on.
func tellers(address string, connections, perRequest, first, servers int) load {
	l := load{addresses: []string{address}, connections: connections}
	for i := range connections {
		l.workers = append(l.workers, &teller{connection: i, perRequest: perRequest, first: first, servers: servers})
	}
	return l
}

// teller is one connection that tells of events.
type teller struct {
	connection, perRequest int
	first, servers         int
	number                 int
	body                   []byte
}

func (t *teller) next(from time.Time) []byte {
	t.body = append(t.body[:0], `{"events":[`...)
	place := make([]byte, len(stampPlace))
	copy(place, stampPlace)
	for i := range t.perRequest {
		if i > 0 {
			t.body = append(t.body, ',')
		}
		stamp{t.connection, t.number, from.UnixMicro()}.write(place)
		server := eventServer(t.first + (t.connection+7*t.number)%t.servers)
		t.body = fmt.Appendf(t.body, `{"name":"network-changed","server_uuid":"%s","tag":"%s"}`, server, place)
		t.number++
	}
	t.body = append(t.body, "]}"...)
	return requestText("POST", "/v2.1/os-server-external-events", sender, string(t.body))
}

func (t *teller) answered(r response, err error) (outcome, error) {
	return outcome{messages: t.perRequest}, wanted(r, err, "POST events", http.StatusOK)
}

// lagging tells of events of one host at a steady rate, and lets an agent of that host claim
// them. arrived takes how long they took.
func lagging(name string, connections int, arrived *Measured) scenario {
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		address, err := s.address(ctx)
		if err != nil {
			return nil, nil, err
		}
		if err := seedServers(address); err != nil {
			return nil, nil, err
		}
		events := tellers(address, connections, 1, 0, 1)
		events.rate, events.warmup, events.duration = lagRate, s.Warmup, s.Duration
		agent := load{
			addresses: events.addresses, connections: 1, workers: []worker{&agent{}}, warmup: s.Warmup, duration: s.Duration,
		}
		var told, taken *Measured
		var problems [2]error
		var both sync.WaitGroup
		both.Go(func() { told, problems[0] = events.run(ctx) })
		both.Go(func() { taken, problems[1] = agent.run(ctx) })
		both.Wait()
		if err := errors.Join(problems[:]...); err != nil {
			return nil, nil, err
		}
		arrived.merge(taken)
		return told, nil, nil
	}}
}

// agent is a host's: it claims events, waiting for some, and deletes what it got.
type agent struct {
	ids    []byte // of the messages that it is to delete, with commas between
	asked  asked
	waited []time.Duration
}

// agentPath is the queue of the agent's host.
const agentPath = "/v2/queues/nova-events." + lagHost

// tagPart begins an event's tag in the body of its message.
var tagPart = []byte(`"tag":"`)

func (a *agent) next(time.Time) []byte {
	if len(a.ids) > 0 {
		a.asked = askedToDelete
		return a.request("DELETE", agentPath+"/messages?ids="+string(a.ids), "")
	}
	a.asked = askedToClaim
	return a.request("POST", agentPath+"/claims?limit=20&wait=1", claimBody)
}

func (a *agent) request(method, path, body string) []byte {
	text := requestText(method, path, reader, body)
	return bytes.Replace(text, []byte("X-Project-ID: "+project), []byte("X-Project-ID: "+eventProject), 1)
}

func (a *agent) answered(r response, err error) (outcome, error) {
	if a.asked == askedToDelete {
		a.ids = a.ids[:0]
		return outcome{untimed: true}, wanted(r, err, "DELETE messages", http.StatusNoContent)
	}
	if err == nil && r.status == http.StatusNoContent {
		return outcome{}, errNothing
	}
	if err := wanted(r, err, "POST claims", http.StatusCreated); err != nil {
		return outcome{}, err
	}
	now := time.Now()
	a.waited = a.waited[:0]
	for body := r.body; ; {
		id, rest, found := after(body, messagesPart, idLength)
		if !found {
			break
		}
		tag, rest, tagged := after(rest, tagPart, len(stampPlace))
		its, err := readStamp(tag)
		if !tagged || err != nil {
			return outcome{}, errors.New("an event without the bench's tag")
		}
		if len(a.ids) > 0 {
			a.ids = append(a.ids, ',')
		}
		a.ids = append(a.ids, id...)
		a.waited = append(a.waited, its.age(now))
		body = rest
	}
	return outcome{messages: len(a.waited), untimed: true, times: a.waited}, nil
}
