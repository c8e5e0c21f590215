package http

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/domain"
	"nabu/internal/sealing"
	"nabu/projections"
)

// Master keys of tests. The second has the first one's id and is another; the third has
// both the first one and one that came after it.
const (
	testMasters    = "test-1 MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	wrongMasters   = "test-1 MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
	newMaster      = "test-2 MjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM="
	rotatedMasters = newMaster + "\n" + testMasters
)

// withEncryption gives a server master keys.
func withEncryption(masters string) func(*Config) {
	return func(cfg *Config) {
		m, err := sealing.ParseMasters(masters)
		if err != nil {
			panic(err)
		}
		views := *cfg.Views.(*projections.Views)
		views.Keys = sealing.NewKeys(views.DB, m, cfg.Log)
		cfg.Views, cfg.Limits.Encryption = &views, true
	}
}

// keysOf are the keys that a server's reads and decisions share.
func keysOf(cfg Config) *sealing.Keys {
	if views, ok := cfg.Views.(*projections.Views); ok {
		return views.Keys
	}
	return nil
}

const encrypting = `{"_enable_encrypt_messages": true}`

// items are an answer's messages.
type item struct {
	ID, Href, Checksum string
	Body               json.RawMessage
}

func (got answer) items() []item {
	got.Helper()
	if got.body == "" {
		return nil
	}
	var list struct{ Messages []item }
	got.into(&list)
	return list.Messages
}

// bodies are those of an answer's messages, as they came.
func (got answer) bodies() string {
	got.Helper()
	var all []string
	for _, m := range got.items() {
		all = append(all, string(m.Body))
	}
	return strings.Join(all, "|")
}

// reads states that each way to read one message gives this body, and pops it.
func (a *api) reads(queue, id, body string) {
	a.Helper()
	path := "/v2/queues/" + queue
	same := func(way, got string) {
		a.Helper()
		if got != body {
			a.Fatalf("%s gives %s, want %s", way, got, body)
		}
	}
	same("the list", a.call("GET", path+"/messages?echo=true", "", 200).bodies())
	same("by ids", a.call("GET", path+"/messages?ids="+id, "", 200).bodies())
	var one item
	a.call("GET", path+"/messages/"+id, "", 200).into(&one)
	same("one", string(one.Body))
	claimed := a.call("POST", path+"/claims", `{"ttl": 60, "grace": 60}`, 201)
	same("a claim", claimed.bodies())
	same("the claim's page", a.call("GET", claimed.header.Get("Location"), "", 200).bodies())
	a.call("DELETE", claimed.header.Get("Location"), "", 204)
	same("a pop", a.call("DELETE", path+"/messages?pop=1", "", 200).bodies())
}

// TestEncryptedBodiesAreReadExactly: whatever was posted comes back byte for byte on
// every way, whether the flag is on or off.
func TestEncryptedBodiesAreReadExactly(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters))
	a.call("PUT", "/v2/queues/secret", encrypting, 201)
	a.call("PUT", "/v2/queues/open", `{}`, 201)
	rapid.Check(t, func(rt *rapid.T) {
		body := rapid.SampledFrom([]string{`null`, `false`, `""`, `0.10`, `{ "b" : 1,"a":1 , "b":2}`, `"\u0000\ud800"`, `[ ]`}).Draw(rt, "body")
		if rapid.Bool().Draw(rt, "text") {
			quoted, err := json.Marshal(rapid.StringN(0, 300, -1).Draw(rt, "said"))
			if err != nil {
				rt.Fatal(err)
			}
			body = string(quoted)
		}
		queue := rapid.SampledFrom([]string{"secret", "open"}).Draw(rt, "queue")
		a.reads(queue, a.post(queue, theirs, `[{"body": `+body+`}]`)[0], body)
	})
}

// TestEncryptionIsOfTheMessage: the flag counts when a message is posted, and nothing that
// looks sealed is taken for it.
func TestEncryptionIsOfTheMessage(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters), withChecksums)
	patch := func(value string) {
		a.call("PATCH", "/v2/queues/q", `[{"op": "replace", "path": "/metadata/_enable_encrypt_messages", "value": `+value+`}]`, 200,
			"Content-Type", patchType)
	}
	a.post("q", ours, `[{"body": "before"}]`)
	patch("true")
	a.post("q", ours, `[{"body": {"event": "a"}}]`)
	var stored string
	if err := a.DB().QueryRow(`SELECT body FROM messages WHERE key IS NOT NULL`).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	patch("false")
	a.post("q", ours, `[{"body": `+stored+`}]`) // a sealed body, posted by a client
	patch("true")
	a.post("q", ours, `[{"body": `+stored+`}]`)
	want := `"before"|{"event": "a"}|` + stored + `|` + stored
	list := a.call("GET", "/v2/queues/q/messages?echo=true", "", 200)
	if list.bodies() != want {
		t.Errorf("the list has %s, want %s", list.bodies(), want)
	}
	if sum := list.items()[1].Checksum; sum != "MD5:e4db62ac1fe774afdcf38f2ef1a78efd" {
		t.Errorf("the checksum %s is not of the plain body", sum)
	}
	if got := a.call("POST", "/v2/queues/q/claims", "", 201).bodies(); got != want {
		t.Errorf("a claim has %s, want %s", got, want)
	}
	if n := a.count(`SELECT count(*) FROM messages WHERE key IS NOT NULL`); n != 2 {
		t.Errorf("%d messages are sealed, not 2", n)
	}
	if n := a.count(`SELECT count(DISTINCT key) FROM messages`); n != 1 {
		t.Errorf("the queue has %d keys, not one", n)
	}
}

