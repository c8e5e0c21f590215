package http

import (
	"encoding/json"
	"slices"
)

// claim is POST of a claim (5.1, 5.2). id is the one that the service gave out.
func (w *world) claim(name queueName, id string, ttl, grace, limit int) reply {
	if ttl < 60 || ttl > 43200 || grace < 60 || grace > 43200 || limit < 1 || limit > 20 {
		return reply{Status: 400, Title: "Invalid API request"}
	}
	q := w.queue(name)
	target, _ := q.metadata["_dead_letter_queue"].(string)
	highest := q.number("_max_claim_count")
	counted := target != "" && highest > 0
	var taken, dead []*modelMessage
	full := false
	for _, m := range q.messages {
		switch {
		case full || len(taken) == limit || m.claim != "" || m.hidden.After(w.now):
		case counted && m.claimed >= highest:
			if full = len(dead) == 100; !full { // a claim costs no more than that
				dead = append(dead, m)
			}
		default:
			taken = append(taken, m)
		}
	}
	for _, m := range dead {
		q.drop(m.id)
		w.bury(queueName{name.project, target}, m, q.number("_dead_letter_queue_messages_ttl"))
	}
	if len(taken) == 0 {
		return reply{Status: 204}
	}
	q.claims[id] = &modelClaim{}
	for _, m := range taken {
		m.claim = id
		if counted {
			m.claimed++
		}
	}
	w.begin(q, id, ttl, grace)
	return reply{
		Status: 201, Location: name.path() + "/claims/" + id,
		Body: object{"messages": w.items(name, taken)},
	}
}

// bury moves a message that was claimed too often to the end of another queue, where
// it is free at once.
func (w *world) bury(target queueName, m *modelMessage, ttl int) {
	m.claimed = 0
	if ttl != 0 {
		m.ttl, m.ends = ttl, seconds(w.now, ttl)
	}
	w.place(w.need(target), m)
}

// begin lets a claim's time run from now on. A message that would end before the
// claim lives until the grace is over.
func (w *world) begin(q *modelQueue, id string, ttl, grace int) {
	c := q.claims[id]
	c.ttl, c.begun, c.ends = ttl, w.now, seconds(w.now, ttl)
	for _, m := range q.messages {
		if m.claim == id && m.ends.Before(c.ends) {
			m.ttl, m.ends = ttl+grace, seconds(w.now, ttl+grace)
		}
	}
}

// showClaim is GET of a claim (5.3).
func (w *world) showClaim(name queueName, id string) reply {
	q := w.queue(name)
	c := q.claims[id]
	if c == nil {
		return reply{Status: 404, Title: "Not found"}
	}
	var held []*modelMessage
	for _, m := range q.messages {
		if m.claim == id {
			held = append(held, m)
		}
	}
	return reply{Status: 200, Body: object{
		"age": w.age(c.begun), "ttl": c.ttl, "href": name.path() + "/claims/" + id, "messages": w.items(name, held),
	}}
}

// renew is PATCH of a claim (5.4).
func (w *world) renew(name queueName, id string, ttl, grace int) reply {
	q := w.queue(name)
	switch {
	case ttl < 60 || ttl > 43200 || grace < 60 || grace > 43200:
		return reply{Status: 400, Title: "Invalid API request"}
	case q.claims[id] == nil:
		return reply{Status: 404, Title: "Not found"}
	}
	w.begin(q, id, ttl, grace)
	return reply{Status: 204}
}

// release is DELETE of a claim (5.5).
func (w *world) release(name queueName, id string) reply {
	w.queue(name).release(id)
	return reply{Status: 204}
}

func (q *modelQueue) release(id string) {
	delete(q.claims, id)
	for _, m := range q.messages {
		if m.claim == id {
			m.claim = ""
		}
	}
}

func (q *modelQueue) drop(ids ...string) {
	q.messages = slices.DeleteFunc(q.messages, func(m *modelMessage) bool { return slices.Contains(ids, m.id) })
}

// delete is DELETE of one message (4.6); claim is empty if none is named.
func (w *world) delete(name queueName, id, claim string) reply {
	q := w.queue(name)
	m := q.message(id)
	switch {
	case m == nil: // nothing to refuse
	case claim == "" && m.claim != "":
		return reply{Status: 403, Title: "Unable to delete"}
	case claim == "" || m.claim == claim:
		q.drop(id)
	case q.claims[claim] == nil || m.claim == "":
		return reply{Status: 400, Title: "Unable to delete"}
	default:
		return reply{Status: 403, Title: "Unable to delete"}
	}
	return reply{Status: 204}
}

// deleteAll is DELETE of messages by their ids (4.7).
func (w *world) deleteAll(name queueName, ids, claims []string) reply {
	q := w.queue(name)
	switch {
	case len(ids) == 0, w.deleteWithClaims && len(claims) == 0:
		return reply{Status: 400, Title: "Invalid API request"}
	case w.deleteWithClaims:
		for _, m := range q.messages {
			if slices.Contains(ids, m.id) && !(m.claim != "" && slices.Contains(claims, m.claim)) {
				return reply{Status: 403, Title: "Unable to delete"}
			}
		}
	}
	q.drop(ids...)
	return reply{Status: 204}
}

// pop is DELETE of as many messages as are free (4.8).
func (w *world) pop(name queueName, limit int) reply {
	if limit < 1 || limit > 20 {
		return reply{Status: 400, Title: "Invalid API request"}
	}
	q := w.queue(name)
	popped := list{}
	for _, m := range slices.Clone(q.messages) {
		if len(popped) < limit && m.claim == "" && !m.hidden.After(w.now) {
			q.drop(m.id)
			popped = append(popped, w.withChecksum(object{
				"id": m.id, "age": w.age(m.posted), "ttl": m.ttl, "body": json.RawMessage(m.body),
				"claim_id": nil, "claim_count": m.claimed,
			}, m))
		}
	}
	return reply{Status: 200, Body: object{"messages": popped}}
}
