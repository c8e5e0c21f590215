package domain

import "time"

// What decisions need to know of messages and subscriptions is named here, and what is
// found of it: commands ask, and projections answer, without knowing each other.

// MessageNeed is a message that a decision needs, and a claim named with it of which
// it needs to know whether it is live; zero: none.
type MessageNeed struct {
	MessageRef
	Claim  ClaimID
	Number int64 // the queue's
	Purged Place // the queue's
}

// ClaimNeed is a claim that a decision needs, with the messages that it still holds.
type ClaimNeed struct {
	ClaimRef
	Number int64 // the queue's
	Purged Place // the queue's
}

// Mark is what is remembered of a queue so that a claim need not walk over what is
// taken: below Place nothing was free at the time Since. The zero Mark says nothing.
type Mark struct {
	Place Place
	Since time.Time
}

// FreeNeed is a queue whose oldest free messages decisions need.
type FreeNeed struct {
	Queue      QueueID
	Number     int64
	Purged     Place
	Mark       Mark
	Want       int // messages at least, if there are so many
	MostClaims int // messages that were claimed so often come besides; 0: no rule
}

// AheadNeed is a queue whose free messages from a place on later decisions will need.
type AheadNeed struct {
	Queue  QueueID
	Number int64
	From   Place
}

// FreeMessages are the oldest free messages of a queue, in its order.
type FreeMessages struct {
	Messages []Message
	// Beyond is where looking ended: at and behind this place there may be more. 0:
	// there are no others.
	Beyond Place
	// Until is when something else becomes free by itself: a claim ends, or a delay.
	// Zero: nothing does.
	Until time.Time
}

// MessageNeeds are the messages that the decisions of a batch need: by name, by claim,
// and the oldest free ones of queues.
type MessageNeeds struct {
	Named  []MessageNeed
	Claims []ClaimNeed
	Free   []FreeNeed
}

// Empty: nothing is needed.
func (n MessageNeeds) Empty() bool { return len(n.Named)+len(n.Claims)+len(n.Free) == 0 }

// LoadedMessages are the messages that decisions need, as they are at a moment.
type LoadedMessages struct {
	Named  map[MessageRef]Message // those that are alive
	Live   map[ClaimRef]bool      // claims named with them that are live
	Claims map[ClaimRef]Claim     // those that are live
	Free   map[QueueID]FreeMessages
}

// SubscriptionNeed is what a decision has to know of the subscriptions to a queue.
type SubscriptionNeed struct {
	Queue      QueueID
	IDs        []SubscriptionID // these
	Subscriber string           // and that of this subscriber; empty: nobody's
	// First of the subscriptions, in the order of their ids, that were made by an event
	// up to the position Upto.
	First int
	Upto  int64
}
