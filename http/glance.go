package http

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"nabu/domain"
)

// glance is the dialect of the Image API: WebOb's, in which Glance is written.
var glance = &dialect{
	refusal: asFault, write: writeFault,
	failure:     func(string) *problem { return fault(http.StatusInternalServerError, "") },
	unavailable: fault(http.StatusServiceUnavailable, ""),
}

// fault is an error answer of the Image API. Without a text of its own it has the one that
// its status has.
func fault(status int, text string, args ...any) *problem {
	if text == "" {
		return &problem{status: status, title: faultTitle(status), description: stockTexts[status]}
	}
	return &problem{status, faultTitle(status), readable(fmt.Sprintf(text, args...))}
}

// faultTitle is what WebOb calls a status, which is in two cases not what Go does.
func faultTitle(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return "Request Entity Too Large"
	case statusClientLeft:
		return "Client Closed Request"
	}
	return http.StatusText(status)
}

// stockTexts is what an answer says when there is nothing more to say than its status. It
// means what WebOb's own texts mean; clients print it.
var stockTexts = map[int]string{
	http.StatusBadRequest:                  "The server could not comply with the request since it is either malformed or otherwise incorrect.",
	http.StatusUnauthorized:                "This server could not verify that you are authorized to access the document you requested.",
	http.StatusForbidden:                   "Access was denied to this resource.",
	http.StatusNotFound:                    "The resource could not be found.",
	http.StatusRequestEntityTooLarge:       "The body of your request was too large for this server.",
	http.StatusRequestHeaderFieldsTooLarge: "The request header fields were too large",
	http.StatusInternalServerError:         "The server has either erred or is incapable of performing the requested operation.",
	http.StatusBadGateway:                  "Bad gateway.",
	http.StatusGatewayTimeout:              "The service behind this one did not answer in time.",
	http.StatusServiceUnavailable:          "The server is currently unavailable. Please try again at a later time.",
}

// glanceStatuses are Glance's statuses for what the domain refuses, and nabu's for what
// Glance cannot refuse.
var glanceStatuses = map[domain.Code]int{
	domain.Invalid:     http.StatusBadRequest,
	domain.Malformed:   http.StatusBadRequest,
	domain.NotFound:    http.StatusNotFound,
	domain.Conflict:    http.StatusConflict,
	domain.KeyReused:   http.StatusUnprocessableEntity,
	domain.KeyInUse:    http.StatusConflict,
	domain.Unavailable: http.StatusServiceUnavailable,
}

// asFault finds the answer that an error stands for, if it is one that a client may read.
func asFault(err error) (*problem, bool) {
	if p, ok := errors.AsType[*problem](err); ok {
		if p.description == "" {
			return fault(p.status, ""), true
		}
		return &problem{p.status, faultTitle(p.status), p.description}, true
	}
	if _, ok := errors.AsType[tooLarge](err); ok {
		return fault(http.StatusRequestEntityTooLarge, ""), true
	}
	if refusal, ok := errors.AsType[*domain.Error](err); ok {
		status, known := glanceStatuses[refusal.Code]
		return fault(status, "%s", refusal.Message), known
	}
	if f, ok := errors.AsType[*forbidden](err); ok {
		return fault(http.StatusForbidden, "You are not authorized to complete %s action.", f.rule), true
	}
	if failed, ok := errors.AsType[*echo.HTTPError](err); ok {
		// Echo's proxy names the address that it could not reach, which is nobody's business.
		return fault(failed.Code, ""), failed.Code != http.StatusInternalServerError
	}
	return nil, false
}

// writeFault writes an error in the one of WebOb's three forms that the client asks for. Only
// clients that ask for JSON get it: glanceclient asks for nothing and cannot read it.
func writeFault(c echo.Context, p *problem) {
	header := c.Response().Header()
	header.Set("Vary", "Accept")
	if p.status == http.StatusServiceUnavailable {
		header.Set("Retry-After", "1")
	}
	status := strconv.Itoa(p.status) + " " + p.title
	contentType, body := "text/plain; charset=UTF-8", ""
	switch faultForm(c.Request().Header["Accept"]) {
	case formHTML:
		contentType, body = "text/html; charset=UTF-8", htmlFault(status, faultBody(c, p, escapeHTML))
	case formJSON:
		contentType, body = "application/json", jsonFault(status, p.title, faultBody(c, p, escapeMarkup))
	default:
		body = status + "\n\n" + withoutTags(faultBody(c, p, func(text string) string { return text }))
	}
	_ = writeBody(c.Response(), p.status, contentType, []byte(body)) // the client has left, or the next write will tell
}

// faultBody is the part that all three forms have, with what the client may have sent
// escaped.
func faultBody(c echo.Context, p *problem, escape func(string) string) string {
	if p.status == http.StatusMethodNotAllowed && p.description == "" {
		return "The method " + escape(c.Request().Method) + " is not allowed for this resource. <br /><br />\n\n"
	}
	return escape(p.description) + "<br /><br />\n\n\n"
}

