package http

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nabu/domain"
)

func TestCreateQueue(t *testing.T) {
	t.Parallel()
	a := newAPI(t)

	a.call("PUT", "/v2/queues/orders", `{"team": "ci", "_default_message_ttl": 600}`, 201).has("Location", "/v2/queues/orders")
	a.recorded(domain.QueueCreated{Project: "p1", Name: "orders", Metadata: metadata(t, `{"team": "ci", "_default_message_ttl": 600}`)})

	// Asking again changes nothing, whatever the body says.
	a.call("PUT", "/v2/queues/orders", `{"team": "other"}`, 204).has("Location", "/v2/queues/orders")
	a.call("PUT", "/v2/queues/orders", ``, 204)
	a.recorded()
	a.call("GET", "/v2/queues/orders", ``, 200).has("Content-Type", "application/json").is(`{
		"team": "ci", "_default_message_ttl": 600, "_max_messages_post_size": 262144, "_default_message_delay": 0,
		"_dead_letter_queue": null, "_dead_letter_queue_messages_ttl": null, "_max_claim_count": null,
		"_enable_encrypt_messages": false}`)

	a.call("PUT", "/v2/queues/orders", ``, 201, "X-Project-Id", "p2") // a queue of its own
	a.recorded(domain.QueueCreated{Project: "p2", Name: "orders"})
	a.call("PUT", "/v2/queues/plain", `{}`, 201)
	a.history()
	if got := a.send("PUT", "/v2/queues/chunked", struct{ *strings.Reader }{strings.NewReader(`{"a": 1}`)}); got.status != 201 {
		t.Fatalf("of unknown length: %d %s", got.status, got.body)
	}
	a.recorded(domain.QueueCreated{Project: "p1", Name: "chunked", Metadata: metadata(t, `{"a": 1}`)})
}

func TestCreateQueueRefusals(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	tests := map[string]struct{ name, body, title string }{
		"a bad character":             {"no@good", ``, "Invalid queue identification"},
		"a name that is too long":     {strings.Repeat("x", 65), ``, "Invalid queue identification"},
		"no name":                     {"", ``, "Invalid queue identification"},
		"a newline":                   {"q%0A", ``, "Invalid queue identification"},
		"an escaped slash":            {"a%2Fb", ``, "Invalid queue identification"},
		"an escaped percent":          {"a%252Fb", ``, "Invalid queue identification"},
		"a ttl out of bounds":         {"q", `{"_default_message_ttl": 59}`, "Invalid API request"},
		"a reserved key's wrong type": {"q", `{"_max_claim_count": "x"}`, "Invalid API request"},
		"an integer too long":         {"q", `{"n": 9223372036854775808}`, "Invalid request body"},
		"no object":                   {"q", `[]`, "Invalid request body"},
		"blank text":                  {"q", ` `, "Invalid request body"},
		"broken JSON":                 {"q", `{`, "Invalid request body"},
		"bytes that are no text":      {"q", "{\"a\": \"\xff\"}", "Invalid request body"},
		"too much":                    {"q", `{"a": "` + strings.Repeat("x", 65536) + `"}`, "Invalid API request"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a.call("PUT", "/v2/queues/"+test.name, test.body, 400).refused(test.title)
		})
	}
	a.recorded()
}

func TestShowQueue(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	fresh := a.call("GET", "/v2/queues/absent", ``, 200).is(`{
		"_max_messages_post_size": 262144, "_default_message_ttl": 3600, "_default_message_delay": 0,
		"_dead_letter_queue": null, "_dead_letter_queue_messages_ttl": null, "_max_claim_count": null,
		"_enable_encrypt_messages": false}`)
	a.call("HEAD", "/v2/queues/absent", ``, 404)
	a.recorded() // looking at a queue does not make it

	a.call("PUT", "/v2/queues/absent", `{"name": "absent", "_default_message_delay": 0, "n": 9007199254740993}`, 201)
	a.call("HEAD", "/v2/queues/absent", ``, 204)
	shown := a.call("GET", "/v2/queues/absent", ``, 200).body
	want := fresh.body[:len(fresh.body)-1] + `,"name":"absent","n":9007199254740993}`
	if diff := cmp.Diff(decoded(t, want), decoded(t, shown)); diff != "" {
		t.Fatal(diff)
	}
}

const patch = "application/openstack-messaging-v2.0-json-patch"

