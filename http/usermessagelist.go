package http

import (
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"nabu/domain"
	"nabu/projections"
)

// listUserMessages serves GET /v3/:project/messages. Other than in Cinder, who is no
// administrator sees what is told to the own project, and nothing else.
func (s *Server) listUserMessages(c *call) error {
	asked := parsePairs(c.Request().URL.RawQuery)
	list, err := s.readUserMessageList(c, asked)
	if err != nil {
		return err
	}
	if wantsStream(c.Request().Header["Accept"]) {
		return s.streamUserMessages(c, list)
	}
	if !c.version.atLeast(pagesSince) {
		return s.writeAllUserMessages(c, list)
	}
	page, err := s.Views.UserMessages(c.Request().Context(), list)
	if err != nil {
		return err
	}
	answer := struct {
		Messages []userMessageBody `json:"messages"`
		Links    []userMessageLink `json:"messages_links,omitempty"`
	}{Messages: s.userMessagesBody(c, page, s.speak(c))}
	if len(page) > 0 && len(page) >= list.Limit {
		answer.Links = []userMessageLink{{"next", s.nextUserMessages(c, asked, page[len(page)-1].ID.String())}}
	}
	text, err := encodeUserMessages(answer)
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, text)
}

func (s *Server) userMessagesBody(c *call, page []projections.UserMessage, language string) []userMessageBody {
	bodies := make([]userMessageBody, len(page))
	for i, m := range page {
		bodies[i] = s.userMessage(c, m.UserMessage, language)
	}
	return bodies
}

// writeAllUserMessages answers as before there were pages: with all that there is, page by
// page read and written.
func (s *Server) writeAllUserMessages(c *call, list projections.UserMessageList) error {
	language := s.speak(c)
	for separator := `{"messages":[`; ; separator = "," {
		page, err := s.Views.UserMessages(c.Request().Context(), list)
		if err != nil && separator == "," {
			s.logFailure(c.Request().Context(), http.StatusInternalServerError, err, slog.String("request_id", requestID(c)))
			panic(http.ErrAbortHandler) // or a part would look like the whole
		}
		if err != nil {
			return err
		}
		if len(page) == 0 && separator == "," {
			_, err = c.Response().Write([]byte(`]}`))
			return err
		}
		text, err := encodeUserMessages(s.userMessagesBody(c, page, language))
		if err != nil {
			return err
		}
		text = append([]byte(separator), text[1:len(text)-1]...)
		if separator != "," {
			if len(page) < list.Limit {
				return writeJSON(c, http.StatusOK, append(text, `]}`...))
			}
			c.Response().Header().Set(headerContentType, "application/json")
			c.Response().WriteHeader(http.StatusOK)
		}
		if _, err := c.Response().Write(text); err != nil {
			return err
		}
		list.Marker = page[len(page)-1].ID
	}
}

// nextUserMessages is the address of the page that comes after a message, with whatever the
// client asked. It is whole, since clients go there as it is.
func (s *Server) nextUserMessages(c *call, asked query, marker string) string {
	next := newLink(s.volumeEndpoint(c) + "/v3" + userMessagesPath(c))
	replaced := false
	for _, p := range asked {
		if p.name == "marker" {
			p.value, replaced = marker, true
		}
		next.add(p.name, p.value)
	}
	if !replaced {
		next.add("marker", marker)
	}
	return string(next.href)
}

// readUserMessageList reads what list is asked for, in Cinder's order, so that a client that
// does two things wrong is told of the same one.
func (s *Server) readUserMessageList(c *call, asked query) (list projections.UserMessageList, err error) {
	admin := s.seesAll(c.caller)
	list = projections.UserMessageList{Project: c.caller.Project, All: admin, Limit: s.Volumes.MaxLimit}
	if !c.version.atLeast(pagesSince) {
		return list, nil
	}
	if text, given := asked.first("limit"); given {
		if list.Limit, err = readLimit(text, s.Volumes.MaxLimit); err != nil {
			return list, err
		}
	}
	if text, given := asked.first("offset"); given {
		if list.Offset, err = readOffset(text); err != nil {
			return list, err
		}
	}
	if list.Order, err = readUserMessageOrder(asked); err != nil {
		return list, err
	}
	if list.Filters, err = s.readUserMessageFilters(c, asked, admin); err != nil {
		return list, err
	}
	if marker, given := asked.first("marker"); given {
		return list, s.readUserMessageMarker(c, marker, &list)
	}
	return list, nil
}

// readLimit reads the size of a page. 0 is one without items.
func readLimit(text string, highest int) (int, error) {
	n, whole := pythonInt(text)
	switch {
	case !whole:
		return 0, namedFault(http.StatusBadRequest, "limit param must be an integer")
	case n < 0:
		return 0, namedFault(http.StatusBadRequest, "limit param must be positive")
	}
	return int(min(n, int64(highest))), nil
}

