package http

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What nabu never gives out as an id, and what looks as if it might be one.
const (
	malformed = "no-such-thing"
	neverMade = "4b1e7c10-6a52-4f3e-9d0a-0c5b1e2f3a41"
)

// kind is a kind of request: how often it is sent, and how.
type kind struct {
	weight int
	send   func(queueName)
}

func (m *machine) kinds() map[string]kind {
	kinds := map[string]kind{
		"post":         {12, m.post},
		"create queue": {1, m.createQueue},
		"change queue": {3, m.changeQueue},
		"show queue":   {1, func(name queueName) { m.is(m.send(name, ours, "GET", "", ``), m.world.show(name)) }},
		"delete queue": {1, func(name queueName) { m.is(m.send(name, ours, "DELETE", "", ``), m.world.remove(name)) }},
		"list queues":  {1, m.listQueues},
		"stats":        {3, func(name queueName) { m.is(m.send(name, ours, "GET", "/stats", ``), m.world.stats(name)) }},
		"purge":        {1, m.purge},
		"list":         {6, m.list},
		"next page":    {3, m.nextPage},
		"get":          {2, m.get},
		"find":         {3, m.find},
		"delete":       {8, m.delete},
		"delete all":   {3, m.deleteAll},
		"pop":          {2, m.pop},
		"claim":        {16, m.claim},
		"show claim":   {4, m.showClaim},
		"renew":        {5, m.renew},
		"release":      {5, m.release},
		"wait":         {6, m.wait},
		"sweep":        {2, m.sweep},
	}
	if os.Getenv(replicasVariable) == "" { // or nobody knows who decides
		kinds["together"] = kind{10, m.together}
	}
	if m.world.encryption {
		maps.Copy(kinds, m.encryptionKinds())
	}
	return kinds
}

// wait lets seconds go by, and looks at the queue.
func (m *machine) wait(name queueName) {
	m.pass(time.Duration(sampled(m, "seconds", 1, 4, 4, 30, 59, 60, 61, 61, 61, 100, 120, 240, 300, 301, 600, 3600)) * time.Second)
	m.is(m.send(name, ours, "GET", "/stats", ``), m.world.stats(name))
}

// sweep takes away what nobody can see any more; nobody can see that either.
func (m *machine) sweep(name queueName) {
	a := m.at()
	if m.chance("after a while", 2) {
		m.pass(130 * time.Second)
	}
	for swept := true; swept; {
		var err error
		if swept, err = a.sweep(m.Context()); err != nil {
			m.Fatal(err)
		}
	}
	m.Logf("swept by %s", a.url)
	m.is(m.send(name, ours, "GET", "/stats", ``), m.world.stats(name))
}

// setting draws a key of a queue's metadata and its value, now and then a bad one.
func (m *machine) setting() (key string, value any) {
	key = sampled(m, "key", "_max_claim_count", "_dead_letter_queue", "_dead_letter_queue_messages_ttl",
		"_default_message_delay", "_default_message_ttl", "team")
	if m.world.encryption && m.chance("encrypt", 5) {
		return "_enable_encrypt_messages", m.encrypt()
	}
	bad := m.chance("bad value", 30)
	switch key {
	case "_max_claim_count":
		value = sampled[any](m, "count", 1, 1, 1, 2, 2, nil)
		if bad {
			value = 0
		}
	case "_dead_letter_queue":
		value = sampled[any](m, "dead letters", "dead", "dead", "dead", "builds", "late", "nowhere", nil)
		if bad {
			value = "a b"
		}
	case "_dead_letter_queue_messages_ttl":
		value = sampled[any](m, "ttl", 60, 90, 500, nil)
		if bad {
			value = 59
		}
	case "_default_message_delay":
		value = sampled[any](m, "delay", 0, 5, 90, nil)
		if bad {
			value = 901
		}
	case "_default_message_ttl":
		value = sampled[any](m, "ttl", 60, 100, 1000, nil)
		if bad {
			value = 59
		}
	case "team":
		value = sampled[any](m, "value", 1, "x")
	}
	return key, value
}

// encrypt draws whether a queue encrypts its messages.
func (m *machine) encrypt() any {
	return sampled[any](m, "encrypt", true, true, true, true, true, true, false, nil, 1)
}

func (m *machine) createQueue(name queueName) {
	metadata := object{}
	for range m.pick("settings", 5) {
		key, value := m.setting()
		metadata[key] = value
	}
	m.create(name, metadata)
}

