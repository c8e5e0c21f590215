package http

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestBugsNotCopied: what nabu does where Zaqar is wrong. The numbers are those of
// the contract's list.
func TestBugsNotCopied(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T, *bugs){
		"B1: a walk by ones ends, also from the first on":      walkByOnes,
		"B2: claimed messages are listed from the beginning":   listClaimed,
		"B3: names with a dot are listed whole":                listDots,
		"B4: a patch must be a list, its paths texts":          patchShapes,
		"B5: a message must be an object":                      messageShapes,
		"B6: a share must be an object":                        shareShapes,
		"B7: a subscription must have the right shape":         subscriptionShapes,
		"B8: a filter's value may hold a comma":                filterWithComma,
		"B9: each message is looked at before it is claimed":   claimFiltersEach,
		"B14: renewal and release keep the claim count":        countIsKept,
		"B15: a dead letter is free at once":                   deadLetterIsFree,
		"B16: claims may be asked for when many are deleted":   deleteManyWithClaims,
		"B18: what has expired is not shown":                   expiredIsHidden,
		"B22: pop takes the oldest, and nothing delayed":       popInOrder,
		"B22: purge takes everything, as is documented for it": purgeAll,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &bugs{newAPI(t)})
		})
	}
}

// bugs is a conversation about queue q.
type bugs struct{ *api }

const inQueue = "/v2/queues/q"

// list states which messages a path leads to.
func (b *bugs) list(method, path string, want ...string) {
	b.Helper()
	got := b.call(method, inQueue+path, ``, 200)
	var page struct{ Messages []struct{ ID string } }
	got.into(&page)
	ids := []string{}
	for _, m := range page.Messages {
		ids = append(ids, m.ID)
	}
	if diff := cmp.Diff(want, ids, cmpopts.EquateEmpty()); diff != "" {
		b.Fatalf("%s %s (-want +got):\n%s", method, path, diff)
	}
}

// take claims up to so many messages and states which; it returns the claim's path.
func (b *bugs) take(limit int, want ...string) string {
	b.Helper()
	path := fmt.Sprintf("%s/claims?limit=%d", inQueue, limit)
	if len(want) == 0 {
		b.call("POST", path, ``, 204)
		return ""
	}
	claim := b.call("POST", path, ``, 201).header.Get("Location")
	b.list("GET", strings.TrimPrefix(claim, inQueue), want...)
	return claim
}

// refuses states that each of the bodies is a bad request.
func (b *bugs) refuses(method, path string, bodies []string, headers ...string) {
	b.Helper()
	if b.send(method, path, nil).body == `{"title":"404 Not Found"}` {
		b.Skipf("there is no %s yet", path)
	}
	for _, body := range bodies {
		b.call(method, path, body, 400, headers...)
	}
	b.recorded()
}

func walkByOnes(t *testing.T, b *bugs) {
	ids := b.post("q", theirs, `[{"body": 1}, {"body": 2}, {"body": 3}]`)
	b.list("GET", "/messages?limit=1&marker="+ids[0], ids[1])
	b.call("PUT", "/v2/queues/r", ``, 201)
	for path, want := range map[string]int{inQueue + "/messages?limit=1": 3, "/v2/queues?limit=1": 2} {
		pages := 0
		for path != "" && pages <= want {
			path = next(b.call("GET", path, ``, 200))
			pages++
		}
		if pages != want+1 { // the last one is empty
			t.Errorf("a walk of %d pages, where %d have something on them", pages, want)
		}
	}
	b.call("GET", "/v2/queues?limit=1&marker=q", ``, 200).is(
		`{"queues": [{"name": "r", "href": "/v2/queues/r"}], "links": [{"rel": "next", "href": "/v2/queues?limit=1&marker=r"}]}`)
}

func listClaimed(t *testing.T, b *bugs) {
	ids := b.post("q", theirs, `[{"body": 1}, {"body": 2}]`)
	b.take(1, ids[0])
	b.list("GET", "/messages", ids[1])
	b.list("GET", "/messages?include_claimed=true", ids...)
	b.list("GET", "/messages?include_claimed=true&limit=1", ids[0])
}

func listDots(t *testing.T, b *bugs) {
	for _, name := range []string{"a.b", "a.c.d", "a."} {
		b.call("PUT", "/v2/queues/"+name, ``, 201)
	}
	if diff := cmp.Diff([]string{"a.", "a.b", "a.c.d"}, queueNames(b.call("GET", "/v2/queues", ``, 200))); diff != "" {
		t.Error(diff)
	}
}

