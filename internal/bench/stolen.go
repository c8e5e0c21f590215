package bench

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
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

// coreLog is what coreTimes said, second by second.
type coreLog struct {
	readings []coreReading // the oldest first; never none
	close    func()        // ends it, once, before anybody looks at it
}

type coreReading struct {
	at time.Time
	coreTime
}

func readCores() coreReading { return coreReading{time.Now(), coreTimes()} }

// logCores reads the cores' times now, each second, and when the log is closed.
func logCores() *coreLog {
	l := &coreLog{readings: []coreReading{readCores()}}
	end := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for {
			select {
			case <-second.C:
				l.readings = append(l.readings, readCores())
			case <-end:
				l.readings = append(l.readings, readCores())
				return
			}
		}
	})
	l.close = func() {
		close(end)
		reading.Wait()
	}
	return l
}

// stolen is the part of all cores' time that was stolen between two moments, to the second, and the
// largest part of one of these seconds; percent. Less than a second of a minute makes its p99, and
// the minute's own part does not show it.
func (l *coreLog) stolen(from, to time.Time) (all, worst float64) {
	first, exact := slices.BinarySearchFunc(l.readings, from, coreReading.compare)
	if !exact {
		first = max(0, first-1)
	}
	last, _ := slices.BinarySearchFunc(l.readings, to, coreReading.compare)
	last = min(last, len(l.readings)-1)
	all = l.readings[last].stolenSince(l.readings[first].coreTime)
	worst = all
	for i := first; i < last; i++ {
		// The rest of a second is too short for clocks that tick a hundred times in one.
		if next := l.readings[i+1]; next.at.Sub(l.readings[i].at) > time.Second/2 {
			worst = max(worst, next.stolenSince(l.readings[i].coreTime))
		}
	}
	return all, worst
}

func (r coreReading) compare(t time.Time) int { return r.at.Compare(t) }
