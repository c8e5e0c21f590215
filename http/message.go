package http

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
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

// decodeMessages reads the list of messages that a client wants to post. They do not refer to it:
// they are remembered, and the list, or what came with it, may be many times as long.
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
			m.Body = strings.Clone(value)
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

func appendMessagesPath(out []byte, queue domain.QueueID) []byte {
	return append(append(append(out, "/v2/queues/"...), queue.Name...), "/messages"...)
}

func appendMessagePath(out []byte, queue domain.QueueID, id domain.MessageID) []byte {
	return appendUUID(append(appendMessagesPath(out, queue), '/'), id)
}

// showMessages serves GET /v2/queues/:queue/messages?ids=.
func (s *Server) showMessages(c *call, texts []string) error {
	found, err := s.findMessages(c.Request().Context(), c.queue, parseIDs(texts))
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return domain.Errorf(domain.NotFound, "none of the messages is in queue %s", c.queue.Name)
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	*buffer = append(s.appendMessages(append(*buffer, '{'), c.queue, found), '}')
	return writeJSON(c, http.StatusOK, *buffer)
}

// parseIDs reads ids; what is none of nabu's names no message.
func parseIDs(texts []string) []domain.MessageID {
	ids := make([]domain.MessageID, 0, len(texts))
	for _, text := range texts {
		if id, ok := domain.ParseMessageID(strings.TrimSpace(text)); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

func (s *Server) findMessages(ctx context.Context, queue domain.QueueID, ids []domain.MessageID) ([]projections.Message, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return s.Views.MessagesByID(ctx, queue, ids)
}

// appendMessages writes messages as the member of that name.
func (s *Server) appendMessages(out []byte, queue domain.QueueID, messages []projections.Message) []byte {
	out = append(out, `"messages":[`...)
	for i, m := range messages {
		if i > 0 {
			out = append(out, ',')
		}
		out = s.appendMessage(out, queue, m)
	}
	return append(out, ']')
}

// appendMessage writes a message with exactly these members: zaqarclient passes them
// to a constructor that fails on any other. It takes a claim's id from behind the
// href's one "=".
func (s *Server) appendMessage(out []byte, queue domain.QueueID, m projections.Message) []byte {
	out = appendUUID(append(out, `{"id":"`...), m.ID)
	out = appendMessagePath(append(out, `","href":"`...), queue, m.ID)
	if m.Claim != (domain.ClaimID{}) {
		out = appendUUID(append(out, "?claim_id="...), m.Claim)
	}
	out = strconv.AppendInt(append(out, `","ttl":`...), int64(m.TTL), 10)
	out = strconv.AppendInt(append(out, `,"age":`...), int64(m.Age), 10)
	out = append(append(out, `,"body":`...), m.Body...)
	return append(s.appendChecksum(out, m.Body), '}')
}

// appendChecksum writes the member of that name, where checksums are on.
func (s *Server) appendChecksum(out, body []byte) []byte {
	if !s.Checksums {
		return out
	}
	if sum := checksum(string(body)); sum != "" {
		out = append(append(append(out, `,"checksum":"`...), sum...), '"')
	}
	return out
}

// showMessage serves GET /v2/queues/:queue/messages/:message.
func (s *Server) showMessage(c *call) error {
	id := c.Param("message")
	var ids []domain.MessageID
	if named, ok := domain.ParseMessageID(id); ok {
		ids = append(ids, named)
	}
	found, err := s.findMessages(c.Request().Context(), c.queue, ids)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return domain.Errorf(domain.NotFound, "message %s is not in queue %s", id, c.queue.Name)
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	*buffer = s.appendMessage(*buffer, c.queue, found[0])
	return writeJSON(c, http.StatusOK, *buffer)
}

// deleteMessage serves DELETE /v2/queues/:queue/messages/:message. Only a message
// that is there can be refused.
func (s *Server) deleteMessage(c *call) error {
	q := parseQuery(c.Request().URL.RawQuery)
	id, ok := domain.ParseMessageID(c.Param("message"))
	if !ok {
		return c.NoContent(http.StatusNoContent)
	}
	ctx, err := c.request(nil)
	if err != nil {
		return err
	}
	cmd := commands.DeleteMessage{Queue: c.queue, ID: id}
	if named := q.text("claim_id"); named != "" {
		cmd.WithClaim = true
		cmd.Claim, _ = parseClaimID(named)
	}
	if _, err := commands.Run(ctx, s.Executor, cmd); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// deleteMessages serves DELETE /v2/queues/:queue/messages, by ids or by pop.
func (s *Server) deleteMessages(c *call) error {
	q := parseQuery(c.Request().URL.RawQuery)
	texts, err := q.ids(s.Limits.MaxMessagesPerPage)
	if err != nil {
		return err
	}
	pop, given, err := q.number("pop", s.Limits.MaxMessagesPerClaimOrPop)
	if err != nil {
		return err
	}
	var claims []string
	if s.DeleteWithClaim {
		claims = q.list("claim_ids")
	}
	if err := checkDeletion("ids", len(texts) > 0, given, len(claims) > 0, s.DeleteWithClaim); err != nil {
		return err
	}
	if given {
		return s.popMessages(c, pop)
	}
	cmd := commands.DeleteMessages{Queue: c.queue, IDs: parseIDs(texts), Claims: parseClaimIDs(claims), Held: s.DeleteWithClaim}
	if len(cmd.IDs) == 0 {
		return c.NoContent(http.StatusNoContent)
	}
	ctx, err := c.request(nil)
	if err != nil {
		return err
	}
	if _, err := commands.Run(ctx, s.Executor, cmd); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// checkDeletion refuses requests to delete messages that do not say which, or with which
// claims where the operator wants that (withClaims). name is what they are named by.
func checkDeletion(name string, ids, pop, claims, withClaims bool) error {
	switch {
	case ids == pop:
		return domain.Errorf(domain.Invalid, "the request must either name messages by %s or pop some", name)
	case pop && claims && withClaims:
		return domain.Errorf(domain.Invalid, "claim_ids go with %s, not with pop", name)
	case ids && !claims && withClaims:
		return domain.Errorf(domain.Invalid, "%s must come with claim_ids on this server", name)
	}
	return nil
}

// parseClaimIDs reads ids of claims. What is no id names no claim.
func parseClaimIDs(texts []string) []domain.ClaimID {
	var claims []domain.ClaimID
	for _, text := range texts {
		if id, ok := parseClaimID(strings.TrimSpace(text)); ok {
			claims = append(claims, id)
		}
	}
	return claims
}

// popMessages serves DELETE /v2/queues/:queue/messages?pop=.
func (s *Server) popMessages(c *call, limit int) error {
	ctx, err := c.requestWithKey(nil)
	if err != nil {
		return err
	}
	messages, err := s.pop(ctx, c.queue, limit)
	if err != nil {
		return err
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := append(*buffer, `{"messages":[`...)
	for i, m := range messages {
		if i > 0 {
			out = append(out, ',')
		}
		out = s.appendPopped(out, m)
	}
	*buffer = append(out, `]}`...)
	return writeJSON(c, http.StatusOK, *buffer)
}

// pop takes the oldest free messages of a queue for good.
func (s *Server) pop(ctx context.Context, queue domain.QueueID, limit int) ([]projections.Message, error) {
	taken, err := commands.Run(ctx, s.Executor, commands.PopMessages{Queue: queue, Limit: limit})
	if err != nil {
		return nil, err
	}
	return s.withBodies(ctx, queue, taken)
}

// appendPopped writes a message that has gone: it has no href any more, and tells of
// claims, as in Zaqar.
func (s *Server) appendPopped(out []byte, m projections.Message) []byte {
	out = appendUUID(append(out, `{"id":"`...), m.ID)
	out = strconv.AppendInt(append(out, `","age":`...), int64(m.Age), 10)
	out = strconv.AppendInt(append(out, `,"ttl":`...), int64(m.TTL), 10)
	out = append(append(out, `,"body":`...), m.Body...)
	out = strconv.AppendInt(append(out, `,"claim_id":null,"claim_count":`...), int64(m.ClaimCount), 10)
	return append(s.appendChecksum(out, m.Body), '}')
}
