package http

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"nabu/domain"
)

// defaultPage is how many items a page has when the client does not say.
const defaultPage = 10

// query are the parameters of a request, in order. One with an empty value counts
// as absent and is not in it.
type query []parameter

type parameter struct{ name, value string }

// parseQuery reads a query string. What is escaped wrongly stands for itself, as in
// Zaqar; net/url would drop the whole parameter, and a filter with it.
func parseQuery(raw string) query {
	return slices.DeleteFunc(parsePairs(raw), func(p parameter) bool { return p.value == "" })
}

// parsePairs is parseQuery with parameters that have no value.
func parsePairs(raw string) query {
	var q query
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if name, value, _ := strings.Cut(pair, "="); pair != "" {
			q = append(q, parameter{readable(unescape(name)), readable(unescape(value))})
		}
	}
	return q
}

// first is a parameter's value, the first one if there are several.
func (q query) first(name string) (value string, given bool) {
	for _, p := range q {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

// readable puts the replacement character for what is no UTF-8, as Zaqar does.
func readable(text string) string { return strings.ToValidUTF8(text, "\ufffd") }

// unescape reads "+" as a space and "%" with two hexadecimal digits as a byte.
func unescape(text string) string {
	if !strings.ContainsAny(text, "+%") {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				c, i = byte(n), i+2
			}
		}
		out = append(out, c)
	}
	return string(out)
}

// text is a parameter's value, the last one if there are several; empty: absent.
func (q query) text(name string) string {
	for i := len(q) - 1; i >= 0; i-- {
		if q[i].name == name {
			return q[i].value
		}
	}
	return ""
}

// list is the items of a parameter that is repeated, holds commas, or both. Blank
// items are left out.
func (q query) list(name string) []string {
	var items []string
	for _, p := range q {
		if p.name != name {
			continue
		}
		for item := range strings.SplitSeq(p.value, ",") {
			if strings.TrimSpace(item) != "" {
				items = append(items, item)
			}
		}
	}
	return items
}

// flag is a boolean parameter, in exactly the spellings that Zaqar takes.
func (q query) flag(name string) (value, given bool, err error) {
	switch text := q.text(name); text {
	case "":
		return false, false, nil
	case "true", "True", "t", "yes", "y", "1", "on":
		return true, true, nil
	case "false", "False", "f", "no", "n", "0", "off":
		return false, true, nil
	}
	return false, true, badRequest("Invalid parameter", "%s must be true or false.", name)
}

// limit is the size of a page, or of a claim.
func (q query) limit(highest int) (value int, given bool, err error) {
	if value, given, err = q.number("limit", highest); !given {
		value = min(defaultPage, highest)
	}
	return value, given, err
}

// number is an integer parameter from 1 on.
func (q query) number(name string, highest int) (value int, given bool, err error) {
	text := q.text(name)
	if text == "" {
		return 0, false, nil
	}
	if digits := strings.TrimPrefix(text, "-"); digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, true, badRequest("Invalid parameter", "%s must be an integer.", name)
	}
	n, fits := wholeNumber(text)
	if !fits || n < 1 || n > int64(highest) {
		return 0, true, domain.Errorf(domain.Invalid, "%s must be between 1 and %d", name, highest)
	}
	return int(n), true, nil
}

// ids are the items of a list that may not be longer than highest.
func (q query) ids(highest int) ([]string, error) {
	ids := q.list("ids")
	if len(ids) > highest {
		return nil, domain.Errorf(domain.Invalid, "ids must name at most %d messages", highest)
	}
	return ids, nil
}

// link is a relative link that is being written: path, query, query and so on.
type link struct {
	href      []byte
	separator byte
}

func newLink(path string) *link { return &link{[]byte(path), '?'} }

func (l *link) add(name, value string) {
	l.href = append(l.href, l.separator)
	l.href = append(l.href, url.QueryEscape(name)...)
	l.href = append(l.href, '=')
	l.href = append(l.href, url.QueryEscape(value)...)
	l.separator = '&'
}

// addFlag repeats a boolean that the client gave.
func (l *link) addFlag(name string, value, given bool) {
	if given {
		l.add(name, strconv.FormatBool(value))
	}
}

// addLimit repeats a page size that the client gave.
func (l *link) addLimit(value int, given bool) {
	if given {
		l.add("limit", strconv.Itoa(value))
	}
}

// addWait repeats how long the client waits.
func (l *link) addWait(wait time.Duration) {
	if wait > 0 {
		l.add("wait", strconv.Itoa(int(wait/time.Second)))
	}
}

// appendNext writes the links of a page. Every page that is not empty has a next
// one, the last as well: gophercloud would ask the bare collection without it, and
// zaqarclient polls it for what comes later.
func appendNext(out []byte, next *link) []byte {
	out = append(out, `"links":[`...)
	if next != nil {
		out = append(out, `{"rel":"next","href":"`...)
		out = append(out, next.href...)
		out = append(out, `"}`...)
	}
	return append(out, ']')
}
