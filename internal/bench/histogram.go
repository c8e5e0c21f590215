package bench

import (
	"math/bits"
	"time"
)

// Histogram counts durations. Each power of two is cut into 128 steps, so what it
// reads back is less than 1 % off.
type Histogram struct {
	counts [64 * steps]uint32
	total  int
	max    time.Duration
}

const (
	stepBits = 7
	steps    = 1 << stepBits
)

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[slot(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// Merge adds all that another histogram has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// Quantile is the duration that a share of all, such as 0.99, did not exceed; 0 if
// nothing was counted.
func (h *Histogram) Quantile(share float64) time.Duration {
	rank := int(share * float64(h.total))
	for i, n := range h.counts {
		rank -= int(n)
		if rank < 0 {
			return min(time.Duration(upper(i)), h.max)
		}
	}
	return h.max
}

// Max is the longest duration, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// slot is where a value is counted: as it is while it is small, else by its power
// of two and the bits behind the first.
func slot(v uint64) int {
	if v < steps {
		return int(v)
	}
	power := bits.Len64(v) - 1 - stepBits
	return power*steps + int(v>>power)
}

// upper is the largest value of a slot.
func upper(slot int) uint64 {
	if slot < 2*steps {
		return uint64(slot)
	}
	power := slot/steps - 1
	return uint64(slot%steps+steps+1)<<power - 1
}
