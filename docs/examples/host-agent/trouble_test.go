package main

import (
	"context"
	"errors"
	"io"
	stdhttp "net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
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
	a := agentOf(t, func(_ stdhttp.ResponseWriter, r *stdhttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the agent leaves
		<-r.Context().Done()
	})
	a.most = time.Millisecond
	if err := a.once(t.Context()); err == nil {
		t.Error("it was answered")
	}
}

// TestWhatIsNoEvent does not keep the events behind it from the host.
func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	var deleted sync.Map
	a := agentOf(t, func(w stdhttp.ResponseWriter, r *stdhttp.Request) {
		if r.Method == stdhttp.MethodDelete {
			deleted.Store(r.URL.Path, true)
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
	for _, path := range []string{"/1", "/2"} {
		if _, gone := deleted.Load(path); !gone {
			t.Errorf("%s is not deleted", path)
		}
	}
	if len(got) != 1 || got[0] != "evt-2" {
		t.Errorf("got %v", got)
	}
}

// TestAnEventThatAlwaysFails holds up those behind it, but for so many tries at most.
func TestAnEventThatAlwaysFails(t *testing.T) {
	t.Parallel()
	var deleted []string
	a := agentOf(t, func(w stdhttp.ResponseWriter, r *stdhttp.Request) {
		if r.Method == stdhttp.MethodDelete {
			deleted = append(deleted, r.URL.Path)
			w.WriteHeader(stdhttp.StatusNoContent)
			return
		}
		_, _ = w.Write([]byte(`{"messages": [{"href": "/1", "body": {"id": "evt-1"}}, {"href": "/2", "body": {"id": "evt-2"}}]}`))
	})
	var logged []string
	a.tries = 3
	a.log = func(err error) { logged = append(logged, err.Error()) }
	a.act = func(_ context.Context, e event) error {
		if e.ID == "evt-1" {
			return errors.New("never")
		}
		return nil
	}
	for try := range 3 {
		if err := a.once(t.Context()); (err == nil) != (try == 2) {
			t.Errorf("try %d: %v, deleted %v", try, err, deleted)
		}
	}
	if !slices.Equal(deleted, []string{"/1", "/2"}) {
		t.Errorf("deleted %v", deleted)
	}
	if !slices.Equal(logged, []string{"event evt-1: never; given up after 3 tries"}) {
		t.Errorf("logged %q", logged)
	}
}
