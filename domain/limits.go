package domain

import "fmt"

// Bounds that are constants of the Messaging API; the maxima that operators may
// set are in Limits. Times are whole seconds.
const (
	MinMessageTTL      = 60
	MinMessageDelay    = 0
	MinDeadLetterTTL   = 60
	MinClaimTTL        = 60
	MinClaimGrace      = 60
	MinSubscriptionTTL = 60
	MaxQueueName       = 64
	MaxProject         = 256
	MaxPostedMessages  = 1 << placeIndexBits // messages of one POST
)

// Limits are the defaults and maxima of the Messaging API that an operator may
// set. Names and defaults are Zaqar's; times are whole seconds, sizes are bytes.
type Limits struct {
	DefaultMessageTTL   int // ttl of a message posted without one
	MaxMessageTTL       int
	DefaultMessageDelay int // delay of messages in a queue that sets none
	MaxMessageDelay     int
	// DelayOnAnyQueue: a message's own delay counts in every queue, not in delayed ones only.
	DelayOnAnyQueue     bool
	MaxMessagesPostSize int // the whole body of a POST of messages
	MaxQueueMetadata    int // the whole body of a queue's PUT or PATCH
	MaxQueuesPerPage    int
	MaxMessagesPerPage  int // also the number of ids in one call

	MaxMessagesPerClaimOrPop int
	DefaultClaimTTL          int
	MaxClaimTTL              int
	DefaultClaimGrace        int
	MaxClaimGrace            int

	DefaultSubscriptionTTL  int // ttl of a subscription made without one
	MaxSubscriptionsPerPage int
	MaxSignedURLLife        int // 0: a signed URL may last as long as its maker says
	MaxWait                 int // how long a claim or a listing may wait for messages

	// Encryption: there is a key to encrypt messages with, so queues may ask for it.
	Encryption bool
}

// DefaultLimits are Zaqar's.
func DefaultLimits() Limits {
	return Limits{
		DefaultMessageTTL:   3600,
		MaxMessageTTL:       1209600,
		DefaultMessageDelay: 0,
		MaxMessageDelay:     900,
		MaxMessagesPostSize: 262144,
		MaxQueueMetadata:    65536,
		MaxQueuesPerPage:    20,
		MaxMessagesPerPage:  20,

		MaxMessagesPerClaimOrPop: 20,
		DefaultClaimTTL:          300,
		MaxClaimTTL:              43200,
		DefaultClaimGrace:        60,
		MaxClaimGrace:            43200,

		DefaultSubscriptionTTL:  3600,
		MaxSubscriptionsPerPage: 20,
		MaxWait:                 20,
	}
}

// Check tells which limit contradicts a bound, by its name in the configuration.
func (l Limits) Check() error {
	for _, bound := range []struct {
		name            string
		value, min, max int
		by              string // the setting that max is; empty: it is fixed
	}{
		{"max_message_ttl", l.MaxMessageTTL, MinMessageTTL, 50 * 365 * 86400, ""}, // fits 31 bits
		{"default_message_ttl", l.DefaultMessageTTL, MinMessageTTL, l.MaxMessageTTL, "max_message_ttl"},
		{"max_message_delay", l.MaxMessageDelay, MinMessageDelay, 365 * 86400, ""},
		{"default_message_delay", l.DefaultMessageDelay, MinMessageDelay, l.MaxMessageDelay, "max_message_delay"},
		{"max_messages_post_size", l.MaxMessagesPostSize, 1, 2 << 20, ""},
		{"max_queue_metadata", l.MaxQueueMetadata, 0, 1 << 20, ""},
		{"max_queues_per_page", l.MaxQueuesPerPage, 1, 1000, ""},
		{"max_messages_per_page", l.MaxMessagesPerPage, 1, 1000, ""},
		{"max_messages_per_claim_or_pop", l.MaxMessagesPerClaimOrPop, 1, 1000, ""},
		{"max_claim_ttl", l.MaxClaimTTL, MinClaimTTL, 365 * 86400, ""},
		{"default_claim_ttl", l.DefaultClaimTTL, MinClaimTTL, l.MaxClaimTTL, "max_claim_ttl"},
		{"max_claim_grace", l.MaxClaimGrace, MinClaimGrace, 365 * 86400, ""},
		{"max_wait", l.MaxWait, 0, 300, ""},
		{"max_signed_url_life", l.MaxSignedURLLife, 0, 50 * 365 * 86400, ""},
		{"default_claim_grace", l.DefaultClaimGrace, MinClaimGrace, l.MaxClaimGrace, "max_claim_grace"},
		{"default_subscription_ttl", l.DefaultSubscriptionTTL, MinSubscriptionTTL, 50 * 365 * 86400, ""},
		{"max_subscriptions_per_page", l.MaxSubscriptionsPerPage, 1, 1000, ""},
	} {
		if bound.value < bound.min || bound.value > bound.max {
			return fmt.Errorf("%s must be between %d and %d%s, not %d", bound.name, bound.min, bound.max, within(bound.by), bound.value)
		}
	}
	return nil
}

// within names the setting that a bound is, if it is one.
func within(setting string) string {
	if setting == "" {
		return ""
	}
	return " (" + setting + ")"
}
