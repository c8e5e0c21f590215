package http

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
)

// claim claims messages and returns the claim's path and the answer.
func (a *api) claim(queue, query, body string) (path string, got answer) {
	a.Helper()
	got = a.call("POST", "/v2/queues/"+queue+"/claims"+query, body, 201)
	path = got.header.Get("Location")
	if !strings.HasPrefix(path, "/v2/queues/"+queue+"/claims/") {
		a.Fatalf("Location %q", path)
	}
	return path, got
}

func claimID(path string) domain.ClaimID {
	return uuid.MustParse(path[strings.LastIndexByte(path, '/')+1:])
}

func TestClaimAndItsLife(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	ids := a.post("q", ours, `[{"ttl": 60, "body": {"n": 1}}, {"ttl": 302, "body": [2]}, {"ttl": 360, "body": null}]`)
	a.history()
	a.advance(1500 * time.Millisecond)

	path, got := a.claim("q", "?limit=2", ``)
	claim := path[strings.LastIndexByte(path, '/')+1:]
	message := func(id, ttl, age, body string) string {
		return `{"id": "` + id + `", "href": "/v2/queues/q/messages/` + id + `?claim_id=` + claim + `", "ttl": ` + ttl + `, "age": ` + age + `, "body": ` + body + `}`
	}
	// The first would expire before the claim, the second just behind it.
	got.is(`{"messages": [` + message(ids[0], "360", "1", `{"n": 1}`) + `, ` + message(ids[1], "302", "1", `[2]`) + `]}`)
	at := func(i int) domain.Place { return domain.PostingPlace(messageID(t, ids[i])) }
	a.recorded(domain.MessagesClaimed{
		Project: "p1", Queue: "q", Number: 1, Claim: claimID(path), TTL: 300, Grace: 60,
		Messages: []domain.ClaimedMessage{
			{ID: messageID(t, ids[0]), Place: at(0), Extended: true}, {ID: messageID(t, ids[1]), Place: at(1)},
		},
	})

	a.advance(2 * time.Second)
	a.call("GET", path, ``, 200).is(`{"age": 2, "ttl": 300, "href": "` + path + `", "messages": [` +
		message(ids[0], "360", "3", `{"n": 1}`) + `, ` + message(ids[1], "302", "3", `[2]`) + `]}`)
	a.call("GET", "/v2/queues/q/messages/"+ids[0], ``, 200).is(message(ids[0], "360", "3", `{"n": 1}`))
	a.lists("q", "?echo=1", ids[2])
	a.lists("q", "?echo=1&include_claimed=1", ids...)

	a.call("PATCH", path, `{"ttl": 600}`, 204)
	a.call("GET", path, ``, 200).is(`{"age": 0, "ttl": 600, "href": "` + path + `", "messages": [` +
		message(ids[0], "660", "3", `{"n": 1}`) + `, ` + message(ids[1], "660", "3", `[2]`) + `]}`)

	a.call("DELETE", "/v2/queues/q/messages/"+ids[0]+"?claim_id="+claim, ``, 204)
	a.history()
	a.call("DELETE", path, ``, 204)
	a.recorded(domain.ClaimReleased{
		Project: "p1", Queue: "q", Number: 1, Claim: claimID(path), Messages: []domain.MessageAt{{ID: messageID(t, ids[1]), Place: at(1)}},
	})
	for _, method := range []string{"GET", "PATCH"} {
		a.call(method, path, `{}`, 404).refused("Not found")
	}
	a.call("DELETE", path, ``, 204) // again changes nothing
	a.recorded()

	// What was released stands where it stood.
	_, got = a.claim("q", "", `{"ttl": 60}`)
	if diff := cmp.Diff(ids[1:], messageIDs(got)); diff != "" {
		t.Fatal(diff)
	}
	a.call("POST", "/v2/queues/q/claims", ``, 204).has("Location", "")
	a.advance(61 * time.Second)
	_, got = a.claim("q", "", ``)
	if diff := cmp.Diff(ids[1:], messageIDs(got)); diff != "" {
		t.Fatalf("after the claim's end: %s", diff)
	}
}

// lists compares the ids of a page.
func (a *api) lists(queue, query string, ids ...string) {
	a.Helper()
	if diff := cmp.Diff(append([]string{}, ids...), messageIDs(a.call("GET", "/v2/queues/"+queue+"/messages"+query, ``, 200))); diff != "" {
		a.Fatalf("%s%s (-want +got):\n%s", queue, query, diff)
	}
}

