package domain

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// ExternalEventName is a kind of external event that the Compute API knows.
type ExternalEventName struct {
	Name string
	// Since is the minor version, behind 2., that the name came with.
	Since int
	// Tagged: an event without a tag is refused.
	Tagged bool
}

// ExternalEventNames are all kinds, in Nova's order.
var ExternalEventNames = []ExternalEventName{
	{"network-changed", 1, false},
	{"network-vif-plugged", 1, false},
	{"network-vif-unplugged", 1, false},
	{"network-vif-deleted", 1, false},
	{volumeExtended, 51, true},
	{"power-update", 76, true},
	{"accelerator-request-bound", 82, true},
	{volumeReimaged, 93, false},
}

// The kinds that decisions ask for.
const (
	volumeExtended = "volume-extended"
	volumeReimaged = "volume-reimaged"
)

// The statuses that an event may come with. Without one it is completed.
const (
	EventFailed     = "failed"
	EventCompleted  = "completed"
	EventInProgress = "in-progress"
)

// MaxEventTag bounds a tag; characters.
const MaxEventTag = 255

// EventCode is what becomes of one event, as a status of HTTP.
type EventCode int

// The codes, in the order of the tests, the last one first.
const (
	EventAccepted   EventCode = 200
	EventHasNoHost  EventCode = 422 // its server is on no host
	EventHasNoTag   EventCode = 400 // its kind needs one
	EventHasNoOwner EventCode = 404 // its server is not there
)

// ExternalEvent is something that a service tells of a server.
type ExternalEvent struct {
	ID     uuid.UUID // drawn by time and random
	Name   string    // one of ExternalEventNames
	Server ServerID
	Status string  // EventFailed, EventCompleted or EventInProgress
	Tag    *string // what it is about, such as a port; nil: it does not say
}

// eventIDPrefix begins the names of events.
const eventIDPrefix = "evt-"

// id is the event's name, as hosts get it.
func (e ExternalEvent) id() string { return eventIDPrefix + e.ID.String() }

func (e ExternalEvent) salt() uint64 { return binary.BigEndian.Uint64(e.ID[8:]) }

// needsTag tells whether the event lacks a tag that its kind must have.
func (e ExternalEvent) needsTag() bool {
	for _, its := range ExternalEventNames {
		if its.Name == e.Name {
			return its.Tagged && e.Tag == nil
		}
	}
	return false
}

// ExternalEventsAccepted: a service told of events of a server that has hosts.
type ExternalEventsAccepted struct {
	Server ServerID `json:"server"`
	// Hosts are those of the server, each of which was posted a copy of each event, unless
	// Forward: another compute service is to get them instead.
	Hosts   []ServerHost    `json:"hosts"`
	Forward bool            `json:"forward,omitempty"`
	Events  []AcceptedEvent `json:"events"` // in the request's order
}

// AcceptedEvent is one of the events.
type AcceptedEvent struct {
	ID     string  `json:"id"`
	Index  int     `json:"index"` // in the request, from 0
	Name   string  `json:"name"`
	Status string  `json:"status"`
	Tag    *string `json:"tag,omitempty"`
	// Copies are the messages in the queues of the hosts, in the order of Hosts.
	Copies []MessageID `json:"copies,omitempty"`
}

func (ExternalEventsAccepted) EventType() string { return "external-events.accepted.v1" }
func (e ExternalEventsAccepted) Stream() string  { return ServerStream(e.Server) }

// ExternalEventsRejected: a service told of events of a server that nobody is to get.
type ExternalEventsRejected struct {
	Server ServerID        `json:"server"`
	Events []RejectedEvent `json:"events"` // in the request's order
}

// RejectedEvent is one of the events, and why nobody is to get it.
type RejectedEvent struct {
	ID     string    `json:"id"`
	Index  int       `json:"index"` // in the request, from 0
	Name   string    `json:"name"`
	Status string    `json:"status"`
	Tag    *string   `json:"tag,omitempty"`
	Code   EventCode `json:"code"`
}

