package projections

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// freeBodies is how many bytes of bodies one load of free messages brings along.
// Whoever needs one that was left out reads it after the batch.
const freeBodies = 8 << 20

// loadArgs is how many parameters load_messages has.
const loadArgs = 19

// The table is named before the function is called: so it is locked before the statement
// has a snapshot, and cannot be another one by the time that the function looks at it.
var loadMessages = `
WITH locked AS (SELECT FROM messages)
SELECT asked, of_claim, lives, queue, place, id, client, ttl, created_at, expires_at, claim, claim_ends, claim_count, key, body
FROM load_messages(` + placeholders(1, loadArgs) + `)`

// Messages finds the messages that decisions need at a time.
func (States) Messages(
	ctx context.Context, tx eventstore.Tx, needs domain.MessageNeeds, at time.Time,
) (domain.LoadedMessages, error) {
	l, err := loadWith(ctx, tx, []any{nil, nil, at}, needs)
	return l.loaded, err
}

// Peek finds the messages that decisions need behind the ledger's head, without its
// lock, and the time of a batch that is made on them: by the given clock, or by the
// database's if that is zero. It fails with eventstore.ErrStale when the head is another.
func (States) Peek(
	ctx context.Context, tx eventstore.Tx, head eventstore.Head, clock time.Time, needs domain.MessageNeeds,
) (loaded domain.LoadedMessages, now time.Time, err error) {
	l, err := loadWith(ctx, tx, head.Args(clock), needs)
	if err == nil && l.now.IsZero() {
		err = eventstore.ErrStale
	}
	return l.loaded, l.now, err
}

func loadWith(ctx context.Context, tx eventstore.Tx, behind []any, needs domain.MessageNeeds) (*loading, error) {
	l := newLoading(needs)
	rows, err := tx.QueryContext(ctx, loadMessages, append(append(behind, neededArgs(needs)...), freeBodies, freeAhead)...)
	return l, pgrows.Each("load messages", rows, err, func() error { return l.scan(rows) })
}

// neededArgs are the parameters of load_messages between the time and the bytes of bodies.
func neededArgs(needs domain.MessageNeeds) []any {
	args := make([]any, 0, loadArgs)
	args = append(args, namedArgs(needs.Named)...)
	args = append(args, claimNeedArgs(needs.Claims)...)
	return append(args, freeArgs(needs.Free)...)
}

func namedArgs(needs []domain.MessageNeed) []any {
	n := len(needs)
	if n == 0 {
		return nothing(5)
	}
	queues, purged, places := make([]int64, n), make([]domain.Place, n), make([]domain.Place, n)
	ids, claims := make([]uuid.UUID, n), make([]uuid.UUID, n)
	for i, need := range needs {
		queues[i], purged[i], places[i] = need.Number, need.Purged, domain.PostingPlace(need.ID)
		ids[i], claims[i] = need.ID, need.Claim
	}
	return []any{
		pgarray.BigInts(queues), pgarray.BigInts(purged), pgarray.UUIDs(ids), pgarray.BigInts(places), pgarray.UUIDsOrNull(claims),
	}
}

func claimNeedArgs(needs []domain.ClaimNeed) []any {
	n := len(needs)
	if n == 0 {
		return nothing(3)
	}
	queues, purged, ids := make([]int64, n), make([]domain.Place, n), make([]uuid.UUID, n)
	for i, need := range needs {
		queues[i], purged[i], ids[i] = need.Number, need.Purged, need.ID
	}
	return []any{pgarray.BigInts(queues), pgarray.BigInts(purged), pgarray.UUIDs(ids)}
}

func freeArgs(needs []domain.FreeNeed) []any {
	n := len(needs)
	if n == 0 {
		return nothing(6)
	}
	queues, purged, marks := make([]int64, n), make([]domain.Place, n), make([]domain.Place, n)
	sinces, wants, most := make([]time.Time, n), make([]int, n), make([]int, n)
	for i, need := range needs {
		queues[i], purged[i], marks[i] = need.Number, need.Purged, need.Mark.Place
		sinces[i], wants[i], most[i] = need.Mark.Since, need.Want, need.MostClaims
	}
	return []any{
		pgarray.BigInts(queues), pgarray.BigInts(purged), pgarray.BigInts(marks), pgarray.TimesOrNull(sinces),
		pgarray.Ints(wants), pgarray.Ints(most),
	}
}

// loading puts the rows of load_messages where they are asked for.
type loading struct {
	needs  domain.MessageNeeds
	names  map[int64]domain.QueueID // of the queues whose free messages are needed
	loaded domain.LoadedMessages
	now    time.Time // that of the batch, if the rows tell it
}

func newLoading(needs domain.MessageNeeds) *loading {
	l := &loading{needs: needs, names: make(map[int64]domain.QueueID, len(needs.Free))}
	l.loaded = domain.LoadedMessages{
		Named: make(map[domain.MessageRef]domain.Message, len(needs.Named)), Live: map[domain.ClaimRef]bool{},
		Claims: make(map[domain.ClaimRef]domain.Claim, len(needs.Claims)),
		Free:   make(map[domain.QueueID]domain.FreeMessages, len(needs.Free)),
	}
	for _, need := range needs.Free {
		l.names[need.Number] = need.Queue
	}
	return l
}

// scan reads a row. One that is of no message is the time.
func (l *loading) scan(rows *sql.Rows) error {
	var m domain.Message
	var asked, queue, place, ttl, count sql.NullInt64
	var ofClaim, lives sql.NullBool
	var id, claim, key uuid.NullUUID
	var client, body sql.NullString
	var created, expires, ends sql.NullTime
	if err := rows.Scan(&asked, &ofClaim, &lives, &queue, &place, &id, &client, &ttl, &created, &expires,
		&claim, &ends, &count, &key, &body); err != nil {
		return err
	}
	m.ID, m.Place, m.Client, m.TTL = id.UUID, domain.Place(place.Int64), client.String, int(ttl.Int64)
	m.QueueNumber, m.Created, m.Expires = queue.Int64, created.Time, expires.Time
	m.Claim, m.ClaimEnds, m.ClaimCount = claim.UUID, ends.Time, int(count.Int64)
	m.Key, m.Body = key.UUID, body.String
	switch {
	case ofClaim.Bool:
		l.ofClaim(l.needs.Claims[asked.Int64-1].ClaimRef, m)
	case asked.Valid:
		l.named(l.needs.Named[asked.Int64-1], m, lives.Bool)
	case queue.Valid:
		l.free(l.names[m.QueueNumber], m)
	default:
		l.now = m.Created
	}
	return nil
}

func (l *loading) named(need domain.MessageNeed, m domain.Message, lives bool) {
	l.loaded.Named[need.MessageRef] = m
	if lives {
		l.loaded.Live[domain.ClaimRef{Queue: need.Queue, ID: need.Claim}] = true
	}
}

// ofClaim takes a message that a claim holds, or, without id, that the claim is live.
func (l *loading) ofClaim(ref domain.ClaimRef, m domain.Message) {
	claim := l.loaded.Claims[ref]
	claim.ID = ref.ID
	if m.ID != uuid.Nil {
		claim.Messages = append(claim.Messages, m)
	}
	l.loaded.Claims[ref] = claim
}

// free takes a free message, or, without id, where looking for them ended.
func (l *loading) free(queue domain.QueueID, m domain.Message) {
	free := l.loaded.Free[queue]
	if m.ID != uuid.Nil {
		free.Messages = append(free.Messages, m)
	} else {
		free.Beyond, free.Until = m.Place, m.Created
	}
	l.loaded.Free[queue] = free
}
