package http

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"nabu/domain"
)

// frame is a request on a WebSocket. Its parts are JSON texts as the client wrote them,
// or what MessagePack says in JSON.
type frame struct {
	binary  bool   // it came as MessagePack, and so does the answer
	action  string // "null" when it is missing
	headers string // an object
	body    string // an object, once the frame has passed the schema
}

// undecoded is what is said of a frame that cannot be decoded.
func undecoded(binary bool) frame {
	return frame{binary: binary, action: "null", headers: "{}", body: "{}"}
}

// decodeFrame takes a frame apart.
func decodeFrame(binary bool, data []byte) (frame, error) {
	f := undecoded(binary)
	if binary {
		var err error
		if data, err = jsonOf(data); err != nil {
			return f, domain.Errorf(domain.Malformed, "the frame cannot be decoded: %v", err)
		}
	}
	text, err := parseJSON(data)
	if err != nil {
		return f, domain.Errorf(domain.Malformed, "the frame cannot be decoded: %v", err)
	}
	if !isObject(text) {
		return f, domain.Errorf(domain.Malformed, "the frame must be a map")
	}
	for name, value := range members(text) {
		switch name {
		case "action":
			f.action = value
		case "headers":
			f.headers = value
		case "body":
			f.body = value
		}
	}
	return f, nil
}

// name is the frame's action; empty: none that could be one.
func (f frame) name() string {
	if !isText(f.action) {
		return ""
	}
	return unquote(f.action)
}

// appendAnswer writes the answer to a frame: the frame itself, a body that is JSON, and
// a status. One that was given before says so.
func (f frame) appendAnswer(out []byte, status int, body []byte, replayed bool) []byte {
	out = append(append(out, `{"request":{"action":`...), f.action...)
	out = append(append(out, `,"body":`...), f.body...)
	out = appendRedacted(append(out, `,"headers":`...), f.headers)
	out = append(append(out, `,"api":"v2"},"body":`...), body...)
	out = strconv.AppendInt(append(out, `,"headers":{"status":`...), int64(status), 10)
	if replayed {
		out = append(out, `,"`+headerReplayed+`":"true"`...)
	}
	return append(out, `}}`...)
}

// credentials are headers that let somebody in. No answer repeats their values.
var credentials = []string{"X-Auth-Token", "X-Service-Token", "X-Subject-Token", "Authorization", "Url-Signature"}

// appendRedacted writes a frame's headers without what is secret.
func appendRedacted(out []byte, headers string) []byte {
	if !isObject(headers) {
		return append(out, "{}"...)
	}
	secret := false
	for name := range members(headers) {
		secret = secret || isCredential(name)
	}
	if !secret {
		return append(out, headers...)
	}
	out = append(out, '{')
	for name, value := range members(headers) {
		if out[len(out)-1] != '{' {
			out = append(out, ',')
		}
		out = append(appendText(out, name), ':')
		if isCredential(name) {
			out = append(out, `"***"`...)
		} else {
			out = append(out, value...)
		}
	}
	return append(out, '}')
}

// isCredential tells whether a name is one of a credential, however it is written.
func isCredential(name string) bool {
	name = http.CanonicalHeaderKey(strings.ReplaceAll(strings.TrimSpace(name), "_", "-"))
	return slices.Contains(credentials, name)
}

// header reads a frame's headers as if they had come with a request of HTTP. Lists of
// texts, in which signed paths and methods come, stand for their items with commas
// between. What is no text at all counts as absent, but for a key: who sends one relies on it.
func (f frame) header() (http.Header, error) {
	if !isObject(f.headers) {
		return nil, domain.Errorf(domain.Malformed, "headers must be a map")
	}
	header := http.Header{}
	for name, value := range members(f.headers) {
		text, ok := headerText(value)
		if !ok && http.CanonicalHeaderKey(name) == headerIdempotencyKey {
			return nil, domain.Errorf(domain.Malformed, "header %s must be a text", headerIdempotencyKey)
		}
		if !ok {
			continue
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, domain.Errorf(domain.Malformed, "header %s must not hold control characters", name)
		}
		if strings.ContainsRune(text, utf8.RuneError) { // it stands for any half: two projects would be one
			return nil, domain.Errorf(domain.Malformed, "header %s must not hold half of a surrogate pair, nor U+FFFD", name)
		}
		header[http.CanonicalHeaderKey(name)] = []string{text}
	}
	return header, nil
}

