package http

import (
	"net/http"
	"strconv"

	"nabu/domain"
	"nabu/projections"
)

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
	list := projections.MessageList{
		Queue: c.queue, Client: c.client, DefaultDelay: s.Limits.DefaultMessageDelay, DelayOnAnyQueue: s.Limits.DelayOnAnyQueue,
	}
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
