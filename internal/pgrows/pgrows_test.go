package pgrows_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"nabu/internal/pgrows"
	"nabu/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// However the reading ends, the pool's only connection is free again.
func TestRowsAreReadAndGivenBack(t *testing.T) {
	t.Parallel()
	db := pgtest.OpenEmpty(t).DB()
	db.SetMaxOpenConns(1)
	ctx := context.Background()
	errRead := errors.New("no more")
	const none = -7 // of the numbers
	tests := map[string]struct {
		query string
		stop  int // the number that read refuses
		want  []int
		says  string
	}{
		"all":                     {`SELECT generate_series(1, 3)`, none, []int{1, 2, 3}, ""},
		"none":                    {`SELECT 1 WHERE false`, none, nil, ""},
		"read refuses the second": {`SELECT generate_series(1, 3)`, 2, nil, "count: no more"},
		"the statement fails":     {`SELECT 1 / 0`, none, nil, "count: pq: division by zero (22012)"},
		"it fails in the middle":  {`SELECT 1 / (n - 2) FROM generate_series(1, 3) AS n`, none, nil, "count: pq: division by zero (22012)"},
		"no such table":           {`SELECT 1 FROM nowhere`, none, nil, `count: pq: relation "nowhere" does not exist at column 15 (42P01)`},
	}
	for name, test := range tests {
		rows, err := db.QueryContext(ctx, test.query)
		got, err := pgrows.Collect("count", rows, err, func(n *int) error {
			if err := rows.Scan(n); err != nil || *n != test.stop {
				return err
			}
			return errRead
		})
		says := ""
		if err != nil {
			says = err.Error()
		}
		if !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) || says != test.says {
			t.Errorf("%s: read %v, %q instead of %v, %q", name, got, says, test.want, test.says)
		}
		if errors.Is(err, errRead) != (test.stop > 0) {
			t.Errorf("%s: the error behind %v is lost", name, err)
		}
		if open := db.Stats().InUse; open > 0 {
			t.Fatalf("%s: the rows were not closed", name)
		}
	}
}
