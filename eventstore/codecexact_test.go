package eventstore

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/domain"
)

// exactly reads data the quick way, by the type of its event.
func exactly(eventType string, data []byte) (e domain.Event, ok bool) {
	switch eventType {
	case "messages.posted.v1":
		return exactPosted(data)
	case "messages.claimed.v1":
		return exactClaimed(data)
	case "messages.deleted.v1":
		return exactDeleted(data)
	}
	return nil, false
}

func generally(eventType string, data []byte) (domain.Event, error) {
	switch eventType {
	case "messages.posted.v1":
		return decodeData[domain.MessagesPosted](data)
	case "messages.claimed.v1":
		return decodeData[domain.MessagesClaimed](data)
	}
	return decodeData[domain.MessagesDeleted](data)
}

var exactTypes = []string{"messages.posted.v1", "messages.claimed.v1", "messages.deleted.v1"}

func drawID(t *rapid.T) (id uuid.UUID) {
	copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	return id
}

func drawPlace(t *rapid.T) domain.Place {
	return domain.Place(rapid.Int64Range(0, 1<<59).Draw(t, "place"))
}

// drawEvent is an event of a type, with names that need no escapes.
func drawEvent(t *rapid.T, eventType string) domain.Event {
	name := rapid.StringMatching(`[A-Za-z0-9_.:-]{0,20}`)
	project, queue, number := name.Draw(t, "project"), name.Draw(t, "queue"), rapid.Int64Range(0, 1<<59).Draw(t, "number")
	n := rapid.IntRange(1, 12).Draw(t, "messages")
	switch eventType {
	case "messages.posted.v1":
		e := domain.MessagesPosted{Project: project, Queue: queue, Number: number, Client: name.Draw(t, "client")}
		for range n {
			e.Messages = append(e.Messages, domain.PostedMessage{
				ID: drawID(t), TTL: rapid.IntRange(0, 1<<40).Draw(t, "ttl"), Delay: rapid.IntRange(0, 900).Draw(t, "delay"),
			})
		}
		return e
	case "messages.claimed.v1":
		e := domain.MessagesClaimed{
			Project: project, Queue: queue, Number: number, Claim: drawID(t),
			TTL: rapid.IntRange(0, 43200).Draw(t, "ttl"), Grace: 60, Counted: rapid.Bool().Draw(t, "counted"),
		}
		for range n {
			e.Messages = append(e.Messages, domain.ClaimedMessage{ID: drawID(t), Place: drawPlace(t), Extended: rapid.Bool().Draw(t, "extended")})
		}
		return e
	}
	e := domain.MessagesDeleted{Project: project, Queue: queue, Number: number}
	for range n {
		m := domain.DeletedMessage{ID: drawID(t), Place: drawPlace(t)}
		if rapid.Bool().Draw(t, "claimed") {
			claim := drawID(t)
			m.Claim = &claim
		}
		e.Messages = append(e.Messages, m)
	}
	return e
}

func TestWhatEncodeWritesIsReadTheQuickWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		eventType := rapid.SampledFrom(exactTypes).Draw(t, "type")
		written := drawEvent(t, eventType)
		data, err := json.Marshal(written)
		if err != nil {
			t.Fatal(err)
		}
		read, ok := exactly(eventType, data)
		if diff := cmp.Diff(written, read); !ok || diff != "" {
			t.Fatalf("%s: read: %v; -written +read:\n%s", data, ok, diff)
		}
	})
}

func FuzzTheQuickWayReadsNothingElse(f *testing.F) {
	for i, data := range []string{
		`{"project":"p","queue":"q","number":41,"client":"c","messages":[{"id":"00000000-0054-8000-8000-000000000007","ttl":300},{"id":"00000000-0054-8000-8800-000000000008","ttl":3600,"delay":30}]}`,
		`{"project":"p","queue":"q","number":41,"claim":"0199b9a0-6d7a-7c31-9a53-0242ac120002","ttl":300,"grace":60,"counted":true,"messages":[{"id":"00000000-0054-8000-8000-000000000007","place":2752512,"extended":true}]}`,
		`{"project":"p","queue":"q","number":41,"messages":[{"id":"00000000-0054-8000-8000-000000000007","place":2752512,"claim":"0199b9a0-6d7a-7c31-9a53-0242ac120002"}]}`,
		`{"project":"p","queue":"q","number":41,"messages":[{"id":"00000000-0054-8000-8000-000000000007","place":2752512,"key":1}]}`,
		`{"project":"p","queue":"q","number":041,"messages":[]}`,
	} {
		f.Add(i%len(exactTypes), []byte(data))
	}
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		eventType := exactTypes[uint(i)%uint(len(exactTypes))]
		quick, ok := exactly(eventType, data)
		if !ok {
			return
		}
		general, err := generally(eventType, data)
		if diff := cmp.Diff(general, quick); err != nil || diff != "" {
			t.Fatalf("%s: encoding/json: %v; -encoding/json +quick:\n%s", data, err, diff)
		}
	})
}
