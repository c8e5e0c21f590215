package domain

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"time"
)

// RetryPolicy says how often and when a notification is sent again that could not be
// delivered. It has four phases: at once, after the minimum delay, after delays that grow
// from the minimum to the maximum, and after the maximum delay. Delays are whole seconds.
type RetryPolicy struct {
	RetriesWithNoDelay  int
	MinimumDelayRetries int
	MinimumDelay        int
	MaximumDelay        int // at least ten more than the minimum
	MaximumDelayRetries int
	Backoff             string // the function that grows: linear, arithmetic, geometric or exponential
	// IgnoreOverride: the queue's policy counts, whatever a subscription says.
	IgnoreOverride bool
}

// DefaultRetryPolicy is Zaqar's: 14 retries within some three minutes.
func DefaultRetryPolicy() RetryPolicy {
	return RetryPolicy{
		RetriesWithNoDelay: 3, MinimumDelayRetries: 3, MinimumDelay: 5,
		MaximumDelay: 30, MaximumDelayRetries: 3, Backoff: linear,
	}
}

// The functions by which delays grow. The last two are the same.
const (
	linear      = "linear"
	arithmetic  = "arithmetic"
	geometric   = "geometric"
	exponential = "exponential"
)

var backoffFunctions = []string{linear, arithmetic, geometric, exponential}

const (
	// backoffStep is how many seconds the linear delays are apart; the other functions
	// make as many delays of the same span.
	backoffStep = 5
	// leastDelaySpan is how many seconds the minimum and the maximum delay must be apart:
	// the functions need two steps.
	leastDelaySpan = 2 * backoffStep
)

// ParseRetryPolicy reads a _retry_policy, or refuses one that breaks its rules: an
// object whose known members have the right types, with minimum and maximum delay at
// least ten seconds apart. Members that are absent or empty have their defaults, and
// those that it does not know pass. given is false for an empty object, and for null: it
// counts as none.
func ParseRetryPolicy(value json.RawMessage) (p RetryPolicy, given bool, err error) {
	p = DefaultRetryPolicy()
	if isNull(value) {
		return p, false, nil
	}
	var policy map[string]json.RawMessage
	if json.Unmarshal(value, &policy) != nil {
		return p, false, Errorf(Invalid, "%s must be an object", RetryPolicyKey)
	}
	for _, member := range []struct {
		key   string
		value *int
	}{
		{"retries_with_no_delay", &p.RetriesWithNoDelay}, {"minimum_delay_retries", &p.MinimumDelayRetries},
		{"minimum_delay", &p.MinimumDelay}, {"maximum_delay", &p.MaximumDelay},
		{"maximum_delay_retries", &p.MaximumDelayRetries},
	} {
		value, set := policy[member.key]
		if !set || isEmpty(value) {
			continue
		}
		n, whole := wholeNumber(value)
		if !whole || n < 0 || n > math.MaxInt32 {
			return p, false, Errorf(Invalid, "%s: %s must be an integer between 0 and %d", RetryPolicyKey, member.key, math.MaxInt32)
		}
		*member.value = int(n)
	}
	if value, set := policy["retry_backoff_function"]; set && !isUnset(value) {
		if json.Unmarshal(value, &p.Backoff) != nil || !slices.Contains(backoffFunctions, p.Backoff) {
			return p, false, Errorf(Invalid, "%s: retry_backoff_function must be one of %v", RetryPolicyKey, backoffFunctions)
		}
	}
	if value, set := policy["ignore_subscription_override"]; set && !isUnset(value) {
		if p.IgnoreOverride = string(value) == "true"; !p.IgnoreOverride {
			return p, false, Errorf(Invalid, "%s: ignore_subscription_override must be true or false", RetryPolicyKey)
		}
	}
	if p.MaximumDelay-p.MinimumDelay < leastDelaySpan {
		return p, false, Errorf(Invalid, "%s: maximum_delay must be at least %d more than minimum_delay", RetryPolicyKey, leastDelaySpan)
	}
	return p, len(policy) > 0, nil
}

