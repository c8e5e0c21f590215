package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreWithinAPercent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var one, other Histogram
	var all []time.Duration
	for i := range 100_000 {
		d := time.Duration(random.ExpFloat64() * float64(3*time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			one.Add(d)
		} else {
			other.Add(d)
		}
	}
	one.Merge(&other)
	slices.Sort(all)
	for _, share := range []float64{0, 0.01, 0.5, 0.9, 0.99, 0.999, 0.99999} {
		want := all[int(share*float64(len(all)))]
		if got := one.Quantile(share); got < want || float64(got) > float64(want)*1.01 {
			t.Errorf("quantile %g is %v, not %v", share, got, want)
		}
	}
	if one.Max() != all[len(all)-1] || one.Quantile(1) != one.Max() {
		t.Errorf("the longest is %v, not %v", one.Max(), all[len(all)-1])
	}
}

func TestSlotsHoldWhatTheySay(t *testing.T) {
	for _, v := range []uint64{0, 1, steps - 1, steps, 2*steps - 1, 2 * steps, 1000, 1 << 20, 1<<62 + 12345, 1<<63 - 1} {
		s := slot(v)
		if upper(s) < v || s > 0 && upper(s-1) >= v {
			t.Errorf("%d is in slot %d, which goes from %d to %d", v, s, upper(max(s-1, 0))+1, upper(s))
		}
	}
}

func TestAnEmptyHistogramIsZero(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Error("an empty histogram has a median")
	}
}
