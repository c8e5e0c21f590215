package projections_test

import (
	"context"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
)

func TestWhatWasTakenBackIsKeptUntilItsEnd(t *testing.T) {
	h := newHouse(t)
	sharing := func(name, digest string, all int64, revoked bool) {
		t.Helper()
		got, err := h.views.Sharing(context.Background(), h.id(name), digest)
		if err != nil || !got.Now.Equal(h.now) || got.AllRevoked != all || got.Revoked != revoked {
			t.Errorf("%s of %s: %+v, %v", digest, name, got, err)
		}
	}
	rows := func(want int) {
		t.Helper()
		var n int
		if err := h.db.QueryRow(`SELECT count(*) FROM revoked_shares`).Scan(&n); err != nil || n != want {
			t.Errorf("%d rows, want %d, error %v", n, want, err)
		}
	}
	revoke := func(name, digest string, seconds int) bool {
		t.Helper()
		return run(h, commands.RevokeShare{Share: domain.Share{
			Queue: h.id(name), Digest: digest, Expires: h.now.Add(time.Duration(seconds) * time.Second),
		}})
	}
	sharing("a", "d1", 0, false)
	if !revoke("a", "d1", 60) || revoke("a", "d1", 60) || !revoke("a", "d2", 600) || revoke("a", "d3", 0) {
		t.Error("not taken back once each")
	}
	sharing("a", "d1", 0, true)
	sharing("a", "", 0, false)
	sharing("b", "d1", 0, false)
	run(h, commands.RevokeShares{Queue: h.id("a")})
	sharing("a", "d1", 3, true)
	sharing("a", "d3", 3, false)
	sharing("b", "", 0, false)
	run(h, commands.RevokeShares{Queue: h.id("a")})
	sharing("a", "", 4, false)
	rows(3)
	h.now = h.now.Add(60 * time.Second)
	run(h, commands.RevokeShares{Queue: h.id("b")}) // d1 is over
	rows(3)
	sharing("a", "d2", 4, true)
	sharing("b", "", 5, false)
}

func TestASignedURLIsTakenBackOnce(t *testing.T) {
	h := newHouse(t)
	revoke := commands.RevokeShare{Share: domain.Share{Queue: h.id("a"), Digest: "d", Expires: h.now.Add(time.Hour)}}
	answers := make(chan bool, 20)
	for range cap(answers) {
		go func() {
			revoked, err := commands.Run(h.request(), h.executor, revoke)
			if err != nil {
				t.Error(err)
			}
			answers <- revoked
		}()
	}
	revoked := 0
	for range cap(answers) {
		if <-answers {
			revoked++
		}
	}
	if n := len(h.history()); revoked != 1 || n != 1 {
		t.Errorf("taken back %d times, %d events", revoked, n)
	}
}
