package domain_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nabu/domain"
)

var (
	limits = domain.DefaultLimits()
	orders = domain.QueueID{Project: "p1", Name: "orders"}
)

// queueAfter is a queue with this past, from position 1 on.
func queueAfter(past ...domain.Event) domain.Queue {
	var q domain.Queue
	for i, e := range past {
		q.Apply(int64(i)+1, e)
	}
	return q
}

func meta(t testing.TB, text string) domain.Metadata {
	t.Helper()
	m, err := domain.ParseMetadata([]byte(text))
	if err != nil {
		t.Fatalf("metadata %s: %v", text, err)
	}
	return m
}

func created(t testing.TB, text string) domain.Event {
	return domain.QueueCreated{Project: "p1", Name: "orders", Metadata: meta(t, text)}
}

var deletedQueue = domain.QueueDeleted{Project: "p1", Name: "orders", Number: 1}

// expect compares what was decided with what should have been.
func expect(t *testing.T, events []domain.Event, err error, then []domain.Event, refused domain.Code) {
	t.Helper()
	var code domain.Code
	if refusal, ok := errors.AsType[*domain.Error](err); ok {
		code = refusal.Code
	} else if err != nil {
		t.Fatalf("not a refusal: %v", err)
	}
	if code != refused {
		t.Fatalf("refused with %q (%v), want %q", code, err, refused)
	}
	if diff := cmp.Diff(then, events); diff != "" {
		t.Fatalf("events (-want +got):\n%s", diff)
	}
}

func TestCreate(t *testing.T) {
	tests := map[string]struct {
		given    []domain.Event
		id       domain.QueueID
		metadata string
		then     []domain.Event
		refused  domain.Code
	}{
		"a new name is created":            {nil, orders, `{"a": 1}`, []domain.Event{created(t, `{"a": 1}`)}, ""},
		"a known name changes nothing":     {[]domain.Event{created(t, `{}`)}, orders, `{"a": 1}`, nil, ""},
		"a deleted name comes back":        {[]domain.Event{created(t, `{}`), deletedQueue}, orders, `{}`, []domain.Event{created(t, `{}`)}, ""},
		"what a name may have":             {nil, domain.QueueID{Project: "p1", Name: "azAZ09.-_"}, ``, []domain.Event{domain.QueueCreated{Project: "p1", Name: "azAZ09.-_"}}, ""},
		"an empty name is refused":         {nil, domain.QueueID{Project: "p1"}, ``, nil, domain.Invalid},
		"a long name is refused":           {nil, domain.QueueID{Project: "p1", Name: strings.Repeat("x", 65)}, ``, nil, domain.Invalid},
		"a name with a newline is refused": {nil, domain.QueueID{Project: "p1", Name: "q\n"}, ``, nil, domain.Invalid},
		"no project is refused":            {nil, domain.QueueID{Name: "q"}, ``, nil, domain.Invalid},
		"a long project is refused":        {nil, domain.QueueID{Project: strings.Repeat("ü", 257), Name: "q"}, ``, nil, domain.Invalid},
		"a bad value is refused, also for a known name": {
			[]domain.Event{created(t, `{}`)}, orders, `{"_default_message_ttl": 59}`, nil, domain.Invalid,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := queueAfter(test.given...).Create(test.id, meta(t, test.metadata), limits)
			expect(t, events, err, test.then, test.refused)
		})
	}
}

