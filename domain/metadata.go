package domain

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Metadata is a queue's metadata: a flat JSON object whose values stay as the
// client wrote them. The order is the client's; a repeated key keeps its last
// value.
type Metadata []Member

// Member is one key of a queue's metadata and its value, a JSON text.
type Member struct {
	Key   string
	Value json.RawMessage
}

// ParseMetadata reads a JSON object. An empty text is an empty object.
func ParseMetadata(text []byte) (Metadata, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, Errorf(Malformed, "queue metadata must be a JSON object")
	}
	var m Metadata
	at := map[string]int{}
	named := sync.OnceValue(func() bool { return namesRuneError(text) })
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, Errorf(Malformed, "queue metadata is not valid JSON")
		}
		key := token.(string) // inside an object the decoder yields keys as strings
		if strings.ContainsRune(key, utf8.RuneError) && !named() {
			return nil, Errorf(Malformed, "a key of the queue metadata has half of a surrogate pair")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, Errorf(Malformed, "queue metadata is not valid JSON")
		}
		if i, known := at[key]; known {
			m[i].Value = value
			continue
		}
		at[key] = len(m)
		m = append(m, Member{key, value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, Errorf(Malformed, "queue metadata is not valid JSON")
	}
	if dec.More() {
		return nil, Errorf(Malformed, "queue metadata has text after its end")
	}
	return m, nil
}

// namesRuneError tells whether a JSON text itself has the replacement character, which
// Go's decoder also puts in the place of what no text can hold. Two such keys would
// become one.
func namesRuneError(text []byte) bool {
	return bytes.ContainsRune(text, utf8.RuneError) || bytes.Contains(bytes.ToLower(text), []byte(`\ufffd`))
}

// Text is the metadata as one JSON object.
func (m Metadata) Text() string {
	out := []byte{'{'}
	for i, member := range m {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendQuoted(out, member.Key), ':')
		out = append(out, member.Value...)
	}
	return string(append(out, '}'))
}

// appendQuoted writes a text as JSON without escaping <, > and &, which clients
// compare with what they sent.
func appendQuoted(out []byte, text string) []byte {
	var quoted bytes.Buffer
	enc := json.NewEncoder(&quoted)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string always encodes
	return append(out, bytes.TrimRight(quoted.Bytes(), "\n")...)
}

// Size is how many bytes the metadata takes, roughly.
func (m Metadata) Size() int {
	size := 0
	for _, member := range m {
		size += len(member.Key) + len(member.Value)
	}
	return size
}

// Value finds a key's value.
func (m Metadata) Value(key string) (json.RawMessage, bool) {
	if i := m.index(key); i >= 0 {
		return m[i].Value, true
	}
	return nil, false
}

func (m Metadata) index(key string) int {
	return slices.IndexFunc(m, func(member Member) bool { return member.Key == key })
}

// set returns the metadata with the key set; m itself stays as it is.
func (m Metadata) set(key string, value json.RawMessage) Metadata {
	next := slices.Clone(m)
	if i := next.index(key); i >= 0 {
		next[i].Value = value
		return next
	}
	return append(next, Member{key, value})
}

// Labels are the members that a queue list can be filtered by: texts, and whole
// numbers of 64 bits. Texts that PostgreSQL cannot hold are left out.
func (m Metadata) Labels() map[string]any {
	labels := map[string]any{}
	for _, member := range m {
		if !Storable(member.Key) {
			continue
		}
		var text string
		if n, ok := wholeNumber(member.Value); ok {
			labels[member.Key] = n
		} else if json.Unmarshal(member.Value, &text) == nil && len(member.Value) > 0 && member.Value[0] == '"' && Storable(text) {
			labels[member.Key] = text
		}
	}
	return labels
}

// Storable tells whether a text can be kept and compared: PostgreSQL takes no NUL, and
// nothing that is not UTF-8. No name or value that nabu knows is such a text.
func Storable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// wholeNumber reads a JSON integer of 64 bits. Floats, texts, booleans and null
// are none.
func wholeNumber(value json.RawMessage) (int64, bool) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}

func isNull(value json.RawMessage) bool { return string(value) == "null" }

