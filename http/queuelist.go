package http

import (
	"net/http"
	"strconv"
	"strings"

	"nabu/projections"
)

// queueList is a request for a page of queues and how it was put.
type queueList struct {
	projections.QueueList
	detailed, withCount bool
	// nothing: two filters contradict each other.
	nothing bool
	next    *link
}

// listQueues serves GET /v2/queues.
func (s *Server) listQueues(c *call) error {
	list, err := s.readQueueList(c)
	if err != nil {
		return err
	}
	var queues []projections.QueueItem
	if !list.nothing {
		if queues, err = s.Views.Queues(c.Request().Context(), list.QueueList); err != nil {
			return err
		}
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := append(*buffer, `{"queues":[`...)
	for i, q := range queues {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, `{"name":"`...)
		out = append(out, q.Name...)
		out = append(out, `","href":"/v2/queues/`...)
		out = append(append(out, q.Name...), '"')
		if list.detailed {
			out = append(append(out, `,"metadata":`...), q.Metadata.Filled(s.Limits).Text()...)
		}
		out = append(out, '}')
	}
	out = append(out, `],`...)
	if n := len(queues); n > 0 {
		list.next.add("marker", queues[n-1].Name)
		out = appendNext(out, list.next)
	} else {
		out = appendNext(out, nil)
	}
	if list.withCount {
		count, err := s.Views.CountQueues(c.Request().Context(), c.caller.Project)
		if err != nil {
			return err
		}
		out = strconv.AppendInt(append(out, `,"count":`...), int64(count), 10)
	}
	*buffer = append(out, '}')
	return writeJSON(c, http.StatusOK, *buffer)
}

// readQueueList reads what is asked for, and writes it into the link to the next
// page. A parameter that is none of the list's own is a filter on the metadata.
func (s *Server) readQueueList(c *call) (list queueList, err error) {
	q := parseQuery(c.Request().URL.RawQuery)
	list.Project, list.Name = c.caller.Project, q.text("name")
	// No name holds a NUL, so the names after a marker are those after what is before it.
	list.After, _, _ = strings.Cut(q.text("marker"), "\x00")
	list.next = newLink("/v2/queues")
	var given bool
	if list.Limit, given, err = q.limit(s.Limits.MaxQueuesPerPage); err != nil {
		return list, err
	}
	list.next.addLimit(list.Limit, given)
	if list.detailed, given, err = q.flag("detailed"); err != nil {
		return list, err
	}
	list.next.addFlag("detailed", list.detailed, given)
	if list.withCount, given, err = q.flag("with_count"); err != nil {
		return list, err
	}
	list.next.addFlag("with_count", list.withCount, given)
	if list.Name != "" {
		list.next.add("name", list.Name)
	}
	list.Labels = map[string]string{}
	for _, p := range q {
		switch p.name {
		case "marker", "limit", "detailed", "with_count", "name":
			continue
		}
		if other, twice := list.Labels[p.name]; twice && other != p.value {
			list.nothing = true
		}
		list.Labels[p.name] = p.value
		list.next.add(p.name, p.value)
	}
	return list, nil
}
