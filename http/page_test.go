package http

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseQuery(t *testing.T) {
	tests := map[string]query{
		"":                       nil,
		"&&=&a&b=&c==":           {{"c", "="}},
		"a=1&b=x+y%20z&a=%C3%BC": {{"a", "1"}, {"b", "x y z"}, {"a", "ü"}},
		"a=%":                    {{"a", "%"}},
		"a=%z1&b=%4":             {{"a", "%z1"}, {"b", "%4"}},
		"a=%+1":                  {{"a", "% 1"}},
		"a;b=c;d":                {{"a;b", "c;d"}},
		"=x":                     {{"", "x"}},
		"a=%00":                  {{"a", "\x00"}},
		"a=%ff&\xff=%C3":         {{"a", "\ufffd"}, {"\ufffd", "\ufffd"}},
	}
	for raw, want := range tests {
		if diff := cmp.Diff(want, parseQuery(raw), cmp.AllowUnexported(parameter{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
	}
}

// readableAll tells whether all is UTF-8.
func readableAll(values url.Values) bool {
	for name, its := range values {
		if !utf8.ValidString(name + strings.Join(its, "")) {
			return false
		}
	}
	return true
}

// FuzzQuery: what net/url understands is understood the same way, and what a link
// says is read back.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "a=1&b=2", "a=%C3%BC&a=+", "a=%zz&b=%", "a;b=c", "a=%00", "ids=1,2&ids=3", "=&&=x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := parseQuery(raw)
		link, values := newLink("/"), url.Values{}
		for _, p := range got {
			if p.value == "" || !utf8.ValidString(p.name+p.value) {
				t.Fatalf("%q is read as %v", raw, got)
			}
			link.add(p.name, p.value)
			values.Add(p.name, p.value)
		}
		_, written, _ := strings.Cut(string(link.href), "?")
		if diff := cmp.Diff(got, parseQuery(written), cmp.AllowUnexported(parameter{})); diff != "" {
			t.Fatalf("%q was written as %q (-want +got):\n%s", raw, written, diff)
		}
		if want, err := url.ParseQuery(raw); err == nil && readableAll(want) {
			for name, its := range want {
				want[name] = nil
				for _, value := range its {
					if value != "" {
						want[name] = append(want[name], value)
					}
				}
				if want[name] == nil {
					delete(want, name)
				}
			}
			if diff := cmp.Diff(want, values); diff != "" {
				t.Fatalf("%q (-net/url +ours):\n%s", raw, diff)
			}
		}
	})
}

func FuzzMarker(f *testing.F) {
	for _, seed := range []string{"", "0", "1", "-1", "+1", "9223372036854775807", "9223372036854775808", "00000000-0004-8000-916a-741ef947a175", "１"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, marker string) {
		if marker == "" {
			return // counts as absent
		}
		if place, _, resolved := parseMarker(marker); resolved && place < 0 {
			t.Fatalf("%q leads to %d", marker, place)
		}
	})
}

// FuzzPatch: no body makes a key that cannot be named, and the operations are those
// there are.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{"op": "add", "path": "/metadata/a", "value": 1}]`, `[{"op": "remove", "path": "/x/~1~0"}]`, `[{"op": "replace", "path": "/metadata/\ud800", "value": {"a": "]"}}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		patch, err := decodePatch(body)
		if err != nil {
			return
		}
		for _, change := range patch {
			if change.Key == "" || !utf8.ValidString(change.Key) || (change.Op == "remove") != (change.Value == nil) {
				t.Fatalf("%q is read as %v", body, patch)
			}
		}
	})
}

func FuzzClientID(f *testing.F) {
	for _, seed := range []string{ours, strings.ToUpper(ours), strings.ReplaceAll(ours, "-", ""), "{" + ours + "}", "urn:uuid:" + ours, "", "me", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		id, valid := clientID(sent, false)
		if valid && !isPlainUUID(id) {
			t.Fatalf("%q became %q", sent, id)
		}
		if relaxed, _ := clientID(sent, true); valid && relaxed != id {
			t.Fatalf("%q became %q, and %q where any text will do", sent, id, relaxed)
		}
	})
}
