package reactors_test

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/eventually"
	"nabu/internal/sealing"
	"nabu/projections"
	"nabu/reactors"
)

const (
	rightMaster = "test-1 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	otherMaster = "test-2 MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
)

// opening lets a notifier open bodies with the keys of a house's executor, or with those of
// another master.
func opening(keys *sealing.Keys) func(*reactors.NotifierConfig) {
	return func(cfg *reactors.NotifierConfig) {
		cfg.Open = func(ctx context.Context, e domain.MessagesPosted) (domain.MessagesPosted, error) {
			return projections.OpenPosted(ctx, keys, e)
		}
	}
}

// sealedHouse has a queue q that encrypts its messages.
func sealedHouse(t *testing.T) (h *house, keys func(master string) *sealing.Keys) {
	keys = func(text string) *sealing.Keys {
		masters, err := sealing.ParseMasters(text)
		if err != nil {
			t.Fatal(err)
		}
		return sealing.NewKeys(h.db, masters, slog.New(slog.DiscardHandler))
	}
	h = newHouse(t, func(cfg *commands.Config) {
		masters, err := sealing.ParseMasters(rightMaster)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Keys, cfg.Limits.Encryption = sealing.NewKeys(cfg.DB, masters, cfg.Log), true
	})
	run(h, commands.CreateQueue{Queue: queue("q"), Metadata: metadata(t, `{"_enable_encrypt_messages": true}`)})
	return h, keys
}

func metadata(t *testing.T, text string) domain.Metadata {
	t.Helper()
	m, err := domain.ParseMetadata([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSealedMessagesAreDeliveredInPlainText, at once and again, and filters see what is in
// them.
func TestSealedMessagesAreDeliveredInPlainText(t *testing.T) {
	h, keys := sealedHouse(t)
	r := newReceiver(t)
	r.refuse(`"n": 1`)
	id := h.subscriber("q", r.URL+"/a", "")
	h.subscriber("q", r.URL+"/some", `{"filter_policies": {"n": [2]}}`)
	h.notifier(opening(keys(rightMaster)))
	h.postBodies("q", `{"n": 1}`, `{"n":  2}`)
	eventually.Holds(h, "the first waits", func() bool { return len(h.attempts(id)) == 5 && len(r.got("/some")) == 1 })
	r.mu.Lock()
	r.answer = nil
	r.mu.Unlock()
	h.advance(time.Minute)
	eventually.Holds(h, "all is delivered", func() bool { return len(h.attempts(id)) == 6 })
	got := r.bodies("/a")
	slices.Sort(got)
	if want := []string{`{"n":  2}`, `{"n": 1}`, `{"n": 1}`, `{"n": 1}`, `{"n": 1}`, `{"n": 1}`}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := r.bodies("/some"); !slices.Equal(got, []string{`{"n":  2}`}) {
		t.Errorf("%v", got)
	}
}

// TestWhoseKeyIsDestroyed is left out, and not looked at again.
func TestWhoseKeyIsDestroyed(t *testing.T) {
	h, keys := sealedHouse(t)
	r := newReceiver(t)
	h.subscriber("q", r.URL+"/a", "")
	ids := h.postBodies("q", `1`, `2`)
	run(h, commands.DestroyKeys{Queue: queue("q")})
	var tried atomic.Bool
	_, end := h.notifier(func(cfg *reactors.NotifierConfig) {
		opening(keys(rightMaster))(cfg)
		open := cfg.Open
		cfg.Open = func(ctx context.Context, e domain.MessagesPosted) (domain.MessagesPosted, error) {
			defer tried.Store(true)
			return open(ctx, e)
		}
	})
	eventually.Holds(h, "it was tried", tried.Load)
	end()
	behind, err := h.views.SubscribersBehind(t.Context())
	if err != nil || len(behind) > 1 || len(r.got("/a")) > 0 {
		t.Fatalf("%+v are behind, %v", behind, err)
	}
	for _, s := range behind { // the keys' end came after the post
		if s.Queue.Name == "q" && s.Cursor < domain.PostingPlace(ids[1]) {
			t.Errorf("%+v", s)
		}
	}
}

// TestALostKeyHoldsUpNothingForEver: messages that nobody here can open wait for their key
// until they expire.
func TestALostKeyHoldsUpNothingForEver(t *testing.T) {
	h, keys := sealedHouse(t)
	r := newReceiver(t)
	h.subscriber("q", r.URL+"/a", "")
	h.post("q", 2, 60)
	run(h, commands.DeleteQueue{Queue: queue("q")})
	h.postBodies("q", `"plain"`)
	h.advance(61 * time.Second)
	h.notifier(opening(keys(otherMaster)))
	eventually.Holds(h, "what came later is delivered", func() bool { return len(r.got("/a")) == 1 })
	if got := r.bodies("/a"); got[0] != `"plain"` {
		t.Errorf("%v", got)
	}
}