func TestChangeQueue(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("PATCH", "/v2/queues/builds", `[{"op": "add", "path": "/metadata/x", "value": 1}]`, 404, "Content-Type", patch).refused("Not found")
	a.call("PATCH", "/v2/queues/builds", `[]`, 404, "Content-Type", patch)
	a.call("PUT", "/v2/queues/builds", `{"team": "ci", "_default_message_ttl": 600}`, 201)
	a.history()

	a.call("PATCH", "/v2/queues/builds", `[
		{"op": "replace", "path": "/metadata/_max_claim_count", "value": 3},
		{"op": "add", "path": "/metadata/a~1b", "value": [ 1 ]},
		{"op": "remove", "path": "/metadata/team", "value": "gophercloud"},
		{"op": "remove", "path": "/metadata/_dead_letter_queue"}
	]`, 200, "Content-Type", patch+"; charset=UTF-8").is(`{
		"_max_messages_post_size": 262144, "_default_message_ttl": 600, "_default_message_delay": 0,
		"_dead_letter_queue": null, "_dead_letter_queue_messages_ttl": null, "_max_claim_count": 3,
		"_enable_encrypt_messages": false, "a/b": [1]}`)
	a.recorded(domain.QueueMetadataChanged{Project: "p1", Name: "builds", Number: 1,
		Metadata: metadata(t, `{"_default_message_ttl": 600, "_max_claim_count": 3, "a/b": [ 1 ]}`)})

	a.call("PATCH", "/v2/queues/builds", `[]`, 200, "Content-Type", patch)
	a.call("PATCH", "/v2/queues/builds", `[{"op": "add", "path": "/metadata/a", "value": 1}, {"op": "replace", "path": "/metadata/b", "value": 1}]`,
		409, "Content-Type", patch).refused("Resource conflict")
	a.call("PATCH", "/v2/queues/builds", `[{"op": "add", "path": "/metadata/_default_message_ttl", "value": 59}]`,
		400, "Content-Type", patch).refused("Invalid API request")
	for _, other := range []string{"", "application/json", "application/json-patch+json", "application/openstack-messaging-v2.1-json-patch"} {
		a.call("PATCH", "/v2/queues/builds", `[]`, 415, "Content-Type", other).
			refused("Unsupported media type").has("Accept-Patch", patch)
	}
	a.recorded()
}

func TestDecodePatch(t *testing.T) {
	good := map[string]string{
		`{"op": "add", "path": "/metadata/a", "value": null}`:                       "a",
		`{"op": "add", "path": "/METAdata/ a ", "value": 1}`:                        "a",
		`{"op": "remove", "path": "/anything/a"}`:                                   "a",
		`{"op": "replace", "path": "/metadata/~01", "value": {}}`:                   "~1",
		`{"op": "add", "path": "/metadata/a~0~1", "value": ""}`:                     "a~/",
		`{"op": "test", "op": "add", "path": "/metadata/a", "value": 1, "from": 5}`: "a",
	}
	for operation, key := range good {
		patch, err := decodePatch([]byte("[" + operation + "]"))
		if err != nil || len(patch) != 1 || patch[0].Key != key {
			t.Errorf("%s is read as %v, %v", operation, patch, err)
		}
	}
	bad := []string{
		``, `{}`, `1`, `[1]`, `[[]]`, `[{}]`, `[{"op": "add"}]`, `[{"op": "add", "path": 5, "value": 1}]`, `[{"op": 1, "path": "/metadata/a"}]`,
		`[{"op": "add", "path": "/metadata/a"}]`, `[{"op": "replace", "path": "/metadata/a"}]`, `[{"op": "Add", "path": "/metadata/a", "value": 1}]`,
		`[{"op": "move", "path": "/metadata/a", "value": 1}]`, `[{"OP": "remove", "path": "/metadata/a"}]`,
	}
	for _, path := range []string{
		"", "/", "metadata/a", "/metadata", "/metadata/", "/metadata/a/", "/metadata/a/b", "//a", "/metadata//a", "/metadata/ ",
		"/other/a", "/metadata/~", "/metadata/~2", "/metadata/~~0", " /metadata/a",
	} {
		bad = append(bad, fmt.Sprintf(`[{"op": "add", "path": %q, "value": 1}]`, path))
	}
	for _, body := range bad {
		if patch, err := decodePatch([]byte(body)); err == nil {
			t.Errorf("%s is taken for %v", body, patch)
		}
	}
}

func TestDeleteQueue(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("DELETE", "/v2/queues/orders", ``, 204)
	a.recorded()
	ids := a.post("orders", ours, `[{"body": 1}]`)
	a.history()
	a.call("DELETE", "/v2/queues/orders", ``, 204, "X-Project-Id", "p2")
	a.recorded()
	a.call("DELETE", "/v2/queues/orders", ``, 204)
	a.recorded(domain.QueueDeleted{Project: "p1", Name: "orders", Number: 1})
	a.call("GET", "/v2/queues/orders/messages/"+ids[0], ``, 404)
	a.call("PUT", "/v2/queues/orders", ``, 201)
	a.call("GET", "/v2/queues/orders/messages?echo=true", ``, 200).is(`{"messages": [], "links": []}`)
}

