package projections

import (
	"context"
	"fmt"
	"strconv"

	"nabu/eventstore"
)

// parameters are those of a statement that is being written.
type parameters []any

// add puts a parameter at the end, and returns what stands for it in the statement.
func (p *parameters) add(value any) string {
	*p = append(*p, value)
	return "$" + strconv.Itoa(len(*p))
}

// placeholders stand for n parameters of a statement, from one on.
func placeholders(from, n int) string {
	var text []byte
	for i := range n {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = strconv.AppendInt(append(text, '$'), int64(from+i), 10)
	}
	return string(text)
}

// nothing is n parameters for a part of a change that has no rows. They are NULL: PL/pgSQL
// copies an array before it looks at it, an empty one too.
func nothing(n int) []any { return make([]any, n) }

// call calls one of the functions that projections write their tables by.
func call(ctx context.Context, tx eventstore.Tx, function string, args []any) error {
	if _, err := tx.ExecContext(ctx, `SELECT `+function+`(`+placeholders(1, len(args))+`)`, args...); err != nil {
		return fmt.Errorf("%s: %w", function, err)
	}
	return nil
}
