package projections

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
)

// Messages are the messages in each queue, and the claims that hold them.
var Messages = Projection{
	Name: "messages", DDL: mustDDL("messages", "messagewrites", "messageloads", "messagestats", "sweep"), Apply: applyToMessages,
}

// messageChange is the last word of a slice of history on each message and claim, in
// the order of first mention.
type messageChange struct {
	posted postedRows
	times  []time.Time // when each was posted
	moved  []movedRow
	held   mentions[domain.Place, heldRow] // places are unique in the ledger
	claims mentions[domain.ClaimID, claimRow]
	gone   []placed
	swept  []eventstore.RecordedEvent
	counts []*countRow
}

// placed is a place in a queue.
type placed struct {
	queue int64
	place domain.Place
}

// movedRow is a message that came from elsewhere.
type movedRow struct {
	placed
	domain.MovedMessage
}

// heldRow is what claims have made of a message.
type heldRow struct {
	placed
	claim   domain.ClaimID // zero: released
	ends    time.Time
	count   int // how much the number of its claims has grown
	ttl     int // 0: as it was
	expires time.Time
}

// claimRow is what has become of a claim.
type claimRow struct {
	claimChange
	id       domain.ClaimID
	created  bool // within the slice
	place    domain.Place
	messages []domain.ClaimedMessage // that it was created with
}

// claimChange is what may have changed alike in several claims of a queue.
type claimChange struct {
	queue   int64
	ttl     int // 0: as it was
	renewed time.Time
	ends    time.Time // zero: as it was
	held    int       // if not created: how much it has changed
	// released: given up before its end. 1 or 0, as the statement has it.
	released int
}

// foldMessages gathers the last words.
func foldMessages(history []eventstore.RecordedEvent) *messageChange {
	c := &messageChange{}
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.MessagesPosted:
			c.posted.add(recorded.Position, e)
			for range e.Messages {
				c.times = append(c.times, recorded.RecordedAt)
			}
		case domain.MessagesMovedIn:
			for i, m := range e.Messages {
				c.moved = append(c.moved, movedRow{placed{e.Number, domain.PlaceOf(recorded.Position, i)}, m})
			}
		case domain.MessagesClaimed:
			c.claimed(recorded, e)
		case domain.ClaimRenewed:
			c.renewed(recorded.RecordedAt, e)
		case domain.ClaimReleased:
			c.released(recorded.RecordedAt, e)
		case domain.MessagesDeleted:
			for _, m := range e.Messages {
				c.gone = append(c.gone, placed{e.Number, m.Place})
				if m.Claim != nil {
					c.claim(e.Number, *m.Claim).held--
				}
			}
		case domain.MessagesPopped:
			c.leave(e.Number, e.Messages)
		case domain.MessagesMovedOut:
			c.leave(e.Number, e.Messages)
		case domain.MessagesSwept:
			c.swept = append(c.swept, recorded)
		}
	}
	c.counts = foldCounts(history)
	return c
}

func (c *messageChange) leave(queue int64, messages []domain.MessageAt) {
	for _, m := range messages {
		c.gone = append(c.gone, placed{queue, m.Place})
	}
}

// hold finds what is known of a message.
func (c *messageChange) hold(queue int64, place domain.Place) *heldRow {
	row := c.held.of(place)
	row.placed = placed{queue, place}
	return row
}

// claim finds what is known of a claim.
func (c *messageChange) claim(queue int64, id domain.ClaimID) *claimRow {
	row := c.claims.of(id)
	row.queue, row.id = queue, id
	return row
}

func (c *messageChange) claimed(recorded eventstore.RecordedEvent, e domain.MessagesClaimed) {
	at, life := recorded.RecordedAt, domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}
	claim := c.claim(e.Number, e.Claim)
	claim.created, claim.place = true, domain.PlaceOf(recorded.Position, 0)
	claim.ttl, claim.renewed, claim.ends, claim.held = e.TTL, at, life.End(at), len(e.Messages)
	claim.messages = e.Messages
	for _, m := range e.Messages {
		row := c.hold(e.Number, m.Place)
		if e.Counted {
			row.count++
		}
		row.take(e.Claim, life, m.Extended, at)
	}
}

