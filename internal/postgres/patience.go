package postgres

import (
	"context"
	"time"
)

// Within asks a database and gives up after a while, also where the driver still waits for
// a server that is frozen. What was asked then ends by itself, at the latest with the
// answer's bound of its pool.
func Within[T any](ctx context.Context, patience time.Duration, ask func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	answered := make(chan answer, 1)
	go func() {
		defer cancel()
		value, err := ask(ctx)
		answered <- answer{value, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
	}
	select { // it may have ended the context itself
	case a := <-answered:
		return a.value, a.err
	default:
		var none T
		return none, ctx.Err()
	}
}
