package domain

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// FilterPoliciesKey is the option of a subscription that says which messages it wants.
const FilterPoliciesKey = "filter_policies"

// Bounds of a filter policy. Each message is held against it.
const (
	maxFilterKeys  = 20
	maxFilterRules = 100 // of all keys together
)

// FilterPolicy selects messages by the members of their bodies: each of its keys must
// have a rule that the member of that name keeps. The zero value selects all.
type FilterPolicy struct {
	members map[string][]filterRule
}

// filterRule is what a member may be. One of its parts is set.
type filterRule struct {
	equal   json.RawMessage // a text, a number, true, false or null
	prefix  *string
	numbers *numberRange
	exists  *bool
}

// numberRange are numbers between two bounds, of which one may be absent.
type numberRange struct {
	GT  *json.Number `json:"gt"`
	GTE *json.Number `json:"gte"`
	LT  *json.Number `json:"lt"`
	LTE *json.Number `json:"lte"`
}

// ParseFilterPolicy reads the filter_policies among the options of a subscription, a JSON
// object, or refuses those that break a rule, naming the key. Options without them, and
// an empty object, select all messages.
func ParseFilterPolicy(options string) (FilterPolicy, error) {
	var known map[string]json.RawMessage
	if json.Unmarshal([]byte(options), &known) != nil {
		return FilterPolicy{}, Errorf(Malformed, "options must be an object")
	}
	value, set := known[FilterPoliciesKey]
	if !set || isNull(value) {
		return FilterPolicy{}, nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return FilterPolicy{}, Errorf(Invalid, "%s must be an object", FilterPoliciesKey)
	}
	if len(members) > maxFilterKeys {
		return FilterPolicy{}, Errorf(Invalid, "%s must not have more than %d keys", FilterPoliciesKey, maxFilterKeys)
	}
	policy := FilterPolicy{members: make(map[string][]filterRule, len(members))}
	all := 0
	for _, key := range slices.Sorted(maps.Keys(members)) {
		rules, err := parseFilterRules(key, members[key])
		if err != nil {
			return FilterPolicy{}, err
		}
		if all += len(rules); all > maxFilterRules {
			return FilterPolicy{}, Errorf(Invalid, "%s must not have more than %d rules", FilterPoliciesKey, maxFilterRules)
		}
		policy.members[key] = rules
	}
	return policy, nil
}