func htmlFault(status, body string) string {
	return "<html>\n <head>\n  <title>" + status + "</title>\n </head>\n <body>\n  <h1>" + status + "</h1>\n  " +
		body + "\n </body>\n</html>"
}

func jsonFault(status, title, body string) string {
	out := appendText([]byte(`{"message": `), body)
	out = appendText(append(out, `, "code": `...), status)
	out = appendText(append(out, `, "title": `...), title)
	return string(append(out, '}'))
}

var (
	breaks = regexp.MustCompile(`(?is)<br.*?>`)
	tags   = regexp.MustCompile(`(?s)<!--|-->|<.*?>`)
)

// withoutTags is a body as text. What looks like a tag is lost, the client's as well.
func withoutTags(body string) string {
	body = strings.NewReplacer("\n", " ", "\r", "").Replace(body)
	return tags.ReplaceAllString(breaks.ReplaceAllString(body, "\n"), "")
}

// escapeHTML escapes as WebOb does for a page: nothing but ASCII is left.
func escapeHTML(text string) string {
	out := strings.Builder{}
	for _, r := range strings.NewReplacer("&#34;", "&quot;", "&#39;", "&#x27;").Replace(html.EscapeString(text)) {
		if r < 0x80 {
			out.WriteRune(r)
		} else {
			fmt.Fprintf(&out, "&#%d;", r)
		}
	}
	return out.String()
}

// escapeMarkup escapes what a page could be made of. In JSON quotes stay as they are, or
// clients would print them escaped.
func escapeMarkup(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}

// form is how an error is written, as the client likes it best.
type form int

const (
	formText form = iota
	formHTML
	formJSON
)

// faultForm is the form that Accept headers ask for: the better liked of HTML and JSON, HTML
// if both are liked the same, and text for who likes neither. Nothing that can be read is
// HTML, as in WebOb.
func faultForm(accept []string) form {
	ranges, valid := mediaRanges(strings.Join(accept, ","))
	if !valid {
		return formHTML
	}
	asHTML, asJSON := likes(ranges, "text", "html"), likes(ranges, "application", "json")
	switch {
	case asHTML > 0 && asHTML >= asJSON:
		return formHTML
	case asJSON > 0:
		return formJSON
	}
	return formText
}

// mediaRange is one item of an Accept header that has no parameters of its own.
type mediaRange struct {
	major, minor string
	quality      float64
}

var mediaRangeForm = regexp.MustCompile(`^([\w!#$%&'*+.^|~-]+)/([\w!#$%&'*+.^|~-]+)$`)

// mediaRanges reads an Accept header. Items with parameters fit nothing that is offered, and
// are left out.
func mediaRanges(accept string) (ranges []mediaRange, valid bool) {
	for item := range strings.SplitSeq(accept, ",") {
		media, parameters, _ := strings.Cut(item, ";")
		if media = strings.TrimSpace(media); media == "" {
			continue
		}
		parts := mediaRangeForm.FindStringSubmatch(strings.ToLower(media))
		if parts == nil {
			return nil, false
		}
		if names := strings.ReplaceAll(strings.ToLower(parameters), " ", ""); names == "" || strings.HasPrefix(names, "q=") {
			ranges = append(ranges, mediaRange{parts[1], parts[2], quality(parameters)})
		}
	}
	return ranges, true
}

// likes is the quality of a media type: that of the range that says most about it, 0 if
// there is none.
func likes(ranges []mediaRange, major, minor string) float64 {
	best, liked := -1, 0.0
	for _, r := range ranges {
		specific := -1
		switch {
		case r.major == major && r.minor == minor:
			specific = 2
		case r.major == major && r.minor == "*":
			specific = 1
		case r.major == "*" && r.minor == "*":
			specific = 0
		}
		if specific > best {
			best, liked = specific, r.quality
		}
	}
	return liked
}

// maxRequestIDLength is how long the name may be that a client gives its request; Glance's
// max_request_id_length.
const maxRequestIDLength = 64

// checkedAsGlance wraps a route's handler into the checks that Glance makes first, in its
// order.
func (s *Server) checkedAsGlance(r route) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		if !slices.Contains(imageVersions, c.Param("version")) {
			return s.chooseImageVersion(c)
		}
		its := &call{Context: c}
		if its.caller, err = s.identifyCaller(c); err != nil {
			return err
		}
		if err := its.caller.checkProject(); err != nil {
			return err
		}
		if len(c.Request().Header.Get(headerRequestID)) > maxRequestIDLength {
			return fault(http.StatusRequestHeaderFieldsTooLarge, "")
		}
		if err := s.check(r.rule, its.caller); err != nil {
			return err
		}
		return r.handle(its)
	}
}
