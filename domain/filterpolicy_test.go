package domain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"nabu/domain"
)

func filters(policy string) string { return `{"filter_policies": ` + policy + `}` }

func TestFilterPoliciesSelect(t *testing.T) {
	const body = `{"severity": "high", "host": "web-1", "load": 1.5, "n": 9007199254740993, "big": 18446744073709551615, "up": true, "gone": null, "tags": ["a", "b", 7], "deep": {"x": 1}}`
	for policy, want := range map[string]bool{
		`{}`: true, `null`: true,
		`{"severity": ["high"]}`: true, `{"severity": ["low"]}`: false, `{"severity": ["low", "high"]}`: true,
		`{"severity": ["\u0068igh"]}`: true, `{"severity": [{"prefix": "hi"}]}`: true, `{"severity": [{"prefix": "high!"}]}`: false,
		`{"host": [{"prefix": "web-"}], "severity": ["high"]}`: true, `{"host": [{"prefix": "web-"}], "severity": ["low"]}`: false,
		`{"load": [1.5]}`: true, `{"load": [15e-1]}`: true, `{"load": ["1.5"]}`: false,
		`{"load": [{"range": {"gte": 1.5}}]}`: true, `{"load": [{"range": {"gt": 1.5}}]}`: false, `{"load": [{"range": {"gt": 1, "lt": 2}}]}`: true,
		`{"load": [{"range": {"lte": 1.5}}]}`: true, `{"load": [{"range": {"lt": 1.5}}]}`: false, `{"severity": [{"range": {"gt": 0}}]}`: false,
		`{"n": [9007199254740993]}`: true, `{"n": [9007199254740992]}`: false,
		`{"n": [{"range": {"gt": 9007199254740992}}]}`: true, `{"n": [{"range": {"lte": 9007199254740992}}]}`: false,
		`{"n": [{"range": {"lt": 9007199254740994, "gte": 9007199254740993}}]}`: true, `{"n": [9007199254740993.0]}`: true,
		`{"big": [18446744073709551615]}`: true, `{"big": [18446744073709551614]}`: false, `{"big": [-18446744073709551615]}`: false,
		`{"up": [true]}`: true, `{"up": [false]}`: false, `{"gone": [null]}`: true, `{"absent": [null]}`: false,
		`{"gone": [{"exists": true}]}`: true, `{"absent": [{"exists": true}]}`: false, `{"absent": [{"exists": false}]}`: true,
		`{"absent": ["x", {"exists": false}]}`: true,
		`{"tags": ["b"]}`:                      true, `{"tags": ["c"]}`: false, `{"tags": [{"range": {"gt": 6}}]}`: true,
		`{"deep": [{"exists": true}]}`: true, `{"deep": ["x"]}`: false,
	} {
		p, err := domain.ParseFilterPolicy(filters(policy))
		if err != nil || p.Selects(body) != want {
			t.Errorf("%s: %v, %v", policy, !want, err)
		}
	}
	for _, body := range []string{`1`, `"text"`, `null`, `[]`, `[{"severity": "high"}]`} {
		wants, _ := domain.ParseFilterPolicy(filters(`{"severity": ["high"]}`))
		absent, _ := domain.ParseFilterPolicy(filters(`{"severity": [{"exists": false}]}`))
		if wants.Selects(body) || !absent.Selects(body) {
			t.Errorf("%s has members", body)
		}
	}
}

// members is a policy with so many keys.
func members(n int) string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf(`"k%d": [1]`, i)
	}
	return `{` + strings.Join(keys, ", ") + `}`
}

func TestFilterPoliciesThatBreakARule(t *testing.T) {
	for policy, names := range map[string]string{
		`1`: "filter_policies", `[]`: "filter_policies", `{"k": "x"}`: "k", `{"k": []}`: "k", `{"k": [[1]]}`: "k", `{"k": [{}]}`: "k",
		`{"k": [{"suffix": "x"}]}`: "k", `{"k": [{"prefix": "x", "exists": true}]}`: "k", `{"k": [{"prefix": ""}]}`: "prefix", `{"k": [{"prefix": 1}]}`: "prefix",
		`{"k": [{"exists": "yes"}]}`: "exists", `{"k": [{"range": {}}]}`: "range", `{"k": [{"range": {"gt": "1"}}]}`: "range", `{"k": [{"range": [1, 2]}]}`: "range",
		`{"k": [{"range": {"gt": 1, "gte": 1}}]}`: "range", `{"k": [{"range": {"above": 1}}]}`: "range", `{"k": [{"range": {"gt": 2, "lt": 1}}]}`: "range",
		`{"k": [` + strings.Repeat("1,", 100) + `1]}`: "100", members(21): "20", `{"k": [{"range": {"gt": 1e999}}]}`: "range", `{"k": [{"prefix": null}]}`: "prefix", `{"k": [{"range": null}]}`: "range",
	} {
		_, err := domain.ParseFilterPolicy(filters(policy))
		if refused, ok := errors.AsType[*domain.Error](err); !ok || refused.Code != domain.Invalid || !strings.Contains(refused.Message, names) {
			t.Errorf("%s: %v", policy, err)
		}
	}
	if _, err := domain.ParseFilterPolicy(filters(members(20))); err != nil {
		t.Errorf("as many keys as there may be: %v", err)
	}
}

// TestAMessageKeepsTheRulesMadeOfIt: a policy made of a body's own members selects it, and
// does not when one of them is another.
func TestAMessageKeepsTheRulesMadeOfIt(t *testing.T) {
	scalar := rapid.OneOf(
		rapid.String().AsAny(), rapid.Int64().AsAny(), rapid.Float64().AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil))
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.MapOfN(rapid.StringN(0, 8, -1), scalar, 1, 5).Draw(t, "body")
		policy := map[string][]any{}
		for key, value := range body {
			policy[key] = []any{value}
		}
		text, _ := json.Marshal(body)
		rules, _ := json.Marshal(policy)
		p, err := domain.ParseFilterPolicy(filters(string(rules)))
		if err != nil || !p.Selects(string(text)) {
			t.Fatalf("%s does not select %s: %v", rules, text, err)
		}
		key := rapid.SampledFrom(func() (keys []string) {
			for key := range body {
				keys = append(keys, key)
			}
			return keys
		}()).Draw(t, "key")
		body[key] = map[string]any{}
		other, _ := json.Marshal(body)
		if p.Selects(string(other)) {
			t.Fatalf("%s selects %s", rules, other)
		}
	})
}

// FuzzFilterPolicies: whatever is asked for and posted, there is an answer.
func FuzzFilterPolicies(f *testing.F) {
	f.Add(`{"k": [1, "x", null, {"prefix": "a"}, {"range": {"gt": 1}}, {"exists": false}]}`, `{"k": [1]}`)
	f.Fuzz(func(t *testing.T, policy, body string) {
		p, err := domain.ParseFilterPolicy(filters(policy))
		if err != nil {
			return
		}
		p.Selects(body)
	})
}