func (a *api) count(query string, args ...any) (n int) {
	a.Helper()
	if err := a.DB().QueryRow(query, args...).Scan(&n); err != nil {
		a.Fatal(err)
	}
	return n
}

// TestEncryptionNeedsAMasterKey: without one nothing is stored.
func TestEncryptionNeedsAMasterKey(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.call("PUT", "/v2/queues/q", encrypting, 400).refused("Invalid API request")
	a.recorded()
	a.post("q", ours, `[{"body": 1}]`)
	a.history()
	a.call("PATCH", "/v2/queues/q", `[{"op": "add", "path": "/metadata/_enable_encrypt_messages", "value": true}]`, 400,
		"Content-Type", patchType).refused("Invalid API request")
	a.recorded()
}

// marker is in every body that must be found nowhere.
const marker = "Xyzzy-plugh-42"

// TestNoPlainTextIsStored: not in the ledger, not in the read models, not beside the
// answers that are kept for idempotency keys.
func TestNoPlainTextIsStored(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters))
	a.call("PUT", "/v2/queues/q", `{"_enable_encrypt_messages": true, "_max_claim_count": 1, "_dead_letter_queue": "dead"}`, 201)
	keyed := 0
	key := func() (string, string) { keyed++; return "Idempotency-Key", fmt.Sprint("key-", keyed) }
	name, value := key()
	for range 2 {
		a.call("POST", "/v2/queues/q/messages", `{"messages": [{"body": "`+marker+`"}, {"body": {"`+marker+`": 1}}]}`, 201, name, value)
	}
	name, value = key()
	for range 2 { // the second time from what is kept
		if got := a.call("POST", "/v2/queues/q/claims?limit=2", "", 201, name, value).bodies(); got != `"`+marker+`"|{"`+marker+`": 1}` {
			t.Fatalf("a claim has %s", got)
		}
	}
	a.advance(time.Hour / 2)
	a.call("POST", "/v2/queues/q/claims", "", 204) // they move
	if got := a.call("GET", "/v2/queues/dead/messages?echo=true", "", 200).bodies(); got != `"`+marker+`"|{"`+marker+`": 1}` {
		t.Fatalf("the dead letters are %s", got)
	}
	if found := a.search(marker); len(found) > 0 {
		t.Errorf("plain text is in %v", found)
	}
	a.post("open", ours, `[{"body": "`+marker+`"}]`)
	if found := a.search(marker); len(found) != 2 {
		t.Errorf("a body that is not encrypted is found in %v, so the search is no good", found)
	}
	if got := a.call("DELETE", "/v2/queues/dead/messages?pop=1", "", 200).bodies(); got != `"`+marker+`"` {
		t.Errorf("a popped dead letter is %s", got)
	}
	checked(t, a)
}

// search looks for a text in all rows of all tables, and tells in which.
func (a *api) search(text string) (found []string) {
	a.Helper()
	rows, err := a.DB().Query(`
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_|^information_schema$' AND c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')`)
	if err != nil {
		a.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			a.Fatal(err)
		}
		tables = append(tables, table)
	}
	if err := rows.Err(); err != nil {
		a.Fatal(err)
	}
	for _, table := range tables {
		// bytea is shown in hex
		if a.count(`SELECT count(*) FROM `+table+` t WHERE strpos(t::text, $1) > 0 OR strpos(t::text, encode($1::bytea, 'hex')) > 0`, text) > 0 {
			found = append(found, table)
		}
	}
	return found
}

// checked states that the read models are what the history adds up to.
func checked(t *testing.T, a *api) {
	t.Helper()
	err := projections.Checking{DB: a.DB(), Projections: projections.Inline, Found: func(d projections.Difference) error {
		return fmt.Errorf("%s differs: %v", d.Table, d)
	}}.Run(context.Background())
	if err != nil {
		t.Error(err)
	}
}

