package http

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"nabu/domain"
)

// buffers are for bodies on their way in and out.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxKeptBuffer is how large a buffer may have grown to be used again.
const maxKeptBuffer = 512 << 10

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxKeptBuffer {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// maxTrusted is how much room a body gets before it is there: many who announce one and do
// not send it would take all there is; bytes.
const maxTrusted = 16 << 10

// tooLarge refuses a body; it is how many bytes one may have.
type tooLarge int

func (t tooLarge) Error() string { return t.Unwrap().Error() }

// Unwrap is what an API says that has no status of its own for it.
func (t tooLarge) Unwrap() error {
	return domain.Errorf(domain.Invalid, "the body must not be larger than %d bytes", int(t))
}

// readBody reads a request's body into a buffer. A body over the limit is refused as
// tooLarge, and not read further than that.
func readBody(r *http.Request, limit int, into *[]byte) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	body := (*into)[:0]
	if r.ContentLength > 0 {
		body = slices.Grow(body, int(min(r.ContentLength+1, maxTrusted)))
	}
	rest := io.LimitedReader{R: r.Body, N: int64(limit) + 1}
	for {
		if len(body) == cap(body) {
			body = slices.Grow(body, bytes.MinRead)
		}
		n, err := rest.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		*into = body
		switch {
		case len(body) > limit:
			return nil, tooLarge(limit)
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, errCut
		}
	}
}

// whole has a handler that reads no body wait for the end of its request: what is cut off before
// that changes nothing.
func whole(handle func(*call) error) func(*call) error {
	return func(c *call) error {
		if r := c.Request(); r.ContentLength != 0 {
			switch _, err := io.CopyN(io.Discard, r.Body, maxDiscarded+1); {
			case err == nil:
				return tooLarge(maxDiscarded)
			case !errors.Is(err, io.EOF):
				return errCut
			}
		}
		return handle(c)
	}
}

var errCut = domain.Errorf(domain.Malformed, "the body ends too early")

// parseJSON checks a body that must be an object or an array, and returns it
// without the space around it. It takes what is valid UTF-8 and valid JSON, with
// integers that fit 64 bits: Zaqar keeps no others.
func parseJSON(body []byte) (string, error) {
	if !utf8.Valid(body) {
		return "", domain.Errorf(domain.Malformed, "the body must be UTF-8")
	}
	if !json.Valid(body) {
		return "", whyInvalid(body)
	}
	text := string(bytes.TrimSpace(body))
	if !isObject(text) && !isArray(text) {
		return "", domain.Errorf(domain.Malformed, "the body must be a JSON object or array")
	}
	if hasLongNumber(body) && !integersFit(text) {
		return "", domain.Errorf(domain.Malformed, "the body holds an integer of more than 64 bits")
	}
	return text, nil
}

// whyInvalid says what is wrong with a body that is no valid JSON.
func whyInvalid(body []byte) error {
	var whole json.RawMessage
	switch err := json.Unmarshal(body, &whole); {
	case len(bytes.TrimSpace(body)) == 0:
		return domain.Errorf(domain.Malformed, "the body must not be empty")
	case err != nil && strings.HasSuffix(err.Error(), "exceeded max depth"):
		return domain.Errorf(domain.Malformed, "the body must not be nested more than 10000 deep")
	}
	return domain.Errorf(domain.Malformed, "the body must be valid JSON")
}

// What follows takes apart JSON texts that parseJSON has found valid, and relies on
// that. Parts stay as the client wrote them, byte for byte.

func isObject(value string) bool { return value[0] == '{' }
func isArray(value string) bool  { return value[0] == '[' }
func isText(value string) bool   { return value[0] == '"' }

// members yields the members of an object in order. A name may come again.
func members(object string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		i := skipSpace(object, 1)
		for object[i] != '}' {
			end := skipText(object, i)
			name := object[i:end]
			i = skipSpace(object, skipSpace(object, end)+1) // the colon
			end = skipValue(object, i)
			if !yield(unquote(name), object[i:end]) {
				return
			}
			if i = skipSpace(object, end); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

// elements yields the elements of an array in order.
func elements(array string) iter.Seq[string] {
	return func(yield func(value string) bool) {
		i := skipSpace(array, 1)
		for array[i] != ']' {
			end := skipValue(array, i)
			if !yield(array[i:end]) {
				return
			}
			if i = skipSpace(array, end); array[i] == ',' {
				i = skipSpace(array, i+1)
			}
		}
	}
}

// unquote reads a JSON string.
func unquote(quoted string) string {
	if strings.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	var text string
	_ = json.Unmarshal([]byte(quoted), &text) // it is valid
	return text
}

func skipSpace(text string, i int) int {
	for text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r' {
		i++
	}
	return i
}

// skipText returns the end of the string that begins at i. A quote ends it unless
// an odd number of backslashes stands before it.
func skipText(text string, i int) int {
	for i++; ; i++ {
		i += strings.IndexByte(text[i:], '"')
		escapes := 0
		for text[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

// skipValue returns the end of the value that begins at i.
func skipValue(text string, i int) int {
	switch text[i] {
	case '"':
		return skipText(text, i)
	case '{', '[':
		return skipNested(text, i)
	}
	for i < len(text) && strings.IndexByte(",]} \t\r\n", text[i]) < 0 {
		i++
	}
	return i
}

func skipNested(text string, i int) int {
	for depth := 0; ; i++ {
		switch text[i] {
		case '"':
			i = skipText(text, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
}

// longNumber is the number of digits from which on an integer may not fit 64 bits.
const longNumber = 19

// hasLongNumber tells whether there may be a number that does not fit. The digits
// may stand in a string as well.
func hasLongNumber(body []byte) bool {
	digits := 0
	for _, c := range body {
		if c < '0' || c > '9' {
			digits = 0
		} else if digits++; digits == longNumber {
			return true
		}
	}
	return false
}

// nesting is how many objects and arrays stand in each other at most.
func nesting(text string) (deepest int) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = skipText(text, i) - 1
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
	}
	return deepest
}

// integersFit tells whether all integers are of 64 bits, however deep. Numbers with
// a fraction or an exponent are none.
func integersFit(text string) bool {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '"' {
			i = skipText(text, i) - 1
		} else if c == '-' || c >= '0' && c <= '9' {
			end := skipValue(text, i)
			if _, isWhole := wholeNumber(text[i:end]); !isWhole && !strings.ContainsAny(text[i:end], ".eE") {
				return false
			}
			i = end - 1
		}
	}
	return true
}

// wholeNumber reads an integer of 64 bits; texts, floats and the like are none.
func wholeNumber(value string) (int64, bool) {
	n, err := strconv.ParseInt(value, 10, 64)
	return n, err == nil
}

// writeJSON answers with a JSON text.
func writeJSON(c echo.Context, status int, text []byte) error {
	return writeBody(c.Response(), status, "application/json", text)
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) error {
	w.Header()[headerContentType] = []string{contentType}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, err := w.Write(body)
	return err
}

// appendText writes a text as JSON.
func appendText(out []byte, text string) []byte {
	const digits = "0123456789abcdef"
	out = append(out, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < ' ':
			out = append(out, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}

// appendUUID writes a UUID with dashes.
func appendUUID(out []byte, id uuid.UUID) []byte {
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			out = append(out, '-')
		}
		out = hex.AppendEncode(out, part)
	}
	return out
}
