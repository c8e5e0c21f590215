package http

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	claimers       = 32
	posters        = 4
	claimerPhases  = 3
	claimerActions = 25 // of each claimer in each phase
	posterActions  = 16 // of each poster in each phase
)

// TestClaimers lets many clients claim, renew, release, delete and pop through two
// replicas while others post and sweep. No message is handed out twice, none is lost,
// and each message's history is one that could have happened one request after the
// other.
func TestClaimers(t *testing.T) {
	t.Parallel()
	t.Run("and claims that expire in between", func(t *testing.T) {
		a := newAPI(t)
		h := newHall(t, a, a.replica())
		for phase := range claimerPhases {
			h.phase(phase)
			h.expire(time.Duration(61+phase*70) * time.Second)
		}
		h.sound()
	})
	t.Run("by the database's clock", func(t *testing.T) {
		a := newAPI(t)
		h := newHall(t, a.replicaBy(nil), a.replicaBy(nil))
		h.phase(0)
		h.sound()
	})
}

// sound counts what is doubled and lost, and checks the history.
func (h *hall) sound() {
	h.Helper()
	present := h.look()
	doubles, losses := len(h.twice), 0
	for id := range h.posted {
		times := h.deleted[id]
		if present[id] {
			times++
		}
		switch {
		case times == 0:
			losses++
			h.Errorf("message %s is lost", id)
		case times > 1:
			doubles++
			h.Errorf("message %s was deleted %d times, and is there: %t", id, h.deleted[id], present[id])
		}
	}
	for _, what := range h.twice {
		h.Error(what)
	}
	verdict := porcupine.CheckOperationsTimeout(oneMessage, h.steps, time.Minute)
	h.Logf("%d requests, %d steps of %d messages (%d deleted): %d doubles, %d losses, linearizable: %s",
		h.requests, len(h.steps), len(h.posted), len(h.deleted), doubles, losses, verdict)
	if verdict != porcupine.Ok {
		h.Errorf("the history is not linearizable: %s", verdict)
	}
}

// hall is where clients meet, and what they noted.
type hall struct {
	*testing.T
	clock    *clock
	replicas []*api
	client   *http.Client
	begun    time.Time
	workers  []*claimer

	mu       sync.Mutex
	requests int
	steps    []porcupine.Operation
	posted   map[string]string // message: its queue
	holders  map[string]string
	deleted  map[string]int
	twice    []string
}

func newHall(t *testing.T, replicas ...*api) *hall {
	h := &hall{
		T: t, clock: replicas[0].clock, replicas: replicas, begun: time.Now(),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: claimers + posters}},
		posted: map[string]string{}, holders: map[string]string{}, deleted: map[string]int{},
	}
	t.Cleanup(h.client.CloseIdleConnections)
	for n := range claimers {
		h.workers = append(h.workers, &claimer{hall: h, n: n, holds: map[string][]string{}, queue: map[string]string{}, long: map[string]bool{}})
	}
	return h
}

var hallQueues = []string{"builds", "orders", "mails"}

// phase lets everybody work at the same time.
func (h *hall) phase(phase int) {
	var all sync.WaitGroup
	for _, c := range h.workers {
		c.random = rand.New(rand.NewPCG(uint64(phase), uint64(c.n)))
		all.Go(func() {
			for range claimerActions {
				c.act()
			}
		})
	}
	for n := range posters {
		c := &claimer{hall: h, n: claimers + n, random: rand.New(rand.NewPCG(uint64(phase), uint64(claimers+n)))}
		all.Go(func() {
			for range posterActions {
				c.post()
			}
		})
	}
	for _, a := range h.replicas {
		all.Go(func() {
			for range claimerActions {
				if _, err := a.sweep(h.Context()); err != nil {
					h.Error(err)
				}
			}
		})
	}
	all.Wait()
	if h.Failed() {
		h.FailNow()
	}
}

// expire lets time pass that only claims survive which were renewed for long. Nobody is
// at work.
func (h *hall) expire(d time.Duration) {
	survivors := map[string]bool{}
	for _, c := range h.workers {
		for claim := range c.holds {
			if c.long[claim] {
				survivors[claim] = true
				continue
			}
			for _, id := range c.holds[claim] {
				delete(h.holders, id)
			}
			c.over = append(c.over, claim)
			delete(c.holds, claim)
		}
	}
	call := h.now()
	h.clock.advance(d)
	end := h.now()
	for id := range h.posted {
		h.note(0, deed{what: "expire", message: id, survivors: survivors}, saw{}, call, end)
	}
}