// isUnset tells whether a member of a retry policy counts as not given: Zaqar skips the
// type check of every falsy value.
func isUnset(value json.RawMessage) bool { return isFalsy(value) || isEmpty(value) }

// isEmpty tells the same of a number. 0 is one. There may be space between brackets.
func isEmpty(value json.RawMessage) bool {
	switch string(value) {
	case "null", "false", `""`:
		return true
	}
	return (value[0] == '[' || value[0] == '{') && len(bytes.TrimSpace(value[1:len(value)-1])) == 0
}

// EffectiveRetryPolicy is the policy that counts for a subscription: the queue's if
// either says so, else the subscription's own, else the queue's, else the default. What
// is stored has passed the checks; what has not counts as none.
func EffectiveRetryPolicy(queue Metadata, options string) RetryPolicy {
	its, given, err := subscriptionRetryPolicy(options)
	if err != nil {
		its, given = DefaultRetryPolicy(), false
	}
	theQueues, queueHas, err := queueRetryPolicy(queue)
	if err != nil {
		theQueues, queueHas = DefaultRetryPolicy(), false
	}
	if given && !its.IgnoreOverride && !(queueHas && theQueues.IgnoreOverride) {
		return its
	}
	return theQueues
}

func queueRetryPolicy(queue Metadata) (p RetryPolicy, given bool, err error) {
	value, set := queue.Value(RetryPolicyKey)
	if !set {
		return DefaultRetryPolicy(), false, nil
	}
	return ParseRetryPolicy(value)
}

// subscriptionRetryPolicy reads the policy in the options of a subscription, a JSON
// object.
func subscriptionRetryPolicy(options string) (p RetryPolicy, given bool, err error) {
	var known map[string]json.RawMessage
	if err := json.Unmarshal([]byte(options), &known); err != nil {
		return p, false, Errorf(Malformed, "options must be an object")
	}
	value, set := known[RetryPolicyKey]
	if !set {
		return DefaultRetryPolicy(), false, nil
	}
	return ParseRetryPolicy(value)
}

// Retries is how many there are at most, after the first attempt.
func (p RetryPolicy) Retries() int {
	return p.RetriesWithNoDelay + p.MinimumDelayRetries + p.backoffs() + p.MaximumDelayRetries
}

// Delay is how long to wait before a retry, counted from 1, after the attempt before it.
// ok is false when there are no more retries.
func (p RetryPolicy) Delay(retry int) (delay time.Duration, ok bool) {
	n, i := 0, retry-1 // n seconds
	backoff := p.RetriesWithNoDelay + p.MinimumDelayRetries
	switch {
	case i < 0 || i >= p.Retries():
		return 0, false
	case i < p.RetriesWithNoDelay:
	case i < backoff:
		n = p.MinimumDelay
	case i < backoff+p.backoffs():
		n = p.backoff(i - backoff)
	default:
		n = p.MaximumDelay
	}
	return seconds(n), true
}

// backoffs is how many delays lie between minimum and maximum. The linear ones end below
// the maximum, so a span that is no multiple of the step has one more of them.
func (p RetryPolicy) backoffs() int {
	span := p.MaximumDelay - p.MinimumDelay
	if p.Backoff == linear {
		return (span + backoffStep - 1) / backoffStep
	}
	return span / backoffStep
}

// backoff is the growing delay with this index, in seconds.
func (p RetryPolicy) backoff(i int) int {
	lowest, highest, n, x := float64(p.MinimumDelay), float64(p.MaximumDelay), float64(p.backoffs()), float64(i)
	switch p.Backoff {
	case linear:
		return p.MinimumDelay + backoffStep*i
	case arithmetic:
		return int(lowest + x*(x+1)*(highest-lowest)/(n*(n-1)) + rounding)
	}
	lowest = max(lowest, 1) // nothing grows out of 0
	return int(lowest*math.Pow(highest/lowest, x/(n-1)) + rounding)
}

// rounding keeps whole seconds whole that floating point has just below.
const rounding = 1e-6