func TestClaimRequests(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, test := range []struct{ query, body, title string }{
		{"", `[]`, "Invalid request body"},
		{"", `{"ttl": "60"}`, "Invalid request body"},
		{"", `{"ttl": 60.5}`, "Invalid request body"},
		{"", `{"ttl": 60, "ttl": "60"}`, "Invalid request body"},
		{"", `{"grace": true}`, "Invalid request body"},
		{"", `{`, "Invalid request body"},
		{"", ` `, "Invalid request body"},
		{"", `{"ttl": 59}`, "Invalid API request"},
		{"", `{"ttl": 43201}`, "Invalid API request"},
		{"", `{"grace": 59}`, "Invalid API request"},
		{"?limit=0", ``, "Invalid API request"},
		{"?limit=21", ``, "Invalid API request"},
		{"?limit=x", ``, "Invalid parameter"},
	} {
		a.call("POST", "/v2/queues/q/claims"+test.query, test.body, 400).refused(test.title)
	}
	for _, body := range []string{``, `{}`, `{"ttl": null, "grace": null}`, `{"limit": "many", "other": 1}`, `{"ttl": 60, "grace": 43200}`, `{"ttl": "x", "ttl": 60}`} {
		a.call("POST", "/v2/queues/absent/claims?unknown=1", body, 204)
	}
	a.recorded()

	a.post("q", ours, `[{"body": 1}, {"body": 2}, {"body": 3}]`)
	a.advance(1500 * time.Millisecond)
	path, got := a.claim("q", "", `{"ttl": null, "grace": null, "limit": 2}`) // openstacksdk's limit
	if ids := messageIDs(got); len(ids) != 2 {
		t.Fatalf("%d messages", len(ids))
	}
	for _, body := range []string{``, `[]`, `{"ttl": 59}`, `{"grace": 43201}`, `{"grace": "x"}`} {
		a.call("PATCH", path, body, 400)
	}
	a.call("PATCH", path, `{}`, 204)
	for _, absent := range []string{"/v2/queues/other/claims/" + claimID(path).String(), "/v2/queues/q/claims/x", "/v2/queues/q/claims/" + uuid.NewString()} {
		a.call("GET", absent, ``, 404).refused("Not found")
		a.call("PATCH", absent, `{}`, 404).refused("Not found")
		a.call("PATCH", absent, `{"ttl": 1}`, 400)
		a.call("DELETE", absent, ``, 204)
	}
	a.call("GET", path, ``, 404, "X-Project-Id", "p2")
	a.call("DELETE", path, ``, 204, "X-Project-Id", "p2")
	a.call("GET", path, ``, 200)
}

func TestDeleteClaimedMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	ids := a.post("q", ours, `[{"body": 1}, {"body": 2}, {"body": 3}]`)
	a.advance(1500 * time.Millisecond)
	mine, _ := a.claim("q", "?limit=1", `{"ttl": 60}`)
	theirs, _ := a.claim("q", "?limit=1", `{"ttl": 100}`)
	at := func(i int, claim string) string { return "/v2/queues/q/messages/" + ids[i] + "?claim_id=" + claim }
	id := func(path string) string { return claimID(path).String() }

	a.call("DELETE", at(0, ""), ``, 403).refused("Unable to delete")
	a.call("DELETE", at(0, id(theirs)), ``, 403).refused("Unable to delete")
	a.call("DELETE", at(0, uuid.NewString()), ``, 400).refused("Unable to delete")
	a.call("DELETE", at(0, "x"), ``, 400).refused("Unable to delete")
	a.call("DELETE", at(2, id(theirs)), ``, 400).refused("Unable to delete")
	a.advance(61500 * time.Millisecond)
	a.call("DELETE", at(0, id(mine)), ``, 400).refused("Unable to delete") // it is over
	a.call("DELETE", at(0, ""), ``, 204)
	a.call("DELETE", at(1, id(theirs)), ``, 204)
	a.call("GET", theirs, ``, 200).is(`{"age": 61, "ttl": 100, "href": "` + theirs + `", "messages": []}`)
	a.lists("q", "?echo=1&include_claimed=1", ids[2])
}