func patchShapes(t *testing.T, b *bugs) {
	b.call("PUT", inQueue, ``, 201)
	b.history()
	b.refuses("PATCH", inQueue, []string{
		`{}`, `{"op": "add", "path": "/metadata/a", "value": 1}`, `[{"op": "add", "path": 5, "value": 1}]`,
		`[{"op": "add", "path": ["metadata", "a"], "value": 1}]`, `[{"op": "add", "path": null, "value": 1}]`,
	}, "Content-Type", patch)
}

func messageShapes(t *testing.T, b *bugs) {
	b.refuses("POST", inQueue+"/messages", []string{
		`{"messages": [1]}`, `{"messages": ["text"]}`, `{"messages": [{"body": 1}, null]}`, `{"messages": [[]]}`, `{"messages": {"body": 1}}`,
	})
}

func shareShapes(t *testing.T, b *bugs) {
	b.refuses("POST", inQueue+"/share", []string{`[]`, `["messages"]`, `[{"paths": ["messages"]}]`})
}

func subscriptionShapes(t *testing.T, b *bugs) {
	b.refuses("POST", inQueue+"/subscriptions", []string{
		`[]`, `[{"subscriber": "http://fake:8080"}]`, `{"subscriber": 5}`,
		`{"subscriber": "http://fake:8080", "ttl": null}`, `{"subscriber": "http://fake:8080", "options": null}`,
		`{"subscriber": "http://fake:8080", "ttl": 0}`,
	})
}

func filterWithComma(t *testing.T, b *bugs) {
	b.call("PUT", "/v2/queues/a", `{"team": "red, blue", "kind": "x"}`, 201)
	b.call("PUT", "/v2/queues/b", `{"team": "red", "kind": "x"}`, 201)
	for _, query := range []string{"team=red,%20blue", "kind=x&team=red%2C+blue"} {
		if diff := cmp.Diff([]string{"a"}, queueNames(b.call("GET", "/v2/queues?"+query, ``, 200))); diff != "" {
			t.Errorf("%s: %s", query, diff)
		}
	}
}

func claimFiltersEach(t *testing.T, b *bugs) {
	b.call("PUT", inQueue, `{"_default_message_delay": 100}`, 201)
	ids := b.post("q", ours, `[{"body": 1, "delay": 0}, {"body": 2}, {"body": 3, "delay": 0}, {"body": 4, "delay": 0}, {"body": 5}]`)
	b.advance(time.Second)
	b.take(1, ids[0])
	released := b.take(1, ids[2])
	b.take(1, ids[3])
	b.call("DELETE", released, ``, 204)
	b.take(20, ids[2]) // between claimed ones and delayed ones
	b.take(20)
	b.advance(100 * time.Second)
	b.take(20, ids[1], ids[4])
}

func countIsKept(t *testing.T, b *bugs) {
	b.call("PUT", inQueue, `{"_max_claim_count": 2, "_dead_letter_queue": "dead"}`, 201)
	ids := b.post("q", ours, `[{"body": 1}]`)
	first := b.take(1, ids...)
	b.call("PATCH", first, `{"ttl": 400}`, 204)
	b.call("PATCH", first, `{}`, 204) // counts neither up nor down
	b.call("DELETE", first, ``, 204)
	b.take(1, ids...)
	b.advance(301 * time.Second) // this one expires
	b.take(1)
	b.list("GET", "/messages?echo=true&include_claimed=true")
	got := b.call("GET", "/v2/queues/dead/messages?echo=true", ``, 200)
	if diff := cmp.Diff(ids, messageIDs(got)); diff != "" {
		t.Error(diff)
	}
}

func deadLetterIsFree(t *testing.T, b *bugs) {
	b.call("PUT", inQueue, `{"_max_claim_count": 1, "_dead_letter_queue": "dead", "_dead_letter_queue_messages_ttl": 90}`, 201)
	ids := b.post("q", theirs, `[{"body": 1}, {"body": 2}, {"body": 3}]`)
	b.call("DELETE", b.take(2, ids[:2]...), ``, 204)
	b.advance(5500 * time.Millisecond)
	b.take(1, ids[2]) // the dead ones do not count
	dead := b.call("GET", "/v2/queues/dead/messages", ``, 200)
	if diff := cmp.Diff(ids[:2], messageIDs(dead)); diff != "" {
		t.Fatal(diff)
	}
	if !strings.Contains(dead.body, `"ttl":90,"age":5,"body":1`) || strings.Contains(dead.body, "claim_id") {
		t.Error(dead.body)
	}
	claim := b.call("POST", "/v2/queues/dead/claims", ``, 201)
	if diff := cmp.Diff(ids[:2], messageIDs(answer{TB: t, body: claim.body})); diff != "" {
		t.Error(diff)
	}
}

