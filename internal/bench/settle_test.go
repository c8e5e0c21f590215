package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestNabuIsWaitedForUntilItIsQuiet(t *testing.T) {
	states := []struct{ head, lag int }{{5, 0}, {9, 3}, {9, 1}, {10, 0}, {12, 0}, {12, 0}, {99, 9}}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		its := states[min(asked, len(states)-1)]
		asked++
		fmt.Fprintf(w, "# HELP nabu_ledger_head_position The last event.\nnabu_ledger_head_position %d\n", its.head)
		fmt.Fprintf(w, "nabu_consumer_lag_events{consumer=\"notifier\"} %d\nnabu_consumer_lag_events{consumer=\"sweeper\"} 0\n", its.lag)
	}))
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	if err := untilQuiet(t.Context(), address, time.Microsecond, time.Minute); err != nil || asked != 6 {
		t.Errorf("after %d looks: %v", asked, err)
	}
	err := untilQuiet(t.Context(), address, time.Microsecond, 0)
	if err == nil || !strings.Contains(err.Error(), "99 events, of which 9") {
		t.Errorf("a nabu that never rests: %v", err)
	}
}
