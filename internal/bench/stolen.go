package bench

import (
	"os"
	"strconv"
	"strings"
)

// coreTime is how long all cores together have done something or nothing since the machine was
// started, and how much of it its host gave to others while there was something to do (steal).
type coreTime struct{ all, stolen uint64 }

// coreTimes reads the first line of Linux's /proc/stat; elsewhere it is zero.
func coreTimes() coreTime {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return coreTime{}
	}
	return parseCoreTimes(string(text))
}

func parseCoreTimes(text string) (t coreTime) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	// user, nice, system, idle, iowait, irq, softirq, steal; what guests of this machine take,
	// which follows, is in user and nice as well.
	if len(fields) < 9 || fields[0] != "cpu" {
		return coreTime{}
	}
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return coreTime{}
		}
		t.all += ticks
		if i == 7 {
			t.stolen = ticks
		}
	}
	return t
}

// stolenSince is the part of the time since an earlier reading that was stolen, in percent; 0 where
// it is not known.
func (t coreTime) stolenSince(earlier coreTime) float64 {
	if t.all <= earlier.all || t.stolen < earlier.stolen {
		return 0
	}
	return 100 * float64(t.stolen-earlier.stolen) / float64(t.all-earlier.all)
}
