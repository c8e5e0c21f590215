package http

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"
)

// FuzzAction takes frames through everything but the network. None is answered as nabu's
// own failure, and what is refused changes nothing.
func FuzzAction(f *testing.F) {
	headers := `"headers": {` + oursAndP1 + `}`
	for _, seed := range []string{
		`{"action": "queue_create", ` + headers + `, "body": {"queue_name": "q", "metadata": {"a": 1, "_default_message_delay": 5}}}`,
		`{"action": "queue_list", ` + headers + `, "body": {"marker": "\u0000", "limit": 3, "detailed": true}}`,
		`{"action": "queue_purge", ` + headers + `, "body": {"queue_name": "q", "resource_types": ["messages"]}}`,
		`{"action": "message_post", ` + headers + `, "body": {"queue_name": "q", "messages": [{"body": "\ud800\u0000", "ttl": 60}, {"body": 1e999}]}}`,
		`{"action": "message_list", ` + headers + `, "body": {"queue_name": "q", "marker": "9223372036854775807", "echo": true}}`,
		`{"action": "message_get_many", ` + headers + `, "body": {"queue_name": "q", "message_ids": ["a", "00000000-0004-8000-916a-741ef947a175"]}}`,
		`{"action": "message_delete_many", ` + headers + `, "body": {"queue_name": "q", "pop": 3}}`,
		`{"action": "claim_create", ` + headers + `, "body": {"queue_name": "q", "ttl": null, "grace": 60, "limit": 1}}`,
		`{"action": "claim_update", ` + headers + `, "body": {"queue_name": "q", "claim_id": "00000000-0004-8000-916a-741ef947a175", "ttl": 70}}`,
		`{"action": "subscription_create", ` + headers + `, "body": {"queue_name": "q", "ttl": 9223372036854775807}}`,
		`{"action": "subscription_create", ` + headers + `, "body": {"queue_name": "q", "subscriber": "http://\u0000", "options": {"_retry_policy": {}}}}`,
		`{"action": "authenticate", "headers": {"X-Project-ID": "p\u00ff", "X-Auth-Token": ""}}`,
		`{"action": "message_post", "headers": {` + oursAndP1 + `, "URL-Signature": "a", "URL-Expires": "2036-03-02T10:00:00", "URL-Methods": ["POST"], "URL-Paths": ["/v2"], "X-User-Id": "\u0007"}, "body": {"queue_name": "q", "messages": []}}`,
	} {
		f.Add(false, []byte(seed))
		f.Add(true, appendMessagePack(nil, seed))
	}
	a := newAPI(f)
	a.server.WebSockets.Max = 1
	f.Fuzz(func(t *testing.T, binary bool, data []byte) {
		a.TB = t
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newSocket(a.server, httptest.NewRequestWithContext(ctx, "GET", "/v2", nil))
		defer w.cancel()
		o := &order{socket: w, frame: undecoded(binary), id: newRequestID()}
		err := recovering(o.handle, data)
		if err != nil {
			o.refuse(err)
		}
		answered := string(o.appendAnswer(nil, o.status, o.out, o.replayed))
		if o.status >= 500 || o.status < 200 {
			t.Fatalf("%q: %s\n%s", data, answered, a.log)
		}
		decoded(t, answered)
		if _, err := msgp.UnmarshalAsJSON(&bytes.Buffer{}, appendMessagePack(nil, answered)); err != nil {
			t.Fatalf("%s: %v", answered, err)
		}
		if events := a.history(); err != nil && len(events) > 0 {
			t.Fatalf("refused with %s and recorded %v", answered, events)
		}
	})
}

// FuzzMessagePack: what JSON says is the same after a way through MessagePack.
func FuzzMessagePack(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[[], {}, [[]], {"": [null, true, false]}]`, `{"a": 1, "a": [2, -3]}`, ` [ 1 , 2.50, 1e5, -0, -0.0, 1E-400 ] `,
		`["\ud800", "\u0000\"\\\n", "ü", ""]`, `[9223372036854775807, -9223372036854775808, 255, 256, 65536, -129]`,
		`["` + strings.Repeat("a", 300) + `", "` + strings.Repeat("b", 70_000) + `"]`, "[" + strings.Repeat("1,", 70_000) + "1]",
		strings.Repeat("[", 50) + strings.Repeat("]", 50),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		valid, err := parseJSON(text)
		if err != nil {
			return
		}
		packed := appendMessagePack(nil, valid)
		back, err := jsonOf(packed)
		want := floats(decoded(t, valid))
		if err != nil {
			if strings.ContainsAny(valid, "eE.0123456789") && holdsInfinity(want) {
				return
			}
			t.Fatalf("%q: %x: %v", valid, packed, err)
		}
		if _, err := parseJSON(back); err != nil {
			t.Fatalf("%q became %q: %v", valid, back, err)
		}
		if !reflect.DeepEqual(want, floats(decoded(t, string(back)))) { // cmp takes for ever where much is nested
			t.Fatalf("%q became %q", valid, back)
		}
		if again := appendMessagePack(nil, string(back)); !bytes.Equal(again, packed) {
			t.Fatalf("%q became %x and then %x", valid, packed, again)
		}
	})
}

// floats are numbers with a fraction or an exponent as MessagePack has them.
func floats(value any) any {
	switch its := value.(type) {
	case json.Number:
		if _, err := its.Int64(); err == nil {
			n, _ := its.Int64()
			return n
		}
		f, _ := its.Float64()
		return f
	case []any:
		for i := range its {
			its[i] = floats(its[i])
		}
	case map[string]any:
		for name := range its {
			its[name] = floats(its[name])
		}
	}
	return value
}

func holdsInfinity(value any) bool {
	switch its := value.(type) {
	case float64:
		return math.IsInf(its, 0)
	case []any:
		for _, item := range its {
			if holdsInfinity(item) {
				return true
			}
		}
	case map[string]any:
		for _, item := range its {
			if holdsInfinity(item) {
				return true
			}
		}
	}
	return false
}

// TestDeepMessagePack: what is nested as deeply as JSON may be costs no more than its length.
func TestDeepMessagePack(t *testing.T) {
	t.Parallel()
	const deep = 9999
	text := strings.Repeat(`{"a":[`, deep/2) + strings.Repeat("]}", deep/2)
	packed := appendMessagePack(nil, text)
	back, err := jsonOf(packed)
	if err != nil || string(back) != text {
		t.Fatal(err)
	}
	if _, err := jsonOf(bytes.Repeat([]byte{0x91}, maxDepth+2)); err == nil {
		t.Error("lists may be nested without bounds")
	}
}
