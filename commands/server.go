package commands

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
)

// AssignServers tells where servers were seen. The answer is what is known of each
// afterwards, in the order of the observations, which may speak of one several times.
type AssignServers struct {
	Observations []domain.Observation
}

// Needs: the servers.
func (c AssignServers) Needs() Needs {
	needs := Needs{Rank: Adds}
	for _, o := range c.Observations {
		needs.Servers = append(needs.Servers, o.ID)
		needs.Size += rowSize + len(o.Host) + len(o.Node) + len(o.SourceHost) + len(o.DestHost) + len(o.State) + len(o.Project)
		for _, its := range o.Hosts() {
			needs.Hosts = append(needs.Hosts, SeenOn{o.ID, its.Host})
		}
	}
	return needs
}

// SeenOn is a server and a host that it may be on after a command.
type SeenOn struct {
	Server domain.ServerID
	Host   string
}

// Decide takes in all observations or none.
func (c AssignServers) Decide(s *State, at domain.Moment) ([]domain.Server, []domain.Event, error) {
	servers := make([]domain.Server, len(c.Observations))
	now := make(map[domain.ServerID]domain.Server, len(c.Observations))
	var events []domain.Event
	for i, o := range c.Observations {
		its, seen := now[o.ID]
		if !seen {
			its = s.Server(o.ID)
		}
		observed, err := its.Observe(o, at.Time)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range observed {
			its.Apply(e)
		}
		now[o.ID], servers[i] = its, its
		events = append(events, observed...)
	}
	return servers, events, nil
}

// ForgetServer tells that a server is gone. It is refused with NotFound when it is not there.
type ForgetServer struct {
	ID     domain.ServerID
	Source string
}

// Needs: the server.
func (c ForgetServer) Needs() Needs {
	return Needs{Servers: []domain.ServerID{c.ID}, Rank: Frees, Size: rowSize}
}

// Decide forgets the server.
func (c ForgetServer) Decide(s *State, at domain.Moment) (struct{}, []domain.Event, error) {
	events, err := s.Server(c.ID).Forget(c.ID, c.Source, at.Time)
	return struct{}{}, events, err
}

// DispatchEvents asks for external events to reach the hosts of their servers. The answer
// is what becomes of each.
type DispatchEvents struct {
	domain.Dispatch
	Rules domain.EventRules
}

// Needs: the servers, and the queues of their hosts.
func (c DispatchEvents) Needs() Needs {
	needs := Needs{Dispatches: &c.Rules, Rank: Adds}
	for _, e := range c.Events {
		needs.Servers = append(needs.Servers, e.Server)
		needs.Size += eventSize
		if e.Tag != nil {
			needs.Size += 2 * len(*e.Tag)
		}
	}
	return needs
}

// eventSize is what an external event costs a batch besides its tag, in bytes: itself and
// a message or two.
const eventSize = 1200

// Decide accepts or rejects each event, and posts the copies.
func (c DispatchEvents) Decide(s *State, at domain.Moment) ([]domain.EventCode, []domain.Event, error) {
	codes, events, err := c.Dispatch.Decide(s.Server, s.Queue, c.Rules, s.Limits, at)
	if err != nil {
		return nil, nil, err
	}
	if err := s.sealPosts(events); err != nil {
		return nil, nil, err
	}
	return codes, append(events, c.Rules.Messages(c.Dispatch, codes, s.Server, s.userRules, at)...), nil
}

// sealPosts seals the posts to queues that encrypt.
func (s *State) sealPosts(events []domain.Event) error {
	for i, e := range events {
		posted, isPost := e.(domain.MessagesPosted)
		if !isPost {
			continue
		}
		queue := domain.QueueID{Project: posted.Project, Name: posted.Queue}
		if !s.Queue(queue).Encrypts() {
			continue
		}
		sealed, err := s.seal(queue, posted)
		if err != nil {
			return err
		}
		events[i] = sealed
	}
	return nil
}

// ReportForwarded brings what has become of external events that another compute service was
// to get.
type ReportForwarded struct {
	Reports []domain.ExternalEventsForwarded
}

// Needs: the servers, for the sake of their streams.
func (c ReportForwarded) Needs() Needs {
	needs := Needs{Rank: Adds}
	for _, r := range c.Reports {
		needs.Servers = append(needs.Servers, r.Server)
		needs.Size += rowSize * len(r.Events)
	}
	return needs
}

// Decide records the reports as they are.
func (c ReportForwarded) Decide(*State, domain.Moment) (struct{}, []domain.Event, error) {
	events := make([]domain.Event, len(c.Reports))
	for i, r := range c.Reports {
		events[i] = r
	}
	return struct{}{}, events, nil
}

// Server is what is known of a server now, or the zero value if nobody has spoken of it.
func (s *State) Server(id domain.ServerID) domain.Server { return s.servers[id].State }

// recordServer overlays the servers with an event and gives the event its version.
func (s *State) recordServer(id domain.ServerID, e domain.Event) (version int64) {
	its := s.servers[id]
	its.Version++
	its.State.Apply(e)
	s.servers[id] = its
	return its.Version
}

// loadServers fills the state with the servers that the commands are about, and with the
// queues of their hosts if there are events to post: of those where they are, and of those
// where a command of this very batch may see them. Other batches pay nothing for it.
func (e *Executor) loadServers(ctx context.Context, w *work) (err error) {
	var ids []uuid.UUID
	for _, p := range w.commands {
		ids = append(ids, p.needs.Servers...)
	}
	if len(ids) == 0 {
		return nil
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	if w.state.servers, err = e.Loader.Servers(ctx, e.conn, slices.Compact(ids)); err != nil {
		return err
	}
	queues := w.hostQueues()
	if err := e.loadQueues(ctx, w, queues); err != nil {
		return err
	}
	w.state.posts = append(w.state.posts, queues...)
	return nil
}

// hostQueues are the queues that external events may be posted to.
func (w *work) hostQueues() []domain.QueueID {
	queues := map[domain.QueueID]bool{}
	var seen map[domain.ServerID][]string // by the batch itself
	for _, p := range w.commands {
		rules := p.needs.Dispatches
		if rules == nil || rules.Forward {
			continue
		}
		if seen == nil {
			seen = w.seenOn()
		}
		for _, id := range p.needs.Servers {
			for _, queue := range rules.Queues(w.state.Server(id)) {
				queues[queue] = true
			}
			for _, host := range seen[id] {
				queues[rules.QueueOf(host)] = true
			}
		}
	}
	ids := make([]domain.QueueID, 0, len(queues))
	for id := range queues {
		ids = append(ids, id)
	}
	return ids
}

// seenOn are the hosts that commands of the batch say of each server.
func (w *work) seenOn() map[domain.ServerID][]string {
	seen := map[domain.ServerID][]string{}
	for _, p := range w.commands {
		for _, its := range p.needs.Hosts {
			seen[its.Server] = append(seen[its.Server], its.Host)
		}
	}
	return seen
}

// watching is what a batch knows of servers.
type watching struct {
	servers map[domain.ServerID]eventstore.Versioned[domain.Server]
}