func readOffset(text string) (int, error) {
	n, whole := pythonInt(text)
	switch {
	case !whole:
		return 0, namedFault(http.StatusBadRequest, "offset must be an integer")
	case n < 0:
		return 0, namedFault(http.StatusBadRequest, "offset must be >= 0")
	case n > math.MaxInt32:
		return 0, namedFault(http.StatusBadRequest, "offset must be <= %d", math.MaxInt32)
	}
	return int(n), nil
}

// pythonInt reads a whole number, with a sign and space around it. One of too many digits is
// the greatest there is, or the least.
func pythonInt(text string) (n int64, whole bool) {
	text = strings.TrimSpace(text)
	digits := strings.TrimLeft(text, "+-")
	if digits == "" || len(text)-len(digits) > 1 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && text[0] != '-' {
		n = math.MaxInt64
	}
	return n, true
}

// readUserMessageOrder reads by what keys to sort: by "sort", or by one key and one direction.
func readUserMessageOrder(asked query) ([]projections.UserMessageOrder, error) {
	keys, both := asked.first("sort")
	key, hasKey := asked.first("sort_key")
	direction, hasDirection := asked.first("sort_dir")
	switch {
	case both && (hasKey || hasDirection):
		return nil, namedFault(http.StatusBadRequest,
			"The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	case !both:
		if !hasKey {
			key = "created_at"
		}
		keys = key
		if hasDirection {
			keys += ":" + direction
		}
	}
	var order []projections.UserMessageOrder
	for item := range strings.SplitSeq(strings.TrimSpace(keys), ",") {
		name, direction, _ := strings.Cut(item, ":")
		if name = strings.TrimSpace(name); !slices.Contains(projections.UserMessageColumns, name) {
			return nil, namedFault(http.StatusBadRequest, "Invalid input received: Invalid sort key")
		}
		direction = strings.TrimSpace(direction)
		if direction != "" && direction != "asc" && direction != "desc" || direction == "" && hasDirection {
			return nil, namedFault(http.StatusBadRequest, "Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.")
		}
		order = append(order, projections.UserMessageOrder{Column: name, Descending: direction != "asc"})
	}
	return order, nil
}

// pageParameters are no filters.
var pageParameters = []string{"limit", "offset", "marker", "sort", "sort_key", "sort_dir"}

// readUserMessageFilters reads what values messages must have. Any name is that of a column;
// what others than administrators may name is bounded in later versions.
func (s *Server) readUserMessageFilters(c *call, asked query, admin bool) ([]projections.UserMessageFilter, error) {
	var names []string
	values := map[string]string{} // the last one of each counts
	for _, p := range asked {
		if slices.Contains(pageParameters, p.name) {
			continue
		}
		if _, known := values[p.name]; !known {
			names = append(names, p.name)
		}
		values[p.name] = p.value
	}
	if c.version.atLeast(filterRulesSince) {
		var err error
		if names, err = s.allowedFilters(names, admin, c.version.atLeast(partialFiltersSince)); err != nil {
			return nil, err
		}
	}
	var filters []projections.UserMessageFilter
	for _, name := range names {
		column, part := name, false
		if c.version.atLeast(partialFiltersSince) {
			column, part = strings.CutSuffix(name, "~")
		}
		filters = append(filters, projections.UserMessageFilter{Column: column, Value: values[name], Part: part})
	}
	return filters, nil
}

// allowedFilters refuses names that a caller may not filter by.
func (s *Server) allowedFilters(names []string, admin, parts bool) ([]string, error) {
	var bad []string
	for _, name := range names {
		if strings.ContainsFunc(name, func(r rune) bool { return r > '~' }) {
			return nil, namedFault(http.StatusBadRequest, "Filter keys may only contain ASCII characters.")
		}
		if !slices.Contains(s.Volumes.Filters, name) && (!parts || !slices.Contains(s.Volumes.Filters, name+"~")) {
			bad = append(bad, name)
		}
	}
	switch {
	case admin || len(bad) == 0:
		return names, nil
	case len(bad) == 1 && bad[0] == "all_tenants": // clients send it without a thought
		return slices.DeleteFunc(names, func(name string) bool { return name == "all_tenants" }), nil
	}
	return nil, namedFault(http.StatusBadRequest, "Invalid filters %s are found in query options.", strings.Join(bad, ","))
}

// readUserMessageMarker finds the message that the page comes after.
func (s *Server) readUserMessageMarker(c *call, marker string, list *projections.UserMessageList) error {
	id, valid := userMessageID(marker)
	if valid {
		_, exists, err := s.Views.UserMessage(c.Request().Context(), id, c.caller.Project, list.All)
		if err != nil {
			return err
		}
		valid = exists
	}
	if !valid {
		return domain.NoUserMessage(marker)
	}
	list.Marker = id
	return nil
}
