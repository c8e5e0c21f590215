package eventstore

import (
	"slices"
	"testing"

	"github.com/lib/pq"
)

func TestTextArray(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		`{}`:                             {},
		`{a}`:                            {"a"},
		`{1,null2,"NULL"}`:               {"1", "null2", "NULL"},
		`{"{\"n\": 1}","a\\b","","c,d"}`: {`{"n": 1}`, `a\b`, "", "c,d"},
		`{"é","{}"}`:                     {"é", "{}"},
	} {
		if got, err := textArray([]byte(text)); err != nil || !slices.Equal(got, want) || got == nil {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	if got, err := textArray(nil); err != nil || got != nil {
		t.Errorf("NULL: %q, %v", got, err)
	}
	for _, text := range []string{``, `{`, `a`, `{"a}`, `{"a"b}`, `{a,}`, `{,a}`, `{NULL}`, `{{a}}`, `{"a\}`, `[1:1]={a}`} {
		if got, err := textArray([]byte(text)); err == nil {
			t.Errorf("%s is read as %q", text, got)
		}
	}
}

// FuzzTextArray: whatever lib/pq writes is read as lib/pq reads it.
func FuzzTextArray(f *testing.F) {
	f.Add("a", `{"b": [1]}`)
	f.Add("", `\"`)
	f.Fuzz(func(t *testing.T, a, b string) {
		written, err := pq.StringArray{a, b}.Value()
		if err != nil {
			t.Fatal(err)
		}
		got, err := textArray([]byte(written.(string)))
		if err != nil || !slices.Equal(got, []string{a, b}) {
			t.Errorf("%s: %q, %v", written, got, err)
		}
	})
}
