package http

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"nabu/commands"
	"nabu/domain"
)

// The headers that nabu reads and writes, in the form in which net/http keeps them.
const (
	headerClientID       = "Client-Id"
	headerContentType    = "Content-Type"
	headerIdempotencyKey = "Idempotency-Key"
	headerReplayed       = "Idempotency-Replayed"
	headerLocation       = "Location"
	headerProject        = "X-Project-Id"
	headerRequestID      = "X-Openstack-Request-Id"
)

// call is a request to the Messaging API that has passed the checks which come
// before every handler.
type call struct {
	echo.Context
	caller Caller
	client string         // who the caller's program says it is
	queue  domain.QueueID // on routes that name one
	// version is the one that is answered by, of an API that has such.
	version microversion
	// allow asks the policy, where that is done when the request is understood.
	allow func() error
}

// checked wraps a route's handler into the checks that Zaqar makes first, in
// Zaqar's order: a client that does two things wrong is told of the same one.
func (s *Server) checked(r route) echo.HandlerFunc {
	versioned, named := strings.HasPrefix(r.path, "/v2"), strings.Contains(r.path, "/:queue")
	return func(c echo.Context) error {
		its := &call{Context: c}
		var err error
		if its.caller, err = s.identifyCaller(c); err != nil {
			return err
		}
		if err := checkMedia(c.Request()); err != nil {
			return err
		}
		if versioned {
			if its.client, err = s.identify(its.caller, c.Request().Header); err != nil {
				return err
			}
		}
		if named {
			its.queue = domain.QueueID{Project: its.caller.Project, Name: strings.Clone(c.Param("queue"))} // it is remembered, not the request
			if err := domain.CheckQueueName(its.queue.Name); err != nil {
				return badRequest("Invalid queue identification", "%v", err)
			}
		}
		if err := s.check(r.rule, its.caller); err != nil {
			return err
		}
		return r.handle(its)
	}
}

// checkMedia refuses what a form sends and what no JSON satisfies.
func checkMedia(r *http.Request) error {
	if r.ContentLength != 0 && mediaType(r.Header.Get(headerContentType)) == "application/x-www-form-urlencoded" {
		return badRequest("Invalid Content-Type", "The body must be JSON, not a form.")
	}
	if !acceptsJSON(r.Header["Accept"]) {
		return errNotAcceptable
	}
	return nil
}

// mediaType is a Content-Type without its parameters.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(media))
}

// acceptsJSON tells whether application/json satisfies Accept headers. The most
// specific range that covers it decides.
func acceptsJSON(headers []string) bool {
	if len(headers) == 0 || len(headers) == 1 && (headers[0] == "*/*" || headers[0] == "application/json") {
		return true
	}
	ranges := strings.Join(headers, ",")
	if strings.TrimSpace(ranges) == "" {
		return true
	}
	best, accepted := 0, false
	for item := range strings.SplitSeq(ranges, ",") {
		media, parameters, _ := strings.Cut(item, ";")
		specific := 0
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "application/json":
			specific = 3
		case "application/*":
			specific = 2
		case "*/*", "*":
			specific = 1
		}
		if specific > best {
			best, accepted = specific, quality(parameters) > 0
		}
	}
	return accepted
}

// quality is the q of a media range: 1 when it has none that can be read.
func quality(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return q
			}
		}
	}
	return 1
}

// identify reads who calls: the program by its Client-ID, and then the project.
func (s *Server) identify(caller Caller, header http.Header) (client string, err error) {
	sent, given := header[headerClientID]
	if !given {
		return "", badRequest("Missing header value", "The Client-ID header is required.")
	}
	client, valid := clientID(sent[0], s.AnyClientID)
	if !valid {
		return "", badRequest("Wrong UUID value", "The Client-ID header must be a UUID.")
	}
	switch {
	case !caller.HasProject:
		return "", badRequest("Project-Id Missing", "The X-Project-Id header is required.")
	case caller.Project == "":
		return "", badRequest("Empty project header not allowed", "The X-Project-Id header must not be empty.")
	}
	if err := domain.CheckProject(caller.Project); err != nil {
		return "", badRequest("Invalid queue identification", "%v", err)
	}
	return client, nil
}

