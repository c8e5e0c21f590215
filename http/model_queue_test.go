package http

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// world is what the contract says a service holds, put as simply as can be: slices
// and maps, gone through from end to end. It knows nothing of how nabu does it.
type world struct {
	now time.Time
	// checksums and deleteWithClaims are the settings enable_checksum and
	// message_delete_with_claim_id.
	checksums, deleteWithClaims bool
	// encryption: the server has a master key.
	encryption bool
	queues     map[queueName]*modelQueue
	places     int            // how many have been given out
	posted     map[string]int // every message that ever was: where it was posted
}

type queueName struct{ project, name string }

func (q queueName) path() string { return "/v2/queues/" + q.name }

// modelQueue is a queue that exists.
type modelQueue struct {
	metadata map[string]any
	messages []*modelMessage // in the queue's order
	claims   map[string]*modelClaim
}

type modelMessage struct {
	id, client, body string
	ttl, place       int
	posted, ends     time.Time
	hidden           time.Time // until then it is delayed
	claim            string    // the live claim that holds it
	claimed          int       // how often
	sealed           queueName // with a key of this queue; zero: it is not
}

type modelClaim struct {
	ttl         int
	begun, ends time.Time
}

// reply is an answer, as far as the contract settles it.
type reply struct {
	Status   int
	Title    string // of an error
	Location string
	Body     any
	Next     map[string]any // what the link to the next page asks for, but the marker
}

type (
	object = map[string]any
	list   = []any
)

func newWorld(now time.Time) *world {
	return &world{now: now, queues: map[queueName]*modelQueue{}, posted: map[string]int{}}
}

// pass lets time go by: what is over is gone.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for _, q := range w.queues {
		for id, c := range q.claims {
			if !c.ends.After(w.now) {
				q.release(id)
			}
		}
		q.messages = slices.DeleteFunc(q.messages, func(m *modelMessage) bool { return !m.ends.After(w.now) })
	}
}

// queue is the queue of a name; one that does not exist looks like an empty one.
func (w *world) queue(name queueName) *modelQueue {
	if q := w.queues[name]; q != nil {
		return q
	}
	return &modelQueue{metadata: object{}, claims: map[string]*modelClaim{}}
}

// need is queue for those who make it.
func (w *world) need(name queueName) *modelQueue {
	if w.queues[name] == nil {
		w.queues[name] = w.queue(name)
	}
	return w.queues[name]
}

// reserved are the metadata keys that every read fills in.
var reserved = object{
	"_default_message_ttl": 3600, "_max_messages_post_size": 262144, "_default_message_delay": 0,
	"_dead_letter_queue": nil, "_dead_letter_queue_messages_ttl": nil, "_max_claim_count": nil,
	"_enable_encrypt_messages": false,
}

// number is a setting of the queue; 0: not set.
func (q *modelQueue) number(key string) int {
	n, _ := q.metadata[key].(int)
	return n
}

func filled(metadata object) object {
	all := maps.Clone(metadata)
	for key, value := range reserved {
		if stored := all[key]; stored == nil || stored == 0 || stored == false || stored == "" {
			all[key] = value
		}
	}
	return all
}

// validMetadata tells whether reserved values are within their bounds. Those that the
// tests set have the right type.
func validMetadata(metadata object) bool {
	for key, value := range metadata {
		n, isNumber := value.(int)
		text, isText := value.(string)
		switch key {
		case "_default_message_ttl", "_dead_letter_queue_messages_ttl":
			if isNumber && (n < 60 || n > 1209600) {
				return false
			}
		case "_default_message_delay":
			if isNumber && (n < 0 || n > 900) {
				return false
			}
		case "_max_claim_count":
			if isNumber && n < 1 {
				return false
			}
		case "_enable_encrypt_messages":
			if isNumber {
				return false
			}
		case "_dead_letter_queue":
			if isText && (text == "" || strings.ContainsAny(text, " @/")) {
				return false
			}
		}
	}
	return true
}

// create is PUT of a queue (3.3).
func (w *world) create(name queueName, metadata object) reply {
	switch {
	case !validMetadata(metadata):
		return reply{Status: 400, Title: "Invalid API request"}
	case w.queues[name] != nil:
		return reply{Status: 204, Location: name.path()}
	}
	w.need(name).metadata = metadata
	return reply{Status: 201, Location: name.path()}
}

