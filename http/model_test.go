package http

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// modelChecks is how many sequences a run tries when -rapid.checks does not say.
const modelChecks = 30

// TestModel sends random sequences of requests to two replicas and compares every
// answer with the model's.
func TestModel(t *testing.T) {
	t.Parallel()
	modelTest(t)
}

// TestModelWithOptions does so where the settings that are off by default are on.
func TestModelWithOptions(t *testing.T) {
	t.Parallel()
	modelTest(t, withClaimIDs, withChecksums)
}

// TestModelWithEncryption does so with queues that encrypt their messages, which no answer
// tells.
func TestModelWithEncryption(t *testing.T) {
	t.Parallel()
	modelTest(t, withEncryption(testMasters))
}

func modelTest(t *testing.T, options ...func(*Config)) {
	a := newAPI(t, options...)
	replicas := []*api{a, a.replica()}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}}
	t.Cleanup(client.CloseIdleConnections)
	most := modelChecks
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "rapid.checks" {
			most = 1 << 30
		}
	})
	sequences, steps, longest, failed := 0, 0, 0, false
	rapid.Check(t, func(rt *rapid.T) {
		if sequences >= most && !failed { // a failure is still tried to be made shorter
			return
		}
		sequences++
		passed := false
		defer func() { failed = failed || !passed }()
		// No sequence sees another's queues, and each begins with a whole second.
		a.advance(2*time.Second - time.Duration(a.Now().Nanosecond()))
		m := &machine{
			T: rt, replicas: replicas, client: client, world: newWorld(a.Now()), clock: a.clock, run: sequences,
			ever: map[queueName][]string{}, known: map[queueName]map[string]bool{}, claims: map[queueName][]string{}, holder: map[string]string{},
			pages: map[queueName][]seenPage{},
		}
		m.world.deleteWithClaims, m.world.checksums = a.server.DeleteWithClaim, a.server.Checksums
		m.world.encryption = a.server.Limits.Encryption
		m.begin()
		for range 2 { // so that few are very short
			rt.Repeat(map[string]func(*rapid.T){"step": func(*rapid.T) { m.step() }})
		}
		m.end()
		steps += m.steps
		longest = max(longest, m.steps)
		passed = true
	})
	t.Logf("%d sequences of %d requests in all, the longest of %d", sequences, steps, longest)
}

// maxSteps is how many requests a sequence has at most. tick passes before each: so
// no two moments are whole seconds apart, and nothing ends at the very moment of a
// request.
const (
	maxSteps = 120
	tick     = 7 * time.Millisecond
)

// machine sends requests and asks the model what the answer must be.
type machine struct {
	*rapid.T
	replicas []*api
	client   *http.Client
	clock    *clock
	world    *world
	run      int
	steps    int
	bodies   int
	kind     string  // of the request that is being sent
	replica  int     // that was sent to last
	parking  *parked // what is being drawn, to be sent with others

	ever   map[queueName][]string // all messages that were ever in a queue
	known  map[queueName]map[string]bool
	claims map[queueName][]string // all claims that were ever made on it
	holder map[string]string      // a message's last claim
	pages  map[queueName][]seenPage
}

// seenPage is a page of messages, and what its link to the next one must lead to.
type seenPage struct {
	link string
	list listing
}

// heard is an answer as it came.
type heard struct {
	method, path string
	status       int
	header       http.Header
	body         []byte
}

// fraction draws a number from 0 to 1023, all of them equally often: rapid's own
// ranges prefer their ends.
var fraction = rapid.Custom(func(t *rapid.T) int {
	n := 0
	for range 10 {
		n *= 2
		if rapid.Bool().Draw(t, "bit") {
			n++
		}
	}
	return n
})

// pick draws a number from 0 to n-1; the lower, the simpler.
func (m *machine) pick(what string, n int) int { return fraction.Draw(m.T, what) * n / 1024 }

// chance draws whether something happens that does once in n times.
func (m *machine) chance(what string, n int) bool { return m.pick(what, n) == n-1 }

func sampled[V any](m *machine, what string, values ...V) V { return values[m.pick(what, len(values))] }

// pass lets time go by.
func (m *machine) pass(d time.Duration) {
	m.clock.advance(d)
	m.world.pass(d)
}

