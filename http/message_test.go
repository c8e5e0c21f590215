package http

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nabu/domain"
)

func TestPostMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)

	// A queue is made by the first message. What a body holds stays as it was sent.
	const body = `{ "n" : 9007199254740993, "e": 1e400, "s":"\u00e9\ud800\u0000<&>", "n": 1 }`
	posted := a.call("POST", "/v2/queues/builds/messages", `{"messages": [{"ttl": 300, "body": `+body+`}, {"body": "plain text"}]}`, 201)
	var answer struct{ Resources []string }
	posted.into(&answer)
	if len(answer.Resources) != 2 {
		t.Fatal(posted.body)
	}
	const collection = "/v2/queues/builds/messages/"
	first, second := strings.TrimPrefix(answer.Resources[0], collection), strings.TrimPrefix(answer.Resources[1], collection)
	posted.has("Location", "/v2/queues/builds/messages?ids="+first+","+second).has("Content-Type", "application/json")
	a.recorded(
		domain.QueueCreated{Project: "p1", Name: "builds"},
		domain.MessagesPosted{Project: "p1", Queue: "builds", Number: 1, Client: ours, Messages: []domain.PostedMessage{
			{ID: messageID(t, first), TTL: 300, Body: body},
			{ID: messageID(t, second), TTL: 3600, Body: `"plain text"`},
		}})

	a.advance(7900 * time.Millisecond)
	shown := a.call("GET", collection+first, ``, 200).body
	want := fmt.Sprintf(`{"id":"%s","href":"%s","ttl":300,"age":7,"body":%s}`, first, collection+first, body)
	if shown != want {
		t.Fatalf("shown as %s, want %s", shown, want)
	}
	listed := a.call("GET", "/v2/queues/builds/messages?echo=true", ``, 200).body
	if !strings.HasPrefix(listed, `{"messages":[`+want+`,`) {
		t.Fatalf("listed as %s", listed)
	}
	found := a.call("GET", "/v2/queues/builds/messages?ids="+first, ``, 200).body
	if found != `{"messages":[`+want+`]}` {
		t.Fatalf("found as %s", found)
	}
}

func TestPostMessagesRefusals(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("PUT", "/v2/queues/small", `{"_max_messages_post_size": 30}`, 201)
	a.call("PUT", "/v2/queues/late", `{"_default_message_delay": 5}`, 201)
	a.history()
	tests := map[string]struct{ queue, body, title string }{
		"nothing":                      {"q", ``, "Invalid request body"},
		"an empty list":                {"q", `{"messages": []}`, "Invalid API request"},
		"a bare list":                  {"q", `[{"body": 1}]`, "Invalid API request"},
		"no body":                      {"q", `{"messages": [{"body": 1}, {"ttl": 60}]}`, "Invalid request body"},
		"a low ttl":                    {"q", `{"messages": [{"ttl": 59, "body": 1}]}`, "Invalid API request"},
		"a ttl that is a text":         {"q", `{"messages": [{"ttl": "60", "body": 1}]}`, "Invalid request body"},
		"more than the server takes":   {"q", `{"messages": [{"body": "` + strings.Repeat("x", 262144) + `"}]}`, "Invalid API request"},
		"far more than that":           {"q", `{"messages": [{"body": "` + strings.Repeat("x", 4<<20) + `"}]}`, "Invalid API request"},
		"more than the queue takes":    {"small", `{"messages": [{"body": 1}]    }`, "Invalid API request"},
		"a delay that is too long":     {"late", `{"messages": [{"body": 1, "delay": 901}]}`, "Invalid API request"},
		"a delay that is a text":       {"late", `{"messages": [{"body": 1, "delay": "1"}]}`, "Invalid API request"},
		"a bad name for the queue":     {"a%20b", `{"messages": [{"body": 1}]}`, "Invalid queue identification"},
		"an integer of 65 bits inside": {"q", `{"messages": [{"body": {"a": [18446744073709551616]}}]}`, "Invalid request body"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a.call("POST", "/v2/queues/"+test.queue+"/messages", test.body, 400).refused(test.title)
			got := a.send("POST", "/v2/queues/"+test.queue+"/messages", struct{ *strings.Reader }{strings.NewReader(test.body)})
			got.refused(test.title) // chunked
		})
	}
	a.recorded()
	a.post("small", ours, `[{"body": 1}]`)
	a.post("q", ours, `[{"body": 1, "delay": "nobody looks"}]`)
}

