// Package secrets keeps keys in the database's schema of that name, which nothing else
// reads: they are in no ledger, no export and no log, and every nabu on the database has
// the same ones.
package secrets

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
)

// Size of a key that is made here; bytes.
const Size = 32

// The names of keys. A name is never used again for something else.
const (
	SignedURLs = "signed-urls"
)

// Key is the random key of a name. It is made when it is asked for the first time; of
// several that ask at once all get the same one. It lasts as long as the database.
func Key(ctx context.Context, db *sql.DB, name string) ([]byte, error) {
	fresh := make([]byte, Size)
	_, _ = rand.Read(fresh) // never fails
	if _, err := db.ExecContext(ctx,
		`INSERT INTO secrets.keys (name, key) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, name, fresh); err != nil {
		return nil, fmt.Errorf("make the key %s: %w", name, err)
	}
	var key []byte
	if err := db.QueryRowContext(ctx, `SELECT key FROM secrets.keys WHERE name = $1`, name).Scan(&key); err != nil {
		return nil, fmt.Errorf("read the key %s: %w", name, err)
	}
	return key, nil
}
