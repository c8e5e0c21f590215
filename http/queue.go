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

// createQueue serves PUT /v2/queues/:queue.
func (s *Server) createQueue(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), s.Limits.MaxQueueMetadata, buffer)
	if err != nil {
		return err
	}
	cmd := commands.CreateQueue{Queue: c.queue}
	if len(body) > 0 {
		text, err := parseJSON(body)
		if err != nil {
			return err
		}
		if cmd.Metadata, err = domain.ParseMetadata([]byte(text)); err != nil {
			return err
		}
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	created, err := commands.Run(ctx, s.Executor, cmd)
	if err != nil {
		return err
	}
	c.Response().Header().Set(headerLocation, queuePath(c.queue))
	if !created {
		return c.NoContent(http.StatusNoContent)
	}
	return c.NoContent(http.StatusCreated)
}

func queuePath(id domain.QueueID) string { return "/v2/queues/" + id.Name }

// showQueue serves GET /v2/queues/:queue. A queue that is not there looks like a new
// one.
func (s *Server) showQueue(c *call) error {
	metadata, _, err := s.Views.Queue(c.Request().Context(), c.queue)
	if err != nil {
		return err
	}
	return s.writeMetadata(c, metadata)
}

func (s *Server) writeMetadata(c *call, metadata domain.Metadata) error {
	return writeJSON(c, http.StatusOK, []byte(metadata.Filled(s.Limits).Text()))
}

// findQueue serves HEAD /v2/queues/:queue. Zaqar has no such route; its client asks
// it all the same to see whether a queue is there.
func (s *Server) findQueue(c *call) error {
	_, exists, err := s.Views.Queue(c.Request().Context(), c.queue)
	if err != nil {
		return err
	}
	if !exists {
		return domain.Errorf(domain.NotFound, "queue %s does not exist", c.queue.Name)
	}
	return c.NoContent(http.StatusNoContent)
}

