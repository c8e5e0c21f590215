package reactors

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/sony/gobreaker/v2"
)

const (
	breakerTrips = 10               // calls without an answer, in a row, until there is a rest
	breakerRests = 10 * time.Second // for so long; then one call finds out
)

// line is the way to a machine that is called: only so many calls are under way at a time,
// and it is left alone for a while when it is not there. Calls to whoever did not answer the
// last time share half of it, so that any number of them leaves the other half to the rest.
type line struct {
	busy    chan struct{} // the calls under way
	slow    chan struct{} // those of them, or about to be, to whoever is silent
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
}

var (
	errUnreachable = errors.New("no connection")
	errCutOff      = errors.New("the call was cut off here, not there")
)

func newLine(name string, most int) *line {
	return &line{
		busy: make(chan struct{}, most), slow: make(chan struct{}, max(1, most/2)),
		breaker: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Name: name, Timeout: breakerRests,
			ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= breakerTrips },
			IsExcluded:  func(err error) bool { return errors.Is(err, errCutOff) },
		}),
	}
}

// enter waits for room for a call. Leave is to be called after it. It fails when ctx ends.
func (l *line) enter(ctx context.Context, silent bool) (leave func(), err error) {
	lanes := []chan struct{}{l.slow, l.busy}
	if !silent {
		lanes = lanes[1:]
	}
	for i, lane := range lanes {
		select {
		case lane <- struct{}{}:
		case <-ctx.Done():
			for _, taken := range lanes[:i] {
				<-taken
			}
			return nil, ctx.Err()
		}
	}
	return func() {
		for _, lane := range lanes {
			<-lane
		}
	}, nil
}

// maxFailurePause bounds the pauses of those who look for work and cannot, because the database
// is away.
const maxFailurePause = 5 * time.Second

// failurePauses are the pauses after looks that have failed. Each is half as long again as the
// one before, and chance makes it up to half longer or shorter.
func failurePauses(first time.Duration) *backoff.ExponentialBackOff {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = first, maxFailurePause
	return pauses
}

// pause waits for the next of the pauses to be over, or for ctx to end.
func pause(ctx context.Context, pauses *backoff.ExponentialBackOff) {
	timer := time.NewTimer(pauses.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