func (row *heldRow) take(claim domain.ClaimID, life domain.ClaimLife, extended bool, at time.Time) {
	row.claim, row.ends = claim, life.End(at)
	if extended {
		row.ttl = life.TTL + life.Grace
		row.expires = at.Add(time.Duration(row.ttl) * time.Second)
	}
}

func (c *messageChange) renewed(at time.Time, e domain.ClaimRenewed) {
	life := domain.ClaimLife{TTL: e.TTL, Grace: e.Grace}
	claim := c.claim(e.Number, e.Claim)
	claim.ttl, claim.renewed, claim.ends = e.TTL, at, life.End(at)
	for _, m := range e.Messages {
		c.hold(e.Number, m.Place).take(e.Claim, life, m.Extended, at)
	}
}

func (c *messageChange) released(at time.Time, e domain.ClaimReleased) {
	claim := c.claim(e.Number, e.Claim)
	claim.ends, claim.released = at, 1
	for _, m := range e.Messages {
		row := c.hold(e.Number, m.Place)
		row.claim, row.ends = domain.ClaimID{}, time.Time{}
	}
}

// applyToMessages writes the last words: what was added first and what has gone
// last, so that a message that comes and goes within the slice is no special case.
func applyToMessages(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	c := foldMessages(history)
	c.settle(history)
	if !c.empty() {
		if _, err := tx.ExecContext(ctx, writeMessages, c.args()...); err != nil {
			return fmt.Errorf("write messages: %w", err)
		}
	}
	return c.sweep(ctx, tx)
}

func (c *messageChange) empty() bool {
	return len(c.times) == 0 && len(c.moved) == 0 && len(c.held.rows) == 0 && len(c.claims.rows) == 0 && len(c.gone) == 0
}

// writeArgs is how many parameters write_messages has.
const writeArgs = 43

var writeMessages = `SELECT write_messages(` + placeholders(1, writeArgs) + `)`

// args are the parameters of write_messages.
func (c *messageChange) args() []any {
	args := append(make([]any, 0, writeArgs), c.postedArgs()...)
	args = append(args, c.movedArgs()...)
	args = append(args, c.heldArgs()...)
	args = append(args, c.claimArgs()...)
	return append(args, c.goneArgs()...)
}

func (c *messageChange) postedArgs() []any {
	if len(c.times) == 0 {
		return nothing(9)
	}
	return append(c.posted.args(), pgarray.Times(c.times))
}

// together gathers rows that change alike, in the order of first mention.
func together[R any, K comparable](rows []R, how func(R) K) (groups [][]R) {
	index := make(map[K]int, 1)
	for _, row := range rows {
		key := how(row)
		i, known := index[key]
		if !known {
			i = len(groups)
			index[key] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], row)
	}
	return groups
}

// heldArgs are one element for all messages that change alike, with their places.
func (c *messageChange) heldArgs() []any {
	if len(c.held.rows) == 0 {
		return nothing(7)
	}
	groups := together(c.held.rows, func(row *heldRow) heldRow {
		alike := *row
		alike.place = 0
		return alike
	})
	n := len(groups)
	queues, claims, ends, places := make([]int64, n), make([]uuid.UUID, n), make([]time.Time, n), make([][]byte, n)
	counts, ttls, expiries := make([]int, n), make([]int, n), make([]time.Time, n)
	for i, rows := range groups {
		row := rows[0]
		queues[i], claims[i], ends[i] = row.queue, row.claim, row.ends
		counts[i], ttls[i], expiries[i] = row.count, row.ttl, row.expires
		places[i] = arrayText(rows, func(text []byte, row *heldRow) []byte { return strconv.AppendInt(text, int64(row.place), 10) })
	}
	return []any{
		pgarray.BigInts(queues), pgarray.UUIDsOrNull(claims), pgarray.TimesOrNull(ends), pgarray.Ints(counts),
		pgarray.Ints(ttls), pgarray.TimesOrNull(expiries), pgarray.Texts(places),
	}
}

// arrayText is the text of an array whose elements need no quotes.
func arrayText[E any](elements []E, add func(text []byte, e E) []byte) []byte {
	text := make([]byte, 0, 2+20*len(elements))
	text = append(text, '{')
	for i, e := range elements {
		if i > 0 {
			text = append(text, ',')
		}
		text = add(text, e)
	}
	return append(text, '}')
}

