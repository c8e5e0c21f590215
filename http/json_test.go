package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"nabu/domain"
)

func TestParseJSON(t *testing.T) {
	good := []string{
		`{}`, `[]`, " [ 1 ]\n", `{"a": 9223372036854775807}`, `[-9223372036854775808]`,
		`[12345678901234567890.0, 1234567890123456789012e1, 1E400]`,
		`["12345678901234567890", "\\12345678901234567890", "\"12345678901234567890"]`,
		`{"12345678901234567890": "\ud800 \u0000"}`, `[-0, 0.1, true, false, null]`,
	}
	for _, text := range good {
		if _, err := parseJSON([]byte(text)); err != nil {
			t.Errorf("%s is refused: %v", text, err)
		}
	}
	bad := []string{
		``, ` `, `1`, `"a"`, `null`, `{`, `{} {}`, `[1,]`, `{"a" 1}`, "[\"\xff\"]", "\xef\xbb\xbf[]", `[NaN]`, `[01]`,
		`[9223372036854775808]`, `[-9223372036854775809]`, `{"a": {"b": [1, 12345678901234567890]}}`,
		`["12345678901234567890\"", 12345678901234567890]`, `["\\", 12345678901234567890]`, "[\"\x00\"]", "[\"\n\"]",
	}
	for _, text := range bad {
		_, err := parseJSON([]byte(text))
		if refusal, ok := errors.AsType[*domain.Error](err); !ok || refusal.Code != domain.Malformed {
			t.Errorf("%q is not refused as malformed but: %v", text, err)
		}
	}
	nested := func(deep int) string { return strings.Repeat("[", deep) + strings.Repeat("]", deep) }
	for text, want := range map[string]string{
		nested(10000): "", nested(10001): "the body must not be nested more than 10000 deep",
		" \n": "the body must not be empty", `[`: "the body must be valid JSON", nested(10000) + "x": "the body must be valid JSON",
	} {
		_, err := parseJSON([]byte(text))
		if refusal, _ := errors.AsType[*domain.Error](err); refusal != nil && refusal.Message != want || (err == nil) != (want == "") {
			t.Errorf("%.10q...: %v, want %q", text, err, want)
		}
	}
}

