package bench

import (
	"runtime"
	"testing"
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
