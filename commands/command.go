// Package commands holds what clients can ask for and the executor that decides
// it: whatever requests are waiting are decided together, one after the other, and
// committed in one transaction. It must never read a table by itself: states come
// from a Loader, and read models are written by a Projector.
package commands

import (
	"context"

	"nabu/domain"
	"nabu/eventstore"
)

// Command is a request to change something; R is what its caller gets.
type Command[R any] interface {
	// Needs says what has to be known to decide.
	Needs() Needs
	// Decide returns the answer and the facts to record, or a refusal. It is a pure
	// function of the state and the moment. Without facts nothing changes.
	Decide(s *State, at domain.Moment) (R, []domain.Event, error)
}

// Rank orders the commands of one batch. They are concurrent, so the executor may
// choose: what frees goes before what adds, and what adds before what takes. Claims of a
// queue with a dead letter queue are given up last.
type Rank int

// The ranks, in the order of deciding.
const (
	Frees Rank = iota // deletes of queues and messages, releases and renewals of claims
	Adds              // creates, changes, posts
	Takes             // claims and pops
)

// Needs is what a command has to know, and what the executor has to know of it.
type Needs struct {
	Queue    domain.QueueID     // the queue it is about
	Messages []domain.MessageID // messages of that queue, by id
	Named    domain.ClaimID     // the claim that is named with the messages; zero: none
	Claim    domain.ClaimID     // a claim of that queue, with its messages; zero: none
	Free     int                // so many of the queue's oldest free messages
	Share    string             // whether the queue's signed URL with this digest was taken back; empty: nothing
	Sweep    int64              // what can be swept of the queue with this number; 0: nothing
	Keys     bool               // the data keys of the queue, and of those that bore its name before
	// Subscriptions to that queue; nil: none.
	Subscriptions *domain.SubscriptionNeed
	Tasks         []domain.TaskID // by id
	Owner         string          // the project that a task is made for; empty: none is
	// UserMessages, by id. Produces: besides those, what the messages say that Free asks for.
	UserMessages []domain.UserMessageRef
	Produces     bool
	// Posts are queues that the decision may post to besides Queue.
	Posts []domain.QueueID
	// Tells are the rules by which changes of tasks are told to their owners; nil: no task
	// is changed.
	Tells   *domain.TaskRules
	Servers []domain.ServerID // by id
	Hosts   []SeenOn          // that servers may be on afterwards
	// Dispatches are the rules by which external events of the servers are posted to their
	// hosts; nil: none are.
	Dispatches *domain.EventRules
	// Unsettles: it changes what claims and pops of its queue may take, or where they move it.
	Unsettles bool
	// Housework: no client waits for it.
	Housework bool
	Rank      Rank
	Size      int // bytes the command adds to its batch, roughly
	// Timeless: the decision does not look at the moment's time, so it may be made
	// before the batch's time is known.
	Timeless bool
}

// short tells whether the command can be decided on what the short way knows: the queue,
// and its messages and claims.
func (n Needs) short() bool {
	return n.Timeless || n.Sweep == 0 && !n.Produces && n.Tells == nil && (len(n.Messages) > 0 || n.Claim != domain.ClaimID{} || n.Free > 0)
}

// Request is what the executor has to know of the request a command came with.
type Request struct {
	Origin domain.Origin
	// IdempotencyKey is the client's name for the request, unique in its project;
	// empty without one. A second request with the same key and hash gets the first
	// one's answer and changes nothing, for a day.
	IdempotencyKey string
	RequestHash    [32]byte
	// Replayed is called by Run when the answer is one that was kept for the key; nil:
	// nobody asks.
	Replayed func()
	// Handled is the slice of the feed that the command reports on; nil: none. It is
	// settled in the transaction that appends what the command decides, or appends
	// nothing. If somebody else has settled it, the command is refused with
	// eventstore.ErrMoved; if the decision is a refusal, the slice is not settled.
	Handled *eventstore.Slice

	passing bool // see Passing
}

type requestKey struct{}

// WithRequest returns a context for Run that carries the request.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// Passing returns a context for Run of a command that may be run again before its client
// is answered: an empty list is not kept as the answer for the request's key.
func Passing(ctx context.Context) context.Context {
	r := requestOf(ctx)
	r.passing = true
	return WithRequest(ctx, r)
}

func requestOf(ctx context.Context) Request {
	r, _ := ctx.Value(requestKey{}).(Request)
	return r
}
