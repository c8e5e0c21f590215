package http

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/signedurl"
)

// withConfirmation lets nothing be delivered before it is confirmed.
func withConfirmation(cfg *Config) { cfg.Subscriptions.Confirm = true }

const subscriptions = "/v2/queues/q/subscriptions"

// subscribe makes a subscription to queue q and returns its id.
func (a *api) subscribe(body string, headers ...string) domain.SubscriptionID {
	a.Helper()
	var made struct {
		ID string `json:"subscription_id"`
	}
	a.call("POST", subscriptions, body, 201, headers...).has("Location", subscriptions).into(&made)
	id, ok := domain.ParseSubscriptionID(made.ID)
	if !ok {
		a.Fatalf("%q is no subscription's id", made.ID)
	}
	return id
}

// subscribers are those of a page of subscriptions.
func subscribers(got answer) []string {
	got.Helper()
	var page struct{ Subscriptions []struct{ Subscriber string } }
	got.into(&page)
	all := []string{}
	for _, s := range page.Subscriptions {
		all = append(all, s.Subscriber)
	}
	return all
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := a.subscribe(`{"subscriber": "https://hooks.example.net/in?a=1&b=<2>", "unknown": 1}`)
	a.recorded(
		domain.QueueCreated{Project: "p1", Name: "q"},
		domain.SubscriptionCreated{
			Project: "p1", ID: id, Queue: "q", Subscriber: "https://hooks.example.net/in?a=1&b=<2>", TTL: 3600, Options: `{}`,
		})
	a.advance(41*time.Second + time.Millisecond)
	a.call("GET", subscriptions+"/"+id.String(), ``, 200).is(fmt.Sprintf(`{
		"id": %q, "source": "q", "subscriber": "https://hooks.example.net/in?a=1&b=<2>", "ttl": 3600, "age": 41,
		"options": {}, "confirmed": false}`, id))

	other := a.subscribe(`{"subscriber": "MAILTO:ci@example.net", "ttl": 60, "options": {"b": 1, "a": [ 1.50 ], "b": "\u0000"}}`)
	a.recorded(domain.SubscriptionCreated{
		Project: "p1", ID: other, Queue: "q", Subscriber: "MAILTO:ci@example.net", TTL: 60, Options: `{"b": 1, "a": [ 1.50 ], "b": "\u0000"}`,
	})
	if got := a.call("GET", subscriptions, ``, 200).body; !strings.Contains(got, `"options":{"b": 1, "a": [ 1.50 ], "b": "\u0000"}`) {
		t.Errorf("options are not as they were sent: %s", got)
	}
	if got := a.call("GET", subscriptions, ``, 200).body; !strings.Contains(got, `?a=1&b=<2>"`) {
		t.Errorf("a subscriber is not as it was sent: %s", got)
	}

	// Another project and another queue are unrelated.
	a.call("GET", subscriptions+"/"+id.String(), ``, 404, "X-Project-Id", "p2").refused("Not found")
	a.call("GET", "/v2/queues/r/subscriptions/"+id.String(), ``, 404)
	a.call("GET", "/v2/queues/r/subscriptions", ``, 200).is(`{"subscriptions": [], "links": []}`)
	a.subscribe(`{"subscriber": "MAILTO:ci@example.net"}`, "X-Project-Id", "p2")
}

// What clients and Tempest subscribe is taken, whether anybody is there or not.
func TestSubscriberIsNotLookedFor(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, subscriber := range []string{
		"http://fake:8080", "https://fake:8080", "mailto:fake@123.com", "http://127.0.0.1:9/x", "http://", "http:", "HTTP://a",
		"https://h/" + strings.Repeat("long", 4000),
	} {
		a.subscribe(fmt.Sprintf(`{"subscriber": %q}`, subscriber))
	}
}