func (c *messageChange) claimArgs() []any {
	var created, changed []*claimRow
	for _, row := range c.claims.rows {
		if row.created {
			created = append(created, row)
		} else {
			changed = append(changed, row)
		}
	}
	return append(createdClaimArgs(created), changedClaimArgs(changed)...)
}

func createdClaimArgs(created []*claimRow) []any {
	n := len(created)
	if n == 0 {
		return nothing(9)
	}
	ids, places, texts := make([]uuid.UUID, n), make([]domain.Place, n), make([][]byte, n)
	for i, row := range created {
		ids[i], places[i] = row.id, row.place
		texts[i] = arrayText(row.messages, func(text []byte, m domain.ClaimedMessage) []byte {
			return strconv.AppendInt(text, int64(m.Place), 10)
		})
	}
	its := claimColumns(created)
	return []any{
		its.queues, pgarray.UUIDs(ids), pgarray.BigInts(places), its.ttls, its.renewed, its.ends, its.held, its.released,
		pgarray.Texts(texts),
	}
}

// changedClaimArgs are one element for all claims that change alike, with their ids.
func changedClaimArgs(rows []*claimRow) []any {
	if len(rows) == 0 {
		return nothing(7)
	}
	groups := together(rows, func(row *claimRow) claimChange { return row.claimChange })
	first, ids := make([]*claimRow, len(groups)), make([][]byte, len(groups))
	for i, alike := range groups {
		first[i] = alike[0]
		ids[i] = arrayText(alike, func(text []byte, row *claimRow) []byte { return append(text, row.id.String()...) })
	}
	its := claimColumns(first)
	return []any{its.queues, its.ttls, its.renewed, its.ends, its.held, its.released, pgarray.Texts(ids)}
}

// claimParams are claims column by column, as parameters.
type claimParams struct{ queues, ttls, renewed, ends, held, released []byte }

func claimColumns(rows []*claimRow) claimParams {
	n := len(rows)
	queues, ttls, held := make([]int64, n), make([]int, n), make([]int, n)
	renewed, ends, released := make([]time.Time, n), make([]time.Time, n), make([]int, n)
	for i, row := range rows {
		queues[i], ttls[i], held[i] = row.queue, row.ttl, row.held
		renewed[i], ends[i], released[i] = row.renewed, row.ends, row.released
	}
	return claimParams{
		pgarray.BigInts(queues), pgarray.Ints(ttls),
		pgarray.TimesOrNull(renewed), pgarray.TimesOrNull(ends), pgarray.Ints(held), pgarray.Ints(released),
	}
}

// goneArgs are one element for each queue, with the places of its messages.
func (c *messageChange) goneArgs() []any {
	if len(c.gone) == 0 {
		return nothing(2)
	}
	groups := together(c.gone, func(at placed) int64 { return at.queue })
	queues, texts := make([]int64, len(groups)), make([][]byte, len(groups))
	for i, its := range groups {
		queues[i] = its[0].queue
		texts[i] = arrayText(its, func(text []byte, at placed) []byte { return strconv.AppendInt(text, int64(at.place), 10) })
	}
	return []any{pgarray.BigInts(queues), pgarray.Texts(texts)}
}

func placedArgs(rows []placed) []any {
	queues, places := make([]int64, len(rows)), make([]domain.Place, len(rows))
	for i, row := range rows {
		queues[i], places[i] = row.queue, row.place
	}
	return []any{pgarray.BigInts(queues), pgarray.BigInts(places)}
}

// movedArgs are the messages that came from other queues. They are free at once.
func (c *messageChange) movedArgs() []any {
	n := len(c.moved)
	if n == 0 {
		return nothing(9)
	}
	at, ids, clients, ttls := make([]placed, n), make([]uuid.UUID, n), make([]string, n), make([]int, n)
	created, expires, bodies := make([]time.Time, n), make([]time.Time, n), make([]string, n)
	keys := make([]uuid.UUID, n)
	for i, row := range c.moved {
		at[i], ids[i], clients[i], ttls[i] = row.placed, row.ID, row.Client, row.TTL
		created[i], expires[i], bodies[i], keys[i] = row.Created, row.Expires, row.Body, row.Key
	}
	return append(placedArgs(at), pgarray.UUIDs(ids), pgarray.Texts(clients), pgarray.Ints(ttls),
		pgarray.Times(created), pgarray.Times(expires), pgarray.UUIDsOrNull(keys), pgarray.Texts(bodies))
}