// deleteQueue serves DELETE /v2/queues/:queue.
func (s *Server) deleteQueue(c *call) error {
	ctx, err := c.request(nil)
	if err != nil {
		return err
	}
	if _, err := commands.Run(ctx, s.Executor, commands.DeleteQueue{Queue: c.queue}); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// showStats serves GET /v2/queues/:queue/stats.
func (s *Server) showStats(c *call) error {
	stats, err := s.Views.Stats(c.Request().Context(), c.queue)
	if err != nil {
		return err
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := appendCounts(append(*buffer, `{"messages":{`...), stats)
	out = appendMessageAge(out, "oldest", c.queue, stats.Oldest)
	out = appendMessageAge(out, "newest", c.queue, stats.Newest)
	*buffer = append(out, `}}`...)
	return writeJSON(c, http.StatusOK, *buffer)
}

// appendCounts writes how many messages there are.
func appendCounts(out []byte, stats projections.Stats) []byte {
	out = strconv.AppendInt(append(out, `"claimed":`...), int64(stats.Claimed), 10)
	out = strconv.AppendInt(append(out, `,"free":`...), int64(stats.Total-stats.Claimed), 10)
	return strconv.AppendInt(append(out, `,"total":`...), int64(stats.Total), 10)
}

// createdFormat is how stats tell when a message was posted; UTC.
const createdFormat = "2006-01-02T15:04:05Z"

func appendMessageAge(out []byte, name string, queue domain.QueueID, m *projections.MessageAge) []byte {
	if m == nil {
		return out
	}
	out = append(append(append(out, `,"`...), name...), `":{"age":`...)
	out = strconv.AppendInt(out, int64(m.Age), 10)
	out = m.Created.UTC().AppendFormat(append(out, `,"created":"`...), createdFormat)
	out = appendMessagePath(append(out, `","href":"`...), queue, m.ID)
	return append(out, `"}`...)
}

// purgeQueue serves POST /v2/queues/:queue/purge. Of many subscriptions each command takes
// a part. Only the first one bears the client's key: the others take those that were there
// when that one was decided, so they may be given again.
func (s *Server) purgeQueue(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), s.Limits.MaxQueueMetadata, buffer)
	if err != nil {
		return err
	}
	cmd, err := decodePurge(body)
	if err != nil {
		return err
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	cmd.Queue = c.queue
	if err := s.purge(ctx, c.requestWithoutKey(), cmd); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// purge takes away all that a command asks for, and more of it in further ones, which no
// caller stops who leaves meanwhile.
func (s *Server) purge(ctx, further context.Context, cmd commands.PurgeQueue) error {
	for again := cmd.Messages || cmd.Subscriptions; again; {
		purged, err := commands.Run(ctx, s.Executor, cmd)
		if err != nil {
			return err
		}
		again = purged.More
		cmd.Messages, cmd.Upto = false, purged.Upto
		ctx = context.WithoutCancel(further)
	}
	return nil
}

// decodePurge reads what is to be purged. Without a body that is everything.
func decodePurge(body []byte) (cmd commands.PurgeQueue, err error) {
	if len(body) == 0 {
		return commands.PurgeQueue{Messages: true, Subscriptions: true}, nil
	}
	text, err := parseJSON(body)
	if err != nil {
		return cmd, err
	}
	types := ""
	if isObject(text) {
		for name, value := range members(text) {
			if name == "resource_types" {
				types = value
			}
		}
	}
	if types == "" || !isArray(types) {
		return cmd, domain.Errorf(domain.Invalid, "the body must be an object with a list resource_types")
	}
	return readResourceTypes(types)
}

// readResourceTypes reads what is to be purged out of a JSON array.
func readResourceTypes(types string) (cmd commands.PurgeQueue, err error) {
	for item := range elements(types) {
		what := ""
		if isText(item) {
			what = unquote(item)
		}
		switch what {
		case "messages":
			cmd.Messages = true
		case "subscriptions":
			cmd.Subscriptions = true
		default:
			return cmd, domain.Errorf(domain.Invalid, "resource_types may hold messages and subscriptions only")
		}
	}
	return cmd, nil
}

// patchType is what a patch of a queue must say it is. It looks like a JSON patch
// and has rules of its own, so nothing else is taken for it.
const patchType = "application/openstack-messaging-v2.0-json-patch"

// changeQueue serves PATCH /v2/queues/:queue.
func (s *Server) changeQueue(c *call) error {
	if mediaType(c.Request().Header.Get(headerContentType)) != patchType {
		c.Response().Header().Set("Accept-Patch", patchType)
		return problemf(http.StatusUnsupportedMediaType, "Unsupported media type", "The Content-Type must be %s.", patchType)
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), s.Limits.MaxQueueMetadata, buffer)
	if err != nil {
		return err
	}
	cmd := commands.ChangeQueue{Queue: c.queue}
	if cmd.Patch, err = decodePatch(body); err != nil {
		return err
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	metadata, err := commands.Run(ctx, s.Executor, cmd)
	if err != nil {
		return err
	}
	return s.writeMetadata(c, metadata)
}

// decodePatch reads a list of operations on a queue's metadata.
func decodePatch(body []byte) (domain.MetadataPatch, error) {
	text, err := parseJSON(body)
	if err != nil {
		return nil, err
	}
	if !isArray(text) {
		return nil, domain.Errorf(domain.Malformed, "the body must be an array of operations")
	}
	patch := domain.MetadataPatch{}
	for operation := range elements(text) {
		change, err := decodeChange(operation)
		if err != nil {
			return nil, err
		}
		patch = append(patch, change)
	}
	return patch, nil
}

func decodeChange(operation string) (domain.MetadataChange, error) {
	var change domain.MetadataChange
	if !isObject(operation) {
		return change, domain.Errorf(domain.Malformed, "an operation must be an object")
	}
	var op, path, value string
	for name, its := range members(operation) {
		switch name {
		case "op":
			op = its
		case "path":
			path = its
		case "value":
			value = its
		}
	}
	if op == "" || !isText(op) || path == "" || !isText(path) {
		return change, domain.Errorf(domain.Malformed, "an operation must have op and path, both texts")
	}
	change.Op = unquote(op)
	switch change.Op {
	case domain.PatchAdd, domain.PatchReplace:
		if value == "" {
			return change, domain.Errorf(domain.Malformed, "%s needs a value", change.Op)
		}
		change.Value = []byte(value)
	case domain.PatchRemove: // gophercloud sends a value here as well
	default:
		return change, domain.Errorf(domain.Malformed, "op must be add, remove or replace")
	}
	var valid bool
	if change.Key, valid = patchedKey(unquote(path), change.Op); !valid {
		return change, domain.Errorf(domain.Malformed, "path must be /metadata/ and the name of a key")
	}
	return change, nil
}

// patchedKey takes the key out of a path: a JSON pointer of two tokens, of which the
// first is metadata. Zaqar does not look at the first when a key is removed.
func patchedKey(path, op string) (key string, valid bool) {
	tokens := strings.Split(path, "/")
	if len(tokens) != 3 || tokens[0] != "" {
		return "", false
	}
	for i, token := range tokens[1:] {
		escapes := strings.Count(token, "~0") + strings.Count(token, "~1")
		if strings.Count(token, "~") != escapes {
			return "", false
		}
		token = strings.TrimSpace(strings.NewReplacer("~1", "/", "~0", "~").Replace(token))
		if token == "" {
			return "", false
		}
		tokens[i+1] = token
	}
	return tokens[2], op == domain.PatchRemove || strings.EqualFold(tokens[1], "metadata")
}