func headerText(value string) (text string, ok bool) {
	if isText(value) {
		return unquote(value), true
	}
	if !isArray(value) {
		return "", false
	}
	var texts []string
	for item := range elements(value) {
		if !isText(item) {
			return "", false
		}
		texts = append(texts, unquote(item))
	}
	return strings.Join(texts, ","), true
}

// appendSorted writes a JSON text with the members of its objects in the order of their
// names: most languages keep maps in none, so a frame that is sent again may have another.
func appendSorted(out []byte, value string) []byte { return layoutOf(value).appendSorted(out, 0) }

func (l layout) appendSorted(out []byte, value int) []byte {
	switch l.text[value] {
	case '{':
		type member struct {
			name  string
			value int
		}
		var all []member
		for name, its := range l.members(value) {
			all = append(all, member{unquote(name), its})
		}
		slices.SortStableFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
		out = append(out, '{')
		for _, m := range all {
			out = append(appendText(out, m.name), ':')
			out = append(l.appendSorted(out, m.value), ',')
		}
		return append(out, '}')
	case '[':
		out = append(out, '[')
		for item := range l.elements(value) {
			out = append(l.appendSorted(out, item), ',')
		}
		return append(out, ']')
	}
	return append(out, l.of(value)...)
}

// shape is what a member of a frame's body has to be.
type shape string

const (
	aText    shape = "a text"
	aNumber  shape = "an integer"
	aFlag    shape = "true or false"
	aList    shape = "a list"
	anObject shape = "a map"
)

func (s shape) fits(value string) bool {
	switch s {
	case aText:
		return isText(value)
	case aList:
		return isArray(value)
	case anObject:
		return isObject(value)
	case aFlag:
		return value == "true" || value == "false"
	}
	_, whole := wholeNumber(value)
	return whole
}

// parameters of an action are the members of a frame's body that it knows.
type parameters []struct {
	name     string
	shape    shape
	required bool
}

// arguments are the members of a frame's body, as JSON.
type arguments map[string]string

// read takes a frame's body apart. What an action does not know is ignored.
func (known parameters) read(body string) (arguments, error) {
	if !isObject(body) {
		return nil, domain.Errorf(domain.Malformed, "body must be a map")
	}
	args := arguments{}
	for name, value := range members(body) {
		args[name] = value
	}
	for _, p := range known {
		value, given := args[p.name]
		switch {
		case !given && p.required:
			return nil, domain.Errorf(domain.Malformed, "body must have %s", p.name)
		case given && !p.shape.fits(value):
			return nil, domain.Errorf(domain.Malformed, "%s must be %s", p.name, p.shape)
		}
	}
	return args, nil
}

// The readers rely on what the action's parameters say.

// text is a text; empty without one.
func (args arguments) text(name string) string {
	if value, given := args[name]; given {
		return unquote(value)
	}
	return ""
}

// flag is a boolean; false without one.
func (args arguments) flag(name string) bool { return args[name] == "true" }

// number is an integer from 1 to highest.
func (args arguments) number(name string, highest int) (value int, given bool, err error) {
	text, given := args[name]
	if !given {
		return 0, false, nil
	}
	n, _ := wholeNumber(text)
	if n < 1 || n > int64(highest) {
		return 0, true, domain.Errorf(domain.Invalid, "%s must be between 1 and %d", name, highest)
	}
	return int(n), true, nil
}

// limit is the size of a page, or of a claim.
func (args arguments) limit(highest int) (int, error) {
	value, given, err := args.number("limit", highest)
	if !given {
		value = min(defaultPage, highest)
	}
	return value, err
}

// texts are the items of a list, no more than highest.
func (args arguments) texts(name string, highest int) ([]string, error) {
	value, given := args[name]
	if !given {
		return nil, nil
	}
	var texts []string
	for item := range elements(value) {
		if !isText(item) {
			return nil, domain.Errorf(domain.Malformed, "%s must hold texts", name)
		}
		if len(texts) == highest {
			return nil, domain.Errorf(domain.Invalid, "%s must have at most %d items", name, highest)
		}
		texts = append(texts, unquote(item))
	}
	return texts, nil
}
