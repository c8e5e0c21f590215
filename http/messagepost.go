package http

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"net/http"

	"nabu/commands"
	"nabu/domain"
)

// postMessages serves POST /v2/queues/:queue/messages.
func (s *Server) postMessages(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), s.Limits.MaxMessagesPostSize, buffer)
	if err != nil {
		return err
	}
	messages, err := DecodePost(body, s.Limits)
	if err != nil {
		return err
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	ids, err := commands.Run(ctx, s.Executor, commands.PostMessages{Post: domain.Post{
		Queue: c.queue, Client: c.client, Messages: messages, Size: len(body), Salts: newSalts(len(messages)),
	}})
	if err != nil {
		return err
	}
	return writePosted(c.Response(), c.queue, ids)
}

// DecodePost reads the body of a POST of messages. The messages do not refer to the
// body's bytes.
func DecodePost(body []byte, limits domain.Limits) ([]domain.NewMessage, error) {
	text, err := parseJSON(body)
	if err != nil {
		return nil, err
	}
	list := ""
	if isObject(text) {
		for name, value := range members(text) {
			if name == "messages" {
				list = value
			}
		}
	}
	if list == "" {
		return nil, domain.Errorf(domain.Invalid, "the body must be an object with a member messages")
	}
	return decodeMessages(list, limits)
}

// decodeMessages reads the list of messages that a client wants to post.
func decodeMessages(list string, limits domain.Limits) ([]domain.NewMessage, error) {
	if !isArray(list) {
		return nil, domain.Errorf(domain.Malformed, "messages must be an array")
	}
	messages := make([]domain.NewMessage, 0, 1)
	for item := range elements(list) {
		m, err := decodeMessage(item, limits)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	if len(messages) == 0 {
		return nil, domain.Errorf(domain.Invalid, "messages must have at least one item")
	}
	return messages, nil
}

func decodeMessage(item string, limits domain.Limits) (m domain.NewMessage, err error) {
	if !isObject(item) {
		return m, domain.Errorf(domain.Malformed, "a message must be an object")
	}
	ttl := ""
	for name, value := range members(item) {
		switch name {
		case "body":
			m.Body = value
		case "ttl":
			ttl = value
		case "delay":
			m.Delay = json.RawMessage(value)
		}
	}
	if m.Body == "" {
		return m, domain.Errorf(domain.Malformed, "a message must have a body")
	}
	if ttl == "" {
		return m, nil
	}
	seconds, whole := wholeNumber(ttl)
	if !whole {
		return m, domain.Errorf(domain.Malformed, "ttl must be an integer")
	}
	m.TTL = int(seconds)
	return m, domain.CheckMessageTTL(seconds, limits)
}

// newSalts draws the random bits of messages' ids.
func newSalts(n int) []uint64 {
	bits := make([]byte, 8*n)
	_, _ = rand.Read(bits) // never fails
	salts := make([]uint64, n)
	for i := range salts {
		salts[i] = binary.NativeEndian.Uint64(bits[8*i:])
	}
	return salts
}

// maxLocation bounds the list of ids in a Location: Python's http.client gives up on
// a header line of 64 kB, after the messages were posted. The body has all of them.
const maxLocation = 60_000

// writePosted answers with where messages were put.
func writePosted(w http.ResponseWriter, queue domain.QueueID, ids []domain.MessageID) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	location := appendMessagesPath(*buffer, queue)
	location = append(location, "?ids="...)
	for i, id := range ids {
		if i > 0 {
			location = append(location, ',')
		}
		location = appendUUID(location, id)
		if len(location) > maxLocation {
			break
		}
	}
	w.Header()[headerLocation] = []string{string(location)}
	out := append(location[:0], `{"resources":[`...)
	for i, id := range ids {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendMessagePath(append(out, '"'), queue, id), '"')
	}
	*buffer = append(out, `]}`...)
	return writeBody(w, http.StatusCreated, "application/json", *buffer)
}