func TestSubscribeRefusals(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const shape, rule = "Invalid request body", "Invalid API request"
	for body, title := range map[string]string{
		``: shape, ` `: shape, `[]`: shape, `5`: shape, `{"subscriber": "http://a"`: shape, "{\"subscriber\": \"http://\xff\"}": shape,
		`{}`: rule, `{"ttl": 60}`: rule, `{"subscriber": ""}`: rule, `{"subscriber": null}`: shape, `{"subscriber": 5}`: shape,
		`{"subscriber": "fake"}`: rule, `{"subscriber": "http"}`: rule, `{"subscriber": "email://fake"}`: rule, `{"subscriber": ":http"}`: rule,
		`{"subscriber": " http://a"}`: rule, `{"subscriber": "trust+http://a"}`: rule, `{"subscriber": "trust+https://a"}`: rule,
		`{"subscriber": "http://\u0000"}`: rule, `{"subscriber": "http://\ud800"}`: rule,
		`{"subscriber": "http://a", "ttl": 59}`: rule, `{"subscriber": "http://a", "ttl": 0}`: rule, `{"subscriber": "http://a", "ttl": -60}`: rule,
		`{"subscriber": "http://a", "ttl": null}`: shape, `{"subscriber": "http://a", "ttl": "60"}`: shape, `{"subscriber": "http://a", "ttl": 60.5}`: shape,
		`{"subscriber": "http://a", "ttl": true}`: shape, `{"subscriber": "http://a", "ttl": 9223372036854775807}`: rule,
		`{"subscriber": "http://a", "ttl": 251629941600}`:        rule, // the first second of the year 10000
		`{"subscriber": "http://a", "ttl": 9223372036854775808}`: shape,
		`{"subscriber": "http://a", "options": null}`:            shape, `{"subscriber": "http://a", "options": []}`: shape, `{"subscriber": "http://a", "options": "{}"}`: shape,
		`{"subscriber": "http://a", "options": {"_retry_policy": 5}}`:                        rule,
		`{"subscriber": "http://a", "options": {"filter_policies": {"k": [{"prefix": 1}]}}}`: rule,
		`{"subscriber": "http://a", "options": {"_retry_policy": {"minimum_delay": 25}}}`:    rule,
		`{"subscriber": "http://` + strings.Repeat("a", maxSubscription) + `"}`:              rule,
	} {
		a.call("POST", subscriptions, body, 400).refused(title).has("Location", "")
	}
	a.recorded() // no queue either
	a.subscribe(`{"subscriber": "http://a", "ttl": 251629941599}`)
	a.call("GET", subscriptions, ``, 200)
	a.call("POST", subscriptions, `{"subscriber": "http://a"}`, 400, "Client-ID", "")
	a.call("POST", "/v2/queues/no@good/subscriptions", `{"subscriber": "http://a"}`, 400).refused("Invalid queue identification")
}

// Who subscribes twice gets the first subscription, as long as it is not confirmed.
func TestSubscribeTwice(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := a.subscribe(`{"subscriber": "http://a", "ttl": 100, "options": {"a": 1}}`)
	a.history()
	if again := a.subscribe(`{"subscriber": "http://a", "ttl": 200, "options": {}}`); again != id {
		t.Fatalf("another id: %s", again)
	}
	a.recorded()
	a.call("DELETE", "/v2/queues/q", ``, 204)
	a.history()
	if again := a.subscribe(`{"subscriber": "http://a"}`); again != id { // it has outlived its queue
		t.Fatalf("another id: %s", again)
	}
	a.recorded(domain.QueueCreated{Project: "p1", Name: "q"})

	a.call("PUT", subscriptions+"/"+id.String()+"/confirm", `{"confirmed": true}`, 204)
	a.history()
	a.call("POST", subscriptions, `{"subscriber": "http://a"}`, 409).refused("Resource conflict").has("Location", subscriptions)
	a.recorded()

	// What has expired is in nobody's way, swept or not.
	a.advance(100 * time.Second)
	later := a.subscribe(`{"subscriber": "http://a"}`)
	a.recorded(
		domain.SubscriptionSwept{Project: "p1", ID: id, Queue: "q"},
		domain.SubscriptionCreated{Project: "p1", ID: later, Queue: "q", Subscriber: "http://a", TTL: 3600, Options: `{}`})
}

func TestSubscribeOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	once := []string{"Idempotency-Key", "k1"}
	id := a.subscribe(`{"subscriber": "http://a"}`, once...)
	a.call("DELETE", subscriptions+"/"+id.String(), ``, 204)
	a.history()
	if again := a.subscribe(`{"subscriber": "http://a"}`, once...); again != id {
		t.Errorf("another id: %s", again)
	}
	a.call("POST", subscriptions, `{"subscriber": "http://b"}`, 422, once...)
	a.recorded()
}

