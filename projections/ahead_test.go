package projections_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/projections"
)

// ahead is what is loaded ahead from a place of each queue on.
func (h *house) ahead(from map[string]domain.Place) map[domain.QueueID]domain.FreeMessages {
	h.Helper()
	var needs []domain.AheadNeed
	for name, place := range from {
		need := domain.AheadNeed{Queue: h.id(name), From: place}
		if err := h.db.QueryRow(`SELECT number FROM queues WHERE name = $1 AND NOT deleted`, name).Scan(&need.Number); err != nil {
			h.Fatal(err)
		}
		needs = append(needs, need)
	}
	found, err := projections.States{}.FreeAhead(h.Context(), h.db, h.head(), needs, h.now)
	if err != nil {
		h.Fatal(err)
	}
	return found
}

// head is the last event of the ledger.
func (h *house) head() (head eventstore.Head) {
	h.Helper()
	if err := h.db.QueryRow(`SELECT position, id FROM ledger.events ORDER BY position DESC LIMIT 1`).
		Scan(&head.Position, &head.ID); err != nil {
		h.Fatal(err)
	}
	return head
}

// loaded are the bodies of messages, and of the one where looking ended; 0: it did not.
func (h *house) loaded(free domain.FreeMessages) (bodies []string, beyond int) {
	h.Helper()
	for _, m := range free.Messages {
		bodies = append(bodies, m.Body)
	}
	if free.Beyond == 0 {
		return bodies, 0
	}
	if err := h.db.QueryRow(`SELECT trim(body)::int FROM messages WHERE place = $1`, int64(free.Beyond)).Scan(&beyond); err != nil {
		h.Fatal(err)
	}
	return bodies, beyond
}

func numbered(most, length int) (messages []domain.NewMessage, bodies []string) {
	for n := range most {
		body := strconv.Itoa(n + 1)
		body += strings.Repeat(" ", max(0, length-len(body)))
		messages, bodies = append(messages, domain.NewMessage{TTL: 600, Body: body}), append(bodies, body)
	}
	return messages, bodies
}

// TestALoadAheadIsBounded: in messages and in bytes of bodies, but one comes in any case; and what
// comes is whole.
func TestALoadAheadIsBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ posted, length, want, beyond int }{
		"none":                            {0, 1, 0, 0},
		"few":                             {3, 1, 3, 0},
		"as many as may be":               {200, 1, 200, 0},
		"one more":                        {201, 1, 200, 201},
		"many":                            {500, 1, 200, 201},
		"long ones, up to the bytes":      {4, 64 << 10, 4, 0},
		"long ones, and one more":         {5, 64 << 10, 5, 0}, // before the fifth it was not exceeded
		"long ones, and two more":         {9, 64 << 10, 5, 6},
		"some that are as long as can be": {3, 262_000, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.create("q", `{"_max_messages_post_size": 262144}`)
			messages, bodies := numbered(test.posted, test.length)
			for _, m := range messages {
				h.post("q", "c", m)
			}
			h.now = h.now.Add(time.Second) // each batch has a time of its own
			got, beyond := h.loaded(h.ahead(map[string]domain.Place{"q": 1})[h.id("q")])
			if diff := cmp.Diff(bodies[:test.want], got); diff != "" && test.want+len(got) > 0 {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if beyond != test.beyond {
				t.Errorf("looking ended at %d, not at %d", beyond, test.beyond)
			}
		})
	}
}

// TestALoadAheadFindsWhatIsFree, in queues of their own, from a place on, and tells of it what a load
// for a claim does.
func TestALoadAheadFindsWhatIsFree(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.create("slow", `{"_default_message_delay": 30}`)
	h.now = h.now.Add(time.Second)
	messages, _ := numbered(9, 1)
	for i := range messages {
		messages[i].Delay = []byte(`0`)
	}
	messages[3].Delay, messages[4].TTL = nil, 60
	ids := h.post("slow", "c", messages...)
	h.post("other", "d", domain.NewMessage{TTL: 600, Body: `7`})
	run(h, commands.ClaimMessages{Queue: h.id("slow"), Claiming: domain.Claiming{
		Claim: domain.ClaimID{1}, Life: domain.ClaimLife{TTL: 120, Grace: 60}, Limit: 3,
	}})
	run(h, commands.DeleteMessage{Queue: h.id("slow"), ID: ids[6]})
	from := map[string]domain.Place{"slow": domain.PostingPlace(ids[1]), "other": 1}
	for _, look := range []struct {
		seconds int
		want    []string
	}{
		{0, []string{`5`, `6`, `8`, `9`}},
		{29, []string{`5`, `6`, `8`, `9`}},
		{30, []string{`4`, `5`, `6`, `8`, `9`}},
		{60, []string{`4`, `6`, `8`, `9`}},
		{119, []string{`4`, `6`, `8`, `9`}},
		{120, []string{`2`, `3`, `4`, `6`, `8`, `9`}},
		{599, []string{`2`, `3`, `4`, `6`, `8`, `9`}},
		{600, nil},
	} {
		h.now = time.Date(2030, 1, 1, 0, 0, 1+look.seconds, int(time.Millisecond), time.UTC)
		found := h.ahead(from)
		got, beyond := h.loaded(found[h.id("slow")])
		if diff := cmp.Diff(look.want, got); diff != "" || beyond > 0 {
			t.Errorf("after %d s, and to %d (-want +got):\n%s", look.seconds, beyond, diff)
		}
		need := domain.FreeNeed{Queue: h.id("slow"), Number: 1, Purged: from["slow"] - 1, Want: 10}
		claims, err := projections.States{}.Messages(t.Context(), h.db, domain.MessageNeeds{Free: []domain.FreeNeed{need}}, h.now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(claims.Free[need.Queue].Messages, found[need.Queue].Messages); diff != "" {
			t.Errorf("after %d s (-for a claim +ahead):\n%s", look.seconds, diff)
		}
		if others := found[h.id("other")].Messages; len(others) != 1 && look.seconds < 600 {
			t.Errorf("of another queue, after %d s: %v", look.seconds, others)
		}
	}
}

// TestALoadAheadSeesTheLedgersHead, or none: a replica of PostgreSQL that lags behind has messages
// that were handed out, and another ledger any.
func TestALoadAheadSeesTheLedgersHead(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.create("q", `{}`)
	before := h.head()
	h.post("q", "c", domain.NewMessage{TTL: 600, Body: `1`})
	needs := []domain.AheadNeed{{Queue: h.id("q"), Number: 1, From: 1}}
	if _, err := (projections.States{}).FreeAhead(t.Context(), h.db, before, needs, h.now); err != nil {
		t.Errorf("behind the head it was begun with, a load ahead failed: %v", err)
	}
	for name, head := range map[string]eventstore.Head{
		"behind the ledger":  {Position: h.head().Position + 1, ID: before.ID},
		"of another history": {Position: h.head().Position, ID: before.ID},
		"of an empty ledger": {},
	} {
		if found, err := (projections.States{}).FreeAhead(t.Context(), h.db, head, needs, h.now); err == nil {
			t.Errorf("with a head %s: %v", name, found)
		}
	}
}