// show is GET of a queue (3.4).
func (w *world) show(name queueName) reply {
	return reply{Status: 200, Body: filled(w.queue(name).metadata)}
}

type modelPatch struct {
	op, key string
	value   any
}

// change is PATCH of a queue (3.5).
func (w *world) change(name queueName, patch []modelPatch) reply {
	q := w.queues[name]
	if q == nil {
		return reply{Status: 404, Title: "Not found"}
	}
	metadata := maps.Clone(q.metadata)
	for _, p := range patch {
		_, stored := metadata[p.key]
		_, known := reserved[p.key]
		if p.op != "add" && !stored && !known {
			return reply{Status: 409, Title: "Resource conflict"}
		}
		metadata[p.key] = p.value
		if p.op == "remove" {
			delete(metadata, p.key)
		}
	}
	if !validMetadata(metadata) {
		return reply{Status: 400, Title: "Invalid API request"}
	}
	q.metadata = metadata
	return reply{Status: 200, Body: filled(metadata)}
}

// remove is DELETE of a queue (3.6).
func (w *world) remove(name queueName) reply {
	delete(w.queues, name)
	return reply{Status: 204}
}

// listQueues is GET of the first queues of a project with their number (3.2).
func (w *world) listQueues(project string, limit int) reply {
	names := []string{}
	for name := range w.queues {
		if name.project == project {
			names = append(names, name.name)
		}
	}
	slices.Sort(names)
	queues := list{}
	for _, name := range names[:min(limit, len(names))] {
		queues = append(queues, object{"name": name, "href": "/v2/queues/" + name})
	}
	r := reply{Status: 200, Body: object{"queues": queues, "count": len(names)}}
	if len(queues) > 0 {
		r.Next = object{"limit": fmt.Sprint(limit), "with_count": "true"}
	}
	return r
}

// stats is GET of a queue's stats (3.7).
func (w *world) stats(name queueName) reply {
	q := w.queue(name)
	claimed := 0
	for _, m := range q.messages {
		if m.claim != "" {
			claimed++
		}
	}
	counts := object{"claimed": claimed, "free": len(q.messages) - claimed, "total": len(q.messages)}
	if n := len(q.messages); n > 0 {
		for key, m := range map[string]*modelMessage{"oldest": q.messages[0], "newest": q.messages[n-1]} {
			counts[key] = object{
				"age": w.age(m.posted), "created": m.posted.UTC().Format("2006-01-02T15:04:05Z"),
				"href": name.path() + "/messages/" + m.id,
			}
		}
	}
	return reply{Status: 200, Body: object{"messages": counts}}
}

// purge is POST of a purge (3.8).
func (w *world) purge(name queueName, messages bool) reply {
	if messages {
		w.queue(name).messages = nil
	}
	return reply{Status: 204}
}

// newMessage is a message that a client wants to post; 0 and nil: it does not say.
type newMessage struct {
	body  string
	ttl   int
	delay *int
}

// post is POST of messages (4.2). ids are those that the service gave out.
func (w *world) post(name queueName, client string, messages []newMessage, ids []string) reply {
	q := w.queue(name)
	var made []*modelMessage
	for i, n := range messages {
		m := &modelMessage{client: client, body: n.body, ttl: n.ttl, posted: w.now, hidden: w.now}
		if i < len(ids) {
			m.id = ids[i]
		}
		if m.ttl == 0 {
			m.ttl = filled(q.metadata)["_default_message_ttl"].(int)
		}
		if delay := q.number("_default_message_delay"); delay != 0 {
			if n.delay != nil {
				delay = *n.delay
			}
			if delay < 0 || delay > 900 {
				return reply{Status: 400, Title: "Invalid API request"}
			}
			m.hidden = seconds(w.now, delay)
		}
		if m.ttl < 60 || m.ttl > 1209600 {
			return reply{Status: 400, Title: "Invalid API request"}
		}
		m.ends = seconds(w.now, m.ttl)
		made = append(made, m)
	}
	q = w.need(name)
	resources, named := list{}, []string{}
	for _, m := range made {
		if q.encrypts() {
			m.sealed = name
		}
		w.place(q, m)
		w.posted[m.id] = m.place
		resources = append(resources, name.path()+"/messages/"+m.id)
		named = append(named, m.id)
	}
	return reply{
		Status: 201, Body: object{"resources": resources},
		Location: name.path() + "/messages?ids=" + strings.Join(named, ","),
	}
}