func TestDeleteMessagesWithTheirClaims(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.DeleteWithClaim = true })
	ids := a.post("q", ours, `[{"body": 1}, {"body": 2}, {"body": 3}]`)
	a.advance(1500 * time.Millisecond)
	first, _ := a.claim("q", "?limit=1", ``)
	second, _ := a.claim("q", "?limit=1", ``)
	a.history()
	messages := "/v2/queues/q/messages"
	a.call("DELETE", messages+"?ids="+ids[0], ``, 400).refused("Invalid API request")
	a.call("DELETE", messages+"?claim_ids="+claimID(first).String(), ``, 400).refused("Invalid API request")
	a.call("DELETE", messages+"?pop=1&claim_ids="+claimID(first).String(), ``, 400).refused("Invalid API request")
	a.call("DELETE", messages+"?ids="+ids[0]+","+ids[1]+"&claim_ids="+claimID(first).String(), ``, 403).refused("Unable to delete")
	a.call("DELETE", messages+"?ids="+ids[0]+","+ids[2]+"&claim_ids="+claimID(first).String(), ``, 403).refused("Unable to delete")
	a.recorded()
	a.call("DELETE", messages+"?ids="+ids[0]+","+ids[1]+"&claim_ids="+claimID(first).String()+"&claim_ids="+claimID(second).String(), ``, 204)
	a.lists("q", "?echo=1", ids[2])
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("PUT", "/v2/queues/q", `{"_max_claim_count": 1, "_dead_letter_queue": "dead", "_dead_letter_queue_messages_ttl": 600}`, 201)
	ids := a.post("q", ours, `[{"body": {"n": 1}}, {"body": 2}, {"body": 3}]`)
	a.advance(1500 * time.Millisecond)
	claim, _ := a.claim("q", "?limit=2", ``)
	a.call("DELETE", claim, ``, 204)
	a.advance(9 * time.Second)
	a.history()

	// The two that were claimed make room for one that was not.
	_, got := a.claim("q", "?limit=1", ``)
	if diff := cmp.Diff(ids[2:], messageIDs(got)); diff != "" {
		t.Fatal(diff)
	}
	var types []string
	for _, e := range a.history() {
		types = append(types, e.Event.EventType())
	}
	if diff := cmp.Diff([]string{"queue.created.v1", "messages.moved-out.v1", "messages.moved-in.v1", "messages.claimed.v1"}, types); diff != "" {
		t.Fatal(diff)
	}
	a.lists("dead", "?echo=1", ids[0], ids[1])
	a.call("GET", "/v2/queues/dead/messages/"+ids[0], ``, 200).is(`{"id": "` + ids[0] + `",
		"href": "/v2/queues/dead/messages/` + ids[0] + `", "ttl": 600, "age": 10, "body": {"n": 1}}`)
	a.call("GET", "/v2/queues/q/messages/"+ids[0], ``, 404)
	a.lists("dead", "?echo=1&marker="+ids[0], ids[1]) // its present place counts

	a.advance(591 * time.Second)
	a.lists("dead", "?echo=1", ids[0], ids[1])
	a.advance(10 * time.Second)
	a.lists("dead", "?echo=1")
}

// A queue may be its own dead letter queue, as in Zaqar: what was claimed too often stands
// at its end then, counted from 0 and with a new life.
func TestAQueueMayBeItsOwnDeadLetterQueue(t *testing.T) {
	t.Parallel()
	const own = `"_dead_letter_queue": "q", "_max_claim_count": 1, "_dead_letter_queue_messages_ttl": 600`
	for name, make := range map[string]func(a *api){
		"PUT": func(a *api) { a.call("PUT", "/v2/queues/q", `{`+own+`}`, 201) },
		"PATCH": func(a *api) {
			a.call("PUT", "/v2/queues/q", `{"_max_claim_count": 1, "_dead_letter_queue_messages_ttl": 600}`, 201)
			a.call("PATCH", "/v2/queues/q", `[{"op": "add", "path": "/metadata/_dead_letter_queue", "value": "q"}]`, 200, "Content-Type", patchType)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.TB = t
			make(a)
			first := a.post("q", ours, `[{"body": "first", "ttl": 100}]`)[0]
			a.advance(1500 * time.Millisecond)
			ids := []string{first}
			for round := range 3 {
				claim, got := a.claim("q", "?limit=1", ``)
				if diff := cmp.Diff(ids[:1], messageIDs(got)); diff != "" {
					t.Fatalf("round %d (-want +got):\n%s", round, diff)
				}
				a.call("DELETE", claim, ``, 204)
				ids = append(ids[1:], append(a.post("q", ours, `[{"body": "later"}]`), ids[0])...)
				a.advance(1500 * time.Millisecond)
				// The next one finds it, and hands out what stands behind it.
				claim, got = a.claim("q", "?limit=1", ``)
				if diff := cmp.Diff(ids[:1], messageIDs(got)); diff != "" {
					t.Fatalf("round %d, behind it (-want +got):\n%s", round, diff)
				}
				a.call("DELETE", "/v2/queues/q/messages/"+ids[0]+"?claim_id="+claimID(claim).String(), ``, 204)
				ids = ids[1:]
				a.lists("q", "?echo=1", ids...)
				a.advance(500 * time.Second) // longer than it had to live, and less than it has now
			}
		})
	}
}

