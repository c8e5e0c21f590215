package reactors

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"nabu/domain"
	"nabu/projections"
)

// notified is a message on its way to subscribers.
type notified struct {
	place   domain.Place
	id      domain.MessageID
	ttl     int // seconds
	delay   int // seconds; 0: none
	body    string
	visible time.Time // when its delay is over
	expires time.Time
	locked  error // the key of the body is not at hand; nil: it is plain
}

// notifiedOf is a message that was posted at a time, with its body in plain text.
func notifiedOf(at time.Time, m domain.PostedMessage) notified {
	return notified{
		place: domain.PostingPlace(m.ID), id: m.ID, ttl: m.TTL, delay: m.Delay, body: m.Body,
		visible: at.Add(time.Duration(m.Delay) * time.Second), expires: at.Add(time.Duration(m.TTL) * time.Second),
	}
}

// options are those of a subscription that concern a delivery. What has another type than
// it should counts as not given: options are kept as they came.
type options struct {
	postData    *string
	postHeaders map[string]string
	from        string
	subject     string
	filter      domain.FilterPolicy
}

func optionsOf(s projections.Subscriber) options {
	var o options
	var known map[string]json.RawMessage
	_ = json.Unmarshal([]byte(s.Options), &known) // an object: it was checked
	var text string
	if json.Unmarshal(known["post_data"], &text) == nil && len(known["post_data"]) > 0 && known["post_data"][0] == '"' {
		o.postData = &text
	}
	var headers map[string]json.RawMessage
	_ = json.Unmarshal(known["post_headers"], &headers)
	o.postHeaders = make(map[string]string, len(headers))
	for name, value := range headers {
		o.postHeaders[name] = plainText(value)
	}
	_ = json.Unmarshal(known["from"], &o.from)
	_ = json.Unmarshal(known["subject"], &o.subject)
	o.filter, _ = domain.ParseFilterPolicy(s.Options)
	return o
}

// plainText is a text, or any other JSON value as it is written.
func plainText(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil {
		return text
	}
	return string(value)
}

// zaqarMessage is what post_data has in the place of the message, with its quotes.
const zaqarMessage = `"$zaqar_message$"`

// notificationText is a message as Zaqar sends it, member by member in its order. A
// message of a delayed queue bears its delay.
func notificationText(queue string, delayed bool, m notified) string {
	var text strings.Builder
	text.WriteString(`{"ttl": ` + strconv.Itoa(m.ttl) + `, "body": ` + m.body)
	if delayed || m.delay > 0 {
		text.WriteString(`, "delay": ` + strconv.Itoa(m.delay))
	}
	text.WriteString(`, "Message_Type": "Notification", "queue_name": ` + quoted(queue) + `}`)
	return text.String()
}

// quoted is a text as JSON. Nothing is escaped that need not be.
func quoted(text string) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a string always encodes
	return strings.TrimSuffix(out.String(), "\n")
}

// Parcel is one thing to be delivered to a subscriber.
type Parcel struct {
	Subscriber string // a URI
	Text       string // JSON
	Header     map[string]string
	Facts      map[string]string // headers that count more
	From       string            // of a mail; empty: the operator's
	Subject    string            // of a mail, unless the URI has one
	Mail       string            // text of a mail; empty: Text
	ID         string            // the same with each attempt
}

// messageParcel packs a message.
func messageParcel(s projections.Subscriber, o options, m notified, number int) Parcel {
	text := notificationText(s.Queue.Name, s.Metadata.DefaultDelay() > 0, m)
	if o.postData != nil {
		text = strings.ReplaceAll(*o.postData, zaqarMessage, text)
	}
	position, _ := m.place.Parts()
	return Parcel{
		Subscriber: s.Subscriber, Text: text, Header: o.postHeaders, From: o.from, Subject: o.subject,
		ID: m.id.String() + "." + s.ID.String(), Mail: notificationText(s.Queue.Name, s.Metadata.DefaultDelay() > 0, m),
		Facts: map[string]string{
			"X-Nabu-Message-Id": m.id.String(), "X-Nabu-Attempt": strconv.Itoa(number),
			"X-Nabu-Position": strconv.FormatInt(position, 10),
		},
	}
}