// The keys of a queue's metadata that nabu itself reads.
const (
	DefaultMessageTTLKey   = "_default_message_ttl"
	MaxMessagesPostSizeKey = "_max_messages_post_size"
	DefaultMessageDelayKey = "_default_message_delay"
	DeadLetterQueueKey     = "_dead_letter_queue"
	DeadLetterTTLKey       = "_dead_letter_queue_messages_ttl"
	MaxClaimCountKey       = "_max_claim_count"
	EncryptMessagesKey     = "_enable_encrypt_messages"
	FlavorKey              = "_flavor"
	RetryPolicyKey         = "_retry_policy"
)

// filledIn are the reserved keys that every read of a queue shows, in this order.
var filledIn = []string{
	MaxMessagesPostSizeKey, DefaultMessageTTLKey, DefaultMessageDelayKey,
	DeadLetterQueueKey, DeadLetterTTLKey, MaxClaimCountKey, EncryptMessagesKey,
}

// Filled is the metadata as a client sees it: reserved keys that are missing or
// falsy (0, false, null, "") show their default.
func (m Metadata) Filled(limits Limits) Metadata {
	shown := slices.Clone(m)
	for _, key := range filledIn {
		if value, set := m.Value(key); !set || isFalsy(value) {
			shown = shown.set(key, defaultOf(key, limits))
		}
	}
	return shown
}

func isFalsy(value json.RawMessage) bool {
	switch string(value) {
	case "0", "-0", "false", "null", `""`:
		return true
	}
	return false
}

func defaultOf(key string, limits Limits) json.RawMessage {
	switch key {
	case MaxMessagesPostSizeKey:
		return json.RawMessage(strconv.Itoa(limits.MaxMessagesPostSize))
	case DefaultMessageTTLKey:
		return json.RawMessage(strconv.Itoa(limits.DefaultMessageTTL))
	case DefaultMessageDelayKey:
		return json.RawMessage(strconv.Itoa(limits.DefaultMessageDelay))
	case EncryptMessagesKey:
		return json.RawMessage("false")
	}
	return json.RawMessage("null")
}

// Check refuses reserved keys whose value breaks their rule. null is always
// allowed and means unset.
func (m Metadata) Check(limits Limits) error {
	for _, member := range m {
		if isNull(member.Value) {
			continue
		}
		if err := checkReserved(member.Key, member.Value, limits); err != nil {
			return err
		}
	}
	return nil
}

func checkReserved(key string, value json.RawMessage, limits Limits) error {
	switch key {
	case DefaultMessageTTLKey:
		return checkWhole(key, value, MinMessageTTL, limits.MaxMessageTTL)
	case MaxMessagesPostSizeKey:
		return checkWhole(key, value, 1, limits.MaxMessagesPostSize)
	case DefaultMessageDelayKey:
		return checkWhole(key, value, MinMessageDelay, limits.MaxMessageDelay)
	case DeadLetterTTLKey:
		return checkWhole(key, value, MinDeadLetterTTL, limits.MaxMessageTTL)
	case MaxClaimCountKey:
		if n, ok := wholeNumber(value); !ok || n < 1 {
			return Errorf(Invalid, "%s must be an integer of at least 1", key)
		}
	case DeadLetterQueueKey:
		var name string
		if json.Unmarshal(value, &name) != nil || CheckQueueName(name) != nil {
			return Errorf(Invalid, "%s must be the name of a queue", key)
		}
	case EncryptMessagesKey:
		switch string(value) {
		case "false":
		case "true":
			if !limits.Encryption {
				return Errorf(Invalid, "%s cannot be true: this server has no encryption key", key)
			}
		default:
			return Errorf(Invalid, "%s must be true or false", key)
		}
	case FlavorKey:
		if len(value) == 0 || value[0] != '"' {
			return Errorf(Invalid, "%s must be a text", key)
		}
	case RetryPolicyKey:
		_, _, err := ParseRetryPolicy(value)
		return err
	}
	return nil
}

func checkWhole(key string, value json.RawMessage, lowest, highest int) error {
	if n, ok := wholeNumber(value); !ok || n < int64(lowest) || n > int64(highest) {
		return Errorf(Invalid, "%s must be an integer between %d and %d", key, lowest, highest)
	}
	return nil
}

// whole is a reserved key's number, or 0 when it is unset.
func (m Metadata) whole(key string) int {
	value, _ := m.Value(key)
	n, _ := wholeNumber(value)
	return int(n)
}

// DefaultDelay is the delay that the queue sets for its messages, in seconds; 0
// when it sets none.
func (m Metadata) DefaultDelay() int { return m.whole(DefaultMessageDelayKey) }
