package reactors_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/eventually"
	"nabu/internal/webhook"
	"nabu/reactors"
)

// TestACursorInTheMiddleOfAPost: of a post that was delivered in part the rest is.
func TestACursorInTheMiddleOfAPost(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	id := h.subscriber("q", r.URL+"/a", "")
	ids := h.postBodies("q", `1`, `2`, `3`)
	versions := run(h, commands.ReportDeliveries{Queue: queue("q"), Reports: []commands.DeliveryReport{
		{Subscription: id, Version: 1, Cursor: domain.PostingPlace(ids[0])},
	}})
	if versions[0] != 2 {
		t.Fatalf("the version is %d", versions[0])
	}
	h.notifier(nil)
	eventually.Holds(h, "the rest comes", func() bool { return len(r.got("/a")) >= 2 })
	if got := r.bodies("/a"); !slices.Equal(got, []string{`2`, `3`}) {
		t.Errorf("%v", got)
	}
}

// TestWhoWantsNothingIsLeftAlone: what waits for a subscriber is given up when it wants
// nothing any more.
func TestWhoWantsNothingIsLeftAlone(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	r.answer = func(c call, w http.ResponseWriter, _ *http.Request) {
		if strings.Contains(c.body, `"Notification"`) {
			w.WriteHeader(500)
		}
	}
	id := h.subscriber("q", r.URL+"/a", "")
	n, _ := h.notifier(nil)
	h.postBodies("q", `1`)
	eventually.Holds(h, "it waits", func() bool { return h.waiting() == 1 && len(h.attempts(id)) == 4 })
	run(h, commands.ConfirmSubscription{Queue: queue("q"), ID: id, Rules: domain.SubscriptionRules{Types: domain.SubscriberTypes, Confirm: true}})
	if n := h.waiting(); n != 1 { // what it is owed itself
		t.Errorf("%d wait", n)
	}
	h.advance(time.Second) // events are a bit later than the clock that stands still
	n.Wake()
	eventually.Holds(h, "it is told", func() bool { return len(r.got("/a")) == 5 })
	h.sound()
}

// TestAFailedAttemptIsReportedBeforeTheNext: while an immediate attempt is under way, and that may
// take long, the one before it is in the history, and nobody makes it again after a kill.
func TestAFailedAttemptIsReportedBeforeTheNext(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	answer := make(chan struct{})
	r.answer = func(c call, w http.ResponseWriter, _ *http.Request) {
		switch {
		case !strings.Contains(c.body, `"bad"`):
		case c.attempt == 1:
			w.WriteHeader(503)
		case c.attempt == 2:
			<-answer
			w.WriteHeader(503)
		}
	}
	id := h.subscriber("q", r.URL+"/a", `{"_retry_policy": {"retries_with_no_delay": 2}}`)
	sender := webhook.New(webhook.Config{AllowLoopback: true, Timeout: time.Minute})
	h.Cleanup(sender.Close)
	h.notifier(func(cfg *reactors.NotifierConfig) { cfg.Deliver = &reactors.Postman{Webhooks: sender, PerHost: 60} })
	release := sync.OnceFunc(func() { close(answer) })
	h.Cleanup(release)
	ids := h.postBodies("q", `"bad"`, `"good"`)
	eventually.Holds(h, "the second attempt is under way", func() bool { return len(r.got("/a")) == 2 })
	eventually.Holds(h, "the first is reported", func() bool { return len(h.attempts(id)) > 0 })
	if a := h.attempts(id); len(a) != 1 || a[0].Number != 1 || a[0].Outcome != domain.DeliveryRetry || a[0].Message != ids[0] {
		t.Errorf("while the second is under way there is %+v", a)
	}
	release()
	eventually.Holds(h, "all are made", func() bool { return len(h.attempts(id)) == 4 })
	if got := r.bodies("/a"); !slices.Equal(got, []string{`"bad"`, `"bad"`, `"bad"`, `"good"`}) {
		t.Errorf("%v", got)
	}
	for i, a := range h.attempts(id)[:3] {
		if a.Number != i+1 || a.Message != ids[0] {
			t.Errorf("attempt %d: %+v", i+1, a)
		}
	}
	h.sound()
}

// TestWhatIsGivenUpIsLogged: with subscription, queue, reason and how many, in no more lines
// than there are reports.
func TestWhatIsGivenUpIsLogged(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	r.answer = func(c call, w http.ResponseWriter, _ *http.Request) {
		if c.path == "/gone" {
			w.WriteHeader(http.StatusGone)
		}
	}
	gone, fine := h.subscriber("q", r.URL+"/gone", ""), h.subscriber("q", r.URL+"/fine", "")
	var log bytes.Buffer
	_, end := h.notifier(func(cfg *reactors.NotifierConfig) { cfg.Log = slog.New(slog.NewJSONHandler(&log, nil)) })
	h.postBodies("q", `1`, `2`, `3`)
	eventually.Holds(h, "all is reported", func() bool { return len(h.attempts(gone)) == 3 && len(h.attempts(fine)) == 3 })
	end()
	total := 0
	for text := range strings.Lines(log.String()) {
		var line struct {
			Level, Msg, Subscription, Queue, Project, Reason string
			Dropped                                          int
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil || line.Msg != "deliveries are given up" {
			continue
		}
		total += line.Dropped
		if line.Level != "INFO" || line.Subscription != gone.String() || line.Queue != "q" || line.Project != queue("q").Project ||
			!strings.Contains(line.Reason, "410") || line.Dropped == 0 {
			t.Errorf("the line is %s", text)
		}
	}
	if total != 3 {
		t.Errorf("%d of 3 are told in\n%s", total, log.String())
	}
}