func seconds(t time.Time, n int) time.Time { return t.Add(time.Duration(n) * time.Second) }

// place puts a message at a queue's end.
func (w *world) place(q *modelQueue, m *modelMessage) {
	w.places++
	m.place = w.places
	q.messages = append(q.messages, m)
}

func (w *world) age(since time.Time) int { return int(w.now.Sub(since) / time.Second) }

// item is a message as everything but pop and stats shows it (4.3).
func (w *world) item(name queueName, m *modelMessage) object {
	shown := object{
		"id": m.id, "href": name.path() + "/messages/" + m.id, "ttl": m.ttl, "age": w.age(m.posted),
		"body": json.RawMessage(m.body),
	}
	if m.claim != "" {
		shown["href"] = shown["href"].(string) + "?claim_id=" + m.claim
	}
	return w.withChecksum(shown, m)
}

// withChecksum adds the checksum (4.9). The bodies of these tests are written as
// Python writes them.
func (w *world) withChecksum(shown object, m *modelMessage) object {
	if w.checksums && m.body != "null" {
		shown["checksum"] = fmt.Sprintf("MD5:%x", md5.Sum([]byte(m.body)))
	}
	return shown
}

func (w *world) items(name queueName, messages []*modelMessage) list {
	items := list{}
	for _, m := range messages {
		items = append(items, w.item(name, m))
	}
	return items
}

// listing is what a list of messages is asked for. A given flag is not nil.
type listing struct {
	client                 string
	echo, claimed, delayed *bool
	limit                  int  // 0: not given
	after                  int  // the place that the marker means
	lost                   bool // the marker means none
}

// list is GET of messages (4.3), and the place that its next page begins after.
func (w *world) list(name queueName, l listing) (r reply, last int) {
	q := w.queue(name)
	set := func(flag *bool) bool { return flag != nil && *flag }
	delayed := set(l.delayed) || q.number("_default_message_delay") == 0
	limit := l.limit
	if limit == 0 {
		limit = 10
	}
	var found []*modelMessage
	for _, m := range q.messages {
		switch {
		case l.lost, m.place <= l.after, len(found) == limit,
			!set(l.echo) && m.client == l.client,
			!set(l.claimed) && m.claim != "",
			!delayed && m.hidden.After(w.now):
		default:
			found, last = append(found, m), m.place
		}
	}
	r = reply{Status: 200, Body: object{"messages": w.items(name, found)}}
	if len(found) > 0 {
		r.Next = object{
			"limit": fmt.Sprint(limit), "echo": fmt.Sprint(set(l.echo)),
			"include_claimed": fmt.Sprint(set(l.claimed)), "include_delayed": fmt.Sprint(delayed),
		}
	}
	return r, last
}

// markerPlace is the place that a message's id means in a queue (1.7): where the
// message is now, else where it was posted.
func (w *world) markerPlace(name queueName, id string) int {
	if m := w.queue(name).message(id); m != nil {
		return m.place
	}
	return w.posted[id]
}

func (q *modelQueue) message(id string) *modelMessage {
	for _, m := range q.messages {
		if m.id == id {
			return m
		}
	}
	return nil
}

// get is GET of one message (4.5).
func (w *world) get(name queueName, id string) reply {
	m := w.queue(name).message(id)
	if m == nil {
		return reply{Status: 404, Title: "Not found"}
	}
	return reply{Status: 200, Body: w.item(name, m)}
}

// find is GET of messages by their ids (4.4).
func (w *world) find(name queueName, ids []string) reply {
	var found []*modelMessage
	for _, m := range w.queue(name).messages {
		if slices.Contains(ids, m.id) {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return reply{Status: 404, Title: "Not found"}
	}
	return reply{Status: 200, Body: object{"messages": w.items(name, found)}}
}