func parseFilterRules(key string, value json.RawMessage) ([]filterRule, error) {
	var items []json.RawMessage
	if json.Unmarshal(value, &items) != nil || len(items) == 0 {
		return nil, Errorf(Invalid, "%s: %s must be a list of at least one rule", FilterPoliciesKey, key)
	}
	rules := make([]filterRule, len(items))
	for i, item := range items {
		var err error
		if rules[i], err = parseFilterRule(key, item); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

func parseFilterRule(key string, item json.RawMessage) (filterRule, error) {
	switch item[0] {
	case '[':
		return filterRule{}, Errorf(Invalid, "%s: %s: a rule must not be a list", FilterPoliciesKey, key)
	case '{':
	default:
		return filterRule{equal: item}, nil
	}
	var rule map[string]json.RawMessage
	if json.Unmarshal(item, &rule) != nil || len(rule) != 1 {
		return filterRule{}, Errorf(Invalid, "%s: %s: a rule must have one member: prefix, range or exists", FilterPoliciesKey, key)
	}
	for name, value := range rule {
		switch name {
		case "prefix":
			var prefix string
			if value[0] != '"' || json.Unmarshal(value, &prefix) != nil || prefix == "" {
				return filterRule{}, Errorf(Invalid, "%s: %s: prefix must be a text that is not empty", FilterPoliciesKey, key)
			}
			return filterRule{prefix: &prefix}, nil
		case "range":
			numbers, err := parseNumberRange(key, value)
			return filterRule{numbers: numbers}, err
		case "exists":
			exists := string(value) == "true"
			if !exists && string(value) != "false" {
				return filterRule{}, Errorf(Invalid, "%s: %s: exists must be true or false", FilterPoliciesKey, key)
			}
			return filterRule{exists: &exists}, nil
		}
	}
	return filterRule{}, Errorf(Invalid, "%s: %s: a rule must have one member: prefix, range or exists", FilterPoliciesKey, key)
}

func parseNumberRange(key string, value json.RawMessage) (*numberRange, error) {
	var bounds map[string]json.RawMessage
	var r numberRange
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	if json.Unmarshal(value, &bounds) != nil || dec.Decode(&r) != nil {
		return nil, Errorf(Invalid, "%s: %s: range must be an object of numbers: gt or gte, lt or lte", FilterPoliciesKey, key)
	}
	for _, bound := range bounds { // a json.Number may also stand between quotes
		if bound[0] == '"' {
			return nil, Errorf(Invalid, "%s: %s: range must be an object of numbers: gt or gte, lt or lte", FilterPoliciesKey, key)
		}
	}
	low, high := r.GTE, r.LTE
	if r.GT != nil {
		low = r.GT
	}
	if r.LT != nil {
		high = r.LT
	}
	switch {
	case r.GT != nil && r.GTE != nil, r.LT != nil && r.LTE != nil, low == nil && high == nil:
		return nil, Errorf(Invalid, "%s: %s: range must have one of gt and gte, or one of lt and lte, or both", FilterPoliciesKey, key)
	case !isBound(low) || !isBound(high):
		return nil, Errorf(Invalid, "%s: %s: range must be an object of numbers: gt or gte, lt or lte", FilterPoliciesKey, key)
	case low != nil && high != nil && compareNumbers(string(*low), string(*high)) > 0:
		return nil, Errorf(Invalid, "%s: %s: the lower bound of range must not be above the upper one", FilterPoliciesKey, key)
	}
	return &r, nil
}

// Selects tells whether a message with this body, any JSON text, is wanted. A body that
// is no object has no members.
func (p FilterPolicy) Selects(body string) bool {
	if len(p.members) == 0 {
		return true
	}
	var members map[string]json.RawMessage
	_ = json.Unmarshal([]byte(body), &members) // no object: nil
	for key, rules := range p.members {
		value := members[key]
		if !slices.ContainsFunc(rules, func(r filterRule) bool { return r.keeps(value) }) {
			return false
		}
	}
	return true
}

// keeps tells whether a member keeps the rule; nil: there is none. Of a list one item
// must.
func (r filterRule) keeps(value json.RawMessage) bool {
	switch {
	case r.exists != nil:
		return *r.exists == (value != nil)
	case len(value) == 0:
		return false
	case value[0] == '[':
		var items []json.RawMessage
		_ = json.Unmarshal(value, &items) // it is a list
		return slices.ContainsFunc(items, r.keepsOne)
	}
	return r.keepsOne(value)
}

func (r filterRule) keepsOne(value json.RawMessage) bool {
	switch {
	case r.equal != nil:
		return equalScalars(r.equal, value)
	case r.prefix != nil:
		var text string
		return value[0] == '"' && json.Unmarshal(value, &text) == nil && strings.HasPrefix(text, *r.prefix)
	}
	_, err := strconv.ParseFloat(string(value), 64)
	return err == nil && isNumber(value) && r.numbers.has(string(value))
}

func (r numberRange) has(n string) bool {
	return (r.GT == nil || compareNumbers(n, string(*r.GT)) > 0) && (r.GTE == nil || compareNumbers(n, string(*r.GTE)) >= 0) &&
		(r.LT == nil || compareNumbers(n, string(*r.LT)) < 0) && (r.LTE == nil || compareNumbers(n, string(*r.LTE)) <= 0)
}

// isBound tells whether a bound of a range is absent, or a number that a float can hold.
func isBound(bound *json.Number) bool {
	if bound == nil {
		return true
	}
	_, err := bound.Float64()
	return err == nil
}

// compareNumbers compares two JSON numbers that floats can hold. Integers are compared
// exactly, others as floats.
func compareNumbers(a, b string) int {
	x, _ := strconv.ParseFloat(a, 64)
	y, _ := strconv.ParseFloat(b, 64)
	if x == y {
		m, mWhole := new(big.Int).SetString(a, 10)
		n, nWhole := new(big.Int).SetString(b, 10)
		if mWhole && nWhole {
			return m.Cmp(n)
		}
	}
	return cmp.Compare(x, y)
}

// isNumber tells a JSON number from other JSON values, and from words that ParseFloat
// takes as well.
func isNumber(value json.RawMessage) bool {
	return len(value) > 0 && (value[0] == '-' || value[0] >= '0' && value[0] <= '9')
}

// equalScalars compares two JSON values that are texts, numbers, true, false or null.
func equalScalars(a, b json.RawMessage) bool {
	if isNumber(a) && isNumber(b) {
		_, errX := strconv.ParseFloat(string(a), 64)
		_, errY := strconv.ParseFloat(string(b), 64)
		return errX == nil && errY == nil && compareNumbers(string(a), string(b)) == 0
	}
	if a[0] == '"' && b[0] == '"' {
		var x, y string
		return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && x == y
	}
	return string(a) == string(b)
}
