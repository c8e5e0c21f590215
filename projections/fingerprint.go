package projections

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/lib/pq"

	"nabu/eventstore"
)

// StaleError says that live read models were made by another statement than this nabu's, and
// so may lack tables or columns that it reads.
type StaleError struct{ Projections []string }

func (e *StaleError) Error() string {
	return "the read models " + strings.Join(e.Projections, ", ") + " were made by another nabu and may not fit this one: nabu replay makes them anew"
}

// fingerprint tells statements that make tables apart. Comments and spaces do not count.
func (p Projection) fingerprint() string {
	var words []string
	for line := range strings.Lines(p.DDL) {
		code, _, _ := strings.Cut(line, "--")
		words = append(words, strings.Fields(code)...)
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(words, " "))))[:16]
}

// CheckFit fails with a StaleError where live read models were made by other statements than
// this nabu's. It only reads, and finds nothing wrong where there are none yet.
func CheckFit(ctx context.Context, tx eventstore.Tx) error {
	made, begun, err := fingerprints(ctx, tx)
	if err != nil || !begun {
		return err
	}
	var stale []string
	for _, p := range All {
		if made[p.Name] != p.fingerprint() {
			stale = append(stale, p.Name)
		}
	}
	if stale != nil {
		return &StaleError{stale}
	}
	return nil
}

// fingerprints are those of the live read models, by projection. They are the comment on the
// schema, so a dump has them as well, and a swap changes both at once.
func fingerprints(ctx context.Context, tx eventstore.Tx) (made map[string]string, begun bool, err error) {
	var comment sql.NullString
	err = tx.QueryRowContext(ctx, `
SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = '`+liveSchema+`'`).Scan(&comment)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look what made the read models: %w", err)
	}
	made = map[string]string{}
	if err := json.Unmarshal([]byte(comment.String), &made); err != nil { // nobody's, or somebody else's: nothing is known
		made = map[string]string{}
	}
	return made, true, nil
}

// Sign keeps what made the live read models of some projections. The caller owns the schema.
func Sign(ctx context.Context, tx eventstore.Tx, made []Projection) error {
	all, _, err := fingerprints(ctx, tx)
	if err != nil {
		return err
	}
	for _, p := range made {
		all[p.Name] = p.fingerprint()
	}
	text, err := json.Marshal(all)
	if err == nil {
		_, err = tx.ExecContext(ctx, `COMMENT ON SCHEMA `+liveSchema+` IS `+pq.QuoteLiteral(string(text)))
	}
	if err != nil {
		return fmt.Errorf("keep what made the read models: %w", err)
	}
	return nil
}
