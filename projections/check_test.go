package projections_test

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// check is what differs, in words.
func (h *house) check(slice int) (found []string) {
	h.Helper()
	err := projections.Checking{DB: h.direct, Projections: projections.Inline, Slice: slice, Found: func(d projections.Difference) error {
		found = append(found, inWords(d))
		return nil
	}}.Run(h.request())
	if err != nil {
		h.Fatal(err)
	}
	return found
}

func inWords(d projections.Difference) string {
	text := d.Table
	for _, part := range []struct {
		name   string
		values []projections.Value
	}{{"", d.Key}, {" live", d.Live}, {" folded", d.Folded}} {
		if len(part.values) > 0 {
			text += part.name
		}
		for _, v := range part.values {
			value := "NULL"
			if v.Text != nil {
				value = *v.Text
			}
			text += " " + v.Column + "=" + value
		}
	}
	return text
}

func TestACheckNamesTheRowThatDiffers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		tamper string
		want   []string
	}{
		"a queue's metadata": {
			`UPDATE queues SET metadata = '{"k":2}' WHERE number = 1`,
			[]string{`queues number=1 live metadata={"k":2} folded metadata={"k":1}`},
		},
		"a label that is written otherwise": {
			`UPDATE queues SET labels = '{"k": 1.0}' WHERE number = 1`,
			[]string{`queues number=1 live labels={"k": 1.0} folded labels={"k": 1}`},
		},
		"a message's body": {
			`UPDATE messages SET body = '"x"', ttl = 9 WHERE place = 131072`,
			[]string{`messages queue=1 place=131072 live ttl=9 body="x" folded ttl=3600 body=1`},
		},
		"who holds a message": {
			`UPDATE messages SET claim = NULL WHERE place = 131072`,
			[]string{`messages queue=1 place=131072 live claim=NULL folded claim=00000000-0000-0000-0000-000000000007`},
		},
		"a message that is not there": {
			`DELETE FROM messages WHERE place = 131073`,
			[]string{`messages queue=1 place=131073 folded queue=1 place=131073 id=ID client=c ttl=3600 created_at=AT ` +
				`visible_at=AT expires_at=AT claim=NULL claim_ends=NULL claim_count=0 moved=false key=NULL body=2`},
		},
		"a claim that nobody made": {
			`INSERT INTO claims (queue, id, place, ttl, renewed_at, ends_at, held, places)
			VALUES (1, '00000000-0000-0000-0000-000000000009', 5, 60, '2030-01-01', '2030-01-01', 0, '{}')`,
			[]string{`claims queue=1 id=00000000-0000-0000-0000-000000000009 live queue=1 id=00000000-0000-0000-0000-000000000009 ` +
				`place=5 ttl=60 renewed_at=AT ends_at=AT released=false held=0 emptied=true places={}`},
		},
		"how much a claim holds": {
			`UPDATE claims SET held = 5`,
			[]string{`claims queue=1 id=00000000-0000-0000-0000-000000000007 live held=5 folded held=1`},
		},
		"a count": {
			`UPDATE message_counts SET messages = messages + 1`,
			[]string{`message_counts queue=1 live messages=1103 folded messages=1102`},
		},
		"a subscription's address": {
			`UPDATE subscriptions SET subscriber = 'http://b'`,
			[]string{`subscriptions project=p queue=a id=ID live subscriber=http://b folded subscriber=http://a`},
		},
		"an index": {
			`DROP INDEX messages_delay`,
			[]string{`the schema name=index messages_delay folded definition=CREATE INDEX messages_delay ON messages ` +
				`USING btree (queue, visible_at) WHERE (visible_at > created_at)`},
		},
		"a column": {
			`ALTER TABLE message_counts ADD note text`,
			[]string{`the schema name=column note of message_counts live definition=text`},
		},
		"nothing": {`SELECT`, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.create("a", `{"k": 1}`)
			h.post("a", "c", plain(`1`), plain(`2`))
			run(h, commands.ClaimMessages{Queue: h.id("a"), Claiming: domain.Claiming{
				Claim: uuid.UUID{15: 7}, Life: domain.ClaimLife{TTL: 60, Grace: 60}, Limit: 1,
			}})
			for range 11 {
				h.post("a", "c", repeated(100)...)
			}
			run(h, commands.SweepQueue{Queue: h.id("a"), Number: 1})
			h.subscribe("a", "http://a", 60)
			if _, err := h.db.Exec(test.tamper); err != nil {
				t.Fatal(err)
			}
			got := h.check(0)
			for i := range got {
				got[i] = anonymous(got[i])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if name == "a column" {
				return // a rebuild has nowhere to take it from, and leaves it out
			}
			h.rebuild(0)
			if got := h.check(0); len(got) > 0 {
				t.Errorf("after a rebuild: %q", got)
			}
		})
	}
}

func repeated(n int) (messages []domain.NewMessage) {
	for range n {
		messages = append(messages, plain(`3`))
	}
	return messages
}

// anonymous leaves out of a difference what no test can know.
func anonymous(text string) string {
	for pattern, name := range map[string]string{
		`( id=)[0-9a-f-]{20,}( client)`: "${1}ID${2}", `( queue=a id=)[0-9a-f-]{20,}`: "${1}ID", `(_at=)[0-9-]+ [0-9:.+]+`: "${1}AT",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, name)
	}
	return text
}
