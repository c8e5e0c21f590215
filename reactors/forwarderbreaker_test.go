package reactors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"nabu/domain"
	"nabu/internal/compute"
)

// moody is a compute service that is as the test wants it.
type moody struct {
	asked int
	tell  func(context.Context) (compute.Answer, error)
}

func (m *moody) Tell(ctx context.Context, _ compute.Told) (compute.Answer, error) {
	m.asked++
	return m.tell(ctx)
}

func status(code int) func(context.Context) (compute.Answer, error) {
	return func(context.Context) (compute.Answer, error) {
		return compute.Answer{Status: code, Codes: []int{code}}, nil
	}
}

func unreachable(context.Context) (compute.Answer, error) { return compute.Answer{}, compute.ErrAway }

// breaking is a forwarder that leads, and asks of one event.
type breaking struct {
	*testing.T
	*forwarding
	service *moody
}

func newBreaking(t *testing.T) breaking {
	service := &moody{tell: unreachable}
	f := NewForwarder(ForwarderConfig{Service: service, Log: slog.New(slog.DiscardHandler)})
	return breaking{t, &forwarding{
		Forwarder: f, sending: t.Context(), line: newLine(ForwarderConsumer, f.AtOnce), lanes: map[domain.ServerID]*forwardQueue{},
	}, service}
}

func (b breaking) asks() error {
	_, err := b.ask([]sentEvent{{id: "e", Event: compute.Event{Name: "network-changed"}}}, "")
	return err
}

// fails asks so often, and wants the service to be away each time.
func (b breaking) fails(times int) {
	b.Helper()
	for range times {
		if err := b.asks(); !errors.Is(err, compute.ErrAway) || errors.Is(err, ErrOpen) {
			b.Fatalf("asked %d times: %v", b.service.asked, err)
		}
	}
}

// rests wants the forwarder to leave the service alone, or not to.
func (b breaking) rests(want bool) {
	b.Helper()
	before := b.service.asked
	err := b.asks()
	if is := errors.Is(err, ErrOpen) && b.service.asked == before; is != want || is && !errors.Is(err, compute.ErrAway) {
		b.Errorf("rests: %v, not %v: %v", is, want, err)
	}
}

// TestAComputeServiceThatIsAwayIsLeftAlone after so many attempts in a row, be it silent, busy
// or forbidden; and nothing new is begun meanwhile.
func TestAComputeServiceThatIsAwayIsLeftAlone(t *testing.T) {
	for name, tell := range map[string]func(context.Context) (compute.Answer, error){
		"silent": unreachable, "starting": status(503), "busy": status(429), "forbidden": status(401), "elsewhere": status(302),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBreaking(t)
			b.service.tell = tell
			b.fails(breakerTrips)
			b.rests(true)
			if !b.waits() {
				t.Error("something new is begun")
			}
		})
	}
}

// TestAComputeServiceThatAnswersIsNotLeftAlone, whatever it answers, nor is one that was away
// for less than so many attempts in a row, or whose answer nabu did not wait for.
func TestAComputeServiceThatAnswersIsNotLeftAlone(t *testing.T) {
	b := newBreaking(t)
	for _, code := range []int{200, 207, 404, 400, 409, 500} {
		b.service.tell = unreachable
		b.fails(breakerTrips - 1)
		b.service.tell = status(code)
		_ = b.asks()
	}
	b.service.tell = status(500)
	for range 2 * breakerTrips {
		_ = b.asks()
	}
	b.rests(false)

	sending, cut := context.WithCancel(t.Context())
	cut()
	b.sending, b.service.tell = sending, func(ctx context.Context) (compute.Answer, error) {
		return compute.Answer{}, fmt.Errorf("%w: %w", compute.ErrAway, ctx.Err())
	}
	for range 2 * breakerTrips {
		_ = b.asks()
	}
	b.rests(false)
}

// TestOneAttemptFindsOut whether the service is back when the rest is over.
func TestOneAttemptFindsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaking(t)
		b.fails(breakerTrips)
		time.Sleep(breakerRests + time.Millisecond) // of the bubble's clock
		if b.waits() {
			t.Error("nobody finds out")
		}
		b.lanes[domain.ServerID{1}] = &forwardQueue{}
		if !b.waits() {
			t.Error("more than one finds out")
		}
		b.fails(1)
		b.rests(true)

		time.Sleep(breakerRests + time.Millisecond)
		b.service.tell = status(200)
		b.rests(false)
		if b.waits() {
			t.Error("nothing new is begun, though the service is back")
		}
	})
}