// look lists all that is there at the end.
func (h *hall) look() map[string]bool {
	present, looker := map[string]bool{}, &claimer{hall: h, n: claimers + posters, random: rand.New(rand.NewPCG(0, 0))}
	call := h.now()
	seen := map[string]saw{}
	for _, queue := range hallQueues {
		path := "/v2/queues/" + queue + "/messages?limit=20&echo=true&include_claimed=true"
		for path != "" {
			got := looker.ask("GET", path, ``, 200)
			for id, claim := range got.messages() {
				present[id], seen[id] = true, saw{200, claim}
			}
			path = next(answer{TB: h.T, body: string(got.body)})
		}
	}
	end := h.now()
	for id := range h.posted {
		s := seen[id]
		if !present[id] {
			s.status = 404
		}
		h.note(0, deed{what: "get", message: id}, s, call, end)
	}
	return present
}

func (h *hall) now() int64 { return int64(time.Since(h.begun)) }

// note writes down what a request did to a message. The caller holds the lock, or is
// alone.
func (h *hall) note(n int, d deed, s saw, call, end int64) {
	h.steps = append(h.steps, porcupine.Operation{ClientId: n, Input: d, Output: s, Call: call, Return: end})
}

// claimer is one client.
type claimer struct {
	*hall
	n      int
	random *rand.Rand
	holds  map[string][]string // its live claims and what is in them
	queue  map[string]string   // of its claims
	long   map[string]bool     // claims that outlive the phases
	over   []string            // claims that were

	call, end int64 // of its last request
}

// ask sends a request to one of the replicas; with another status than these the
// test has failed.
func (c *claimer) ask(method, path, body string, statuses ...int) heard {
	c.call = c.now()
	got, err := ask(c.client, c.replicas[c.random.IntN(len(c.replicas))].url, "p1", theirs, method, path, body)
	c.end = c.now()
	c.mu.Lock()
	c.requests++
	c.mu.Unlock()
	if err != nil || !slices.Contains(statuses, got.status) {
		c.Errorf("%s %s: %d, want %v: %s %v", method, path, got.status, statuses, got.body, err)
	}
	return got
}

// messages are the ids in an answer and the claims in their hrefs.
func (got heard) messages() map[string]string {
	var page struct{ Messages []struct{ ID, Href string } }
	_ = json.Unmarshal(got.body, &page)
	found := map[string]string{}
	for _, m := range page.Messages {
		_, found[m.ID], _ = strings.Cut(m.Href, "?claim_id=")
	}
	return found
}

func (c *claimer) post() {
	queue := hallQueues[c.random.IntN(len(hallQueues))]
	messages := strings.Repeat(`, {"ttl": 1209600, "body": 1}`, 1+c.random.IntN(6))
	got := c.ask("POST", "/v2/queues/"+queue+"/messages", `{"messages": [`+messages[2:]+`]}`, 201)
	var answer struct{ Resources []string }
	_ = json.Unmarshal(got.body, &answer)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range answer.Resources {
		id := resource[strings.LastIndexByte(resource, '/')+1:]
		c.posted[id] = queue
		c.note(c.n, deed{what: "post", message: id}, saw{201, ""}, c.call, c.end)
	}
}

// act does something, mostly with a claim that it has.
func (c *claimer) act() {
	claims := slices.Sorted(maps.Keys(c.holds))
	if len(claims) == 0 || c.random.IntN(3) == 0 {
		c.claim(hallQueues[c.random.IntN(len(hallQueues))])
		return
	}
	claim := claims[c.random.IntN(len(claims))]
	switch c.random.IntN(9) {
	case 0, 1:
		c.release(claim)
	case 2:
		c.renew(claim)
	case 3:
		c.pop(hallQueues[c.random.IntN(len(hallQueues))])
	case 4:
		c.tryDelete(claim)
	default:
		c.finish(claim)
	}
}

