package commands_test

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
)

// shared are what happens to a queue that two replicas work on, and sweep.
func (m *aheadModel) shared() map[string]func(*rapid.T) {
	actions := m.actions()
	actions["claim elsewhere"] = func(rt *rapid.T) {
		cmd := claim(m.queue, rapid.IntRange(1, 20).Draw(rt, "claimed"))
		m.got(do(m, m.other, cmd), cmd.Limit)
		m.claims = append(m.claims, cmd.Claim)
	}
	actions["release elsewhere"] = func(rt *rapid.T) {
		if len(m.claims) > 0 {
			do(m, m.other, commands.ReleaseClaim{Queue: m.queue, Claim: rapid.SampledFrom(m.claims).Draw(rt, "released")})
		}
	}
	for name, e := range map[string]*commands.Executor{"sweep": m.e, "sweep elsewhere": m.other} {
		actions[name] = func(*rapid.T) { do(m, e, commands.SweepQueue{Queue: m.queue, Number: m.queueNumber(m.queue)}) }
	}
	actions["much time passes"] = func(*rapid.T) { m.clock.now = m.clock.now.Add(100 * time.Second) }
	return actions
}

// TestMarksMissNothing: whatever two replicas do to a queue, and whichever of them sweeps it, claims
// and pops hand out the first that are free, as the table has them.
func TestMarksMissNothing(t *testing.T) {
	t.Parallel()
	m := newAheadModel(t)
	sequences := 0
	rapid.Check(t, func(rt *rapid.T) {
		sequences++
		m.TB, m.queue, m.claims = rt, domain.QueueID{Project: "p1", Name: "q" + strconv.Itoa(sequences)}, nil
		do(m, m.e, post(m.queue, numbered(50)...))
		defer m.end()
		rt.Repeat(m.shared())
		m.drain()
	})
	m.ordered()
}
