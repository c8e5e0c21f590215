package eventstore

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
)

// sample is an event as it was once stored.
type sample struct {
	Data   json.RawMessage `json:"data"`
	Bodies []string        `json:"bodies"`
}

// want is what the samples mean. A sample is never edited: who changes an event's
// form adds a new version and a new sample.
var want = also(wantOfServers, map[string]domain.Event{
	"queue.created.v1": domain.QueueCreated{
		Project: "c0ffee", Name: "builds",
		Metadata: domain.Metadata{
			{Key: "team", Value: json.RawMessage(`"ci"`)}, {Key: "_default_message_ttl", Value: json.RawMessage(`600`)},
			{Key: "exact", Value: json.RawMessage(`1.50e2`)},
		},
	},
	"queue.metadata-changed.v1": domain.QueueMetadataChanged{
		Project: "c0ffee", Name: "builds", Number: 41,
		Metadata: domain.Metadata{{Key: "_max_claim_count", Value: json.RawMessage(`3`)}},
	},
	"queue.keys-destroyed.v1": domain.QueueKeysDestroyed{Project: "c0ffee", Name: "builds", Keys: []domain.KeyID{sampleKey}},
	"queue.deleted.v1":        domain.QueueDeleted{Project: "c0ffee", Name: "builds", Number: 41},
	"messages.posted.v1": domain.MessagesPosted{
		Project: "c0ffee", Queue: "builds", Number: 41, Client: "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4",
		Messages: []domain.PostedMessage{
			{ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), TTL: 300, Body: `{"event": "compiled", "job": 17}`},
			{ID: domain.NewMessageID(domain.PlaceOf(42, 1), 8), TTL: 3600, Delay: 30, Body: `"plain \u0000 text"`},
		},
	},
	"messages.posted.v1.sealed": domain.MessagesPosted{
		Project: "c0ffee", Queue: "builds", Number: 41, Client: "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4", Key: sampleKey,
		Messages: []domain.PostedMessage{{ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), TTL: 300, Body: `"c2VhbGVk"`}},
	},
	"messages.moved-in.v1.sealed": domain.MessagesMovedIn{
		Project: "c0ffee", Queue: "broken", Number: 43, From: "builds",
		Messages: []domain.MovedMessage{{
			ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), From: domain.PlaceOf(42, 0),
			Client: "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4", TTL: 3600, Key: sampleKey,
			Created: time.Date(2026, 3, 1, 10, 0, 0, 250000, time.UTC), Expires: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
			Body: `"c2VhbGVk"`,
		}},
	},
	"messages.deleted.v1": domain.MessagesDeleted{
		Project: "c0ffee", Queue: "builds", Number: 41,
		Messages: []domain.DeletedMessage{
			{ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), Place: domain.PlaceOf(42, 0)},
			{ID: domain.NewMessageID(domain.PlaceOf(42, 1), 8), Place: domain.PlaceOf(42, 1), Claim: &sampleClaim},
		},
	},
	"deliveries.attempted.v1": domain.DeliveriesAttempted{
		Project: "c0ffee", Subscription: domain.NewSubscriptionID(92, 9), Queue: "builds", Cursor: domain.PlaceOf(95, 1),
		Attempts: []domain.DeliveryAttempt{
			{
				Place: domain.PlaceOf(92, 0), Owes: domain.ConfirmSubscription, Number: 1, Took: 12, Status: 200, Outcome: domain.DeliveryDelivered,
				Started: time.Date(2026, 3, 1, 10, 0, 0, 500, time.UTC),
			},
			{
				Place: domain.PlaceOf(95, 0), Message: domain.NewMessageID(domain.PlaceOf(95, 0), 7), Number: 4, Took: 10000,
				Error: "no answer in time", Outcome: domain.DeliveryRetry,
				Started: time.Date(2026, 3, 1, 10, 0, 1, 0, time.UTC), Due: time.Date(2026, 3, 1, 10, 0, 16, 0, time.UTC),
			},
			{
				Place: domain.PlaceOf(95, 1), Message: domain.NewMessageID(domain.PlaceOf(95, 1), 8), Outcome: domain.DeliveryDelayed,
				Due: time.Date(2026, 3, 1, 10, 1, 0, 0, time.UTC),
			},
		},
	},
	"read-models.rebuilt.v1": domain.ReadModelsRebuilt{Projections: []string{"queues", "messages"}},
	"messages.popped.v1": domain.MessagesPopped{
		Project: "c0ffee", Queue: "builds", Number: 41,
		Messages: []domain.MessageAt{{ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), Place: domain.PlaceOf(42, 0)}},
	},
	"messages.claimed.v1": domain.MessagesClaimed{
		Project: "c0ffee", Queue: "builds", Number: 41, Claim: sampleClaim, TTL: 300, Grace: 60, Counted: true,
		Messages: []domain.ClaimedMessage{
			{ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), Place: domain.PlaceOf(42, 0)},
			{ID: domain.NewMessageID(domain.PlaceOf(42, 1), 8), Place: domain.PlaceOf(42, 1), Extended: true},
		},
	},
	"claim.renewed.v1": domain.ClaimRenewed{
		Project: "c0ffee", Queue: "builds", Number: 41, Claim: sampleClaim, TTL: 600, Grace: 120,
		Messages: []domain.ClaimedMessage{{ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), Place: domain.PlaceOf(42, 0), Extended: true}},
	},
	"claim.released.v1": domain.ClaimReleased{
		Project: "c0ffee", Queue: "builds", Number: 41, Claim: sampleClaim,
		Messages: []domain.MessageAt{{ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), Place: domain.PlaceOf(42, 0)}},
	},
	"messages.moved-out.v1": domain.MessagesMovedOut{
		Project: "c0ffee", Queue: "builds", Number: 41, To: "broken",
		Messages: []domain.MessageAt{{ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), Place: domain.PlaceOf(42, 0)}},
	},
	"messages.moved-in.v1": domain.MessagesMovedIn{
		Project: "c0ffee", Queue: "broken", Number: 43, From: "builds",
		Messages: []domain.MovedMessage{{
			ID: domain.NewMessageID(domain.PlaceOf(42, 0), 7), From: domain.PlaceOf(42, 0),
			Client: "9b2f5a5e-03d1-4c55-8f0e-2f6a7c0e11d4", TTL: 3600,
			Created: time.Date(2026, 3, 1, 10, 0, 0, 250000, time.UTC), Expires: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
			Body: `{"event": "compiled", "job": 17}`,
		}},
	},
	"queue.purged.v1": domain.QueuePurged{Project: "c0ffee", Name: "builds", Number: 41},
	"share.revoked.v1": domain.ShareRevoked{
		Project: "c0ffee", Queue: "builds", Digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Expires: time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC),
	},
	"shares.revoked.v1": domain.SharesRevoked{Project: "c0ffee", Queue: "builds"},
	"messages.swept.v1": domain.MessagesSwept{
		Project: "c0ffee", Queue: "builds", Number: 41,
		Expired: []domain.PlaceRange{{First: domain.PlaceOf(42, 0), Last: domain.PlaceOf(42, 1)}},
		Upto:    domain.PlaceOf(44, 0), Clean: true,
		Claims: []domain.ClaimID{sampleClaim}, Lowest: domain.PlaceOf(42, 0),
		Counted: domain.PlaceOf(45, 3), CountedAfter: domain.PlaceOf(44, 0), Over: true,
	},
	"subscription.created.v1": domain.SubscriptionCreated{
		Project: "c0ffee", ID: sampleSubscription, Queue: "builds", Subscriber: "https://hooks.example.net/in?a=1&b=<2>",
		TTL: 3600, Owes: domain.ConfirmSubscription, Options: `{"post_headers": {"X-Team": "ci"}}`,
	},
	"subscription.updated.v1": domain.SubscriptionUpdated{
		Project: "c0ffee", ID: sampleSubscription, Queue: "builds", Subscriber: "mailto:ci@example.net",
		TTL: 86400, Owes: domain.ConfirmSubscription, Options: `{"subject": "builds"}`,
	},
	"subscription.confirmed.v1": domain.SubscriptionConfirmed{Project: "c0ffee", ID: sampleSubscription, Queue: "builds"},
	"subscription.unconfirmed.v1": domain.SubscriptionUnconfirmed{
		Project: "c0ffee", ID: sampleSubscription, Queue: "builds", Owes: domain.ConfirmUnsubscription,
	},
	"subscription.deleted.v1": domain.SubscriptionDeleted{Project: "c0ffee", ID: sampleSubscription, Queue: "builds"},
	"subscription.swept.v1":   domain.SubscriptionSwept{Project: "c0ffee", ID: sampleSubscription, Queue: "builds"},
	"task.created.v1": domain.TaskCreated{
		Project: "c0ffee", ID: sampleTask, Type: "import", User: "u1", RequestID: "req-c97e78cf-6291-44f0-874b-ad06d1c0ca32",
		ImageID: "5c3a7e1e-04b2-4b53-9d4e-0a4f5f1f2d11", Handed: domain.NewMessageID(domain.PlaceOf(52, 0), 9),
		Deadline: time.Date(2026, 3, 15, 10, 0, 0, 250000, time.UTC),
		Input:    `{"import_from": "https://images.example.net/a?b=<1>&c", "import_from": 1.50e2}`,
	},
	"task.begun.v1": domain.TaskBegun{
		Project: "c0ffee", ID: sampleTask, Worker: "w1", Attempt: 2, Deadline: time.Date(2026, 3, 1, 16, 0, 0, 0, time.UTC),
	},
	"task.progressed.v1": domain.TaskProgressed{
		Project: "c0ffee", ID: sampleTask, Message: "Copied 15 MiB", Deadline: time.Date(2026, 3, 1, 16, 1, 0, 0, time.UTC),
	},
	"task.succeeded.v1": domain.TaskSucceeded{
		Project: "c0ffee", ID: sampleTask, Expires: time.Date(2026, 3, 3, 10, 5, 0, 0, time.UTC),
		Result: `{"image_id": "5c3a7e1e-04b2-4b53-9d4e-0a4f5f1f2d11"}`,
	},
	"task.failed.v1": domain.TaskFailed{
		Project: "c0ffee", ID: sampleTask, Cause: domain.TaskWorkerLost, Message: domain.Lost,
		Expires: time.Date(2026, 3, 3, 10, 5, 0, 0, time.UTC),
	},
	"task.requeued.v1": domain.TaskRequeued{
		Project: "c0ffee", ID: sampleTask, Deadline: time.Date(2026, 3, 15, 10, 0, 0, 250000, time.UTC),
	},
	"task.expired.v1": domain.TaskExpired{Project: "c0ffee", ID: sampleTask},
	"user-message.recorded.v1": domain.UserMessageRecorded{
		Project: "c0ffee", ID: sampleUserMessage, EventID: "VOLUME_VOLUME_001_003", ActionID: "001", DetailID: "003",
		Level: domain.LevelError, ResourceType: "VOLUME", ResourceUUID: "f292cc0c-54a7-4b3b-8174-d2ff82d87008",
		RequestID:       "req-936666d2-4c8f-4e41-9ac9-237b43f8b848",
		GlobalRequestID: "req-2c7e64ad-04b3-4cd3-8f54-10e2fd0d9f4b",
		Created:         time.Date(2026, 11, 21, 2, 2, 7, 825892000, time.UTC),
		GuaranteedUntil: time.Date(2026, 12, 21, 2, 2, 7, 825892000, time.UTC),
		Sent:            "5f0c7a1e9b3d4c2f8a6e0b1d2c3f4a5b",
	},
	"user-message.recorded.v1.older": domain.UserMessageRecorded{
		Project: "c0ffee", ID: uuid.MustParse("0f6c8d3a-5b1e-4a7f-9c2d-3e4f5a6b7c8d"), EventID: "000002",
		Level: domain.LevelError, ResourceType: "VOLUME",
		Created:         time.Date(2016, 5, 4, 10, 0, 0, 0, time.UTC),
		GuaranteedUntil: time.Date(2016, 6, 3, 10, 0, 0, 0, time.UTC),
	},
	"user-message.deleted.v1": domain.UserMessageDeleted{Project: "c0ffee", ID: sampleUserMessage},
	"user-message.expired.v1": domain.UserMessageExpired{Project: "c0ffee", ID: sampleUserMessage},
})