func TestListSubscriptions(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	want := []string{}
	for i := range 12 {
		want = append(want, fmt.Sprintf("http://h/%d", 11-i))
		a.subscribe(fmt.Sprintf(`{"subscriber": "http://h/%d", "ttl": %d}`, 11-i, 1000+i))
	}
	first := a.call("GET", subscriptions, ``, 200)
	if diff := cmp.Diff(want[:10], subscribers(first)); diff != "" {
		t.Fatalf("ten by default (-want +got):\n%s", diff)
	}
	walked := []string{}
	for path := subscriptions + "?limit=5&detailed=False"; path != ""; {
		page := a.call("GET", path, ``, 200)
		walked, path = append(walked, subscribers(page)...), next(page)
	}
	if diff := cmp.Diff(want, walked); diff != "" {
		t.Fatalf("a walk (-want +got):\n%s", diff)
	}
	// openstacksdk goes on behind the last id that it got, which may be gone by then.
	var page struct{ Subscriptions []struct{ ID string } }
	first.into(&page)
	last := page.Subscriptions[9].ID
	a.call("DELETE", subscriptions+"/"+last, ``, 204)
	if diff := cmp.Diff(want[10:], subscribers(a.call("GET", subscriptions+"?limit=20&marker="+strings.ToUpper(last), ``, 200))); diff != "" {
		t.Fatalf("behind one that is gone (-want +got):\n%s", diff)
	}
	for _, marker := range []string{"x", "0199b9a0-6d7a-7c31-9a53-0242ac120002", "ffffffff-ffff-8fff-bfff-ffffffffffff"} {
		a.call("GET", subscriptions+"?marker="+marker, ``, 200).is(`{"subscriptions": [], "links": []}`)
	}
	for query, title := range map[string]string{
		"?limit=21": "Invalid API request", "?limit=0": "Invalid API request", "?limit=x": "Invalid parameter",
	} {
		a.call("GET", subscriptions+query, ``, 400).refused(title)
	}
	a.advance(1003*time.Second + time.Millisecond)
	if diff := cmp.Diff(append(want[4:9:9], want[10:]...), subscribers(a.call("GET", subscriptions, ``, 200))); diff != "" {
		t.Fatalf("without the expired (-want +got):\n%s", diff)
	}
}

func TestSubscriptionsPerPage(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) {
		cfg.Limits.MaxSubscriptionsPerPage, cfg.Limits.DefaultSubscriptionTTL = 2, 77
		cfg.Subscriptions.Types = []string{"https"}
	})
	for i := range 3 {
		a.subscribe(fmt.Sprintf(`{"subscriber": "https://h/%d"}`, i))
	}
	got := a.call("GET", subscriptions, ``, 200)
	if diff := cmp.Diff([]string{"https://h/0", "https://h/1"}, subscribers(got)); diff != "" || !strings.Contains(got.body, `"ttl":77,`) {
		t.Fatalf("%s (-want +got):\n%s", got.body, diff)
	}
	a.call("GET", subscriptions+"?limit=3", ``, 400)
	a.call("POST", subscriptions, `{"subscriber": "http://h"}`, 400)
}

func TestChangeSubscription(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := a.subscribe(`{"subscriber": "http://a", "ttl": 100, "options": {"a": 1}}`)
	other := a.subscribe(`{"subscriber": "http://b", "ttl": 150}`)
	path := subscriptions + "/" + id.String()
	a.call("PUT", path+"/confirm", `{"confirmed": true}`, 204)
	a.history()

	a.advance(90 * time.Second)
	a.call("PATCH", path, `{"ttl": 200}`, 204).has("Location", path)
	a.recorded(domain.SubscriptionUpdated{Project: "p1", ID: id, Queue: "q", Subscriber: "http://a", TTL: 200, Options: `{"a": 1}`})
	a.advance(20 * time.Second)
	a.call("PATCH", path, `{"options": { }, "subscriber": "http://c", "unknown": null}`, 204)
	a.recorded(domain.SubscriptionUpdated{Project: "p1", ID: id, Queue: "q", Subscriber: "http://c", Options: `{ }`})
	a.call("PATCH", path, `{"options": { }, "subscriber": "http://c", "ttl": null}`, 204) // as it is
	a.recorded()
	a.call("GET", path, ``, 200).is(fmt.Sprintf(
		`{"id": %q, "source": "q", "subscriber": "http://c", "ttl": 200, "age": 110, "options": {}, "confirmed": true}`, id))

	a.call("PATCH", path, `{"subscriber": "http://b"}`, 409).refused("Resource conflict").has("Location", "")
	a.recorded()
	a.advance(41 * time.Second) // the other one expires
	a.call("PATCH", path, `{"subscriber": "http://b"}`, 204)
	a.recorded(
		domain.SubscriptionSwept{Project: "p1", ID: other, Queue: "q"},
		domain.SubscriptionUpdated{Project: "p1", ID: id, Queue: "q", Subscriber: "http://b", Options: `{ }`})
	a.subscribe(`{"subscriber": "http://a"}`) // it is nobody's any more
	a.history()

	for body, title := range map[string]string{
		``: "Invalid request body", `[]`: "Invalid request body", `{}`: "Unable to update subscription",
		`{"unknown": 1}`: "Unable to update subscription", `{"ttl": 59}`: "Invalid API request", `{"ttl": null, "subscriber": null, "options": null}`: "Unable to update subscription",
		`{"options": 1}`: "Invalid request body", `{"subscriber": "fake"}`: "Invalid API request", `{"ttl": 251629941600}`: "Invalid API request",
	} {
		a.call("PATCH", path, body, 400).refused(title).has("Location", "")
		a.call("PATCH", subscriptions+"/absent", body, map[bool]int{true: 404, false: 400}[body == `{"ttl": 251629941600}`])
	}
	a.call("PATCH", subscriptions+"/"+other.String(), `{"ttl": 60}`, 404).refused("Not found")
	a.call("PATCH", "/v2/queues/r/subscriptions/"+id.String(), `{"ttl": 60}`, 404)
	a.call("PATCH", path, `{"ttl": 60}`, 404, "X-Project-Id", "p2")
	a.recorded()
}