func TestPop(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("DELETE", "/v2/queues/absent/messages?pop=3", ``, 200).is(`{"messages": []}`)
	a.recorded()
	a.call("PUT", "/v2/queues/q", `{"_default_message_delay": 60, "_max_claim_count": 1, "_dead_letter_queue": "dead"}`, 201)
	ids := a.post("q", ours, `[{"delay": 0, "body": {"n": 1}}, {"body": "late"}, {"delay": 0, "body": 3}, {"delay": 0, "body": 4}]`)
	a.advance(1500 * time.Millisecond)
	claim, _ := a.claim("q", "?limit=1", ``)
	a.call("DELETE", claim, ``, 204)
	popped := func(i int, age, body, count string) string {
		return `{"id": "` + ids[i] + `", "age": ` + age + `, "ttl": 3600, "body": ` + body + `, "claim_id": null, "claim_count": ` + count + `}`
	}
	a.call("DELETE", "/v2/queues/q/messages?pop=2", ``, 200).is(`{"messages": [` + popped(0, "1", `{"n": 1}`, "1") + `, ` + popped(2, "1", `3`, "0") + `]}`)
	a.advance(60 * time.Second)
	a.call("DELETE", "/v2/queues/q/messages?pop=20", ``, 200).is(`{"messages": [` + popped(1, "61", `"late"`, "0") + `, ` + popped(3, "61", `4`, "0") + `]}`)
}

func TestPurgeAndStats(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	stats := "/v2/queues/q/stats"
	empty := `{"messages": {"claimed": 0, "free": 0, "total": 0}}`
	a.call("GET", stats, ``, 200).is(empty)
	a.call("POST", "/v2/queues/q/purge", ``, 204)
	a.recorded()
	a.call("PUT", "/v2/queues/q", `{"_default_message_delay": 60}`, 201)
	ids := a.post("q", ours, `[{"delay": 0, "body": 1}, {"body": 2}, {"delay": 0, "ttl": 61, "body": 3}]`)
	a.advance(1500 * time.Millisecond)
	a.claim("q", "?limit=1", `{"ttl": 60}`)
	age := func(i int, age string) string {
		return `{"age": ` + age + `, "created": "2026-03-01T10:00:00Z", "href": "/v2/queues/q/messages/` + ids[i] + `"}`
	}
	a.call("GET", stats, ``, 200).is(`{"messages": {"claimed": 1, "free": 2, "total": 3, "oldest": ` + age(0, "1") + `, "newest": ` + age(2, "1") + `}}`)
	a.advance(60 * time.Second)
	a.call("GET", stats, ``, 200).is(`{"messages": {"claimed": 0, "free": 2, "total": 2, "oldest": ` + age(0, "61") + `, "newest": ` + age(1, "61") + `}}`)

	for _, body := range []string{`{}`, `[]`, `"messages"`, `{"resource_types": "messages"}`, `{"resource_types": ["queues"]}`, `{"resource_types": [1]}`,
		`{"resource_types": ["messages\u0000"]}`, `{"resource_types": null}`, `{`} {
		a.call("POST", "/v2/queues/q/purge", body, 400)
	}
	a.history()
	for _, body := range []string{`{"resource_types": []}`, `{"resource_types": ["subscriptions"]}`, `{"resource_types": ["\u0073ubscriptions"]}`} {
		a.call("POST", "/v2/queues/q/purge", body, 204)
	}
	a.recorded()
	claim, _ := a.claim("q", "?limit=1", ``)
	a.history()
	a.call("POST", "/v2/queues/q/purge", `{"resource_types": ["\u006dessages", "subscriptions"]}`, 204)
	a.recorded(domain.QueuePurged{Project: "p1", Name: "q", Number: 1})
	a.call("GET", stats, ``, 200).is(empty)
	a.call("GET", claim, ``, 200).is(`{"age": 0, "ttl": 300, "href": "` + claim + `", "messages": []}`)
	a.lists("q", "?echo=1&include_claimed=1")
	a.call("GET", "/v2/queues/q/messages/"+ids[1], ``, 404)
	a.call("POST", "/v2/queues/q/claims", ``, 204)
	a.call("DELETE", "/v2/queues/q/messages?pop=1", ``, 200).is(`{"messages": []}`)
	next := a.post("q", ours, `[{"delay": 0, "body": 5}]`)
	a.advance(time.Second)
	a.lists("q", "?echo=1", next...)
}
