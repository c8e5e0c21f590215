package eventstore

import (
	"cmp"
	"slices"
	"sync"

	"nabu/domain"
)

// Bounds of what is kept of the last events: about half a second of what a ledger takes in at
// most, and a consumer that keeps up rests for a tenth of that.
const (
	maxRecent      = 4096
	maxRecentBytes = 4 << 20
)

// Recent are the last events that a process has appended, for the feeds of the same process:
// what their readers find here they need not read back. It holds at most 4096 events, or 4 MiB
// of what they say, and only such as stand behind each other in the ledger: once somebody else
// has appended, it begins anew. Of events with bodies it knows no more than where they stand. The
// zero Recent is empty. It may be used by several goroutines; a nil one keeps nothing.
type Recent struct {
	mu      sync.RWMutex
	batches []recentBatch // in order, without a gap
	events  int
	bytes   int
}

// recentBatch is a batch as it stands in the ledger.
type recentBatch struct {
	events []recentEvent
	bytes  int // of all that they say
}

// recentEvent is one of its events.
type recentEvent struct {
	RecordedEvent // without the Event, if that has bodies
	eventType     string
	size          int // of what it says, in bytes
}

func (b recentBatch) last() recentEvent { return b.events[len(b.events)-1] }

// Add keeps a batch that was committed with a head. The events are not to be changed any more.
func (r *Recent) Add(b *Batch, head Head) {
	if r == nil || len(b.Events) == 0 {
		return
	}
	added := recentBatch{events: make([]recentEvent, len(b.Events))}
	for i, e := range b.Recorded(head.Time) {
		kept := recentEvent{RecordedEvent: e, eventType: e.Event.EventType(), size: b.sizes[i]}
		if _, bodied := e.Event.(domain.Bodied); bodied {
			kept.Event, kept.size = nil, 0
		}
		added.events[i] = kept
		added.bytes += kept.size
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.batches); n > 0 && r.batches[n-1].last().ID != b.Head.ID {
		r.batches, r.events, r.bytes = nil, 0, 0
	}
	r.batches = append(r.batches, added)
	r.events += len(added.events)
	r.bytes += added.bytes
	for r.events > maxRecent || r.bytes > maxRecentBytes {
		r.events -= len(r.batches[0].events)
		r.bytes -= r.batches[0].bytes
		r.batches[0] = recentBatch{}
		r.batches = r.batches[1:]
	}
}

// slice is the events of some types (nil: of all) after a position up to the ledger's head,
// within the bounds of a slice, and tells how far it came; it ends before an event that is wanted
// and not kept. ok is false if nothing is known here. Whoever appends names the event in front, so
// to know the head's id is to know that all before it are those of this ledger.
func (r *Recent) slice(after int64, head Head, maxEvents, maxBytes int, types []string) (events []RecordedEvent, to int64, ok bool) {
	if r == nil {
		return nil, 0, false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if last, there := r.at(head.Position); !there || last.ID != head.ID || r.batches[0].events[0].Position > after+1 {
		return nil, 0, false
	}
	bytes := 0
	for _, batch := range r.batches[r.find(after+1):] {
		for _, e := range batch.events {
			switch {
			case e.Position > head.Position:
				return events, head.Position, true
			case e.Position <= after || types != nil && !slices.Contains(types, e.eventType):
				continue
			case e.Event == nil:
				return events, e.Position - 1, len(events) > 0
			}
			events = append(events, e.RecordedEvent)
			if bytes += e.size; len(events) == maxEvents || bytes >= maxBytes {
				return events, e.Position, true
			}
		}
	}
	return events, head.Position, true
}

// at is the event at a position.
func (r *Recent) at(position int64) (e recentEvent, there bool) {
	i := r.find(position)
	if i == len(r.batches) || r.batches[i].events[0].Position > position {
		return e, false
	}
	batch := r.batches[i].events
	return batch[position-batch[0].Position], true
}

// find is which batch has a position, or the first one behind it.
func (r *Recent) find(position int64) int {
	i, _ := slices.BinarySearchFunc(r.batches, position, func(b recentBatch, position int64) int {
		return cmp.Compare(b.last().Position, position)
	})
	return i
}
