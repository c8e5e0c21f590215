package http

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
)

const (
	taskPath  = "/v2/tasks"
	jsonEmpty = `null`
)

// createTask serves POST /v2/tasks.
func (s *Server) createTask(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := s.readImageBody(c.Request(), buffer)
	if err != nil {
		return err
	}
	made, err := s.decodeTask(string(body))
	if err != nil {
		return err
	}
	if err := made.CheckInput(s.Images.Tasks); err != nil {
		return err
	}
	if made.Type == domain.TaskImport {
		if err := s.checkImport(c, made.Input); err != nil {
			return err
		}
	}
	if !c.caller.HasProject || c.caller.Project == "" {
		return fault(http.StatusBadRequest, "A task needs a project to belong to: the X-Project-Id header is required.")
	}
	made.ID, made.Owner, made.User, made.RequestID = uuid.New(), c.caller.Project, c.caller.User, requestID(c)
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	task, err := commands.Run(ctx, s.Executor, commands.CreateTask{Task: made, Rules: s.Images.Tasks})
	if err != nil {
		return err
	}
	c.Response().Header().Set(headerLocation, s.imageEndpoint(c)+taskPath+"/"+task.ID.String())
	return writeTask(c, http.StatusCreated, task)
}

// maxImageNesting bounds how deep a body of the Image API is. Workers have to read what is in
// it with more around it, and Python's parser, say, gives up at a thousand levels.
const maxImageNesting = 500

// readImageBody reads the body of a request to the Image API that must have one, a JSON object
// or array. Like Glance it does not look at what the client calls it.
func (s *Server) readImageBody(r *http.Request, buffer *[]byte) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, fault(http.StatusBadRequest, "Body expected in request.")
	}
	body, err := readBody(r, s.Limits.MaxMessagesPostSize, buffer)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, fault(http.StatusBadRequest, "Malformed JSON in request body.")
	}
	text := strings.TrimSpace(string(body))
	if !isObject(text) && !isArray(text) {
		return nil, fault(http.StatusBadRequest, "Unexpected body type. Expected list/dict.")
	}
	if hasLongNumber(body) && !integersFit(text) || nesting(text) > maxImageNesting { // no message could hand it out
		return nil, fault(http.StatusBadRequest, "Malformed JSON in request body.")
	}
	return []byte(text), nil
}

// decodeTask reads what task is to be made, from valid JSON. Like Glance it checks what the
// server makes by itself, and ignores it.
func (s *Server) decodeTask(body string) (t domain.NewTask, err error) {
	sent := map[string]string{}
	var names []string
	if isObject(body) {
		for name, value := range members(body) {
			if _, twice := sent[name]; !twice {
				names = append(names, name)
			}
			sent[name] = value
		}
	}
	for _, name := range []string{"type", "input"} {
		if _, there := sent[name]; !there {
			return t, fault(http.StatusBadRequest, "Task '%s' is required", name)
		}
	}
	for _, name := range names {
		if reason := s.taskSchema.contradicts(name, sent[name]); reason != "" {
			return t, schemaFault(reason)
		}
	}
	return domain.NewTask{Type: unquote(sent["type"]), Input: sent["input"]}, nil
}

func schemaFault(reason string) error {
	return fault(http.StatusBadRequest, "Provided object does not match schema 'task': %s", reason)
}

// checkImport refuses a place to import from, in Glance's words and order.
func (s *Server) checkImport(c *call, input string) error {
	place, isText := "", true
	if input != jsonEmpty {
		for name, value := range members(input) {
			if name == "import_from" {
				place, isText = "", isText && value == jsonEmpty
				if value[0] == '"' {
					place, isText = unquote(value), true
				}
			}
		}
	}
	switch {
	case !isText:
		return schemaFault("import_from is not of type 'string'")
	case place == "":
		return fault(http.StatusBadRequest, "Invalid location: None")
	case strings.HasPrefix(place, "file:///"), strings.HasPrefix(place, "filesystem:///"):
		return fault(http.StatusBadRequest, "File based imports are not allowed. Please use a non-local source of image data.")
	case strings.HasPrefix(place, "http://"), strings.HasPrefix(place, "https://"):
		return s.filterImport(c, place)
	case s.Images.SwiftPaths && isSwiftPath(place):
		return nil
	}
	return fault(http.StatusBadRequest,
		"The given uri is not valid. Please specify a valid uri from the following list of supported uri ['http']")
}

// filterImport asks the filter. What it refuses is logged, since the client is told no reason.
func (s *Server) filterImport(c *call, place string) error {
	refused := fault(http.StatusBadRequest, "URI for legacy import task does not pass filtering: %s", place)
	u, err := url.Parse(place)
	if err != nil || s.Images.Imports == nil {
		return refused
	}
	if err = s.Images.Imports.CheckURL(u); err == nil {
		err = s.Images.Imports.CheckHost(c.Request().Context(), u.Hostname())
	}
	if err != nil {
		s.Log.Info("an import is refused", "request_id", requestID(c), "host", u.Host, "reason", err)
		return refused
	}
	return nil
}

// isSwiftPath tells whether a text is a container and an object.
func isSwiftPath(text string) bool {
	container, object, found := strings.Cut(text, "/")
	return found && container != "" && object != "" && !strings.Contains(text, ":")
}

