package domain

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// ServerID names a server of the Compute API, for ever.
type ServerID = uuid.UUID

// serverStream begins the names of the histories of servers.
const serverStream = "server/"

// ServerStream is the history of a server: where it was seen, and its external events.
func ServerStream(id ServerID) string { return serverStream + id.String() }

// ServerOfStream takes a server's stream apart.
func ServerOfStream(stream string) (ServerID, bool) {
	rest, isServer := strings.CutPrefix(stream, serverStream)
	if !isServer {
		return ServerID{}, false
	}
	id, err := uuid.Parse(rest)
	return id, err == nil
}

// MaxServerText bounds the names and words that are kept of a server; characters. It is
// the width of Nova's columns.
const MaxServerText = 255

// FromAPI is the source of what callers of the API say of servers.
const FromAPI = "api"

// Whereabouts are where a server is; what is empty there is not.
type Whereabouts struct {
	Host       string `json:"host,omitempty"`
	Node       string `json:"node,omitempty"`        // of the host, as its hypervisor calls it
	SourceHost string `json:"source_host,omitempty"` // that it migrates from
	DestHost   string `json:"dest_host,omitempty"`   // that it migrates to
	State      string `json:"state,omitempty"`       // of the server, in Nova's words
	Project    string `json:"project,omitempty"`     // whose server it is; empty: nobody has said
}

// Role is what a host is for a server.
type Role string

// The roles. A host that is several has the first one.
const (
	CurrentHost     Role = "current"
	SourceHost      Role = "source"
	DestinationHost Role = "destination"
)

// ServerHost is a host that a server is on, comes from or goes to.
type ServerHost struct {
	Host string `json:"host"`
	Role Role   `json:"role"`
}

// Hosts are the hosts of the server, each once.
func (w Whereabouts) Hosts() (hosts []ServerHost) {
	for _, its := range []ServerHost{{w.Host, CurrentHost}, {w.SourceHost, SourceHost}, {w.DestHost, DestinationHost}} {
		known := its.Host == ""
		for _, other := range hosts {
			known = known || other.Host == its.Host
		}
		if !known {
			hosts = append(hosts, its)
		}
	}
	return hosts
}

// Server is what is known of a server of the Compute API. The zero value is one that
// nobody has ever spoken of.
type Server struct {
	ID ServerID
	Whereabouts
	Deleted    bool      // it was forgotten
	ObservedAt time.Time // that the last word on it is of
	Source     string    // who said that
}

// Known tells whether the server is there.
func (s Server) Known() bool { return !s.ObservedAt.IsZero() && !s.Deleted }

// ServerAssigned: a server was seen on a host, or on its way between two.
type ServerAssigned struct {
	ID ServerID `json:"id"`
	Whereabouts
	ObservedAt time.Time `json:"observed_at"`
	Source     string    `json:"source"`
}

func (ServerAssigned) EventType() string { return "server.assigned.v1" }
func (e ServerAssigned) Stream() string  { return ServerStream(e.ID) }

// ServerUnassigned: a server was seen to be on no host.
type ServerUnassigned struct {
	ID ServerID `json:"id"`
	Whereabouts
	ObservedAt time.Time `json:"observed_at"`
	Source     string    `json:"source"`
}

func (ServerUnassigned) EventType() string { return "server.unassigned.v1" }
func (e ServerUnassigned) Stream() string  { return ServerStream(e.ID) }

// ServerForgotten: a server is gone. It is unknown until it is seen later than that.
type ServerForgotten struct {
	ID         ServerID  `json:"id"`
	ObservedAt time.Time `json:"observed_at"`
	Source     string    `json:"source"`
	Project    string    `json:"project,omitempty"` // whose it was
}

func (ServerForgotten) EventType() string { return "server.forgotten.v1" }
func (e ServerForgotten) Stream() string  { return ServerStream(e.ID) }

// ServerObservationIgnored: what somebody had seen of a server was older than what was
// known, and changed nothing.
type ServerObservationIgnored struct {
	ID ServerID `json:"id"`
	Whereabouts
	ObservedAt time.Time `json:"observed_at"`
	Source     string    `json:"source"`
	Known      time.Time `json:"known"` // when that was observed which stands
}

