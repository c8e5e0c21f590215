package sealing

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"

	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Keys are the data keys of a database, as far as the master keys at hand open them. The
// zero pointer has none. A key that was unwrapped is remembered for a minute at most, so
// no nabu knows one for longer that another has destroyed.
type Keys struct {
	db      *sql.DB
	masters *Masters
	log     *slog.Logger

	mu     sync.Mutex
	known  map[uuid.UUID]*DataKey
	forget *time.Timer // runs while something is known
}

// Bounds of what is remembered.
const (
	maxKnown  = 10_000
	knownLife = time.Minute
)

// NewKeys has the data keys of a database. Without masters it opens and seals nothing.
func NewKeys(db *sql.DB, masters *Masters, log *slog.Logger) *Keys {
	return &Keys{db: db, masters: masters, log: log, known: map[uuid.UUID]*DataKey{}}
}

// CanSeal tells whether there is a master key for new data keys.
func (k *Keys) CanSeal() bool { return k != nil && k.masters != nil }

// Tx is what a statement runs on.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Make makes a data key for a queue. It has to be kept before anything that it has sealed
// is committed.
func (k *Keys) Make(q Queue) (*DataKey, error) {
	if !k.CanSeal() {
		return nil, errNoMaster
	}
	made, err := k.masters.make(q)
	if err != nil {
		return nil, fmt.Errorf("make a data key: %w", err)
	}
	return made, nil
}

// Keep stores data keys, wrapped, in the transaction that commits what they have sealed.
func (k *Keys) Keep(ctx context.Context, tx Tx, made []*DataKey) error {
	n := len(made)
	ids, numbers, wrapped := make([]uuid.UUID, n), make([]int64, n), make([]string, n)
	projects, queues, masters := make([]string, n), make([]string, n), make([]string, n)
	for i, m := range made {
		ids[i], numbers[i], wrapped[i] = m.ID, m.Queue.Number, fmt.Sprintf(`%x`, m.wrapped)
		projects[i], queues[i], masters[i] = m.Queue.Project, m.Queue.Name, m.Master
	}
	_, err := tx.ExecContext(ctx, `
INSERT INTO secrets.data_keys (id, project, queue, number, master, wrapped)
SELECT k.id, k.project, k.queue, k.number, k.master, decode(k.wrapped, 'hex')
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[])
    AS k (id, project, queue, number, master, wrapped)`,
		pgarray.UUIDs(ids), pgarray.Texts(projects), pgarray.Texts(queues), pgarray.BigInts(numbers),
		pgarray.Texts(masters), pgarray.Texts(wrapped))
	if err != nil {
		return fmt.Errorf("keep data keys: %w", err)
	}
	return nil
}

const keyColumns = `k.id, k.project, k.queue, k.number, k.master, k.wrapped`

// OfQueues finds the newest data key of each queue that has one, by the queues' numbers.
// Keys that no master key at hand opens are left out.
func (k *Keys) OfQueues(ctx context.Context, tx Tx, numbers []int64) (map[int64]*DataKey, error) {
	found, err := k.fetch(ctx, tx, `
SELECT DISTINCT ON (k.number) `+keyColumns+`
FROM secrets.data_keys k
WHERE k.number = ANY ($1::bigint[]) AND k.wrapped IS NOT NULL
ORDER BY k.number, k.id DESC`, pgarray.BigInts(numbers))
	if err != nil {
		return nil, err
	}
	of := make(map[int64]*DataKey, len(found))
	for _, key := range found {
		of[key.Queue.Number] = key
	}
	return of, nil
}

// Find finds data keys by their ids. Those that are destroyed or that no master key at
// hand opens are left out.
func (k *Keys) Find(ctx context.Context, tx Tx, ids []uuid.UUID) (map[uuid.UUID]*DataKey, error) {
	return k.fetch(ctx, tx, `
SELECT `+keyColumns+`
FROM secrets.data_keys k
WHERE k.id = ANY ($1::uuid[]) AND k.wrapped IS NOT NULL`, pgarray.UUIDs(ids))
}

func (k *Keys) fetch(ctx context.Context, tx Tx, query string, args ...any) (map[uuid.UUID]*DataKey, error) {
	if !k.CanSeal() {
		return nil, nil
	}
	stored, err := readKeys(ctx, tx, query, args...)
	if err != nil {
		return nil, err
	}
	usable := make(map[uuid.UUID]*DataKey, len(stored))
	for _, key := range stored {
		if err := k.masters.unwrap(key); err != nil {
			k.log.Error("a data key cannot be opened", "key", key.ID, "master", key.Master, "queue", key.Queue.Name, "error", err)
			continue
		}
		usable[key.ID] = key
	}
	k.remember(usable)
	return usable, nil
}