func deleteManyWithClaims(t *testing.T, b *bugs) {
	ids := b.post("q", theirs, `[{"body": 1}, {"body": 2}, {"body": 3}, {"body": 4}]`)
	first, second := b.take(2, ids[:2]...), b.take(1, ids[2])
	// By default nobody asks.
	b.call("DELETE", inQueue+"/messages?claim_ids=x&ids="+ids[0], ``, 204)
	b.list("GET", "/messages?include_claimed=true", ids[1:]...)

	strict := &bugs{b.replica(withClaimIDs)}
	id := func(claim string) string { return strings.TrimPrefix(claim, inQueue+"/claims/") }
	for _, test := range []struct {
		query  string
		status int
		title  string
	}{
		{"ids=" + ids[1], 400, "Invalid API request"},
		{"claim_ids=" + id(first), 400, "Invalid API request"},
		{"pop=1&claim_ids=" + id(first), 400, "Invalid API request"},
		{"ids=" + ids[1] + "&claim_ids=" + id(second), 403, "Unable to delete"},
		{"ids=" + ids[1] + "&claim_ids=x", 403, "Unable to delete"},
		{"ids=" + ids[1] + "," + ids[2] + "&claim_ids=" + id(first), 403, "Unable to delete"},
		{"ids=" + ids[1] + "," + ids[3] + "&claim_ids=" + id(first), 403, "Unable to delete"},
	} {
		strict.call("DELETE", inQueue+"/messages?"+test.query, ``, test.status).refused(test.title)
	}
	strict.list("GET", "/messages?include_claimed=true", ids[1:]...)
	strict.call("DELETE", inQueue+"/messages?ids="+ids[1]+"&ids="+ids[2]+"&claim_ids="+id(first)+","+id(second), ``, 204)
	strict.list("GET", "/messages?include_claimed=true", ids[3])
}

func expiredIsHidden(t *testing.T, b *bugs) {
	ids := b.post("q", theirs, `[{"body": 1, "ttl": 60}, {"body": 2, "ttl": 100}]`)
	b.advance(61 * time.Second)
	b.list("GET", "/messages", ids[1])
	b.list("GET", "/messages?ids="+strings.Join(ids, ","), ids[1])
	b.call("GET", inQueue+"/messages/"+ids[0], ``, 404)
	b.call("GET", inQueue+"/stats", ``, 200).is(fmt.Sprintf(`{"messages": {"claimed": 0, "free": 1, "total": 1,
		"oldest": {"age": 61, "created": "2026-03-01T10:00:00Z", "href": "/v2/queues/q/messages/%s"},
		"newest": {"age": 61, "created": "2026-03-01T10:00:00Z", "href": "/v2/queues/q/messages/%[1]s"}}}`, ids[1]))
	b.take(20, ids[1])
	b.advance(300 * time.Second)
	b.list("DELETE", "/messages?pop=20", ids[1]) // its claim gave it the time: 300 s and 60 s grace
	b.list("DELETE", "/messages?pop=20")
}

func popInOrder(t *testing.T, b *bugs) {
	b.call("PUT", inQueue, `{"_default_message_delay": 30}`, 201)
	ids := b.post("q", ours, `[{"body": 1}, {"body": 2, "delay": 0}, {"body": 3, "delay": 0}, {"body": 4, "delay": 0}]`)
	b.advance(time.Second)
	claim := b.take(1, ids[1])
	b.list("DELETE", "/messages?pop=1", ids[2])
	b.call("DELETE", claim, ``, 204)
	b.list("DELETE", "/messages?pop=20", ids[1], ids[3]) // its old place again, and not the delayed one
	b.list("DELETE", "/messages?pop=20")
	b.advance(30 * time.Second)
	b.list("DELETE", "/messages?pop=20", ids[0])
}

func purgeAll(t *testing.T, b *bugs) {
	b.call("PUT", inQueue, `{"_default_message_delay": 30, "team": "ci"}`, 201)
	ids := b.post("q", theirs, `[{"body": 1}, {"body": 2, "delay": 0}, {"body": 3, "delay": 0}]`)
	b.advance(time.Second)
	claim := b.take(1, ids[1])
	b.call("POST", inQueue+"/purge", `{"resource_types": ["subscriptions"]}`, 204)
	b.list("GET", "/messages?include_claimed=true&include_delayed=true", ids...)
	b.call("POST", inQueue+"/purge", ``, 204)
	b.list("GET", "/messages?include_claimed=true&include_delayed=true")
	b.call("GET", inQueue+"/stats", ``, 200).is(`{"messages": {"claimed": 0, "free": 0, "total": 0}}`)
	b.list("GET", strings.TrimPrefix(claim, inQueue)) // it stays, empty
	if got := b.call("GET", inQueue, ``, 200).body; !strings.Contains(got, `"team":"ci"`) {
		t.Errorf("the metadata is gone: %s", got)
	}
	later := b.post("q", theirs, `[{"body": 4, "delay": 0}]`)
	b.take(1, later...)
}