func (ServerObservationIgnored) EventType() string { return "server.observation-ignored.v1" }
func (e ServerObservationIgnored) Stream() string  { return ServerStream(e.ID) }

// Apply folds one event of the history into the server. Each change is the whole word on
// it, so it does not matter what was before.
func (s *Server) Apply(e Event) {
	switch e := e.(type) {
	case ServerAssigned:
		*s = Server{e.ID, e.Whereabouts, false, e.ObservedAt, e.Source}
	case ServerUnassigned:
		*s = Server{e.ID, e.Whereabouts, false, e.ObservedAt, e.Source}
	case ServerForgotten:
		*s = Server{ID: e.ID, Whereabouts: Whereabouts{Project: e.Project}, Deleted: true, ObservedAt: e.ObservedAt, Source: e.Source}
	}
}

// earliestYear bounds when a server can have been seen: before there were any.
const earliestYear = 1970

// Observation is what somebody says of where a server is.
type Observation struct {
	ID ServerID
	Whereabouts
	At     time.Time // when it was seen; zero: now
	Source string
}

// Check refuses an observation that breaks a bound.
func (o Observation) Check() error {
	if !o.At.IsZero() && o.At.Year() < earliestYear {
		return Errorf(Invalid, "observed_at must not be before %d", earliestYear)
	}
	for _, text := range []struct{ name, value string }{
		{"host", o.Host}, {"node", o.Node}, {"source_host", o.SourceHost}, {"dest_host", o.DestHost}, {"state", o.State},
	} {
		if utf8.RuneCountInString(text.value) > MaxServerText || !Storable(text.value) {
			return Errorf(Invalid, "%s must not be longer than %d characters, nor hold a NUL", text.name, MaxServerText)
		}
	}
	if o.Project != "" {
		if err := CheckProject(o.Project); err != nil {
			return Errorf(Invalid, "project_id: %v", err)
		}
	}
	return nil
}

// Observe decides what an observation records. What is older than the last one changes
// nothing, but is kept; the same again records nothing. Nobody sees what is yet to come:
// what is said to be of later counts as of now, so that no fast clock stops all others. Whose
// the server is stays known when an observation does not say.
func (s Server) Observe(o Observation, now time.Time) ([]Event, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	at := o.At.UTC().Truncate(time.Microsecond)
	if now = now.UTC(); o.At.IsZero() || at.After(now) {
		at = now
	}
	if at.Before(s.ObservedAt) {
		return []Event{ServerObservationIgnored{o.ID, o.Whereabouts, at, o.Source, s.ObservedAt.UTC()}}, nil
	}
	o.Project = cmp.Or(o.Project, s.Project)
	switch {
	case s.Known() && at.Equal(s.ObservedAt) && s.Whereabouts == o.Whereabouts:
		return nil, nil
	case len(o.Hosts()) == 0:
		return []Event{ServerUnassigned{o.ID, o.Whereabouts, at, o.Source}}, nil
	}
	return []Event{ServerAssigned{o.ID, o.Whereabouts, at, o.Source}}, nil
}

// Forget decides what a request to forget the server records. It refuses with NotFound
// one that is not there.
func (s Server) Forget(id ServerID, source string, now time.Time) ([]Event, error) {
	if !s.Known() {
		return nil, NoServer(id)
	}
	at := now.UTC()
	if s.ObservedAt.After(at) { // two observations of the same batch may be of the same time
		at = s.ObservedAt.UTC()
	}
	return []Event{ServerForgotten{ID: id, ObservedAt: at, Source: source, Project: s.Project}}, nil
}

// NoServer is the refusal of whatever is asked of a server that is not there.
func NoServer(id ServerID) error { return Errorf(NotFound, "Server %s could not be found.", id) }

// hostQueuePrefix begins the names of the queues of hosts.
const hostQueuePrefix = "nova-events."

// hostDigest is how many hexadecimal digits stand for a host whose name cannot be part of
// that of a queue.
const hostDigest = 40

// HostQueue is the name of the queue that brings external events to a host: with the
// host's own name if that can be, else with digits of its SHA-256.
func HostQueue(host string) string {
	if name := hostQueuePrefix + host; host != "" && CheckQueueName(name) == nil {
		return name
	}
	digest := sha256.Sum256([]byte(host))
	return hostQueuePrefix + hex.EncodeToString(digest[:])[:hostDigest]
}
