package domain_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"nabu/domain"
)

// delays are those of all retries, in seconds.
func delays(t testing.TB, p domain.RetryPolicy) []int {
	t.Helper()
	var all []int
	for retry := 1; ; retry++ {
		delay, more := p.Delay(retry)
		if !more {
			if len(all) != p.Retries() {
				t.Errorf("%d delays of %d retries", len(all), p.Retries())
			}
			return all
		}
		all = append(all, int(delay/time.Second))
	}
}

func TestDelays(t *testing.T) {
	tests := map[string]struct {
		policy string
		want   []int
	}{
		"the default":             {`{}`, []int{0, 0, 0, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30}},
		"a falsy value":           {`{"minimum_delay": null, "retry_backoff_function": "", "maximum_delay_retries": []}`, []int{0, 0, 0, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30}},
		"a falsy value, spaced":   {`{"minimum_delay": [ ], "retry_backoff_function": { }, "ignore_subscription_override": [  ]}`, []int{0, 0, 0, 5, 5, 5, 5, 10, 15, 20, 25, 30, 30, 30}},
		"arithmetic":              {`{"retry_backoff_function": "arithmetic"}`, []int{0, 0, 0, 5, 5, 5, 5, 7, 12, 20, 30, 30, 30, 30}},
		"geometric":               {`{"retry_backoff_function": "geometric"}`, []int{0, 0, 0, 5, 5, 5, 5, 7, 12, 19, 30, 30, 30, 30}},
		"exponential":             {`{"retry_backoff_function": "exponential"}`, []int{0, 0, 0, 5, 5, 5, 5, 7, 12, 19, 30, 30, 30, 30}},
		"back-off alone":          {`{"retries_with_no_delay": 0, "minimum_delay_retries": 0, "maximum_delay_retries": 0}`, []int{5, 10, 15, 20, 25}},
		"a span of no whole step": {`{"retries_with_no_delay": 1, "minimum_delay": 1, "minimum_delay_retries": 0, "maximum_delay": 12, "maximum_delay_retries": 1}`, []int{0, 1, 6, 11, 12}},
		"the same, growing":       {`{"retries_with_no_delay": 1, "minimum_delay": 1, "minimum_delay_retries": 0, "maximum_delay": 12, "maximum_delay_retries": 1, "retry_backoff_function": "arithmetic"}`, []int{0, 1, 12, 12}},
		"from nothing":            {`{"retries_with_no_delay": 0, "minimum_delay": 0, "minimum_delay_retries": 1, "maximum_delay": 20, "maximum_delay_retries": 0}`, []int{0, 0, 5, 10, 15}},
		"growing from nothing":    {`{"retries_with_no_delay": 0, "minimum_delay": 0, "minimum_delay_retries": 1, "maximum_delay": 20, "maximum_delay_retries": 0, "retry_backoff_function": "exponential"}`, []int{0, 1, 2, 7, 20}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, _, err := domain.ParseRetryPolicy(json.RawMessage(test.policy))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, delays(t, p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, more := domain.DefaultRetryPolicy().Delay(0); more {
		t.Error("the first attempt is a retry")
	}
}

// Whatever passes the checks can be carried out: delays grow from one phase to the next.
func TestDelaysGrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(0, 5)
		lowest := rapid.IntRange(0, 1000).Draw(t, "minimum")
		highest := lowest + rapid.IntRange(10, 1000).Draw(t, "span")
		p, given, err := domain.ParseRetryPolicy(fmt.Appendf(nil, `{"retries_with_no_delay": %d, "minimum_delay_retries": %d,
			"minimum_delay": %d, "maximum_delay": %d, "maximum_delay_retries": %d, "retry_backoff_function": %q}`,
			count.Draw(t, "no delay"), count.Draw(t, "low"), lowest, highest, count.Draw(t, "high"),
			rapid.SampledFrom([]string{"linear", "arithmetic", "geometric", "exponential"}).Draw(t, "function")))
		if err != nil || !given {
			t.Fatalf("given %v, %v", given, err)
		}
		last := time.Duration(0)
		for retry := 1; retry <= p.Retries(); retry++ {
			delay, more := p.Delay(retry)
			if !more || delay < last || delay > time.Duration(highest)*time.Second {
				t.Fatalf("retry %d after %s, after %s", retry, delay, last)
			}
			last = delay
		}
		if _, more := p.Delay(p.Retries() + 1); more {
			t.Fatal("there are more than there are")
		}
	})
}