func (ExternalEventsRejected) EventType() string { return "external-events.rejected.v1" }
func (e ExternalEventsRejected) Stream() string  { return ServerStream(e.Server) }

// EventRules are what an operator sets for external events.
type EventRules struct {
	ServiceProject string // where the queues of the hosts are
	TTL            int    // of the messages to hosts; seconds
	// ToMessages: of a rejected event of a volume users are told by a user message.
	ToMessages bool
	// Forward: another compute service gets the events, and not the hosts' queues.
	Forward bool
}

// DefaultEventRules are those of a nabu whose operator has set none.
func DefaultEventRules() EventRules {
	return EventRules{ServiceProject: DefaultTaskRules().ServiceProject, TTL: 3600}
}

// Check tells which rule cannot be, by its name in the configuration.
func (r EventRules) Check(limits Limits) error {
	if r.TTL < MinMessageTTL || r.TTL > limits.MaxMessageTTL {
		return fmt.Errorf("event_ttl must be between %d and %d (max_message_ttl), not %d", MinMessageTTL, limits.MaxMessageTTL, r.TTL)
	}
	return CheckProject(r.ServiceProject)
}

// QueueOf is the queue that brings events to a host.
func (r EventRules) QueueOf(host string) QueueID {
	return QueueID{Project: r.ServiceProject, Name: HostQueue(host)}
}

// Queues are the queues that events of a server may be posted to.
func (r EventRules) Queues(s Server) (queues []QueueID) {
	if r.Forward || !s.Known() {
		return nil
	}
	for _, its := range s.Hosts() {
		queues = append(queues, r.QueueOf(its.Host))
	}
	return queues
}

// Dispatch is a request to tell the hosts of servers of events.
type Dispatch struct {
	Events          []ExternalEvent
	Project         string // of whoever tells
	RequestID       string
	GlobalRequestID string // empty: none
}

// Decide decides what becomes of each event, and what the request records: for each server
// what was accepted and what was not, then the copies, one post for each queue with its
// messages in the request's order.
func (d Dispatch) Decide(server func(ServerID) Server, queue func(QueueID) Queue, r EventRules, limits Limits, at Moment) (
	codes []EventCode, events []Event, err error,
) {
	p := dispatching{Dispatch: d, rules: r, byServer: map[ServerID]*serverEvents{}, byQueue: map[QueueID]*hostPost{}}
	codes = make([]EventCode, len(d.Events))
	for i, e := range d.Events {
		s := server(e.Server)
		codes[i] = e.test(s)
		if err := p.add(i, codes[i], s, at.Time.UTC()); err != nil {
			return nil, nil, err
		}
	}
	words := 0
	for _, its := range p.servers {
		words += its.words()
	}
	posts, err := p.post(queue, limits, Moment{Position: at.Position + int64(words), Time: at.Time})
	if err != nil {
		return nil, nil, err
	}
	for _, its := range p.servers {
		if len(its.accepted.Events) > 0 {
			events = append(events, its.accepted)
		}
		if len(its.rejected.Events) > 0 {
			events = append(events, its.rejected)
		}
	}
	return codes, append(events, posts...), nil
}

// test is what becomes of an event of a server.
func (e ExternalEvent) test(s Server) EventCode {
	switch {
	case !s.Known():
		return EventHasNoOwner
	case e.needsTag():
		return EventHasNoTag
	case len(s.Hosts()) == 0:
		return EventHasNoHost
	}
	return EventAccepted
}

// dispatching is a dispatch that is being decided.
type dispatching struct {
	Dispatch
	rules    EventRules
	servers  []*serverEvents // in the order of first mention
	byServer map[ServerID]*serverEvents
	posts    []*hostPost // in the order of first mention
	byQueue  map[QueueID]*hostPost
}

type serverEvents struct {
	accepted ExternalEventsAccepted
	rejected ExternalEventsRejected
}

// words is how many events are recorded of the server.
func (s *serverEvents) words() int {
	return min(len(s.accepted.Events), 1) + min(len(s.rejected.Events), 1)
}

