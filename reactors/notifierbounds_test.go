package reactors_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/eventually"
	"nabu/reactors"
)

var openRules = domain.SubscriptionRules{Types: domain.SubscriberTypes}

// refuse lets a receiver answer with an error to messages with a text in them.
func (r *receiver) refuse(text string) {
	r.answer = func(c call, w http.ResponseWriter, _ *http.Request) {
		if strings.Contains(c.body, text) {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
}

// report brings attempts into the ledger as a notifier does.
func (h *house) report(id domain.SubscriptionID, cursor domain.Place, attempts ...domain.DeliveryAttempt) {
	h.Helper()
	known, err := h.views.SubscribersByID(h.Context(), []domain.SubscriptionID{id})
	if err != nil || len(known) != 1 {
		h.Fatalf("%v, %v", known, err)
	}
	if versions := run(h, commands.ReportDeliveries{Queue: queue("q"), Reports: []commands.DeliveryReport{
		{Subscription: id, Version: known[0].Version, Attempts: attempts, Cursor: cursor},
	}}); versions[0] == 0 {
		h.Fatal("the report was refused")
	}
}

// TestAPolicyWithoutEnd is followed as far as it does no harm: the next message goes, what
// was attempted is reported, there is a pause after a hundred attempts, and it is over when
// the message expires.
func TestAPolicyWithoutEnd(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	r.refuse(`"bad"`)
	id := h.subscriber("q", r.URL+"/a", `{"_retry_policy": {"retries_with_no_delay": 2147483647}}`)
	h.notifier(nil)
	h.postBodies("q", `"bad"`, `"good"`)
	eventually.Holds(h, "the next goes, and there is a pause", func() bool { return len(h.attempts(id)) == 101 })
	if last := h.attempts(id)[100]; last.Number != 100 || last.Due.Sub(h.clock()) != time.Second {
		t.Errorf("%+v", last)
	}
	h.advance(time.Second)
	eventually.Holds(h, "it goes on", func() bool { return len(h.attempts(id)) == 102 })
	h.advance(time.Hour)
	eventually.Holds(h, "it is over", func() bool { return h.waiting() == 0 })
	if attempts := h.attempts(id); attempts[len(attempts)-1].Outcome != domain.DeliveryExpired {
		t.Errorf("%+v", attempts[len(attempts)-1])
	}
	h.sound()
}

// TestNothingWaitsForLongerThanItLives: a delay of years does not keep a row for years.
func TestNothingWaitsForLongerThanItLives(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	r.refuse(`"bad"`)
	id := h.subscriber("q", r.URL+"/a", `{"_retry_policy": {"minimum_delay": 2000000000, "maximum_delay": 2147483647}}`)
	h.notifier(nil)
	h.postBodies("q", `"bad"`)
	eventually.Holds(h, "it waits", func() bool { return len(h.attempts(id)) == 4 && h.waiting() == 1 })
	h.advance(time.Hour + time.Second)
	eventually.Holds(h, "it is over", func() bool { return h.waiting() == 0 })
	if last := h.attempts(id)[4]; last.Outcome != domain.DeliveryExpired || len(r.got("/a")) != 4 {
		t.Errorf("%+v", last)
	}
}

// TestWhoHasMuchToWaitForHidesNobody: subscribers are looked for, not what waits for them.
func TestWhoHasMuchToWaitForHidesNobody(t *testing.T) {
	h := newHouse(t)
	much, little := h.subscriber("q", "http://much.test/", ""), h.subscriber("q", "http://little.test/", "")
	attempt := func(i int, due time.Time) domain.DeliveryAttempt {
		return domain.DeliveryAttempt{Place: domain.PlaceOf(1000, i), Outcome: domain.DeliveryRetry, Number: 1, Due: due}
	}
	var attempts []domain.DeliveryAttempt
	for i := range 20 {
		attempts = append(attempts, attempt(i, h.clock()))
	}
	h.report(much, 0, attempts...)
	h.report(little, 0, attempt(0, h.clock().Add(time.Second)))
	h.advance(2 * time.Second)
	want := func(most int, besides []domain.SubscriptionID, ids ...domain.SubscriptionID) {
		t.Helper()
		found, err := h.views.SubscribersDue(t.Context(), besides, most)
		if err != nil || len(found) != len(ids) {
			t.Fatalf("%d are due, %v", len(found), err)
		}
		for _, s := range found {
			if s.ID != ids[0] && s.ID != ids[len(ids)-1] {
				t.Errorf("%s is due", s.ID)
			}
		}
	}
	want(10, nil, much, little)
	want(1, nil, much)
	want(1, []domain.SubscriptionID{much}, little)
	h.advance(-90 * time.Minute)
	want(10, nil)
}

// TestWhatWaitsForWhoHasNotConfirmed is given up, when that has come to be required.
func TestWhatWaitsForWhoHasNotConfirmed(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	r.refuse(`"bad"`)
	id := h.subscriber("q", r.URL+"/a", "")
	_, end := h.notifier(nil)
	h.postBodies("q", `"bad"`)
	eventually.Holds(h, "it waits", func() bool { return len(h.attempts(id)) == 4 && h.waiting() == 1 })
	end()
	h.notifier(func(cfg *reactors.NotifierConfig) { cfg.Required = true })
	h.advance(time.Minute)
	eventually.Holds(h, "it is given up", func() bool { return h.waiting() == 0 })
	if last := h.attempts(id)[4]; last.Outcome != domain.DeliveryDropped || last.Error == "" || len(r.got("/a")) != 4 {
		t.Errorf("%+v", last)
	}
	h.sound()
}

// TestWhoHasConfirmedIsNotAskedAgain, though a report of an attempt to ask came late.
func TestWhoHasConfirmedIsNotAskedAgain(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	rules := openRules
	rules.Confirm = true
	id := run(h, commands.Subscribe{
		NewSubscription: domain.NewSubscription{Queue: queue("q"), Subscriber: r.URL + "/a", TTL: 3600}, Rules: rules,
	})
	run(h, commands.ConfirmSubscription{Queue: queue("q"), ID: id, Confirmed: true, Rules: rules})
	h.report(id, 0, domain.DeliveryAttempt{
		Place: domain.FirstCursor(id), Owes: domain.ConfirmSubscription, Number: 4, Outcome: domain.DeliveryRetry, Due: h.clock(),
	})
	h.notifier(func(cfg *reactors.NotifierConfig) { cfg.Required = true })
	eventually.Holds(h, "nothing waits", func() bool { return h.waiting() == 0 })
	h.postBodies("q", `"it is at work"`)
	eventually.Holds(h, "it is delivered", func() bool { return len(r.got("/a")) > 0 })
	if got := r.got("/a"); len(got) != 1 || !strings.Contains(got[0].body, "it is at work") {
		t.Errorf("%+v", got)
	}
}

// TestAChangeCountsInTheMiddleOfAPage: who moves house gets the rest there.
func TestAChangeCountsInTheMiddleOfAPage(t *testing.T) {
	const messages = 3000
	h, r := newHouse(t), newReceiver(t)
	begun, changed := make(chan struct{}, messages), make(chan struct{})
	r.answer = func(call, http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-changed
	}
	id := h.subscriber("q", r.URL+"/a", "")
	h.notifier(func(cfg *reactors.NotifierConfig) { cfg.Observe = nil })
	bodies := make([]string, messages)
	for i := range bodies {
		bodies[i] = strconv.Itoa(i)
	}
	h.postBodies("q", bodies...)
	<-begun
	run(h, commands.ChangeSubscription{Queue: queue("q"), ID: id, Change: domain.SubscriptionChange{Subscriber: r.URL + "/b"}, Rules: openRules})
	close(changed)
	eventually.Holds(h, "all is delivered", func() bool { return len(h.attempts(id)) == messages })
	if a, b := len(r.got("/a")), len(r.got("/b")); b == 0 || a+b != messages {
		t.Errorf("%d went to the old address and %d to the new one", a, b)
	}
}

// TestALongHistoryIsPassedOverOnce: what else happened in a queue is not gone through again.
func TestALongHistoryIsPassedOverOnce(t *testing.T) {
	h, r := newHouse(t), newReceiver(t)
	id := h.subscriber("q", r.URL+"/a", "")
	h.postBodies("q", `1`)
	if _, err := h.db.Exec(`
INSERT INTO ledger.events (position, id, batch, stream, version, type, data, project, recorded_at)
SELECT e.position + n, gen_random_uuid(), gen_random_uuid(), e.stream, e.version + n, 'claim.released.v1', '{"project": "p", "queue": "q"}', e.project, e.recorded_at
FROM (SELECT * FROM ledger.events ORDER BY position DESC LIMIT 1) AS e, generate_series(1, 1500) AS n`); err != nil {
		t.Fatal(err)
	}
	_, end := h.notifier(nil)
	eventually.Holds(h, "it is delivered", func() bool { return len(h.attempts(id)) == 1 })
	eventually.Holds(h, "nobody is behind", func() bool {
		behind, err := h.views.SubscribersBehind(t.Context())
		return err == nil && len(behind) == 0
	})
	end()
}