// clientID reads a Client-ID. UUIDs are the same however they are written: Zaqar's
// clients send them with and without dashes. any takes other texts as they are.
func clientID(sent string, any bool) (id string, valid bool) {
	if isPlainUUID(sent) {
		return sent, true
	}
	if id, valid := looseUUID(sent); valid {
		return id.String(), true
	}
	n := utf8.RuneCountInString(sent)
	return sent, any && n >= 10 && n <= 36 && utf8.ValidString(sent)
}

// isPlainUUID tells whether a text is a UUID in lower case with dashes.
func isPlainUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		c := text[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
				return false
			}
		}
	}
	return true
}

const requestIDPrefix = "req-"

// newRequestID names a request.
func newRequestID() string {
	var id uuid.UUID
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 4<<4
	id[8] = id[8]&0x3f | 2<<6
	var text [len(requestIDPrefix) + 36]byte
	return string(appendUUID(append(text[:0], requestIDPrefix...), id))
}

// requestID is the name that the edge has given a request.
func requestID(c echo.Context) string {
	if id := c.Response().Header()[headerRequestID]; len(id) > 0 {
		return id[0]
	}
	return ""
}

// globalRequestID is the name that the caller has given the request, if it is one
// that OpenStack's services give.
func globalRequestID(header http.Header) string {
	sent := header.Get(headerRequestID)
	if id, ok := strings.CutPrefix(sent, requestIDPrefix); ok && isPlainUUID(strings.ToLower(id)) {
		return sent
	}
	return ""
}

// request is the context for a command: it says where the command comes from and,
// for a POST, by which name the client wants it to be carried out only once.
func (c *call) request(body []byte) (context.Context, error) {
	if c.Request().Method != http.MethodPost {
		return c.requestWithoutKey(), nil
	}
	return c.requestWithKey(body)
}

// requestWithKey is what request is for a POST, for anything else that is not the same when
// it is done twice.
func (c *call) requestWithKey(body []byte) (context.Context, error) {
	key, given := c.Request().Header[headerIdempotencyKey]
	if !given {
		return c.requestWithoutKey(), nil
	}
	if err := checkIdempotencyKey(key[0]); err != nil {
		return nil, err
	}
	return commands.WithRequest(c.Request().Context(), commands.Request{
		Origin: originOf(c.caller, requestID(c), c.Request().Header), IdempotencyKey: key[0], RequestHash: c.hash(body),
		Replayed: func() { c.Response().Header().Set(headerReplayed, "true") },
	}), nil
}

func checkIdempotencyKey(key string) error {
	if !isVisibleASCII(key) || len(key) > 255 {
		return badRequest("Invalid header value", "Idempotency-Key must have 1 to 255 visible ASCII characters.")
	}
	return nil
}

// requestWithoutKey is the context for a command that does the rest of what the request
// asks for.
func (c *call) requestWithoutKey() context.Context {
	return commands.WithRequest(c.Request().Context(), commands.Request{Origin: originOf(c.caller, requestID(c), c.Request().Header)})
}

// originOf is what is written beside the events of a request.
func originOf(caller Caller, id string, header http.Header) domain.Origin {
	origin := domain.Origin{
		Project: caller.Project, Actor: caller.actor(),
		RequestID: id, GlobalRequestID: globalRequestID(header), CorrelationID: id,
	}
	if origin.GlobalRequestID != "" {
		origin.CorrelationID = origin.GlobalRequestID
	}
	return origin
}

func isVisibleASCII(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return text != ""
}

// hash tells requests apart that came with the same key. The prefix does not count:
// it is the same request wherever it goes in.
func (c *call) hash(body []byte) [sha256.Size]byte {
	r := c.Request()
	path := r.URL.EscapedPath()
	for _, prefix := range []string{messagingPrefix, imagePrefix, volumePrefix, computePrefix} {
		path = strings.TrimPrefix(path, prefix)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %q %q ", r.Method, path, r.URL.RawQuery)
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil))
}