// hostPost is what is posted to the queue of a host.
type hostPost struct {
	post Post
	// of are where the ids of the messages are noted.
	of []noted
}

type noted struct {
	server       *serverEvents
	event, place int
}

// add puts an event where its code wants it.
func (p *dispatching) add(i int, code EventCode, s Server, now time.Time) error {
	e := p.Events[i]
	its := p.byServer[e.Server]
	if its == nil {
		its = &serverEvents{
			accepted: ExternalEventsAccepted{Server: e.Server, Hosts: s.Hosts(), Forward: p.rules.Forward},
			rejected: ExternalEventsRejected{Server: e.Server},
		}
		p.byServer[e.Server] = its
		p.servers = append(p.servers, its)
	}
	if code != EventAccepted {
		its.rejected.Events = append(its.rejected.Events, RejectedEvent{e.id(), i, e.Name, e.Status, e.Tag, code})
		return nil
	}
	accepted := AcceptedEvent{ID: e.id(), Index: i, Name: e.Name, Status: e.Status, Tag: e.Tag}
	if !p.rules.Forward {
		accepted.Copies = make([]MessageID, len(its.accepted.Hosts))
	}
	its.accepted.Events = append(its.accepted.Events, accepted)
	if p.rules.Forward {
		return nil
	}
	for place, host := range its.accepted.Hosts {
		body, err := p.body(e, host, now)
		if err != nil {
			return err
		}
		to := p.postTo(p.rules.QueueOf(host.Host))
		to.post.Messages = append(to.post.Messages, NewMessage{TTL: p.rules.TTL, Body: body})
		to.post.Salts = append(to.post.Salts, e.salt())
		to.of = append(to.of, noted{its, len(its.accepted.Events) - 1, place})
	}
	return nil
}

func (p *dispatching) postTo(queue QueueID) *hostPost {
	its := p.byQueue[queue]
	if its == nil {
		its = &hostPost{post: Post{Queue: queue, Client: HandOutClient, AtOnce: true}}
		p.byQueue[queue] = its
		p.posts = append(p.posts, its)
	}
	return its
}

// post decides the posts, and notes which messages they make.
func (p *dispatching) post(queue func(QueueID) Queue, limits Limits, at Moment) (events []Event, err error) {
	for _, its := range p.posts {
		posted, err := queue(its.post.Queue).Post(its.post, limits, at)
		if err != nil {
			return nil, err
		}
		for i, m := range posted[len(posted)-1].(MessagesPosted).Messages {
			to := its.of[i]
			to.server.accepted.Events[to.event].Copies[to.place] = m.ID
		}
		at.Position += int64(len(posted))
		events = append(events, posted...)
	}
	return events, nil
}

// eventTimes is how times are written for hosts: UTC, to the microsecond.
const eventTimes = "2006-01-02T15:04:05.000000Z"

// hostMessage is what a host gets.
type hostMessage struct {
	ID              string   `json:"id"`
	RequestID       string   `json:"request_id"`
	GlobalRequestID *string  `json:"global_request_id"`
	ReceivedAt      string   `json:"received_at"`
	Host            string   `json:"host"`
	Role            Role     `json:"role"`
	Name            string   `json:"name"`
	Server          ServerID `json:"server_uuid"`
	Status          string   `json:"status"`
	Tag             *string  `json:"tag,omitempty"`
}

// body is what a host gets of an event. The id is the same in all copies.
func (p *dispatching) body(e ExternalEvent, to ServerHost, now time.Time) (string, error) {
	m := hostMessage{
		ID: e.id(), RequestID: p.RequestID, ReceivedAt: now.Format(eventTimes), Host: to.Host, Role: to.Role,
		Name: e.Name, Server: e.Server, Status: e.Status, Tag: e.Tag,
	}
	if p.GlobalRequestID != "" {
		m.GlobalRequestID = &p.GlobalRequestID
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(m); err != nil {
		return "", err
	}
	return string(bytes.TrimSuffix(text.Bytes(), []byte("\n"))), nil
}