func TestListQueues(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("GET", "/v2/queues", ``, 200).is(`{"queues": [], "links": []}`)
	a.call("GET", "/v2/queues?with_count=true", ``, 200).is(`{"queues": [], "links": [], "count": 0}`)
	for name, body := range map[string]string{
		"alerts": ``, "builds": `{"team": "ci", "size": 5}`, "zeta.1": `{"team": "a&b=c, d", "size": "5"}`, "Zoo": `{"size": 6}`,
	} {
		a.call("PUT", "/v2/queues/"+name, body, 201)
	}
	a.call("PUT", "/v2/queues/others", ``, 201, "X-Project-Id", "p2")

	defaults := `"_max_messages_post_size": 262144, "_default_message_ttl": 3600, "_default_message_delay": 0, "_dead_letter_queue": null,
		"_dead_letter_queue_messages_ttl": null, "_max_claim_count": null, "_enable_encrypt_messages": false`
	a.call("GET", "/v2/queues?limit=2&detailed=True&with_count=y&marker=Zoo", ``, 200).is(`{
		"queues": [
			{"name": "alerts", "href": "/v2/queues/alerts", "metadata": {` + defaults + `}},
			{"name": "builds", "href": "/v2/queues/builds", "metadata": {"team": "ci", "size": 5, ` + defaults + `}}],
		"links": [{"rel": "next", "href": "/v2/queues?limit=2&detailed=true&with_count=true&marker=builds"}], "count": 4}`)
	// The last page has a next one as well, and that is empty.
	a.call("GET", "/v2/queues?marker=builds", ``, 200).is(`{
		"queues": [{"name": "zeta.1", "href": "/v2/queues/zeta.1"}], "links": [{"rel": "next", "href": "/v2/queues?marker=zeta.1"}]}`)
	a.call("GET", "/v2/queues?marker=zeta.1", ``, 200).is(`{"queues": [], "links": []}`)

	finds := map[string][]string{
		"?":                               {"Zoo", "alerts", "builds", "zeta.1"},
		"?marker=&limit=&name=&detailed=": {"Zoo", "alerts", "builds", "zeta.1"},
		"?marker=b":                       {"builds", "zeta.1"}, // no queue has this name
		"?name=.1":                        {"zeta.1"},
		"?name=z":                         {"zeta.1"}, // the case counts
		"?size=5":                         {"builds", "zeta.1"},
		"?size=05":                        {"builds"},
		"?size=5&team=ci":                 {"builds"},
		"?size=5&size=6":                  {},
		"?size=5&size=5":                  {"builds", "zeta.1"},
		"?team=a%26b%3Dc,+d":              {"zeta.1"},
		"?nosuch=1":                       {},
		"?team=%zz":                       {},
		"?limit=20&with_count=0&unknown=": {"Zoo", "alerts", "builds", "zeta.1"},
	}
	for query, want := range finds {
		if diff := cmp.Diff(want, queueNames(a.call("GET", "/v2/queues"+query, ``, 200))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
	for query, title := range map[string]string{
		"?limit=21": "Invalid API request", "?limit=0": "Invalid API request", "?limit=-1": "Invalid API request",
		"?limit=99999999999999999999": "Invalid API request", "?limit=x": "Invalid parameter", "?limit=1.5": "Invalid parameter",
		"?limit=-": "Invalid parameter", "?detailed=Yes": "Invalid parameter", "?with_count=TRUE": "Invalid parameter",
	} {
		a.call("GET", "/v2/queues"+query, ``, 400).refused(title)
	}
}

// A walk along the links keeps what was asked for, one queue a page.
func TestWalkQueues(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for i := range 5 {
		a.call("PUT", fmt.Sprintf("/v2/queues/walk-%d", i), fmt.Sprintf(`{"kind & co": "a=%d,b"}`, i%2), 201)
	}
	path, names := "/v2/queues?limit=1&name=walk&"+url.QueryEscape("kind & co")+"="+url.QueryEscape("a=0,b"), []string{}
	for path != "" {
		page := a.call("GET", path, ``, 200)
		names = append(names, queueNames(page)...)
		path = next(page)
	}
	if diff := cmp.Diff([]string{"walk-0", "walk-2", "walk-4"}, names); diff != "" {
		t.Fatal(diff)
	}
}

func queueNames(got answer) []string {
	got.Helper()
	var page struct{ Queues []struct{ Name string } }
	got.into(&page)
	names := []string{}
	for _, q := range page.Queues {
		names = append(names, q.Name)
	}
	return names
}

// next is the link to the next page; empty: there is none.
func next(got answer) string {
	got.Helper()
	var page struct{ Links []struct{ Rel, Href string } }
	got.into(&page)
	if len(page.Links) == 0 {
		return ""
	}
	if page.Links[0].Rel != "next" || !strings.HasPrefix(page.Links[0].Href, "/v2/") {
		got.Fatalf("a strange link: %v", page.Links)
	}
	return page.Links[0].Href
}
