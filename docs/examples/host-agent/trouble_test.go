package main

import (
	"context"
	stdhttp "net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"
)

// agentOf is an agent that knows its queue already, at a nabu which answers as a test wants.
func agentOf(t *testing.T, nabu stdhttp.HandlerFunc) *agent {
	front := httptest.NewServer(nabu)
	t.Cleanup(front.Close)
	done, err := openJournal(filepath.Join(t.TempDir(), "done"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = done.Close() })
	at, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &agent{nabu: at, host: "c1", queue: "nova-events.c1", client: newClientID(), done: done, log: func(error) {}}
}

// TestAConnectionThatSaysNothing is given up, or the agent would wait for it for ever.
func TestAConnectionThatSaysNothing(t *testing.T) {
	t.Parallel()
	a := agentOf(t, func(_ stdhttp.ResponseWriter, r *stdhttp.Request) { <-r.Context().Done() })
	a.most = time.Millisecond
	if err := a.once(t.Context()); err == nil {
		t.Error("it was answered")
	}
}

// TestWhatIsNoEvent does not keep the events behind it from the host.
func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	deleted := map[string]bool{}
	a := agentOf(t, func(w stdhttp.ResponseWriter, r *stdhttp.Request) {
		if r.Method == stdhttp.MethodDelete {
			deleted[r.URL.Path] = true
			w.WriteHeader(stdhttp.StatusNoContent)
			return
		}
		_, _ = w.Write([]byte(`{"messages": [{"href": "/1", "body": "rubbish"}, {"href": "/2", "body": {"id": "evt-2"}}]}`))
	})
	var got []string
	a.act = func(_ context.Context, e event) error { got = append(got, e.ID); return nil }
	if err := a.once(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != "evt-2" || !deleted["/1"] || !deleted["/2"] {
		t.Errorf("got %v, deleted %v", got, deleted)
	}
}
