package commands_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"nabu/commands"
)

// BenchmarkClaimAndDelete is what a command costs when so many callers claim ten messages and
// delete each; of several callers some share a batch. PostgreSQL does not flush here. Where
// the kernel tells, pg-us/op is how long its processes kept a core busy.
func BenchmarkClaimAndDelete(b *testing.B) {
	for _, callers := range []int{1, 4, 15} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			h := newHouse(b)
			e := h.executor(nil)
			rounds := b.N/callers/11 + 1
			texts := make([]string, 20)
			for i := range texts {
				texts[i] = `"` + strings.Repeat("x", 250) + `"`
			}
			for range rounds*callers/2 + 1 {
				run(b, e, post(orders, texts...))
			}
			busy := h.busy()
			before := busy()
			b.ReportAllocs()
			b.ResetTimer()
			var claiming sync.WaitGroup
			for range callers {
				claiming.Go(func() {
					for range rounds {
						claimAndDelete(b, e)
					}
				})
			}
			claiming.Wait()
			b.StopTimer()
			if after := busy(); after > before {
				b.ReportMetric(float64(after-before)/1000/float64(b.N), "pg-us/op")
			}
		})
	}
}

func claimAndDelete(b *testing.B, e *commands.Executor) {
	ctx := as(b.Context(), "")
	cmd := claim(orders, 10)
	got, err := commands.Run(ctx, e, cmd)
	if err != nil || len(got) != 10 {
		b.Errorf("a claim of %d messages: %v", len(got), err)
	}
	for _, m := range got {
		there, err := commands.Run(ctx, e, commands.DeleteMessage{Queue: orders, ID: m.ID, WithClaim: true, Claim: cmd.Claim})
		if err != nil || !there {
			b.Errorf("a delete of a message that is there: %v, %v", there, err)
		}
	}
}

// busy returns what tells for how many nanoseconds the processes of the database's
// connections have been running, as far as the kernel says.
func (h *house) busy() func() int64 {
	h.Helper()
	var pids []int
	rows, err := h.db.Query(`SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`)
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			h.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if err := rows.Err(); err != nil {
		h.Fatal(err)
	}
	return func() (sum int64) {
		for _, pid := range pids {
			var ran int64
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid)); err == nil {
				_, _ = fmt.Sscan(string(stat), &ran)
			}
			sum += ran
		}
		return sum
	}
}