func readKeys(ctx context.Context, tx Tx, query string, args ...any) (keys []*DataKey, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	err = pgrows.Each("read data keys", rows, err, func() error {
		key := &DataKey{}
		if err := rows.Scan(&key.ID, &key.Queue.Project, &key.Queue.Name, &key.Queue.Number, &key.Master, &key.wrapped); err != nil {
			return err
		}
		keys = append(keys, key)
		return nil
	})
	return keys, err
}

// remember takes in keys that were unwrapped. If there are too many, others go, in no
// order; after a while all do.
func (k *Keys) remember(keys map[uuid.UUID]*DataKey) {
	if len(keys) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.Copy(k.known, keys)
	for id := range k.known {
		if len(k.known) <= maxKnown {
			break
		}
		delete(k.known, id)
	}
	if k.forget == nil {
		k.forget = time.AfterFunc(knownLife, k.Forget)
	}
}

// Known is a key that is remembered, or nil.
func (k *Keys) Known(id uuid.UUID) *DataKey {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[id]
}

// Forget forgets all keys: one of them was destroyed, or they are old.
func (k *Keys) Forget() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.known)
	if k.forget != nil {
		k.forget.Stop()
		k.forget = nil
	}
}

// ErrLocked: a body was sealed with a key that no master key at hand opens, or that the
// database does not have.
var ErrLocked = errors.New("a body is sealed with a key that is not at hand")

// Body is the body of a message as it is stored, and then as it was posted.
type Body struct {
	Message uuid.UUID
	Key     uuid.UUID // that it is sealed with; zero: it is plain
	Text    string
	// Gone: its key was destroyed, or it is damaged, which is logged. Text is empty.
	Gone bool
}

// Open opens the bodies of messages of one project, in place; plain ones it leaves alone.
// Whoever shows or sends bodies gets them here. It asks the database only for keys that
// are not remembered. It fails with ErrLocked.
func (k *Keys) Open(ctx context.Context, project string, bodies []Body) error {
	held, err := k.hold(context.WithoutCancel(ctx), bodies) // a cancellation may break a pooler
	if err != nil {
		return err
	}
	for i := range bodies {
		b := &bodies[i]
		if b.Key == uuid.Nil {
			continue
		}
		key := held[b.Key]
		if key == nil {
			b.Text, b.Gone = "", true
			continue
		}
		plain, err := key.Open(project, b.Message, b.Text)
		if err != nil {
			k.log.Error("a message's body does not open; the message is shown to nobody",
				"message", b.Message, "project", project, "key", b.Key, "error", err)
			b.Gone = true
		}
		b.Text = plain
	}
	return nil
}

// hold finds the keys of bodies; nil for those that were destroyed.
func (k *Keys) hold(ctx context.Context, bodies []Body) (map[uuid.UUID]*DataKey, error) {
	var held map[uuid.UUID]*DataKey
	var missing []uuid.UUID
	for _, b := range bodies {
		if _, seen := held[b.Key]; seen || b.Key == uuid.Nil {
			continue
		}
		if held == nil {
			held = map[uuid.UUID]*DataKey{}
		}
		if held[b.Key] = k.Known(b.Key); held[b.Key] == nil {
			missing = append(missing, b.Key)
		}
	}
	if len(missing) == 0 {
		return held, nil
	}
	if !k.CanSeal() {
		return nil, ErrLocked
	}
	found, err := k.Find(ctx, k.db, missing)
	if err != nil {
		return nil, err
	}
	maps.Copy(held, found)
	return held, k.allDestroyed(ctx, held)
}

// allDestroyed fails with ErrLocked unless those that have no key here were destroyed.
func (k *Keys) allDestroyed(ctx context.Context, held map[uuid.UUID]*DataKey) error {
	var without []uuid.UUID
	for id, key := range held {
		if key == nil {
			without = append(without, id)
		}
	}
	if len(without) == 0 {
		return nil
	}
	var destroyed int
	err := k.db.QueryRowContext(ctx,
		`SELECT count(*) FROM secrets.data_keys WHERE id = ANY ($1::uuid[]) AND wrapped IS NULL`, pgarray.UUIDs(without)).Scan(&destroyed)
	if err != nil {
		return fmt.Errorf("look for destroyed keys: %w", err)
	}
	if destroyed < len(without) {
		return ErrLocked
	}
	return nil
}
