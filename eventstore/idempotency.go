package eventstore

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lib/pq"

	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// IdempotencyKey is a client's name for a request, unique in its project.
type IdempotencyKey struct {
	Project string
	Key     string
}

// KeptAnswer is the first answer given to a key, and the hash of the request.
type KeptAnswer struct {
	IdempotencyKey
	RequestHash []byte
	Result      json.RawMessage
}

// answersLife is how long an answer is kept.
const answersLife = 24 * time.Hour

var (
	//go:embed sql/find_answers.sql
	findAnswersSQL string
	//go:embed sql/keep_answers.sql
	keepAnswersSQL string
)

// FindAnswers finds the answers kept for keys at a time.
func FindAnswers(ctx context.Context, tx Tx, keys []IdempotencyKey, at time.Time) (map[IdempotencyKey]KeptAnswer, error) {
	projects, names := make([]string, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		projects[i], names[i] = k.Project, k.Key
	}
	rows, err := tx.QueryContext(ctx, findAnswersSQL, pgarray.Texts(projects), pgarray.Texts(names), at)
	found := map[IdempotencyKey]KeptAnswer{}
	err = pgrows.Each("find answers", rows, err, func() error {
		var a KeptAnswer
		if err := rows.Scan(&a.Project, &a.Key, &a.RequestHash, &a.Result); err != nil {
			return err
		}
		found[a.IdempotencyKey] = a
		return nil
	})
	return found, err
}

// KeepAnswers keeps answers for a day from a time on, in the transaction of what
// they answer. It takes the occasion to drop some that are over.
func KeepAnswers(ctx context.Context, tx Tx, answers []KeptAnswer, at time.Time) error {
	n := len(answers)
	projects, keys, results := make([]string, n), make([]string, n), make([]string, n)
	hashes := make(pq.ByteaArray, n)
	for i, a := range answers {
		projects[i], keys[i], results[i], hashes[i] = a.Project, a.Key, string(a.Result), a.RequestHash
	}
	_, err := tx.ExecContext(ctx, keepAnswersSQL,
		pgarray.Texts(projects), pgarray.Texts(keys), hashes, pgarray.Texts(results), at, at.Add(answersLife))
	if err != nil {
		return fmt.Errorf("keep answers: %w", err)
	}
	return nil
}