func TestDeleteSubscription(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := a.subscribe(`{"subscriber": "http://a"}`)
	path := subscriptions + "/" + id.String()
	a.history()
	for _, elsewhere := range []string{"/v2/queues/r/subscriptions/" + id.String(), subscriptions + "/absent", subscriptions + "/00000000-0000-8000-8000-000000000000"} {
		a.call("DELETE", elsewhere, ``, 204)
	}
	a.call("DELETE", path, ``, 204, "X-Project-Id", "p2")
	a.recorded()
	a.call("DELETE", path, ``, 204)
	a.recorded(domain.SubscriptionDeleted{Project: "p1", ID: id, Queue: "q"})
	a.call("DELETE", path, ``, 204)
	a.recorded()
	a.call("GET", path, ``, 404).refused("Not found")
	a.call("GET", subscriptions+"/absent", ``, 404).refused("Not found")
}

func TestConfirmSubscription(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	id := a.subscribe(`{"subscriber": "http://a", "ttl": 100}`)
	path := subscriptions + "/" + id.String() + "/confirm"
	a.history()
	a.call("PUT", path, `{"confirmed": false}`, 204).has("Location", path) // it is not anyway
	a.recorded()
	a.call("PUT", path, `{"confirmed": true, "unknown": 1}`, 204).has("Location", path)
	a.recorded(domain.SubscriptionConfirmed{Project: "p1", ID: id, Queue: "q"})
	a.call("PUT", path, `{"confirmed": true}`, 204)
	a.recorded()
	if got := a.call("GET", subscriptions, ``, 200).body; !strings.Contains(got, `"confirmed":true`) {
		t.Errorf("not confirmed: %s", got)
	}
	a.call("PUT", path, `{"confirmed": false}`, 204)
	a.recorded(domain.SubscriptionUnconfirmed{Project: "p1", ID: id, Queue: "q"}) // nothing is owed
	for body, title := range map[string]string{
		``: "Invalid request body", `[]`: "Invalid API request", `{}`: "Invalid API request", `{"confirmed": "true"}`: "Invalid API request",
		`{"confirmed": 1}`: "Invalid API request", `{"confirmed": null}`: "Invalid API request",
	} {
		a.call("PUT", path, body, 400).refused(title)
	}
	a.call("POST", path, `{"confirmed": true}`, 405).has("Allow", "PUT, OPTIONS")
	a.call("PUT", subscriptions+"/absent/confirm", `{"confirmed": true}`, 404).refused("Not found")
	a.call("PUT", path, `{"confirmed": true}`, 404, "X-Project-Id", "p2")
	a.advance(100 * time.Second)
	a.call("PUT", path, `{"confirmed": true}`, 404)
	a.recorded()
}

// The headers of a confirmation are those that the request for it names; none can be missing.
func TestSignedConfirmation(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withConfirmation)
	id := a.subscribe(`{"subscriber": "http://a"}`)
	path := subscriptions + "/" + id.String() + "/confirm"
	expires := a.Now().Add(time.Hour)
	told := []string{
		"URL-Signature", signedurl.Key("sample-key").Sign(signedurl.Grant{Paths: []string{path}, Methods: []string{"PUT"}, Project: "p1", Expires: expires}),
		"URL-Methods", "PUT", "URL-Expires", signedurl.FormatExpires(expires), "URL-Paths", path, "X-Project-ID", "p1", "Client-ID", uuid.NewString(),
	}
	a.history()
	for i, status := range map[int]int{2: 404, 4: 404, 6: 404, 8: 404, 10: 400} {
		without := slices.Clone(told)
		without[i+1] = ""
		a.call("PUT", path, `{"confirmed": true}`, status, without...)
	}
	a.call("GET", path[:len(path)-len("/confirm")], ``, 404, told...)
	a.recorded()
	a.call("PUT", path, `{"confirmed": true}`, 204, told...)
	a.recorded(domain.SubscriptionConfirmed{Project: "p1", ID: id, Queue: "q"})
	a.call("PUT", path, `{"confirmed": false}`, 204, told...)
	a.recorded(domain.SubscriptionUnconfirmed{Project: "p1", ID: id, Queue: "q", Owes: domain.ConfirmUnsubscription})
}