// showTask serves GET /v2/tasks/:task.
func (s *Server) showTask(c *call) error {
	unknown := fault(http.StatusNotFound, "Could not find task %s", c.Param("task"))
	id, valid := taskID(c.Param("task"))
	if !valid {
		return unknown
	}
	task, exists, err := s.Views.Task(c.Request().Context(), id)
	if err != nil {
		return err
	}
	if !exists || !s.seesTask(c.caller, task.Task) {
		return unknown
	}
	return writeTask(c, http.StatusOK, task.Task)
}

// taskID reads a task's id.
func taskID(text string) (domain.TaskID, bool) {
	if !isPlainUUID(strings.ToLower(text)) {
		return domain.TaskID{}, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil
}

// seesTask tells whether a task is there for somebody.
func (s *Server) seesTask(caller Caller, t domain.Task) bool {
	return t.Owner == caller.Project || s.seesAll(caller)
}

// seesAll tells whether somebody sees what any project has.
func (s *Server) seesAll(caller Caller) bool {
	credentials := caller.credentials()
	return s.Policy.IsAdmin(&credentials)
}

// deleteTask serves DELETE /v2/tasks/:task. Tasks go away by themselves; Glance does not even
// look whether this one is there.
func (s *Server) deleteTask(c *call) error {
	c.Response().Header().Set("Allow", http.MethodGet)
	return fault(http.StatusMethodNotAllowed, "This operation is currently not permitted on Glance Tasks. "+
		"They are auto deleted after reaching the time based on their expires_at property.")
}

// taskTime is how tasks tell times; UTC.
const taskTime = "2006-01-02T15:04:05Z"

// writeTask answers with all of a task.
func writeTask(c *call, status int, t domain.Task) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := append(appendTask(append(*buffer, '{'), t), `,"input":`...)
	out = append(append(append(out, orJSONEmpty(t.Input)...), `,"result":`...), orJSONEmpty(t.Result)...)
	out = appendText(append(out, `,"message":`...), t.Message)
	for _, optional := range []struct{ name, value string }{
		{"image_id", t.ImageID}, {"request_id", t.RequestID}, {"user_id", t.User},
	} {
		if optional.value != "" {
			out = appendText(append(append(append(out, `,"`...), optional.name...), `":`...), optional.value)
		}
	}
	*buffer = append(out, '}')
	return writeJSON(c, status, *buffer)
}

func orJSONEmpty(text string) string {
	if text == "" {
		return jsonEmpty
	}
	return text
}

// appendTask writes what lists show of a task, without the braces.
func appendTask(out []byte, t domain.Task) []byte {
	out = append(appendUUID(append(out, `"id":"`...), t.ID), `","type":`...)
	out = append(appendText(out, t.Type), `,"status":"`...)
	out = append(append(out, t.Status...), `","owner":`...)
	out = append(appendText(out, t.Owner), `,"created_at":"`...)
	out = append(t.Created.UTC().AppendFormat(out, taskTime), `","updated_at":"`...)
	out = append(t.Updated.UTC().AppendFormat(out, taskTime), '"')
	if !t.Expires.IsZero() {
		out = append(t.Expires.UTC().AppendFormat(append(out, `,"expires_at":"`...), taskTime), '"')
	}
	out = appendUUID(append(out, `,"self":"`+taskPath+`/`...), t.ID)
	return append(out, `","schema":"/v2/schemas/task"`...)
}

// listImageTasks serves GET /v2/images/:image/tasks. Its items are not like those of the other
// lists: they have every member, and times without a zone.
func (s *Server) listImageTasks(c *call) error {
	if c.Request().ContentLength != 0 {
		return fault(http.StatusBadRequest, "A body is not expected with this request.")
	}
	tasks, err := s.Views.ImageTasks(c.Request().Context(), c.Param("image"), c.caller.Project, s.seesAll(c.caller))
	if err != nil {
		return err
	}
	if len(tasks) == 0 && s.Images.Service != nil {
		if err := s.findImage(c, c.Param("image")); err != nil {
			return err
		}
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := append(*buffer, `{"tasks":[`...)
	for i, t := range tasks {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendTaskRow(out, t.Task)
	}
	*buffer = append(out, `]}`...)
	return writeJSON(c, http.StatusOK, *buffer)
}

// rowTime is how an image's tasks tell times; UTC, though they do not say so.
const rowTime = "2006-01-02T15:04:05.000000"

func appendTaskRow(out []byte, t domain.Task) []byte {
	out = appendUUID(append(out, `{"id":"`...), t.ID)
	out = append(out, '"')
	for _, text := range []struct {
		name, value string
		given       bool
	}{
		{"type", t.Type, true}, {"status", string(t.Status), true}, {"owner", t.Owner, true},
		{"image_id", t.ImageID, t.ImageID != ""}, {"request_id", t.RequestID, t.RequestID != ""}, {"user_id", t.User, t.User != ""},
		{"created_at", t.Created.UTC().Format(rowTime), true}, {"updated_at", t.Updated.UTC().Format(rowTime), true},
		{"expires_at", t.Expires.UTC().Format(rowTime), !t.Expires.IsZero()}, {"deleted_at", "", false},
		{"message", t.Message, true},
	} {
		out = append(append(append(out, `,"`...), text.name...), `":`...)
		if text.given {
			out = appendText(out, text.value)
		} else {
			out = append(out, jsonEmpty...)
		}
	}
	out = append(append(out, `,"deleted":false,"input":`...), orJSONEmpty(t.Input)...)
	return append(append(append(out, `,"result":`...), orJSONEmpty(t.Result)...), '}')
}