func (m *machine) create(name queueName, metadata object) {
	if m.world.encryption {
		metadata["_enable_encrypt_messages"] = m.encrypt()
	}
	body, _ := json.Marshal(metadata) // of numbers and texts
	m.is(m.send(name, ours, "PUT", "", string(body)), m.world.create(name, metadata))
}

// deadLetters makes a queue with a rule for messages that are claimed too often.
func (m *machine) deadLetters(name queueName) {
	metadata := object{
		"_max_claim_count":   sampled(m, "count", 1, 1, 2),
		"_dead_letter_queue": sampled(m, "dead letters", "dead", "dead", "dead", "builds", "nowhere"),
	}
	if ttl := sampled(m, "ttl", 0, 60, 90, 500); ttl != 0 {
		metadata["_dead_letter_queue_messages_ttl"] = ttl
	}
	m.create(name, metadata)
}

func (m *machine) changeQueue(name queueName) {
	var changes []modelPatch
	operations := []object{}
	for range 1 + m.pick("changes", 3) {
		key, value := m.setting()
		change := modelPatch{sampled(m, "op", "add", "add", "add", "replace", "remove"), key, value}
		operation := object{"op": change.op, "path": "/metadata/" + key}
		if change.op != "remove" {
			operation["value"] = value
		}
		changes, operations = append(changes, change), append(operations, operation)
	}
	body, _ := json.Marshal(operations)
	m.is(m.send(name, ours, "PATCH", "", string(body)), m.world.change(name, changes))
}

func (m *machine) listQueues(name queueName) {
	limit := 1 + m.pick("limit", 5)
	got := m.sendTo(name, ours, "GET", "/v2/queues?with_count=true&limit="+strconv.Itoa(limit), ``)
	m.is(got, m.world.listQueues(name.project, limit))
}

func (m *machine) purge(name queueName) {
	body := sampled(m, "body", ``, `{"resource_types": ["messages"]}`, `{"resource_types": ["messages", "subscriptions"]}`,
		`{"resource_types": ["subscriptions"]}`, `{"resource_types": []}`, `{"resource_types": "messages"}`, `{}`)
	got := m.send(name, ours, "POST", "/purge", body)
	if body == `{}` || strings.Contains(body, `: "`) {
		m.is(got, reply{Status: 400})
		return
	}
	m.is(got, m.world.purge(name, body == "" || strings.Contains(body, "messages")))
}

// who draws one of two clients.
func (m *machine) who() string { return sampled(m, "client", ours, theirs) }

func (m *machine) post(name queueName) {
	var messages []newMessage
	texts := []string{}
	for range 1 + m.pick("messages", 4) {
		m.bodies++
		n := newMessage{body: fmt.Sprintf(`{"n": %d}`, m.bodies), ttl: sampled(m, "ttl", 0, 0, 0, 60, 61, 100, 400, 1000)}
		switch m.pick("body", 8) {
		case 6:
			n.body = `null`
		case 7:
			n.body = fmt.Sprintf(`[%d, "text", {}]`, m.bodies)
		}
		if m.chance("low ttl", 40) {
			n.ttl = 59
		}
		if delay := sampled(m, "delay", -1, -1, 0, 5, 100, 901); delay >= 0 && (delay < 901 || m.chance("high delay", 3)) {
			n.delay = &delay
		}
		text := `{"body": ` + n.body
		if n.ttl != 0 {
			text += fmt.Sprintf(`, "ttl": %d`, n.ttl)
		}
		if n.delay != nil {
			text += fmt.Sprintf(`, "delay": %d`, *n.delay)
		}
		messages, texts = append(messages, n), append(texts, text+"}")
	}
	m.postAll(name, messages, texts)
}

func (m *machine) postAll(name queueName, messages []newMessage, texts []string) {
	client := m.who()
	got := m.send(name, client, "POST", "/messages", `{"messages": [`+strings.Join(texts, ", ")+`]}`)
	var posted struct{ Resources []string }
	m.into(got, &posted)
	ids := []string{}
	for _, resource := range posted.Resources {
		ids = append(ids, strings.TrimPrefix(resource, name.path()+"/messages/"))
	}
	m.is(got, m.world.post(name, client, messages, ids))
}

// postMany posts as many messages as nabu keeps count of when it sweeps.
func (m *machine) postMany(name queueName) {
	var messages []newMessage
	texts := []string{}
	for i := range 1100 {
		n := newMessage{body: strconv.Itoa(i), ttl: 60 + i%7*300}
		messages, texts = append(messages, n), append(texts, fmt.Sprintf(`{"body": %s, "ttl": %d}`, n.body, n.ttl))
	}
	m.postAll(name, messages, texts)
}

