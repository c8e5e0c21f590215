package http

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
)

// maxVolumeBody is how long a body may be; Cinder's osapi_max_request_body_size. Bytes.
const maxVolumeBody = 114688

// userMessageTime is how user messages tell times; UTC, though they do not say so.
const userMessageTime = "2006-01-02T15:04:05.000000"

// userMessageBody is a user message as clients see it, in Cinder's order.
type userMessageBody struct {
	ID              string            `json:"id"`
	EventID         string            `json:"event_id"`
	UserMessage     string            `json:"user_message"`
	MessageLevel    string            `json:"message_level"`
	CreatedAt       string            `json:"created_at"`
	GuaranteedUntil string            `json:"guaranteed_until"`
	RequestID       *string           `json:"request_id"` // null: there is none
	Links           []userMessageLink `json:"links"`
	ResourceType    string            `json:"resource_type,omitempty"`
	ResourceUUID    string            `json:"resource_uuid,omitempty"`
}

type userMessageLink struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// userMessagesPath is the collection that the request asked, behind the endpoint and the
// version.
func userMessagesPath(c *call) string {
	if project := c.Param("project"); project != "" {
		return "/" + project + "/messages"
	}
	return "/messages"
}

// userMessage is a message as this client is to see it, in a language.
func (s *Server) userMessage(c *call, m domain.UserMessage, language string) userMessageBody {
	endpoint, path := s.volumeEndpoint(c), userMessagesPath(c)+"/"+m.ID.String()
	body := userMessageBody{
		ID: m.ID.String(), EventID: m.EventID, UserMessage: s.Volumes.Messages.Catalogue.Text(m, language), MessageLevel: m.Level,
		CreatedAt: m.Created.UTC().Format(userMessageTime), GuaranteedUntil: m.GuaranteedUntil.UTC().Format(userMessageTime),
		Links:        []userMessageLink{{"self", endpoint + "/v3" + path}, {"bookmark", endpoint + path}},
		ResourceType: m.ResourceType, ResourceUUID: m.ResourceUUID,
	}
	if m.RequestID != "" {
		body.RequestID = &m.RequestID
	}
	return body
}

// encodeUserMessages writes an answer. Texts stay readable: no page is made of them.
func encodeUserMessages(value any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// writeUserMessage answers with one message.
func (s *Server) writeUserMessage(c *call, status int, m domain.UserMessage) error {
	text, err := encodeUserMessages(map[string]any{"message": s.userMessage(c, m, s.speak(c))})
	if err != nil {
		return err
	}
	return writeJSON(c, status, text)
}

// showUserMessage serves GET /v3/:project/messages/:message.
func (s *Server) showUserMessage(c *call) error {
	unknown := domain.NoUserMessage(c.Param("message"))
	id, valid := userMessageID(c.Param("message"))
	if !valid {
		return unknown
	}
	m, exists, err := s.Views.UserMessage(c.Request().Context(), id, c.caller.Project, s.seesAll(c.caller))
	if err != nil {
		return err
	}
	if !exists {
		return unknown
	}
	return s.writeUserMessage(c, http.StatusOK, m.UserMessage)
}

// userMessageID reads a message's id.
func userMessageID(text string) (domain.UserMessageID, bool) {
	if !isPlainUUID(strings.ToLower(text)) {
		return domain.UserMessageID{}, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil
}

// deleteUserMessage serves DELETE /v3/:project/messages/:message.
func (s *Server) deleteUserMessage(c *call) error {
	id, valid := userMessageID(c.Param("message"))
	if !valid {
		return domain.NoUserMessage(c.Param("message"))
	}
	cmd := commands.DeleteUserMessage{ID: id, Project: c.caller.Project, All: s.seesAll(c.caller)}
	if _, err := commands.Run(c.requestWithoutKey(), s.Executor, cmd); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// createUserMessage serves POST /v3/:project/messages, by which services tell users
// something. It is nabu's own: within Cinder it is a call of a function.
func (s *Server) createUserMessage(c *call) error {
	r := c.Request()
	if media := mediaType(r.Header.Get(headerContentType)); media != "" && media != "application/json" {
		return namedFault(http.StatusUnsupportedMediaType, "Unsupported Content-Type")
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(r, maxVolumeBody, buffer)
	if err != nil {
		return err
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return namedFault(http.StatusBadRequest, "Malformed request body")
	}
	told, err := domain.ParseUserMessage(string(body))
	if err != nil {
		return err
	}
	told.Project = c.Param("project")
	told.BroughtRequestID, told.BroughtGlobalRequestID = requestID(c), globalRequestID(r.Header)
	if !told.Named {
		told.ID = uuid.New()
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	m, err := commands.Run(ctx, s.Executor, commands.RecordUserMessage{Message: told, Rules: s.Volumes.Messages})
	if err != nil {
		return err
	}
	c.Response().Header().Set(headerLocation, s.volumeEndpoint(c)+"/v3"+userMessagesPath(c)+"/"+m.ID.String())
	return s.writeUserMessage(c, http.StatusCreated, m)
}

// speak finds the language that the client likes best of those that there are, and says so
// in the answer.
func (s *Server) speak(c *call) string {
	header := c.Response().Header()
	header.Add("Vary", "Accept-Language")
	language := likedLanguage(c.Request().Header["Accept-Language"], s.Volumes.Messages.Catalogue.Languages())
	header.Set("Content-Language", language)
	return language
}

// likedLanguage is the best liked of some languages, the first if none of them is liked. A
// range such as de-AT is satisfied by de too, and de by de-AT.
func likedLanguage(accept, languages []string) string {
	best, liked := languages[0], 0.0
	for item := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		tag, parameters, _ := strings.Cut(item, ";")
		tag = strings.ToLower(strings.TrimSpace(tag))
		q := quality(parameters)
		if tag == "" || q <= liked {
			continue
		}
		if language := languageFor(tag, languages); language != "" {
			best, liked = language, q
		}
	}
	return best
}

// languageFor is the language that satisfies a range; empty: none does.
func languageFor(tag string, languages []string) (found string) {
	if tag == "*" {
		return languages[0]
	}
	for _, language := range languages {
		if strings.EqualFold(language, tag) {
			return language
		}
	}
	primary, _, _ := strings.Cut(tag, "-")
	for _, language := range languages {
		if its, _, _ := strings.Cut(strings.ToLower(language), "-"); its == primary && found == "" {
			found = language
		}
	}
	return found
}
