package projections

import (
	"slices"
	"time"

	"nabu/domain"
	"nabu/eventstore"
)

// settle leaves out what comes and goes within the slice: it need not be written. What
// is taken away later than the slice began, but was there before, is only taken away.
// Counts do not mind: none of them reaches as far as a place of the slice itself.
func (c *messageChange) settle(history []eventstore.RecordedEvent) {
	if len(c.gone) == 0 && len(c.swept) == 0 {
		return
	}
	gone := make(map[domain.Place]bool, len(c.gone)) // places are unique in the ledger
	for _, at := range c.gone {
		gone[at.place] = true
	}
	c.settleSwept(gone)
	c.held.rows = slices.DeleteFunc(c.held.rows, func(row *heldRow) bool { return gone[row.place] })
	c.posted.remove(c, gone)
	c.moved = slices.DeleteFunc(c.moved, func(row movedRow) bool { return gone[row.place] })
	first := domain.PlaceOf(history[0].Position, 0)
	c.gone = slices.DeleteFunc(c.gone, func(at placed) bool { return at.place >= first })
}

// settleSwept adds the places of posted messages that sweeps took away to those that are
// gone, and leaves out claims that were swept.
func (c *messageChange) settleSwept(gone map[domain.Place]bool) {
	over := map[domain.ClaimID]bool{}
	rows := map[int64][]int{} // indexes of posted rows by queue, in the order of places
	if len(c.swept) > 0 {
		for i, queue := range c.posted.queues {
			rows[queue] = append(rows[queue], i)
		}
	}
	for _, recorded := range c.swept {
		e := recorded.Event.(domain.MessagesSwept)
		for _, id := range e.Claims {
			over[id] = true
		}
		for _, r := range e.Expired {
			c.settleRange(rows[e.Number], r, recorded.RecordedAt, gone)
		}
		if e.Upto > 0 {
			c.settleRange(rows[e.Number], domain.PlaceRange{Last: e.Upto}, time.Time{}, gone)
		}
	}
	if len(over) > 0 {
		c.claims.rows = slices.DeleteFunc(c.claims.rows, func(row *claimRow) bool { return over[row.id] })
	}
}

// settleRange marks the messages between two places, of those posted to one queue, that
// had expired at a time; all of them if that is zero.
func (c *messageChange) settleRange(rows []int, r domain.PlaceRange, at time.Time, gone map[domain.Place]bool) {
	begin, _ := slices.BinarySearchFunc(rows, r.First, func(i int, first domain.Place) int {
		return int(min(max(domain.Place(c.posted.places[i])-first, -1), 1))
	})
	for _, i := range rows[begin:] {
		place := domain.Place(c.posted.places[i])
		if place > r.Last {
			return
		}
		expires := c.times[i].Add(time.Duration(c.posted.ttls[i]) * time.Second)
		if row := c.held.byKey[place]; row != nil && row.ttl > 0 {
			expires = row.expires
		}
		if at.IsZero() || !expires.After(at) {
			gone[place] = true
		}
	}
}

// remove leaves out messages that are gone.
func (rows *postedRows) remove(c *messageChange, gone map[domain.Place]bool) {
	kept := 0
	for i, place := range rows.places {
		if gone[domain.Place(place)] {
			continue
		}
		rows.queues[kept], rows.places[kept], rows.ids[kept] = rows.queues[i], place, rows.ids[i]
		rows.clients[kept], rows.ttls[kept], rows.delays[kept] = rows.clients[i], rows.ttls[i], rows.delays[i]
		rows.bodies[kept], c.times[kept] = rows.bodies[i], c.times[i]
		if len(rows.keys) > 0 {
			rows.keys[kept] = rows.keys[i]
		}
		kept++
	}
	rows.queues, rows.places, rows.ids = rows.queues[:kept], rows.places[:kept], rows.ids[:kept]
	rows.clients, rows.ttls, rows.delays = rows.clients[:kept], rows.ttls[:kept], rows.delays[:kept]
	rows.bodies, c.times = rows.bodies[:kept], c.times[:kept]
	rows.keys = rows.keys[:min(kept, len(rows.keys))]
}