func TestKeysThatNoTextCanHoldAreRefused(t *testing.T) {
	if m, err := domain.ParseMetadata([]byte(`{"\ud800": 1, "\udfff": 2}`)); err == nil {
		t.Errorf("taken as %s", m.Text())
	}
	for _, text := range []string{`{"\ufffd": 1}`, `{"\uFFFD": 1}`, "{\"\ufffd\": 1}", `{"a": "\ud800"}`, `{"\ud83d\ude00": 1}`} {
		if _, err := domain.ParseMetadata([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestReservedMetadata(t *testing.T) {
	valid := []string{
		`{"_default_message_ttl": 60}`, `{"_default_message_ttl": 1209600}`, `{"_default_message_ttl": null}`,
		`{"_max_messages_post_size": 1}`, `{"_default_message_delay": 0}`, `{"_default_message_delay": 900}`,
		`{"_dead_letter_queue": "dead.letters"}`, `{"_dead_letter_queue_messages_ttl": 60}`, `{"_max_claim_count": 1}`,
		`{"_enable_encrypt_messages": false}`, `{"_flavor": "any"}`, `{"_flavor": null}`, `{"_anything": [1, {"b": 2}]}`,
		`{"_retry_policy": {}}`, `{"_retry_policy": {"minimum_delay": 5, "maximum_delay": 15, "retry_backoff_function": "geometric"}}`,
		`{"_retry_policy": {"unknown": "x", "retries_with_no_delay": ""}}`,
	}
	for _, text := range valid {
		if err := meta(t, text).Check(limits); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	invalid := []string{
		`{"_default_message_ttl": 59}`, `{"_default_message_ttl": 1209601}`, `{"_default_message_ttl": "60"}`,
		`{"_default_message_ttl": 60.0}`, `{"_default_message_ttl": true}`, `{"_max_messages_post_size": 0}`,
		`{"_max_messages_post_size": 262145}`, `{"_default_message_delay": 901}`, `{"_default_message_delay": -1}`,
		`{"_dead_letter_queue": 5}`, `{"_dead_letter_queue": "no@good"}`, `{"_dead_letter_queue_messages_ttl": 1}`,
		`{"_max_claim_count": 0}`, `{"_max_claim_count": "x"}`, `{"_enable_encrypt_messages": 1}`,
		`{"_enable_encrypt_messages": true}`, `{"_flavor": 1}`, `{"_retry_policy": "x"}`,
		`{"_retry_policy": {"maximum_delay": 14}}`, `{"_retry_policy": {"retry_backoff_function": "cubic"}}`,
		`{"_retry_policy": {"minimum_delay": "5"}}`, `{"_retry_policy": {"ignore_subscription_override": 1}}`,
		`{"_retry_policy": {"minimum_delay_retries": -1}}`,
	}
	for _, text := range invalid {
		if err := meta(t, text).Check(limits); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func TestChange(t *testing.T) {
	change := func(op, key, value string) domain.MetadataChange {
		return domain.MetadataChange{Op: op, Key: key, Value: json.RawMessage(value)}
	}
	changed := func(text string) []domain.Event {
		return []domain.Event{domain.QueueMetadataChanged{Project: "p1", Name: "orders", Number: 1, Metadata: meta(t, text)}}
	}
	there := []domain.Event{created(t, `{"a": 1, "b": [2]}`)}
	tests := map[string]struct {
		given   []domain.Event
		patch   domain.MetadataPatch
		then    []domain.Event
		refused domain.Code
	}{
		"an absent queue is not found":     {nil, nil, nil, domain.NotFound},
		"an empty patch changes nothing":   {there, nil, nil, ""},
		"the last change counts":           {append(there, changed(`{"z": 1}`)...), domain.MetadataPatch{change("add", "c", `2`)}, changed(`{"z": 1, "c": 2}`), ""},
		"add sets":                         {there, domain.MetadataPatch{change("add", "c", `"x"`)}, changed(`{"a": 1, "b": [2], "c": "x"}`), ""},
		"add overwrites in place":          {there, domain.MetadataPatch{change("add", "a", `2`)}, changed(`{"a": 2, "b": [2]}`), ""},
		"replace needs the key":            {there, domain.MetadataPatch{change("replace", "c", `1`)}, nil, domain.Conflict},
		"replace takes a reserved key":     {there, domain.MetadataPatch{change("replace", "_max_claim_count", `3`)}, changed(`{"a": 1, "b": [2], "_max_claim_count": 3}`), ""},
		"replace does not take _flavor":    {there, domain.MetadataPatch{change("replace", "_flavor", `"x"`)}, nil, domain.Conflict},
		"remove takes a key away":          {there, domain.MetadataPatch{change("remove", "a", ``)}, changed(`{"b": [2]}`), ""},
		"remove of a reserved key is fine": {there, domain.MetadataPatch{change("remove", "_dead_letter_queue", ``)}, nil, ""},
		"remove needs any other key":       {there, domain.MetadataPatch{change("remove", "c", ``)}, nil, domain.Conflict},
		"the first failure stops it all":   {there, domain.MetadataPatch{change("add", "c", `1`), change("remove", "d", ``)}, nil, domain.Conflict},
		"later operations see earlier":     {there, domain.MetadataPatch{change("add", "c", `1`), change("replace", "c", `2`), change("remove", "a", ``)}, changed(`{"b": [2], "c": 2}`), ""},
		"the result is checked":            {there, domain.MetadataPatch{change("add", "_default_message_ttl", `1`)}, nil, domain.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := queueAfter(test.given...).Change(orders, test.patch, limits)
			expect(t, events, err, test.then, test.refused)
		})
	}
}

func TestDelete(t *testing.T) {
	events, err := queueAfter(created(t, `{}`)).Delete(orders)
	expect(t, events, err, []domain.Event{deletedQueue}, "")
	events, err = queueAfter().Delete(orders)
	expect(t, events, err, nil, "")
}

func TestFilledMetadataShowsDefaults(t *testing.T) {
	got := meta(t, `{"team": "ci", "_default_message_ttl": 600, "_default_message_delay": 0, "_max_claim_count": null}`).Filled(limits)
	want := map[string]any{
		"team": "ci", "_default_message_ttl": 600.0, "_default_message_delay": 0.0, "_max_claim_count": nil,
		"_max_messages_post_size": 262144.0, "_dead_letter_queue": nil, "_dead_letter_queue_messages_ttl": nil,
		"_enable_encrypt_messages": false,
	}
	var shown map[string]any
	if err := json.Unmarshal([]byte(got.Text()), &shown); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// FuzzMetadata: what is taken comes back with the same meaning, as often as it is
// written and read.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"a": 1}`, `{"a": 1, "a": 2}`, `{"<&>": "\u0000", "é": 1e400}`, `{"a": 12345678901234567890}`,
		`[]`, `{"a":}`, `{"a":1}x`, `{"\ud800": 1}`, " {\n} ",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := domain.ParseMetadata(text)
		if err != nil {
			return
		}
		again, err := domain.ParseMetadata([]byte(m.Text()))
		if err != nil {
			t.Fatalf("%q was written as %q: %v", text, m.Text(), err)
		}
		if m.Text() != again.Text() {
			t.Fatalf("%q became %q and then %q", text, m.Text(), again.Text())
		}
		_ = m.Check(limits)
		if _, err := json.Marshal(m.Labels()); err != nil {
			t.Fatalf("labels of %q: %v", text, err)
		}
	})
}

func TestStreamsComeApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := domain.QueueID{
			Project: rapid.String().Draw(t, "project"),
			Name:    rapid.StringMatching(`[A-Za-z0-9_.-]{1,64}`).Draw(t, "name"),
		}
		if got, ok := domain.QueueOfStream(id.Stream()); !ok || got != id {
			t.Fatalf("%q came apart as %v, %v", id.Stream(), got, ok)
		}
	})
	for _, stream := range []string{"", "queue", "queue/", "task/a/b"} {
		if id, ok := domain.QueueOfStream(stream); ok {
			t.Errorf("%q is taken for queue %v", stream, id)
		}
	}
}
