package domain

import (
	"encoding/json"
	"slices"
)

// The defaults of a retry policy, in seconds.
const (
	defaultMinimumDelay = 5
	defaultMaximumDelay = 30
	// leastDelaySpan is how far minimum_delay and maximum_delay must be apart; the
	// back-off list between them would be empty otherwise.
	leastDelaySpan = 10
)

var backoffFunctions = []string{"linear", "arithmetic", "geometric", "exponential"}

// CheckRetryPolicy refuses a _retry_policy that breaks its rules: an object whose
// known members have the right types, with minimum and maximum delay at least ten
// seconds apart. Members it does not know pass.
func CheckRetryPolicy(value json.RawMessage) error {
	var policy map[string]json.RawMessage
	if json.Unmarshal(value, &policy) != nil {
		return Errorf(Invalid, "%s must be an object", RetryPolicyKey)
	}
	delay := map[string]int64{"minimum_delay": defaultMinimumDelay, "maximum_delay": defaultMaximumDelay}
	for _, key := range []string{
		"retries_with_no_delay", "minimum_delay_retries", "minimum_delay",
		"maximum_delay", "maximum_delay_retries",
	} {
		member, set := policy[key]
		if !set || isUnset(member) {
			continue
		}
		n, ok := wholeNumber(member)
		if !ok || n < 0 {
			return Errorf(Invalid, "%s: %s must be an integer of at least 0", RetryPolicyKey, key)
		}
		if _, known := delay[key]; known {
			delay[key] = n
		}
	}
	if member, set := policy["retry_backoff_function"]; set && !isUnset(member) {
		var name string
		if json.Unmarshal(member, &name) != nil || !slices.Contains(backoffFunctions, name) {
			return Errorf(Invalid, "%s: retry_backoff_function must be one of %v", RetryPolicyKey, backoffFunctions)
		}
	}
	if member, set := policy["ignore_subscription_override"]; set && !isUnset(member) && string(member) != "true" {
		return Errorf(Invalid, "%s: ignore_subscription_override must be true or false", RetryPolicyKey)
	}
	if delay["maximum_delay"]-delay["minimum_delay"] < leastDelaySpan {
		return Errorf(Invalid, "%s: maximum_delay must be at least %d more than minimum_delay", RetryPolicyKey, leastDelaySpan)
	}
	return nil
}

// isUnset tells whether a member of a retry policy counts as not given: Zaqar
// skips the type check of every falsy value.
func isUnset(value json.RawMessage) bool {
	return isFalsy(value) || string(value) == "[]" || string(value) == "{}"
}