var sampleTask = uuid.MustParse("bfd7115e-756c-4db1-92df-24a3f9935a1d")

var sampleUserMessage = uuid.MustParse("384468b0-e1d6-4772-afc5-ef9de64d0331")

var sampleSubscription = domain.NewSubscriptionID(46, 9)

// typeOf is the type of a sample's event: there are more than one where a form has members
// that may be absent.
func typeOf(sample string) string { return strings.Join(strings.SplitN(sample, ".", 4)[:3], ".") }

var sampleKey = uuid.MustParse("0199b9a0-6d7a-7c31-9a53-0242ac120077")

var sampleClaim = uuid.MustParse("0199b9a0-6d7a-7c31-9a53-0242ac120002")

func TestEverySampleDecodes(t *testing.T) {
	for name, event := range want {
		text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatalf("every stored form has a sample: %v", err)
		}
		var s sample
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := Decode(typeOf(name), s.Data, s.Bodies)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(event, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestEveryFormHasASampleAndEverySampleAForm(t *testing.T) {
	for _, name := range EventTypes() {
		if _, ok := want[name]; !ok {
			t.Errorf("%s has no sample", name)
		}
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if _, ok := kinds[typeOf(name)]; !ok {
			t.Errorf("%s was stored once and must stay readable", name)
		}
	}
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	for name, event := range want {
		data, bodies, err := encode(event)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var list []string
		if bodies != "" {
			list = strings.Split(bodies, bodySeparator)
		}
		got, err := Decode(typeOf(name), data, list)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(event, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := map[string]struct {
		eventType, data string
		bodies          []string
	}{
		"a type that nabu never stored":    {"queue.created.v99", `{}`, nil},
		"a member that nabu never wrote":   {"queue.deleted.v1", `{"project": "p", "name": "q", "number": 1, "more": 1}`, nil},
		"text behind the data":             {"queue.deleted.v1", `{} {}`, nil},
		"bodies where none belong":         {"queue.deleted.v1", `{}`, []string{"1"}},
		"a queue without its metadata":     {"queue.created.v1", `{}`, nil},
		"a subscription without options":   {"subscription.created.v1", `{}`, nil},
		"more bodies than messages":        {"messages.posted.v1", `{"messages": []}`, []string{"1"}},
		"a message id that is none at all": {"messages.posted.v1", `{"messages": [{"id": "x"}]}`, []string{"1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if e, err := Decode(test.eventType, []byte(test.data), test.bodies); err == nil {
				t.Fatalf("decoded as %#v", e)
			}
		})
	}
}

// colourSeen has had three forms: a name, then a number, then both.
type (
	colourSeenV1 struct{ Name string }
	colourSeenV2 struct{ Hue int }
	colourSeen   struct {
		Hue  int
		Name string
	}
)

func (colourSeenV1) EventType() string { return "colour.seen.v1" }
func (colourSeenV2) EventType() string { return "colour.seen.v2" }
func (colourSeen) EventType() string   { return "colour.seen.v3" }
func (colourSeenV1) Stream() string    { return "colour" }
func (colourSeenV2) Stream() string    { return "colour" }
func (colourSeen) Stream() string      { return "colour" }

func TestUpcastsLeadToTheNewestForm(t *testing.T) {
	hues := map[string]int{"red": 0, "green": 120}
	forms := map[string]kind{
		"colour.seen.v1": {withoutBodies[colourSeenV1], func(e domain.Event) (domain.Event, error) {
			hue, known := hues[e.(colourSeenV1).Name]
			if !known {
				return nil, fmt.Errorf("no hue for %q", e.(colourSeenV1).Name)
			}
			return colourSeenV2{hue}, nil
		}},
		"colour.seen.v2": {withoutBodies[colourSeenV2], func(e domain.Event) (domain.Event, error) {
			return colourSeen{Hue: e.(colourSeenV2).Hue, Name: "?"}, nil
		}},
		"colour.seen.v3": {decode: withoutBodies[colourSeen]},
	}
	got, err := decodeWith(forms, "colour.seen.v1", []byte(`{"Name": "green"}`), nil)
	if err != nil || got != (colourSeen{120, "?"}) {
		t.Fatalf("got %#v, %v", got, err)
	}
	if _, err := decodeWith(forms, "colour.seen.v1", []byte(`{"Name": "mauve"}`), nil); err == nil {
		t.Fatal("an upcast that fails is no event")
	}
	delete(forms, "colour.seen.v3")
	if _, err := decodeWith(forms, "colour.seen.v2", []byte(`{"Hue": 1}`), nil); err == nil {
		t.Fatal("an upcast to a form that nobody knows is no event")
	}
}

func TestBodiesThatAreNoJSONAreNotStored(t *testing.T) {
	for _, body := range []string{"", "\"a\x1eb\""} {
		event := domain.MessagesPosted{Messages: []domain.PostedMessage{{Body: body}}}
		if _, _, err := encode(event); err == nil {
			t.Errorf("body %q is stored", body)
		}
	}
	if _, _, err := encode(colourSeen{}); err == nil {
		t.Error("an event without a registered form is stored")
	}
}

// FuzzDecode: whatever stands in the table, decoding gives an event or an error.
func FuzzDecode(f *testing.F) {
	for _, name := range EventTypes() {
		text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		var s sample
		if err := json.Unmarshal(text, &s); err != nil {
			f.Fatal(err)
		}
		f.Add(name, []byte(s.Data), strings.Join(s.Bodies, bodySeparator))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte, bodies string) {
		var list []string
		if bodies != "" {
			list = strings.Split(bodies, bodySeparator)
		}
		e, err := Decode(name, data, list)
		if err != nil {
			return
		}
		again, joined, err := encode(e)
		if err != nil {
			return // decoded bodies need not be ones that a client may send
		}
		list = nil
		if joined != "" {
			list = strings.Split(joined, bodySeparator)
		}
		back, err := Decode(e.EventType(), again, list)
		if err != nil {
			t.Fatalf("%s %s: written as %s: %v", name, data, again, err)
		}
		if diff := cmp.Diff(e, back); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