func (c *claimer) claim(queue string) {
	got := c.ask("POST", fmt.Sprintf("/v2/queues/%s/claims?limit=%d", queue, 1+c.random.IntN(5)), `{"ttl": 60, "grace": 60}`, 201, 204)
	if got.status != 201 {
		return
	}
	claim := got.header.Get("Location")
	claim = claim[strings.LastIndexByte(claim, '/')+1:]
	c.queue[claim] = queue
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, its := range got.messages() {
		if its != claim {
			c.Errorf("message %s of claim %s names claim %s", id, claim, its)
		}
		if other := c.holders[id]; other != "" || c.deleted[id] > 0 {
			c.twice = append(c.twice, fmt.Sprintf("message %s is in claim %s, while claim %q holds it, deleted %d times", id, claim, other, c.deleted[id]))
		}
		c.holders[id] = claim
		c.holds[claim] = append(c.holds[claim], id)
		c.note(c.n, deed{what: "claim", message: id}, saw{201, claim}, c.call, c.end)
	}
	if len(c.holds[claim]) == 0 {
		c.Errorf("claim %s is empty", claim)
	}
}

// letGo notes that a claim will be over before anybody can know that it is.
func (c *claimer) letGo(ids ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.holders, id)
	}
}

func (c *claimer) claimPath(claim string) string {
	return "/v2/queues/" + c.queue[claim] + "/claims/" + claim
}

// whole notes what a request did to all messages of a claim.
func (c *claimer) whole(what, claim string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.holds[claim] {
		c.note(c.n, deed{what: what, message: id, claim: claim, live: true}, saw{status, ""}, c.call, c.end)
	}
}

func (c *claimer) release(claim string) {
	c.letGo(c.holds[claim]...)
	c.whole("release", claim, c.ask("DELETE", c.claimPath(claim), ``, 204).status)
	delete(c.holds, claim)
	c.over = append(c.over, claim)
}

func (c *claimer) renew(claim string) {
	ttl := 60
	if c.random.IntN(2) == 0 {
		ttl = 43200
	}
	c.long[claim] = ttl == 43200
	c.whole("renew", claim, c.ask("PATCH", c.claimPath(claim), fmt.Sprintf(`{"ttl": %d}`, ttl), 204).status)
}

func (c *claimer) pop(queue string) {
	got := c.ask("DELETE", "/v2/queues/"+queue+"/messages?pop=1", ``, 200)
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range got.messages() {
		if other := c.holders[id]; other != "" {
			c.twice = append(c.twice, fmt.Sprintf("message %s was popped, while claim %s holds it", id, other))
		}
		c.deleted[id]++
		c.note(c.n, deed{what: "pop", message: id}, saw{200, ""}, c.call, c.end)
	}
}

// finish deletes a message of a claim, as one does who has done the work.
func (c *claimer) finish(claim string) {
	if len(c.holds[claim]) == 0 {
		c.release(claim)
		return
	}
	id := c.holds[claim][0]
	c.letGo(id)
	if c.delete(claim, id, claim, true) == 204 {
		c.mu.Lock()
		c.deleted[id]++
		c.mu.Unlock()
	}
	c.holds[claim] = c.holds[claim][1:]
	if c.random.IntN(4) == 0 {
		c.delete(claim, id, claim, true) // once more
	}
}

// tryDelete tries to delete a message without its claim, with a claim that is over
// and with a live one that does not hold it; and looks at it. None of it deletes the
// message, for a claim is named that does not hold it, or somebody holds it.
func (c *claimer) tryDelete(claim string) {
	if len(c.holds[claim]) > 0 {
		c.delete(claim, c.holds[claim][0], "", false)
	}
	queue := c.queue[claim]
	c.mu.Lock()
	ids := []string{}
	for id, its := range c.posted {
		if its == queue && !slices.Contains(c.holds[claim], id) {
			ids = append(ids, id)
		}
	}
	c.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	id := slices.Min(ids)
	if c.random.IntN(2) == 0 {
		id = slices.Max(ids)
	}
	c.delete(claim, id, claim, true)
	if len(c.over) > 0 {
		c.delete(claim, id, c.over[c.random.IntN(len(c.over))], false)
	}
	got := c.ask("GET", "/v2/queues/"+queue+"/messages/"+id, ``, 200, 404)
	var shown struct{ Href string }
	_ = json.Unmarshal(got.body, &shown)
	_, holder, _ := strings.Cut(shown.Href, "?claim_id=")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(c.n, deed{what: "get", message: id}, saw{got.status, holder}, c.call, c.end)
}

// delete deletes a message of a claim's queue with this claim, or another, or none.
func (c *claimer) delete(claim, id, with string, live bool) (status int) {
	path := "/v2/queues/" + c.queue[claim] + "/messages/" + id
	if with != "" {
		path += "?claim_id=" + with
	}
	status = c.ask("DELETE", path, ``, 204, 400, 403).status
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(c.n, deed{"delete", id, with, live, nil}, saw{status, ""}, c.call, c.end)
	return status
}