// send sends a request about a queue.
func (m *machine) send(name queueName, client, method, path, body string) heard {
	m.Helper()
	return m.sendTo(name, client, method, name.path()+path, body)
}

// at is one of the replicas: mostly the same one for a while, so that it comes to rely on
// what it remembers.
func (m *machine) at() *api {
	if m.chance("another replica", 12) {
		m.replica = m.pick("replica", len(m.replicas))
	}
	return m.replicas[m.replica]
}

// sendTo sends a request to one of the replicas.
func (m *machine) sendTo(name queueName, client, method, path, body string) heard {
	m.Helper()
	if m.parking != nil {
		return m.parking.sendLater(name, client, method, path, body)
	}
	replica := m.at()
	got, err := ask(m.client, replica.url, name.project, client, method, path, body)
	if err != nil {
		m.Fatal(err)
	}
	m.told(name, got, body)
	return got
}

// told writes an answer down for whoever has to find out what is wrong.
func (m *machine) told(name queueName, got heard, body string) {
	m.Helper()
	m.Logf("%s replica %d, %s: %s %s %s: %d %s %s", m.world.now.Format("15:04:05.000"), m.replica, name.project,
		got.method, got.path, body[:min(500, len(body))], got.status, got.header.Get("Location"), got.body[:min(2000, len(got.body))])
}

// ask sends a request.
func ask(through *http.Client, url, project, client, method, path, body string) (heard, error) {
	got := heard{method: method, path: path}
	r, err := http.NewRequest(method, url+path, strings.NewReader(body))
	if err != nil {
		return got, err
	}
	r.Header.Set("Client-ID", client)
	r.Header.Set("X-Project-ID", project)
	if method == "PATCH" && !strings.Contains(path, "/claims/") {
		r.Header.Set("Content-Type", patch)
	}
	response, err := through.Do(r)
	if err != nil {
		return got, err
	}
	defer response.Body.Close()
	got.status, got.header = response.StatusCode, response.Header
	got.body, err = io.ReadAll(response.Body)
	return got, err
}

// wrong fails the test. The failure itself says no more than what kind of request it
// was, for to be made shorter it must be the same each time; the log says the rest.
func (m *machine) wrong(format string, about ...any) {
	m.Helper()
	m.Logf(format, about...)
	m.Fatalf("%s: not answered as the model says", m.kind)
}

// into decodes an answer's body, if it has one.
func (m *machine) into(got heard, value any) {
	m.Helper()
	if len(got.body) == 0 {
		return
	}
	dec := json.NewDecoder(bytes.NewReader(got.body))
	dec.UseNumber()
	if err := dec.Decode(value); err != nil {
		m.wrong("%s %s is answered with %q: %v", got.method, got.path, got.body, err)
	}
}

// is compares an answer with the model's. It returns the link to the next page.
func (m *machine) is(got heard, want reply) (next string) {
	m.Helper()
	its := reply{Status: got.status, Location: got.header.Get("Location")}
	m.into(got, &its.Body)
	content, _ := its.Body.(object)
	if links, _ := content["links"].(list); len(links) > 0 {
		its.Next, next = m.asked(got, want, links[0])
	}
	if _, has := content["links"]; has != (got.status == 200 && isList(got)) {
		m.wrong("%s %s has links: %t", got.method, got.path, has)
	}
	delete(content, "links")
	if got.status >= 400 {
		its.Title, its.Body = fmt.Sprint(content["title"]), nil
		if want.Title == "" {
			its.Title = ""
		}
	}
	if want.Body != nil {
		text, err := json.Marshal(want.Body)
		if err != nil {
			m.Fatal(err)
		}
		want.Body = nil
		m.into(heard{body: text}, &want.Body)
	}
	if diff := cmp.Diff(want, its); diff != "" {
		m.wrong("%s %s (-model +nabu):\n%s", got.method, got.path, diff)
	}
	return next
}

// isList tells whether a request asks for a page of a list.
func isList(got heard) bool {
	path, query, _ := strings.Cut(got.path, "?")
	return got.method == "GET" && (path == "/v2/queues" || strings.HasSuffix(path, "/messages") && !strings.Contains(query, "ids="))
}