// The list of ids in Location is cut, because Python's client chokes on long header
// lines; the body names every message.
func TestPostManyMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const many = 20000
	got := a.call("POST", "/v2/queues/q/messages", `{"messages": [{"body":1}`+strings.Repeat(`,{"body":1}`, many-1)+`]}`, 201)
	var answer struct{ Resources []string }
	got.into(&answer)
	if location := got.header.Get("Location"); len(answer.Resources) != many || len(location) > 65000 || !strings.HasPrefix(location, "/v2/queues/q/messages?ids=") {
		t.Fatalf("%d resources, Location of %d bytes", len(answer.Resources), len(location))
	}
	last := answer.Resources[many-1]
	a.call("GET", last, ``, 200)
}

func TestListMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	const list = "/v2/queues/q/messages"
	a.call("GET", list, ``, 200).is(`{"messages": [], "links": []}`)
	own := a.post("q", ours, `[{"body": "own"}]`)
	other := a.post("q", theirs, `[{"body": "a"}, {"body": "b"}]`)
	all := []string{own[0], other[0], other[1]}

	finds := map[string][]string{
		"":                                   other,
		"?echo=false&include_claimed=true":   other,
		"?echo=True":                         all,
		"?echo=on&limit=1":                   all[:1],
		"?limit=1":                           other[:1],
		"?marker=" + own[0]:                  other,
		"?marker=" + strings.ToUpper(own[0]): other,
		"?marker=" + other[1]:                {},
		"?marker=0":                          other,
		"?marker=nonsense":                   {},
		"?marker=-1":                         {},
		"?marker=+1":                         {},
		"?marker=99999999999999999999":       {},
		"?marker=4b1e7c10-6a52-4f3e-9d0a-0c5b1e2f3a41": {}, // never an id of nabu's
		"?ids=&marker=&limit=&echo=":                   other,
		"?ids=,":                                       other,
		"?include_delayed=false":                       other,
		"?unknown=1&x":                                 other,
	}
	for query, want := range finds {
		if diff := cmp.Diff(want, messageIDs(a.call("GET", list+query, ``, 200))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	for query, title := range map[string]string{
		"?limit=21": "Invalid API request", "?limit=0": "Invalid API request", "?limit=ten": "Invalid parameter",
		"?echo=perhaps": "Invalid parameter", "?include_claimed=Yes": "Invalid parameter", "?include_delayed=2": "Invalid parameter",
	} {
		a.call("GET", list+query, ``, 400).refused(title)
	}
	// A client is the same however its program writes the UUID.
	undashed := strings.ToUpper(strings.ReplaceAll(theirs, "-", ""))
	if diff := cmp.Diff(own, messageIDs(a.call("GET", list, ``, 200, "Client-ID", undashed))); diff != "" {
		t.Fatal(diff)
	}

	var page struct{ Links []struct{ Href string } }
	a.call("GET", list+"?limit=2&echo=T&echo=t&include_claimed=off", ``, 200).into(&page)
	want := list + "?limit=2&echo=true&include_claimed=false&include_delayed=true&marker=" +
		strconv.FormatInt(int64(domain.PostingPlace(messageID(t, other[0]))), 10)
	if page.Links[0].Href != want {
		t.Fatalf("next is %s, want %s", page.Links[0].Href, want)
	}
}

// A walk ends at the first empty page, and goes on from there when more has come.
func TestWalkMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	var want, byLink, byID []string
	for range 7 {
		want = append(want, a.post("q", theirs, `[{"body": 1}, {"body": 2}]`)...)
		a.post("q", ours, `[{"body": 3}]`)
	}
	path, last := "/v2/queues/q/messages?limit=3", ""
	for path != "" {
		page := a.call("GET", path, ``, 200)
		byLink = append(byLink, messageIDs(page)...)
		if next(page) == "" {
			last = path
		}
		path = next(page)
	}
	if diff := cmp.Diff(want, byLink); diff != "" {
		t.Fatal(diff)
	}
	later := a.post("q", theirs, `[{"body": "later"}]`)
	if diff := cmp.Diff(later, messageIDs(a.call("GET", last, ``, 200))); diff != "" {
		t.Fatal(diff)
	}
	// openstacksdk's way: by the id of the last message, which is deleted meanwhile.
	want = append(want, later...)
	for marker := ""; ; marker = byID[len(byID)-1] {
		ids := messageIDs(a.call("GET", "/v2/queues/q/messages?limit=4&marker="+marker, ``, 200))
		if len(ids) == 0 {
			break
		}
		byID = append(byID, ids...)
		a.call("DELETE", "/v2/queues/q/messages/"+ids[len(ids)-1], ``, 204)
	}
	if diff := cmp.Diff(want, byID); diff != "" {
		t.Fatal(diff)
	}
}

func TestDelayedMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("PUT", "/v2/queues/late", `{"_default_message_delay": 60}`, 201)
	ids := a.post("late", theirs, `[{"body": "by default"}, {"body": "sooner", "delay": 5}, {"body": "at once", "delay": 0}]`)
	list := func(query string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, messageIDs(a.call("GET", "/v2/queues/late/messages"+query, ``, 200))); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", query, diff)
		}
	}
	a.advance(time.Second) // no two batches have the same time, so the posts' is a little after the clock's
	list("", ids[2])
	list("?include_delayed=1", ids...)
	if href := next(a.call("GET", "/v2/queues/late/messages", ``, 200)); strings.Contains(href, "include_delayed") {
		t.Fatalf("next is %s", href)
	}
	a.call("GET", "/v2/queues/late/messages/"+ids[0], ``, 200)
	a.advance(4 * time.Second)
	list("", ids[2])
	a.advance(time.Second)
	list("", ids[1:]...)
	a.advance(55 * time.Second)
	list("", ids...)
}

// With the setting, a delayed message of a queue without a delay is treated as one of a
// delayed queue, by every call.
func TestDelayOnAnyQueue(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.Limits.DelayOnAnyQueue = true })
	const list = "/v2/queues/q/messages"
	for _, delay := range []string{`901`, `-1`, `"5"`, `5.5`, `null`, `true`} {
		a.call("POST", list, `{"messages": [{"body": 1, "delay": `+delay+`}]}`, 400).refused("Invalid API request")
	}
	a.recorded()
	a.call("GET", list, ``, 200).is(`{"messages": [], "links": []}`)
	ids := a.post("q", theirs, `[{"body": "later", "delay": 60}, {"body": "at once"}]`)
	a.advance(time.Second)
	a.lists("q", "", ids[1])
	a.lists("q", "?include_delayed=true", ids...)
	if href := next(a.call("GET", list, ``, 200)); strings.Contains(href, "include_delayed") {
		t.Fatalf("next is %s", href)
	}
	var stats struct {
		Messages struct{ Free, Claimed, Total int }
	}
	a.call("GET", "/v2/queues/q/stats", ``, 200).into(&stats)
	if m := stats.Messages; m.Free != 2 || m.Claimed != 0 || m.Total != 2 {
		t.Fatalf("stats are %+v", m)
	}
	a.call("GET", list+"/"+ids[0], ``, 200)
	if _, got := a.claim("q", "", ``); !slices.Equal(messageIDs(got), ids[1:]) {
		t.Fatalf("claimed %s", got.body)
	}
	a.call("DELETE", list+"?pop=1", ``, 200).is(`{"messages": []}`)
	a.advance(60 * time.Second)
	if _, got := a.claim("q", "", ``); !slices.Equal(messageIDs(got), ids[:1]) {
		t.Fatalf("claimed %s when the delay was over", got.body)
	}
}

func TestMessagesExpire(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	ids := a.post("q", ours, `[{"body": 1, "ttl": 60}, {"body": 2, "ttl": 61}]`)
	a.advance(60 * time.Second)
	a.call("GET", "/v2/queues/q/messages/"+ids[0], ``, 404)
	if diff := cmp.Diff(ids[1:], messageIDs(a.call("GET", "/v2/queues/q/messages?echo=true", ``, 200))); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff(ids[1:], messageIDs(a.call("GET", "/v2/queues/q/messages?ids="+strings.Join(ids, ","), ``, 200))); diff != "" {
		t.Fatal(diff)
	}
	a.history()
	a.call("DELETE", "/v2/queues/q/messages/"+ids[0]+"?claim_id=x", ``, 204)
	a.recorded()
}

func TestFindMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	ids := a.post("q", ours, `[{"body": 1}, {"body": 2}, {"body": 3}]`)
	const list = "/v2/queues/q/messages"
	elsewhere := a.post("r", ours, `[{"body": 1}]`)[0]

	// In the queue's order, each once, whatever else is asked for.
	finds := map[string][]string{
		"?ids=" + ids[2] + "," + ids[0]:                 {ids[0], ids[2]},
		"?ids=" + ids[2] + "&ids=" + ids[0] + ",gone,,": {ids[0], ids[2]},
		"?ids=" + ids[1] + "&ids=" + ids[1]:             {ids[1]},
		"?ids=" + ids[1] + "%2C" + ids[0]:               ids[:2],
		"?limit=1000&echo=perhaps&ids=" + ids[1]:        {ids[1]},
	}
	for query, want := range finds {
		got := a.call("GET", list+query, ``, 200)
		if diff := cmp.Diff(want, messageIDs(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
		if strings.Contains(got.body, `"links"`) {
			t.Errorf("%s has links: %s", query, got.body)
		}
	}
	a.call("GET", list+"?ids=gone", ``, 404).refused("Not found")
	a.call("GET", list+"?ids="+elsewhere, ``, 404)
	a.call("GET", list+"?ids="+ids[0], ``, 404, "X-Project-Id", "p2")
	a.call("GET", list+"?ids=a"+strings.Repeat(",a", 19), ``, 404)
	a.call("GET", list+"?ids=a"+strings.Repeat("&ids=a", 20), ``, 400).refused("Invalid API request")
	for _, id := range []string{"gone", elsewhere, strings.ReplaceAll(ids[0], "-", ""), "%00", "%FF", ""} {
		a.call("GET", list+"/"+id, ``, 404).refused("Not found")
	}
	a.call("GET", "/v2/queues/absent/messages/"+ids[0], ``, 404)
	a.call("GET", list+"/"+ids[0], ``, 404, "X-Project-Id", "p2")
	a.call("GET", list+"/"+ids[0]+"?claim_id=x", ``, 200)
	a.call("GET", list+"/"+ids[0]+"/x", ``, 404).is(`{"title": "404 Not Found"}`)
}

func TestDeleteMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	ids := a.post("q", ours, `[{"body": 1}, {"body": 2}, {"body": 3}, {"body": 4}]`)
	a.history()
	const list = "/v2/queues/q/messages"
	deleted := func(gone ...string) domain.Event {
		e := domain.MessagesDeleted{Project: "p1", Queue: "q", Number: 1}
		for _, id := range gone {
			its := messageID(t, id)
			e.Messages = append(e.Messages, domain.DeletedMessage{ID: its, Place: domain.PostingPlace(its)})
		}
		return e
	}

	// No claim holds the message, so naming one is wrong; naming none is not.
	for _, claim := range []string{"1a7f3c55-9e02-4d6b-a1c4-52d0f6b7e813", "malformed"} {
		a.call("DELETE", list+"/"+ids[0]+"?claim_id="+claim, ``, 400).refused("Unable to delete")
	}
	a.recorded()
	a.call("DELETE", list+"/"+ids[0]+"?claim_id=", ``, 204)
	a.recorded(deleted(ids[0]))

	for _, path := range []string{
		list + "/" + ids[0], list + "/" + ids[0] + "?claim_id=x", list + "/gone", list + "/", list + "/%2F",
		"/v2/queues/absent/messages/" + ids[1], list + "?ids=gone", list + "?ids=" + ids[0],
	} {
		a.call("DELETE", path, ``, 204) // there is nothing of the kind
	}
	a.call("DELETE", list+"/"+ids[1], ``, 204, "X-Project-Id", "p2")
	a.recorded()

	a.call("DELETE", list+"?ids="+ids[1]+",gone&ids="+ids[2]+","+ids[1]+"&claim_ids=x", ``, 204)
	a.recorded(deleted(ids[1], ids[2]))

	for _, query := range []string{
		"", "?ids=", "?ids=,", "?pop=", "?pop=0", "?pop=21", "?pop=-1", "?pop=1&ids=" + ids[3], "?ids=a" + strings.Repeat(",a", 20),
	} {
		a.call("DELETE", list+query, ``, 400).refused("Invalid API request")
	}
	for _, query := range []string{"?pop=%20", "?pop=x", "?pop=1.5"} {
		a.call("DELETE", list+query, ``, 400).refused("Invalid parameter")
	}
	a.recorded()
	if diff := cmp.Diff(ids[3:], messageIDs(a.call("GET", list+"?echo=1", ``, 200))); diff != "" {
		t.Fatal(diff)
	}
}

func messageIDs(got answer) []string {
	got.Helper()
	var page struct{ Messages []map[string]json.RawMessage }
	got.into(&page)
	ids := []string{}
	for _, m := range page.Messages {
		if len(m) != 5 {
			got.Fatalf("a message with other members than id, href, ttl, age and body: %v", m)
		}
		id, err := strconv.Unquote(string(m["id"]))
		if err != nil {
			got.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
