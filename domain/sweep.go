package domain

// Sweepable is what nobody can see any more of a queue, as far as one sweep goes.
type Sweepable struct {
	Queue   QueueID
	Number  int64
	Deleted bool
	// Purged is the queue's watermark that the rest goes by.
	Purged Place
	// Expired are places of messages that have expired, in order, with few others between
	// the first and the last of a range.
	Expired []PlaceRange
	// Upto: everything up to here belongs to what was purged, or to a deleted queue;
	// 0: nothing does. Clean: nothing else does.
	Upto  Place
	Clean bool
	// Claims that ended some time ago, and the lowest place that one of them held, but for
	// those all of whose messages were deleted.
	Claims []ClaimID
	Lowest Place
	// Counted: the messages up to here can be kept count of; 0: it is not worth it.
	Counted Place
	// Empty: there is neither a message nor a claim besides those above.
	Empty bool
}

// Sweep decides what sweeping a queue records. It takes nothing away that a client
// could still see. q is the queue that bears the name now; it may be another.
func (q Queue) Sweep(s Sweepable) []Event {
	swept := MessagesSwept{
		Project: s.Queue.Project, Queue: s.Queue.Name, Number: s.Number,
		Expired: s.Expired, Upto: s.Upto, Claims: s.Claims, Lowest: s.Lowest, Over: s.Deleted && s.Empty,
	}
	if s.Clean && !s.Deleted {
		swept.Upto, swept.Clean = s.Purged, true
	}
	if !s.Deleted && q.Number == s.Number && q.Purged == s.Purged {
		swept.Counted, swept.CountedAfter = s.Counted, s.Purged
	}
	if swept.Counted == 0 {
		swept.CountedAfter = 0
	}
	if len(swept.Expired) == 0 && swept.Upto == 0 && len(s.Claims) == 0 && swept.Counted == 0 && !swept.Over {
		return nil
	}
	return []Event{swept}
}
