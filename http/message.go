package http

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

func appendMessagesPath(out []byte, queue domain.QueueID) []byte {
	return append(append(append(out, "/v2/queues/"...), queue.Name...), "/messages"...)
}

func appendMessagePath(out []byte, queue domain.QueueID, id domain.MessageID) []byte {
	return appendUUID(append(appendMessagesPath(out, queue), '/'), id)
}

// listMessages serves GET /v2/queues/:queue/messages.
func (s *Server) listMessages(c *call) error {
	q := parseQuery(c.Request().URL.RawQuery)
	ids, err := q.ids(s.Limits.MaxMessagesPerPage)
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		return s.showMessages(c, ids)
	}
	list := projections.MessageList{Queue: c.queue, Client: c.client, DefaultDelay: s.Limits.DefaultMessageDelay}
	next := newLink(queuePath(c.queue) + "/messages")
	after, resolved, err := s.readMessageList(q, &list, next)
	if err != nil {
		return err
	}
	list.After = after
	wait, err := q.wait(s.Limits.MaxWait)
	if err != nil {
		return err
	}
	next.addWait(wait)
	var page projections.MessagePage
	switch {
	case !resolved: // nothing ever comes after what is nowhere
	case wait > 0 && s.News != nil:
		page, err = s.listWaiting(c, list, wait)
	default:
		page, err = s.Views.Messages(c.Request().Context(), list)
	}
	if err != nil {
		return err
	}
	next.addFlag("include_delayed", true, page.IncludeDelayed)
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := append(s.appendMessages(append(*buffer, '{'), c.queue, page.Messages), ',')
	if n := len(page.Messages); n > 0 {
		next.add("marker", strconv.FormatInt(int64(page.Messages[n-1].Place), 10))
		out = appendNext(out, next)
	} else {
		out = appendNext(out, nil)
	}
	*buffer = append(out, '}')
	return writeJSON(c, http.StatusOK, *buffer)
}

// readMessageList reads what is asked for, and writes it into the link to the next
// page. A marker that leads nowhere is no error; nothing comes after it.
func (s *Server) readMessageList(q query, list *projections.MessageList, next *link) (after domain.Place, resolved bool, err error) {
	var given bool
	if list.Limit, given, err = q.limit(s.Limits.MaxMessagesPerPage); err != nil {
		return 0, false, err
	}
	next.addLimit(list.Limit, given)
	if list.Echo, given, err = q.flag("echo"); err != nil {
		return 0, false, err
	}
	next.addFlag("echo", list.Echo, given)
	if list.IncludeClaimed, given, err = q.flag("include_claimed"); err != nil {
		return 0, false, err
	}
	next.addFlag("include_claimed", list.IncludeClaimed, given)
	if list.IncludeDelayed, _, err = q.flag("include_delayed"); err != nil {
		return 0, false, err
	}
	marker := q.text("marker")
	if marker == "" {
		return 0, true, nil
	}
	after, list.Marker, resolved = parseMarker(marker)
	return after, resolved, nil
}

// parseMarker reads a place, as nabu's own links have it, or a message's id, as
// openstacksdk sends it: of the last message it got, which may be gone by now.
func parseMarker(marker string) (after domain.Place, id domain.MessageID, ok bool) {
	if id, ok := domain.ParseMessageID(marker); ok {
		return domain.PostingPlace(id), id, true
	}
	n, whole := wholeNumber(marker)
	return domain.Place(n), id, whole && marker[0] >= '0' && marker[0] <= '9'
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
	if err := checkDeletion(len(texts) > 0, given, len(claims) > 0, s.DeleteWithClaim); err != nil {
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
// claims where the operator wants that (withClaims).
func checkDeletion(ids, pop, claims, withClaims bool) error {
	switch {
	case ids == pop:
		return domain.Errorf(domain.Invalid, "the request must either name messages by ids or pop some")
	case pop && claims && withClaims:
		return domain.Errorf(domain.Invalid, "claim_ids go with ids, not with pop")
	case ids && !claims && withClaims:
		return domain.Errorf(domain.Invalid, "ids must come with claim_ids on this server")
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
	ctx, err := c.request(nil)
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