// Where confirmations are required, the events say when one has to be asked for.
func TestRequiredConfirmation(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withConfirmation)
	id := a.subscribe(`{"subscriber": "http://a"}`)
	path := subscriptions + "/" + id.String()
	created := domain.SubscriptionCreated{
		Project: "p1", ID: id, Queue: "q", Subscriber: "http://a", TTL: 3600, Options: `{}`, Owes: domain.ConfirmSubscription,
	}
	a.recorded(domain.QueueCreated{Project: "p1", Name: "q"}, created)
	a.subscribe(`{"subscriber": "http://a", "ttl": 60}`) // asked again, nothing else
	updated := domain.SubscriptionUpdated{Project: "p1", ID: id, Queue: "q", Subscriber: "http://a", Options: `{}`, Owes: domain.ConfirmSubscription}
	a.recorded(updated)
	a.call("PUT", path+"/confirm", `{"confirmed": true}`, 204)
	a.recorded(domain.SubscriptionConfirmed{Project: "p1", ID: id, Queue: "q"})

	a.call("PATCH", path, `{"subscriber": "http://a", "ttl": 70}`, 204) // the same
	updated.Owes, updated.TTL = "", 70
	a.recorded(updated)
	a.call("PATCH", path, `{"subscriber": "http://b"}`, 204)
	updated.Owes, updated.TTL, updated.Subscriber = domain.ConfirmSubscription, 0, "http://b"
	a.recorded(updated)
	a.call("GET", path, ``, 200).is(fmt.Sprintf(
		`{"id": %q, "source": "q", "subscriber": "http://b", "ttl": 70, "age": 0, "options": {}, "confirmed": false}`, id))

	unconfirmed := domain.SubscriptionUnconfirmed{Project: "p1", ID: id, Queue: "q", Owes: domain.ConfirmUnsubscription}
	for range 2 {
		a.call("PUT", path+"/confirm", `{"confirmed": false}`, 204)
		a.recorded(unconfirmed)
	}
}

func TestPurgeSubscriptions(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const many = 210 // two commands and a bit
	for i := range many {
		a.subscribe(fmt.Sprintf(`{"subscriber": "http://h/%d", "ttl": %d}`, i, 60+60*(i%2)))
	}
	a.call("POST", "/v2/queues/r/subscriptions", `{"subscriber": "http://h"}`, 201)
	a.post("q", ours, `[{"body": 1}]`)
	a.advance(60*time.Second + time.Millisecond*500) // every other one expires
	a.history()

	a.call("POST", "/v2/queues/q/purge", `{"resource_types": ["messages"]}`, 204)
	a.recorded(domain.QueuePurged{Project: "p1", Name: "q", Number: 1})
	once := []string{"Idempotency-Key", "k1"}
	a.call("POST", "/v2/queues/q/purge", ``, 204, once...)
	counts := map[string]int{}
	for _, e := range a.history() {
		counts[e.Event.EventType()]++
	}
	if diff := cmp.Diff(map[string]int{"queue.purged.v1": 1, "subscription.deleted.v1": many / 2, "subscription.swept.v1": many / 2}, counts); diff != "" {
		t.Fatalf("recorded (-want +got):\n%s", diff)
	}
	a.call("GET", subscriptions, ``, 200).is(`{"subscriptions": [], "links": []}`)
	if got := subscribers(a.call("GET", "/v2/queues/r/subscriptions", ``, 200)); len(got) != 1 {
		t.Errorf("of another queue: %v", got)
	}

	// Given again it takes nothing that came later; given anew it does.
	a.subscribe(`{"subscriber": "http://later"}`)
	a.history()
	a.call("POST", "/v2/queues/q/purge", ``, 204, once...)
	a.recorded()
	a.call("DELETE", "/v2/queues/q", ``, 204)
	a.history()
	a.call("POST", "/v2/queues/q/purge", `{"resource_types": ["subscriptions"]}`, 204)
	if got := a.history(); len(got) != 1 || got[0].Event.EventType() != "subscription.deleted.v1" {
		t.Fatalf("recorded %v", got)
	}
}
