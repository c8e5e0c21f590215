package domain

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRevoke(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	share := Share{Queue: QueueID{"p1", "builds"}, Digest: "d1", Expires: now.Add(time.Hour)}
	revoked := []Event{ShareRevoked{Project: "p1", Queue: "builds", Digest: "d1", Expires: share.Expires}}
	tests := map[string]struct {
		before bool
		at     time.Time
		then   []Event
	}{
		"one that is good":           {false, now, revoked},
		"in its last moment":         {false, share.Expires.Add(-time.Microsecond), revoked},
		"one that was taken back":    {true, now, nil},
		"one that is over by itself": {false, share.Expires, nil},
		"one that was over long ago": {false, share.Expires.Add(time.Hour), nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.then, share.Revoke(test.before, test.at), cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
		})
	}
	if diff := cmp.Diff([]Event{SharesRevoked{Project: "p1", Queue: "builds"}}, RevokeShares(share.Queue)); diff != "" {
		t.Fatal(diff)
	}
}
