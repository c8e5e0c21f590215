package commands

import (
	"cmp"
	"slices"
	"time"

	"nabu/domain"
)

// freeState are the free messages of a queue, as far as they were looked for, overlaid
// with what was decided since.
type freeState struct {
	domain.FreeMessages
	ahead *ahead // while more is being loaded; nil: nothing is
	room  int    // for so many messages at least
}

// knownAt tells whether nothing else has become free by itself up to a time.
func (f *freeState) knownAt(now time.Time) bool { return f.Until.IsZero() || now.Before(f.Until) }

// serves tells whether so many free messages are known at a time, or all that there are.
// No more than the first that are wanted are looked at: if one of them has expired, all that
// have are taken out.
func (f *freeState) serves(want int, now time.Time) bool {
	if f == nil || !f.knownAt(now) {
		return false
	}
	expired := func(m domain.Message) bool { return !m.Expires.After(now) }
	if slices.ContainsFunc(f.Messages[:min(want, len(f.Messages))], expired) {
		f.Messages = slices.DeleteFunc(f.Messages, expired)
	}
	return f.Beyond == 0 || len(f.Messages) >= want
}

// offers tells whether so many messages are known that were not claimed too often, or all that
// there are.
func (f *freeState) offers(want, mostClaims int) bool {
	if f.Beyond == 0 {
		return true
	}
	for _, m := range f.Messages {
		if mostClaims == 0 || m.ClaimCount < mostClaims {
			want--
		}
	}
	return want <= 0
}

// namedFree counts by queue the messages loaded by name that are free as well: whoever deletes
// them comes before those who claim.
func (s *State) namedFree() (counts map[domain.QueueID]int) {
	for ref, m := range s.messages {
		f := s.free(ref.Queue)
		if f == nil {
			continue
		}
		if _, free := f.find(m.Place); free {
			if counts == nil {
				counts = map[domain.QueueID]int{}
			}
			counts[ref.Queue]++
		}
	}
	return counts
}

// until takes note that something becomes free by itself.
func (f *freeState) until(at time.Time) {
	if f.Until.IsZero() || at.Before(f.Until) {
		f.Until = at
	}
}

// trim keeps the first of the messages.
func (f *freeState) trim(most int) {
	f.room = max(f.room, len(f.Messages))
	if len(f.Messages) > most {
		f.ahead = nil // which is behind another place
		f.Beyond = f.Messages[most].Place
		clear(f.Messages[most:])
		f.Messages = f.Messages[:most]
	}
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

// record overlays the free messages of a queue with an event of its stream, and returns
// those that it has taken.
func (f *freeState) record(position int64, e domain.Event, now time.Time) (taken []domain.Message) {
	switch e := e.(type) {
	case domain.QueueCreated, domain.QueueDeleted, domain.QueuePurged:
		*f = freeState{}
	case domain.MessagesDeleted:
		return f.remove(len(e.Messages), func(i int) domain.Place { return e.Messages[i].Place })
	case domain.MessagesPopped:
		return f.remove(len(e.Messages), func(i int) domain.Place { return e.Messages[i].Place })
	case domain.MessagesClaimed:
		f.until(domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}.End(now))
		return f.remove(len(e.Messages), func(i int) domain.Place { return e.Messages[i].Place })
	case domain.ClaimRenewed:
		f.until(domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}.End(now))
	case domain.MessagesMovedOut:
		return f.remove(len(e.Messages), func(i int) domain.Place { return e.Messages[i].Place })
	case domain.MessagesPosted:
		f.post(position, e, now)
	case domain.MessagesMovedIn:
		for i, m := range e.Messages {
			f.add(domain.Message{
				ID: m.ID, Place: domain.PlaceOf(position, i), QueueNumber: e.Number, Client: m.Client, TTL: m.TTL,
				Created: m.Created, Expires: m.Expires, Key: m.Key, Body: m.Body,
			})
		}
	}
	return nil
}

// add puts in a message, unless it stands where nobody has looked yet.
func (f *freeState) add(m domain.Message) {
	if f.Beyond > 0 && m.Place >= f.Beyond {
		if f.ahead != nil {
			f.ahead.add(m)
		}
		return
	}
	if i, there := f.find(m.Place); !there {
		f.Messages = slices.Insert(f.Messages, i, m)
	}
}

// find tells where the message at a place is, or would be.
func (f *freeState) find(place domain.Place) (i int, there bool) {
	return slices.BinarySearchFunc(f.Messages, place, func(m domain.Message, place domain.Place) int {
		return cmp.Compare(m.Place, place)
	})
}

// remove takes out those of some messages that are known. Most often they are the first, or
// none: what is deleted was claimed before.
func (f *freeState) remove(n int, place func(int) domain.Place) (removed []domain.Message) {
	var at []int
	for i := range n {
		if j, there := f.find(place(i)); there {
			at = append(at, j)
		} else if f.ahead != nil && place(i) >= f.Beyond {
			f.ahead.spoil()
		}
	}
	slices.Sort(at)
	at = slices.Compact(at)
	for _, i := range at {
		removed = append(removed, f.Messages[i])
	}
	if last := len(at) - 1; last < 0 || at[last] == last {
		clear(f.Messages[:len(at)])
		f.Messages = f.Messages[len(at):]
		return removed
	}
	for _, i := range slices.Backward(at) {
		f.Messages = slices.Delete(f.Messages, i, i+1)
	}
	return removed
}

func (f *freeState) post(position int64, e domain.MessagesPosted, now time.Time) {
	for i, m := range e.Messages {
		if m.Delay > 0 {
			f.until(now.Add(time.Duration(m.Delay) * time.Second))
			continue
		}
		f.add(domain.Message{
			ID: m.ID, Place: domain.PlaceOf(position, i), QueueNumber: e.Number, Client: e.Client, TTL: m.TTL,
			Created: now, Expires: now.Add(time.Duration(m.TTL) * time.Second), Key: e.Key, Body: m.Body,
		})
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