func TestParseRetryPolicyRefuses(t *testing.T) {
	for _, policy := range []string{
		`5`, `"x"`, `[]`, `true`, `0`, `{"minimum_delay": "5"}`, `{"minimum_delay": 5.5}`, `{"maximum_delay": true}`, `{"retries_with_no_delay": -1}`,
		`{"retries_with_no_delay": 4294967296}`, `{"minimum_delay_retries": [1]}`, `{"maximum_delay_retries": {"a": 1}}`,
		`{"retry_backoff_function": "Linear"}`, `{"retry_backoff_function": " "}`, `{"retry_backoff_function": 5}`, `{"ignore_subscription_override": 1}`,
		`{"ignore_subscription_override": "true"}`, `{"minimum_delay": 21}`, `{"maximum_delay": 14}`, `{"maximum_delay": 0}`,
		`{"minimum_delay": 20, "maximum_delay": 10}`, `{"minimum_delay": 0, "maximum_delay": 9}`,
	} {
		_, _, err := domain.ParseRetryPolicy(json.RawMessage(policy))
		if refused, ok := errors.AsType[*domain.Error](err); !ok || refused.Code != domain.Invalid {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

func TestWhichRetryPolicyCounts(t *testing.T) {
	const its, queues, standard = 1, 2, 3 // immediate retries
	tests := map[string]struct {
		queue, options string
		want           int
	}{
		"neither":                              {`{}`, `{}`, standard},
		"the subscription's":                   {`{}`, `{"_retry_policy": {"retries_with_no_delay": 1}}`, its},
		"the queue's":                          {`{"_retry_policy": {"retries_with_no_delay": 2}}`, `{"a": 1}`, queues},
		"both":                                 {`{"_retry_policy": {"retries_with_no_delay": 2}}`, `{"_retry_policy": {"retries_with_no_delay": 1}}`, its},
		"an empty one of the subscription":     {`{"_retry_policy": {"retries_with_no_delay": 2}}`, `{"_retry_policy": {}}`, queues},
		"none of the subscription":             {`{"_retry_policy": {"retries_with_no_delay": 2}}`, `{"_retry_policy": null}`, queues},
		"an empty one of the queue":            {`{"_retry_policy": {}}`, `{"_retry_policy": {"retries_with_no_delay": 1}}`, its},
		"none of the queue":                    {`{"_retry_policy": null}`, `{}`, standard},
		"the queue insists":                    {`{"_retry_policy": {"retries_with_no_delay": 2, "ignore_subscription_override": true}}`, `{"_retry_policy": {"retries_with_no_delay": 1}}`, queues},
		"the subscription stands back":         {`{"_retry_policy": {"retries_with_no_delay": 2}}`, `{"_retry_policy": {"retries_with_no_delay": 1, "ignore_subscription_override": true}}`, queues},
		"it stands back behind none":           {`{}`, `{"_retry_policy": {"retries_with_no_delay": 1, "ignore_subscription_override": true}}`, standard},
		"nobody insists":                       {`{"_retry_policy": {"retries_with_no_delay": 2, "ignore_subscription_override": false}}`, `{"_retry_policy": {"retries_with_no_delay": 1}}`, its},
		"an unknown member beside another":     {`{}`, `{"_retry_policy": {"retries_with_no_delay": 1, "retries": 9}}`, its},
		"an unknown member alone":              {`{"_retry_policy": {"retries_with_no_delay": 2}}`, `{"_retry_policy": {"retries": 9}}`, standard},
		"a member of another case is no other": {`{}`, `{"_RETRY_POLICY": {"retries_with_no_delay": 1}}`, standard},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := domain.EffectiveRetryPolicy(meta(t, test.queue), test.options).RetriesWithNoDelay; got != test.want {
				t.Errorf("%d, want %d", got, test.want)
			}
		})
	}
}

// FuzzRetryPolicy: whatever a client sends, a policy comes out that can be carried out, or
// a refusal.
func FuzzRetryPolicy(f *testing.F) {
	f.Add([]byte(`{"minimum_delay": 0, "maximum_delay": 2147483647, "retry_backoff_function": "geometric"}`))
	f.Add([]byte(`{"ignore_subscription_override": true, "minimum_delay": []}`))
	f.Fuzz(func(t *testing.T, policy []byte) {
		if !json.Valid(policy) {
			return
		}
		p, _, err := domain.ParseRetryPolicy(policy)
		if err != nil {
			return
		}
		for _, retry := range []int{1, p.RetriesWithNoDelay + 1, p.Retries() / 2, p.Retries()} {
			delay, more := p.Delay(retry)
			if more && (delay < 0 || delay > time.Duration(p.MaximumDelay)*time.Second) {
				t.Fatalf("%s: retry %d after %s", policy, retry, delay)
			}
		}
	})
}