// message draws a message's id: mostly of one that is in the queue.
func (m *machine) message(name queueName) string {
	here := m.world.queue(name).messages
	choice := m.pick("which message", 16)
	if choice < 11 && len(here) > 0 {
		return here[m.pick("message", len(here))].id
	}
	from := name
	switch {
	case choice == 15:
		return malformed
	case choice == 14:
		return neverMade
	case choice == 13:
		from = m.name()
	}
	if n := len(m.ever[from]); n > 0 {
		return m.ever[from][m.pick("message", n)]
	}
	return neverMade
}

func (m *machine) messages(name queueName) []string {
	ids := []string{}
	for range 1 + m.pick("ids", 4) {
		ids = append(ids, m.message(name))
	}
	return ids
}

// flag draws a boolean parameter that is mostly left out.
func (m *machine) flag(name, value string) *bool {
	on, off := true, false
	return map[string]*bool{"true": &on, "false": &off}[sampled(m, name, "", value, value, "true", "false")]
}

func (m *machine) list(name queueName) {
	l := listing{client: m.who(), echo: m.flag("echo", "true"), claimed: m.flag("include_claimed", ""), delayed: m.flag("include_delayed", "")}
	query := ""
	for key, flag := range map[string]*bool{"echo": l.echo, "include_claimed": l.claimed, "include_delayed": l.delayed} {
		if flag != nil {
			query += fmt.Sprintf("&%s=%t", key, *flag)
		}
	}
	if l.limit = sampled(m, "limit", 0, 1, 2, 3, 20); l.limit != 0 {
		query += "&limit=" + strconv.Itoa(l.limit)
	}
	switch m.pick("marker", 6) {
	case 5:
		query, l.lost = query+"&marker="+sampled(m, "bad marker", malformed, neverMade), true
	case 3, 4:
		if n := len(m.ever[name]); n > 0 {
			id := m.ever[name][m.pick("message", n)]
			query, l.after = query+"&marker="+id, m.world.markerPlace(name, id)
		}
	}
	m.page(name, l, "?"+strings.TrimPrefix(query, "&"))
}

// page asks for a page and keeps its link to the next one.
func (m *machine) page(name queueName, l listing, query string) {
	want, last := m.world.list(name, l)
	link := m.is(m.send(name, l.client, "GET", "/messages"+query, ``), want)
	if link == "" {
		return
	}
	delayed := want.Next["include_delayed"] == "true" // as the link says from now on
	l.after, l.delayed = last, &delayed
	m.pages[name] = append(m.pages[name], seenPage{link, l})
}

func (m *machine) nextPage(name queueName) {
	if len(m.pages[name]) == 0 {
		m.list(name)
		return
	}
	page := m.pages[name][len(m.pages[name])-1-m.pick("page", len(m.pages[name]))]
	if m.chance("another client", 4) {
		page.list.client = m.who()
	}
	m.page(name, page.list, strings.TrimPrefix(page.link, name.path()+"/messages"))
}

func (m *machine) get(name queueName) {
	id := m.message(name)
	m.is(m.send(name, m.who(), "GET", "/messages/"+id, ``), m.world.get(name, id))
}

func (m *machine) find(name queueName) {
	ids := m.messages(name)
	query := "?ids=" + strings.Join(ids, sampled(m, "separator", ",", "&ids="))
	m.is(m.send(name, m.who(), "GET", "/messages"+query, ``), m.world.find(name, ids))
}

// ofClaim draws a claim's id: mostly of one that was made on the queue.
func (m *machine) ofClaim(name queueName) string {
	from := name
	choice := m.pick("which claim", 20)
	switch {
	case choice == 19:
		return malformed
	case choice == 18:
		return neverMade
	case choice == 17:
		from = m.name()
	}
	its := m.claims[from]
	live := slices.DeleteFunc(slices.Clone(its), func(id string) bool { return m.world.queue(from).claims[id] == nil })
	if choice < 13 && len(live) > 0 {
		its = live
	}
	if len(its) == 0 {
		return neverMade
	}
	return its[m.pick("claim", len(its))]
}

// claimed draws a queue on which a claim was made, if there is one.
func (m *machine) claimed(name queueName) queueName {
	for _, other := range append([]queueName{name}, m.names()...) {
		if len(m.world.queue(other).claims) > 0 {
			return other
		}
	}
	return name
}

