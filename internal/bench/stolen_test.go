package bench

import (
	"runtime"
	"testing"
	"time"
)

func TestStolenTimeIsThatOfAllCores(t *testing.T) {
	before := parseCoreTimes("cpu  100 10 50 800 20 5 5 10 7 3\ncpu0 50 5 25 400 10 2 2 5 3 1\n")
	if want := (coreTime{all: 1000, stolen: 10}); before != want {
		t.Errorf("read %+v, not %+v", before, want)
	}
	for name, test := range map[string]struct {
		text string
		want float64
	}{
		"a quarter":              {"cpu 125 10 50 850 20 5 5 35 9 9\n", 25},
		"none":                   {"cpu 200 10 50 800 20 5 5 10 0 0", 0},
		"no time has passed":     {"cpu 100 10 50 800 20 5 5 10 7 3", 0},
		"a clock that went back": {"cpu 300 10 50 800 20 5 5 9 7 3", 0},
		"an old kernel":          {"cpu 125 10 50 850 20 5 5", 0},
		"something else":         {"cpu a b c d e f g h", 0},
		"nothing":                {"", 0},
	} {
		if got := parseCoreTimes(test.text).stolenSince(before); got != test.want {
			t.Errorf("%s: %g %%, not %g", name, got, test.want)
		}
	}
	if runtime.GOOS == "linux" && coreTimes().all == 0 {
		t.Error("this machine's times were not read")
	}
}

func TestTheWorstSecondIsTold(t *testing.T) {
	start := time.Unix(1000, 0)
	log := &coreLog{}
	for i, stolen := range []uint64{0, 10, 110, 110, 130, 135} { // of 200 ticks a second
		log.readings = append(log.readings, coreReading{start.Add(time.Duration(i) * time.Second), coreTime{200 * uint64(i), stolen}})
	}
	// The rest of the last second, in which as good as everything was stolen.
	log.readings = append(log.readings, coreReading{start.Add(5040 * time.Millisecond), coreTime{1008, 142}})
	for name, test := range map[string]struct {
		from, to   time.Duration
		all, worst float64
	}{
		"all of it":                  {0, 5 * time.Second, 13.5, 50},
		"a second":                   {3 * time.Second, 4 * time.Second, 10, 10},
		"two seconds":                {time.Second, 3 * time.Second, 25, 50},
		"between two seconds":        {2500 * time.Millisecond, 3500 * time.Millisecond, 5, 10},
		"its end, without the rest":  {4 * time.Second, 5040 * time.Millisecond, 100 * 12 / 208., 100 * 12 / 208.},
		"longer than it was written": {-time.Second, time.Minute, 100 * 142 / 1008., 50},
		"before it":                  {-3 * time.Second, -time.Second, 0, 0},
	} {
		all, worst := log.stolen(start.Add(test.from), start.Add(test.to))
		if all != test.all || worst != test.worst {
			t.Errorf("%s: %g %% and %g %%, not %g and %g", name, all, worst, test.all, test.worst)
		}
	}
}

func TestStolenTimeOfRoundsIsTheirMean(t *testing.T) {
	sum := &Measured{}
	for _, round := range []Measured{
		{Took: 3 * time.Second, Stolen: 10, WorstStolen: 30, Requests: 1},
		{}, // which was over at once
		{Took: time.Second, Stolen: 2, WorstStolen: 2, Requests: 2},
	} {
		sum.follow(&round)
	}
	if sum.Took != 4*time.Second || sum.Stolen != 8 || sum.WorstStolen != 30 || sum.Requests != 3 {
		t.Errorf("%d requests in %v, %g %% stolen and %g", sum.Requests, sum.Took, sum.Stolen, sum.WorstStolen)
	}
}