// asked is what a link asks for: what stands in it and the defaults of the rest.
func (m *machine) asked(got heard, want reply, link any) (parameters map[string]any, href string) {
	m.Helper()
	parts, _ := link.(object)
	href, _ = parts["href"].(string)
	path, _, _ := strings.Cut(got.path, "?")
	parsed, err := url.Parse(href)
	if err != nil || parts["rel"] != "next" || parsed.Path != path || parsed.Query().Get("marker") == "" {
		m.wrong("%s has the link %v", got.path, link)
	}
	parameters = map[string]any{}
	for key := range want.Next {
		parameters[key] = map[string]string{"limit": "10"}[key]
		if parameters[key] == "" {
			parameters[key] = "false"
		}
	}
	for key, values := range parsed.Query() {
		if key != "marker" {
			parameters[key] = strings.Join(values, " ")
		}
	}
	return parameters, href
}

// names are the queues of a sequence, those that are asked more often first.
func (m *machine) names() []queueName {
	one, two := fmt.Sprintf("%d-one", m.run), fmt.Sprintf("%d-two", m.run)
	return []queueName{{one, "builds"}, {one, "dead"}, {two, "builds"}, {one, "late"}, {two, "dead"}}
}

// name draws a queue.
func (m *machine) name() queueName {
	names := m.names()
	return names[sampled(m, "queue", 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4)]
}

// begin makes some of the queues, with settings.
func (m *machine) begin() {
	for i, name := range m.names()[:4] {
		switch m.pick("made", 4) {
		case 1:
			m.createQueue(name)
		case 2, 3:
			if i < 3 {
				m.deadLetters(name)
			}
		}
	}
	if m.chance("many messages", 16) {
		m.kind = "post many"
		m.postMany(m.names()[0])
	}
}

// step sends one request.
func (m *machine) step() {
	if m.steps >= maxSteps {
		return
	}
	m.steps++
	m.pass(tick)
	steps := m.kinds()
	weighted := []string{}
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		weighted = append(weighted, slices.Repeat([]string{name}, steps[name].weight)...)
	}
	m.kind = sampled(m, "request", weighted...)
	steps[m.kind].send(m.name())
	m.remember()
}

// remember notes which messages are where.
func (m *machine) remember() {
	for name, q := range m.world.queues {
		if m.known[name] == nil {
			m.known[name] = map[string]bool{}
		}
		for _, its := range q.messages {
			if !m.known[name][its.id] {
				m.known[name][its.id] = true
				m.ever[name] = append(m.ever[name], its.id)
			}
			if its.claim != "" {
				m.holder[its.id] = its.claim
			}
		}
	}
}

// end looks at everything there is, and claims all that is free.
func (m *machine) end() {
	m.pass(tick)
	on := true
	for _, name := range m.names() {
		m.kind = "the end"
		l := listing{client: ours, echo: &on, claimed: &on, delayed: &on, limit: 20}
		path := "/messages?echo=true&include_claimed=true&include_delayed=true&limit=20"
		for _, its := range m.world.queue(name).messages {
			if its.place == m.world.posted[its.id] {
				continue
			}
			from := l // behind a message that was moved here
			from.after = its.place
			want, _ := m.world.list(name, from)
			m.is(m.send(name, ours, "GET", path+"&marker="+its.id, ``), want)
		}
		for path != "" {
			want, last := m.world.list(name, l)
			link := m.is(m.send(name, ours, "GET", path, ``), want)
			path, l.after = strings.TrimPrefix(link, name.path()), last
		}
		m.is(m.send(name, ours, "GET", "/stats", ``), m.world.stats(name))
		m.is(m.send(name, ours, "GET", "", ``), m.world.show(name))
		m.kind = "the last claims"
		for m.claimSome(name, 20) {
		}
	}
}

// claimSome claims messages and tells whether there were any.
func (m *machine) claimSome(name queueName, limit int) bool {
	got := m.send(name, ours, "POST", fmt.Sprintf("/claims?limit=%d", limit), ``)
	id := strings.TrimPrefix(got.header.Get("Location"), name.path()+"/claims/")
	m.is(got, m.world.claim(name, id, 300, 60, limit))
	return got.status == 201
}