// TestDamagedBodiesAreShownToNobody: neither a changed cipher text, nor one that was
// sealed for another message or project, opens; and what stands beside it can be read.
func TestDamagedBodiesAreShownToNobody(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"changed":             `UPDATE messages SET body = overlay(body PLACING CASE substr(body, 60, 1) WHEN 'A' THEN 'B' ELSE 'A' END FROM 60) WHERE id = $1`,
		"cut":                 `UPDATE messages SET body = '""' WHERE id = $1`,
		"no base64":           `UPDATE messages SET body = '"!"' WHERE id = $1`,
		"of another message":  `UPDATE messages SET body = (SELECT o.body FROM messages o WHERE o.id <> $1 AND o.key = messages.key LIMIT 1) WHERE id = $1`,
		"of another project":  `UPDATE messages SET (key, body) = (SELECT o.key, o.body FROM messages o WHERE o.key <> messages.key LIMIT 1) WHERE id = $1`,
		"by a key that is no": `UPDATE messages SET key = (SELECT o.key FROM messages o WHERE o.key <> messages.key LIMIT 1) WHERE id = $1`,
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, withEncryption(testMasters))
			a.call("PUT", "/v2/queues/q", encrypting, 201)
			a.call("PUT", "/v2/queues/q", encrypting, 201, "X-Project-ID", "p2")
			a.call("POST", "/v2/queues/q/messages", `{"messages": [{"body": "not yours"}]}`, 201, "X-Project-ID", "p2")
			ids := a.post("q", ours, `[{"body": "damaged"}, {"body": "whole"}]`)
			if _, err := a.DB().Exec(damage, ids[0]); err != nil {
				t.Fatal(err)
			}
			a = a.replica() // which remembers nothing
			if got := a.call("GET", "/v2/queues/q/messages?echo=true", "", 200).bodies(); got != `"whole"` {
				t.Errorf("the list has %s", got)
			}
			a.call("GET", "/v2/queues/q/messages/"+ids[0], "", 404)
			if got := a.call("POST", "/v2/queues/q/claims", "", 201).bodies(); got != `"whole"` {
				t.Errorf("a claim has %s", got)
			}
			if !strings.Contains(a.log.String(), ids[0]) || strings.Contains(a.log.String(), "whole") {
				t.Errorf("the log says %s", a.log)
			}
			a.call("DELETE", "/v2/queues/q/messages?ids="+ids[0], "", 204)
		})
	}
}

// TestOpenPostedIsWhatWasPosted: whoever sends messages on gets them in plain text.
func TestOpenPostedIsWhatWasPosted(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters))
	a.call("PUT", "/v2/queues/q", encrypting, 201)
	a.history()
	a.post("q", ours, `[{"body": "one"}, {"body": "two"}]`)
	posted := a.history()[0].Event.(domain.MessagesPosted)
	if posted.Key == uuid.Nil || strings.Contains(posted.Messages[0].Body, "one") {
		t.Fatalf("the event is plain: %v", posted)
	}
	opened, err := projections.OpenPosted(t.Context(), a.executor.Keys, posted)
	if err != nil || opened.Key != uuid.Nil || opened.Messages[0].Body != `"one"` || opened.Messages[1].Body != `"two"` {
		t.Errorf("it opens as %v, %v", opened, err)
	}
	if _, err := projections.OpenPosted(t.Context(), nil, posted); err == nil {
		t.Error("it opens without a key")
	}
	a.destroyKeys("q")
	a.executor.Keys.Forget()
	if opened, err = projections.OpenPosted(t.Context(), a.executor.Keys, posted); err != nil || len(opened.Messages) != 0 {
		t.Errorf("with its key destroyed it opens as %v, %v", opened, err)
	}
}

// TestSizeLimitsAreOfThePlainBody: what is sealed is longer, and that is nobody's fault.
func TestSizeLimitsAreOfThePlainBody(t *testing.T) {
	t.Parallel()
	a := newAPI(t, withEncryption(testMasters))
	a.call("PUT", "/v2/queues/q", encrypting, 201)
	head, tail := `{"messages": [{"body": "`, `"}]}`
	full := head + strings.Repeat("x", a.server.Limits.MaxMessagesPostSize-len(head)-len(tail)) + tail
	a.call("POST", "/v2/queues/q/messages", full, 201)
	r := a.send("POST", "/v2/queues/q/messages", io.MultiReader(strings.NewReader(" "), strings.NewReader(full)))
	if r.status != 400 {
		t.Errorf("one byte more: %d", r.status)
	}
	if got := a.call("POST", "/v2/queues/q/claims", "", 201).bodies(); len(got) != len(full)-len(head)-len(tail)+2 {
		t.Errorf("a claim has %d bytes", len(got))
	}
}