// lifetime draws a claim's ttl and grace, and how the request says them.
func (m *machine) lifetime() (ttl, grace int, members []string) {
	ttl, grace = 300, 60
	switch m.pick("lifetime", 5) {
	case 1:
		members = []string{`"ttl": null`, `"grace": null`}
	case 2, 3:
		ttl = sampled(m, "ttl", 60, 61, 90, 120, 400, 1000)
		members = append(members, fmt.Sprintf(`"ttl": %d`, ttl))
		fallthrough
	case 4:
		grace = sampled(m, "grace", 60, 61, 100, 200)
		if m.chance("out of bounds", 30) {
			grace = sampled(m, "grace", 59, 43201)
		}
		members = append(members, fmt.Sprintf(`"grace": %d`, grace))
	}
	if m.chance("out of bounds", 40) {
		ttl = sampled(m, "ttl", 59, 43201)
		members = append(slices.DeleteFunc(members, func(member string) bool { return strings.Contains(member, "ttl") }), fmt.Sprintf(`"ttl": %d`, ttl))
	}
	return ttl, grace, members
}

func (m *machine) claim(name queueName) {
	ttl, grace, members := m.lifetime()
	limit, query := 10, ""
	if n := sampled(m, "limit in the body", 0, 0, 0, 0, 1, 2, 21, -1); n != 0 {
		members = append(members, fmt.Sprintf(`"limit": %d`, n))
		if n > 0 && n < 21 {
			limit = n
		}
	}
	if n := sampled(m, "limit", 1, 1, 1, 2, 2, 3, 0, 20); n != 0 {
		if m.chance("out of bounds", 30) {
			n = sampled(m, "limit", 21, 0)
		}
		limit, query = n, "?limit="+strconv.Itoa(n)
	}
	body := "{" + strings.Join(members, ", ") + "}"
	if len(members) == 0 && m.chance("no body", 2) {
		body = ``
	}
	got := m.send(name, m.who(), "POST", "/claims"+query, body)
	id := strings.TrimPrefix(got.header.Get("Location"), name.path()+"/claims/")
	m.is(got, m.world.claim(name, id, ttl, grace, limit))
	if id != "" {
		m.claims[name] = append(m.claims[name], id)
	}
}

func (m *machine) showClaim(name queueName) {
	name = m.claimed(name)
	id := m.ofClaim(name)
	m.is(m.send(name, m.who(), "GET", "/claims/"+id, ``), m.world.showClaim(name, id))
}

func (m *machine) renew(name queueName) {
	name = m.claimed(name)
	id := m.ofClaim(name)
	if m.chance("no body", 30) {
		m.is(m.send(name, m.who(), "PATCH", "/claims/"+id, ``), reply{Status: 400})
		return
	}
	ttl, grace, members := m.lifetime()
	got := m.send(name, m.who(), "PATCH", "/claims/"+id, "{"+strings.Join(members, ", ")+"}")
	m.is(got, m.world.renew(name, id, ttl, grace))
}

func (m *machine) release(name queueName) {
	name = m.claimed(name)
	id := m.ofClaim(name)
	m.is(m.send(name, m.who(), "DELETE", "/claims/"+id, ``), m.world.release(name, id))
}

func (m *machine) delete(name queueName) {
	id := m.message(name)
	claim, query := "", ""
	switch m.pick("claim to delete with", 4) {
	case 0, 1:
		claim = m.holder[id]
	case 2:
		claim = m.ofClaim(name)
	}
	if claim != "" {
		query = "?claim_id=" + claim
	}
	m.is(m.send(name, m.who(), "DELETE", "/messages/"+id+query, ``), m.world.delete(name, id, claim))
}

func (m *machine) deleteAll(name queueName) {
	ids, claims := m.messages(name), []string{}
	for _, id := range ids {
		if holder := m.holder[id]; holder != "" && !m.chance("holder left out", 8) {
			claims = append(claims, holder)
		}
	}
	if m.chance("another claim", 3) {
		claims = append(claims, m.ofClaim(name))
	}
	if m.chance("no ids", 20) {
		ids = nil
	}
	query := "?ids=" + strings.Join(ids, ",") + "&claim_ids=" + strings.Join(claims, ",")
	m.is(m.send(name, m.who(), "DELETE", "/messages"+query, ``), m.world.deleteAll(name, ids, claims))
}

func (m *machine) pop(name queueName) {
	limit := sampled(m, "limit", 1, 1, 2, 3, 20, 21)
	m.is(m.send(name, m.who(), "DELETE", "/messages?pop="+strconv.Itoa(limit), ``), m.world.pop(name, limit))
}
