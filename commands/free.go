package commands

import (
	"cmp"
	"slices"
	"time"

	"nabu/domain"
)

// freeState are the free messages of a queue, as far as they were looked for, overlaid
// with what the batch has decided.
type freeState struct {
	domain.FreeMessages
}

// low is the place below which nothing is free, once the ledger has this head.
func (f *freeState) low(head int64) domain.Place {
	low := f.Beyond
	if low == 0 { // all was looked at
		low = domain.PlaceOf(head+1, 0)
	}
	if len(f.Messages) > 0 {
		low = min(low, f.Messages[0].Place)
	}
	return low
}

// record overlays the free messages of a queue with an event of its stream.
func (f *freeState) record(position int64, e domain.Event, now time.Time) {
	switch e := e.(type) {
	case domain.QueueCreated, domain.QueueDeleted, domain.QueuePurged:
		f.FreeMessages = domain.FreeMessages{}
	case domain.MessagesDeleted:
		f.remove(len(e.Messages), func(i int) domain.Place { return e.Messages[i].Place })
	case domain.MessagesPopped:
		f.remove(len(e.Messages), func(i int) domain.Place { return e.Messages[i].Place })
	case domain.MessagesClaimed:
		f.remove(len(e.Messages), func(i int) domain.Place { return e.Messages[i].Place })
	case domain.MessagesMovedOut:
		f.remove(len(e.Messages), func(i int) domain.Place { return e.Messages[i].Place })
	case domain.MessagesPosted:
		f.post(position, e, now)
	case domain.MessagesMovedIn:
		for i, m := range e.Messages {
			f.add(domain.Message{
				ID: m.ID, Place: domain.PlaceOf(position, i), QueueNumber: e.Number, Client: m.Client, TTL: m.TTL,
				Created: m.Created, Expires: m.Expires, Body: m.Body,
			})
		}
	}
}

// add puts in a message, unless it stands where nobody has looked yet.
func (f *freeState) add(m domain.Message) {
	if f.Beyond > 0 && m.Place >= f.Beyond {
		return
	}
	i, there := slices.BinarySearchFunc(f.Messages, m.Place, func(m domain.Message, place domain.Place) int {
		return cmp.Compare(m.Place, place)
	})
	if !there {
		f.Messages = slices.Insert(f.Messages, i, m)
	}
}

func (f *freeState) remove(n int, place func(int) domain.Place) {
	gone := make(map[domain.Place]bool, n)
	for i := range n {
		gone[place(i)] = true
	}
	f.Messages = slices.DeleteFunc(f.Messages, func(m domain.Message) bool { return gone[m.Place] })
}

func (f *freeState) post(position int64, e domain.MessagesPosted, now time.Time) {
	for i, m := range e.Messages {
		if m.Delay == 0 {
			f.add(domain.Message{
				ID: m.ID, Place: domain.PlaceOf(position, i), QueueNumber: e.Number, Client: e.Client, TTL: m.TTL,
				Created: now, Expires: now.Add(time.Duration(m.TTL) * time.Second), Body: m.Body,
			})
		}
	}
}

// release puts back what a claim held.
func (f *freeState) release(claim *domain.Claim) {
	if claim == nil {
		return
	}
	for _, m := range claim.Messages {
		m.Claim, m.ClaimEnds = domain.ClaimID{}, time.Time{}
		f.add(m)
	}
}