// FuzzParseJSON compares with encoding/json what is taken, and what its parts are.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a": 1, "b": [true, null, {"c": "d\\"}], "a": "\u00e9\"]}"}`, `[[[]], {}, "", "\\\"", -1.5e3]`, ` {"a" : [ ] , "b":{ } } `,
		`[9223372036854775807, 9223372036854775808]`, `["9223372036854775808"]`, `{"\ud800": 1}`, `{"":""}`, `[1 ,2]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		text, err := parseJSON(body)
		if want := acceptable(body); (err == nil) != want {
			t.Fatalf("%q: refused with %v, acceptable is %v", body, err, want)
		}
		if err == nil {
			compareParts(t, text)
		}
	})
}

// acceptable is what parseJSON is to take, told by encoding/json alone.
func acceptable(body []byte) bool {
	if !utf8.Valid(body) || !json.Valid(body) {
		return false
	}
	if first := bytes.TrimSpace(body)[0]; first != '{' && first != '[' {
		return false
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			return false
		}
		if number, ok := token.(json.Number); ok && !strings.ContainsAny(number.String(), ".eE") {
			n, _ := new(big.Int).SetString(number.String(), 10)
			if !n.IsInt64() {
				return false
			}
		}
	}
}

func compareParts(t *testing.T, text string) {
	t.Helper()
	if isArray(text) {
		var want []json.RawMessage
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		i := 0
		for value := range elements(text) {
			if i >= len(want) || value != string(want[i]) {
				t.Fatalf("element %d of %q is taken for %q", i, text, value)
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("%q has %d elements, not %d", text, len(want), i)
		}
		return
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	got := map[string]json.RawMessage{}
	for name, value := range members(text) {
		got[name] = json.RawMessage(value)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%q (-encoding/json +ours):\n%s", text, diff)
	}
}

func TestDecodePost(t *testing.T) {
	tests := map[string]struct {
		body    string
		then    []domain.NewMessage
		refused domain.Code
	}{
		"one message":                   {`{"messages": [{"ttl": 60, "body": {"a": 1}}]}`, []domain.NewMessage{{TTL: 60, Body: `{"a": 1}`}}, ""},
		"a body is kept as sent":        {`{"messages":[{"body": { "b" : "\u00e9\ud800<&>" , "b":1e400} }]}`, []domain.NewMessage{{Body: `{ "b" : "\u00e9\ud800<&>" , "b":1e400}`}}, ""},
		"falsy bodies are bodies":       {`{"messages": [{"body": null}, {"body": 0}, {"body": ""}, {"body": []}]}`, []domain.NewMessage{{Body: `null`}, {Body: `0`}, {Body: `""`}, {Body: `[]`}}, ""},
		"a delay is left for later":     {`{"messages": [{"body": 1, "delay": "soon"}]}`, []domain.NewMessage{{Body: `1`, Delay: json.RawMessage(`"soon"`)}}, ""},
		"unknown members are ignored":   {`{"a": 1, "messages": [{"body": 1, "b": {"body": 2}}], "c": []}`, []domain.NewMessage{{Body: `1`}}, ""},
		"the last of two members wins":  {`{"messages": 5, "messages": [{"body": 1, "body": 2}]}`, []domain.NewMessage{{Body: `2`}}, ""},
		"an escaped name is the name":   {`{"mess\u0061ges": [{"body": 1}]}`, []domain.NewMessage{{Body: `1`}}, ""},
		"names have their case":         {`{"Messages": [{"body": 1}]}`, nil, domain.Invalid},
		"TTL is not ttl":                {`{"messages": [{"body": 1, "TTL": 1}]}`, []domain.NewMessage{{Body: `1`}}, ""},
		"Body is not body":              {`{"messages": [{"Body": 1}]}`, nil, domain.Malformed},
		"no messages":                   {`{}`, nil, domain.Invalid},
		"an empty list":                 {`{"messages": []}`, nil, domain.Invalid},
		"a bare list":                   {`[{"body": 1}]`, nil, domain.Invalid},
		"messages that are no list":     {`{"messages": {"body": 1}}`, nil, domain.Malformed},
		"messages that are null":        {`{"messages": null}`, nil, domain.Malformed},
		"a message that is no object":   {`{"messages": [1]}`, nil, domain.Malformed},
		"a message without a body":      {`{"messages": [{"ttl": 60}]}`, nil, domain.Malformed},
		"a ttl that is too low":         {`{"messages": [{"body": 1, "ttl": 59}]}`, nil, domain.Invalid},
		"a ttl that is too high":        {`{"messages": [{"body": 1, "ttl": 1209601}]}`, nil, domain.Invalid},
		"a ttl of nothing":              {`{"messages": [{"body": 1, "ttl": 0}]}`, nil, domain.Invalid},
		"a ttl that is a text":          {`{"messages": [{"body": 1, "ttl": "60"}]}`, nil, domain.Malformed},
		"a ttl that is a float":         {`{"messages": [{"body": 1, "ttl": 60.0}]}`, nil, domain.Malformed},
		"a ttl that is true":            {`{"messages": [{"body": 1, "ttl": true}]}`, nil, domain.Malformed},
		"a ttl that is null":            {`{"messages": [{"body": 1, "ttl": null}]}`, nil, domain.Malformed},
		"an integer too long in a body": {`{"messages": [{"body": [9223372036854775808]}]}`, nil, domain.Malformed},
		"nothing at all":                {``, nil, domain.Malformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := DecodePost([]byte(test.body), domain.DefaultLimits())
			var code domain.Code
			if refusal, ok := errors.AsType[*domain.Error](err); ok {
				code = refusal.Code
			}
			if code != test.refused {
				t.Fatalf("refused with %q (%v), want %q", code, err, test.refused)
			}
			if code == "" {
				if diff := cmp.Diff(test.then, got); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestReadBody(t *testing.T) {
	const limit = 10
	for length := range limit + 3 {
		for _, known := range []bool{true, false} {
			sent := strings.Repeat("x", length)
			r, err := http.NewRequest("POST", "/", strings.NewReader(sent))
			if err != nil {
				t.Fatal(err)
			}
			if !known { // as of a chunked request
				r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader(sent))
			}
			if length == 0 {
				r.Body = http.NoBody
			}
			var buffer []byte
			got, err := readBody(r, limit, &buffer)
			if length > limit {
				if refusal, ok := errors.AsType[*domain.Error](err); !ok || refusal.Code != domain.Invalid {
					t.Errorf("%d bytes (length known: %v) are not refused but: %v", length, known, err)
				}
			} else if err != nil || string(got) != sent {
				t.Errorf("%d bytes (length known: %v) are read as %q, %v", length, known, got, err)
			}
		}
	}
}

func BenchmarkDecodePost(b *testing.B) {
	body := []byte(`{"messages": [{"ttl": 300, "body": {"event": "compiled", "text": ` + strconv.Quote(strings.Repeat("x", 200)) + `}}]}`)
	limits := domain.DefaultLimits()
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := DecodePost(body, limits); err != nil {
			b.Fatal(err)
		}
	}
}

// Who announces a large body and does not send it gets no room for it.
func TestAnnouncedBodiesTakeNoRoom(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader("{"))
	r.ContentLength = 2 << 20
	var buffer []byte
	if body, err := readBody(r, 2<<20, &buffer); err != nil || string(body) != "{" {
		t.Errorf("%q %v", body, err)
	}
	if cap(buffer) > 2*maxTrusted {
		t.Errorf("it takes %d bytes", cap(buffer))
	}
}

// TestAMessageDoesNotHoldItsRequest: a body that is remembered for a claim is no part of the text
// that it came in, which would stay as well.
func TestAMessageDoesNotHoldItsRequest(t *testing.T) {
	t.Parallel()
	list := `[{"body": "hello", "junk": "` + strings.Repeat("x", 1000) + `"}]`
	messages, err := decodeMessages(list, domain.DefaultLimits())
	if err != nil || messages[0].Body != `"hello"` {
		t.Fatalf("%v, %v", messages, err)
	}
	for i := range list {
		if unsafe.StringData(messages[0].Body) == unsafe.StringData(list[i:]) {
			t.Errorf("the body is the part of the request from %d on", i)
		}
	}
}
