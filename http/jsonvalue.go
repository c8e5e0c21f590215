package http

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// jsonValue is a JSON value that a schema is held against. Its text is valid JSON.
type jsonValue struct {
	text string
}

// parseValue takes any JSON value.
func parseValue(body []byte) (*jsonValue, bool) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, false
	}
	return &jsonValue{string(bytes.TrimSpace(body))}, true
}

func (v *jsonValue) isObject() bool { return isObject(v.text) }
func (v *jsonValue) isArray() bool  { return isArray(v.text) }
func (v *jsonValue) isText() bool   { return isText(v.text) }
func (v *jsonValue) isNull() bool   { return v.text == "null" }

// words is a text without its quotes.
func (v *jsonValue) words() string { return unquote(v.text) }

// members are those of an object by name, and the names in the order of first mention. Of a
// name that comes again the last value counts.
func (v *jsonValue) members() (byName map[string]*jsonValue, names []string) {
	byName = map[string]*jsonValue{}
	for name, value := range members(v.text) {
		if byName[name] == nil {
			names = append(names, name)
		}
		byName[name] = &jsonValue{value}
	}
	return byName, names
}

func (v *jsonValue) items() (items []*jsonValue) {
	for value := range elements(v.text) {
		items = append(items, &jsonValue{value})
	}
	return items
}

// deepestShown bounds how deep a value is written into an error, and longestShown how many bytes
// it may have: each level is read once for every one above it.
const (
	deepestShown = 100
	longestShown = 8 << 10
)

// shown is the value as Nova, Cinder and the like print it: the way of Python. Of one that is too
// long it is the beginning, as it came.
func (v *jsonValue) shown() string {
	if len(v.text) > longestShown {
		return beginning(v.text, longestShown)
	}
	return v.inPython(0)
}

// beginning is what a text begins with, in whole characters, and a sign that there is more.
func beginning(text string, bytes int) string { return strings.ToValidUTF8(text[:bytes], "") + "..." }

func (v *jsonValue) inPython(depth int) string {
	switch {
	case depth > deepestShown:
		return "..."
	case v.isText():
		return quotedInPython(v.words())
	case v.isArray():
		var parts []string
		for _, item := range v.items() {
			parts = append(parts, item.inPython(depth+1))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case v.isObject():
		var parts []string
		byName, names := v.members()
		for _, name := range names {
			parts = append(parts, quotedInPython(name)+": "+byName[name].inPython(depth+1))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	switch v.text {
	case "null":
		return "None"
	case "true":
		return "True"
	case "false":
		return "False"
	}
	return v.text
}

// bare is the value as it is put into a sentence: a text stands without quotes.
func (v *jsonValue) bare() string {
	if v.isText() && len(v.text) <= longestShown {
		return v.words()
	}
	return v.shown()
}

// quotedInPython is a text as Python writes it down.
func quotedInPython(text string) string {
	quote := byte('\'')
	if strings.Contains(text, "'") && !strings.Contains(text, `"`) {
		quote = '"'
	}
	out := []byte{quote}
	for _, r := range text {
		switch {
		case r == rune(quote) || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, `\n`...)
		case r == '\r':
			out = append(out, `\r`...)
		case r == '\t':
			out = append(out, `\t`...)
		case r < ' ' || r == 0x7f:
			out = fmt.Appendf(out, `\x%02x`, r)
		case unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		case r < 0x100:
			out = fmt.Appendf(out, `\x%02x`, r)
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = fmt.Appendf(out, `\U%08x`, r)
		}
	}
	return string(append(out, quote))
}

// schemaError is what a value of a request breaks, in the words of Python's jsonschema as
// Nova passes them on.
type schemaError struct {
	field  string // the last element of its path; empty: the whole body
	value  *jsonValue
	reason string
}

func (e *schemaError) Error() string {
	if e.field == "" {
		return e.reason
	}
	return "Invalid input for field/attribute " + e.field + ". Value: " + e.value.bare() + ". " + e.reason
}

// notOfType refuses a value of another type.
func notOfType(field string, v *jsonValue, types ...string) error {
	return &schemaError{field, v, v.shown() + " is not of type '" + strings.Join(types, "', '") + "'"}
}

// checkKeys refuses an object that lacks a key, or has one too many.
func checkKeys(field string, v *jsonValue, required, known []string, strict bool) (map[string]*jsonValue, error) {
	if !v.isObject() {
		return nil, notOfType(field, v, "object")
	}
	byName, names := v.members()
	for _, name := range required {
		if byName[name] == nil {
			return nil, &schemaError{field, v, quotedInPython(name) + " is a required property"}
		}
	}
	var extra []string
	for _, name := range names {
		if !slices.Contains(known, name) {
			extra = append(extra, quotedInPython(name))
		}
	}
	if len(extra) > 0 && strict {
		were := " were unexpected)"
		if len(extra) == 1 {
			were = " was unexpected)"
		}
		return nil, &schemaError{field, v, "Additional properties are not allowed (" + strings.Join(extra, ", ") + were}
	}
	return byName, nil
}

// checkText refuses what is no text, or too long a one; characters.
func checkText(field string, v *jsonValue, most int) error {
	if !v.isText() {
		return notOfType(field, v, "string")
	}
	if utf8.RuneCountInString(v.words()) > most {
		return &schemaError{field, v, v.shown() + " is too long"}
	}
	return nil
}

// checkOneOf refuses a text that is none of a list.
func checkOneOf(field string, v *jsonValue, list []string) error {
	if !v.isText() {
		return notOfType(field, v, "string")
	}
	if slices.Contains(list, v.words()) {
		return nil
	}
	var shown []string
	for _, its := range list {
		shown = append(shown, quotedInPython(its))
	}
	return &schemaError{field, v, v.shown() + " is not one of [" + strings.Join(shown, ", ") + "]"}
}

// at names an element of a list in an error.
func at(index int) string { return strconv.Itoa(index) }
