package http

import (
	"crypto/md5"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// checksum is Zaqar's checksum of a message's body: MD5 over the JSON text that
// Python's json.dumps makes of it. null has none.
func checksum(body string) string {
	if body == "null" {
		return ""
	}
	sum := md5.Sum(appendPython(nil, body))
	return "MD5:" + hex.EncodeToString(sum[:])
}

// appendPython writes a valid JSON value as Python would after reading it: one space
// after commas and colons, everything but printable ASCII escaped, floats in their
// shortest form, and a repeated key at its first place with its last value.
func appendPython(out []byte, value string) []byte {
	return layoutOf(value).appendPython(out, skipSpace(value, 0))
}

func (l layout) appendPython(out []byte, value int) []byte {
	switch l.text[value] {
	case '{':
		return l.appendPythonObject(out, value)
	case '[':
		out = append(out, '[')
		first := true
		for item := range l.elements(value) {
			if !first {
				out = append(out, ", "...)
			}
			first = false
			out = l.appendPython(out, item)
		}
		return append(out, ']')
	case '"':
		return appendPythonText(out, l.of(value))
	case 't', 'f', 'n':
		return append(out, l.of(value)...)
	}
	return appendPythonNumber(out, l.of(value))
}

func (l layout) appendPythonObject(out []byte, object int) []byte {
	var keys []string
	values := map[string]int{}
	for name, value := range l.members(object) {
		key := string(appendPythonText(nil, name))
		if _, repeated := values[key]; !repeated {
			keys = append(keys, key)
		}
		values[key] = value
	}
	out = append(out, '{')
	for i, key := range keys {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = l.appendPython(append(append(out, key...), ": "...), values[key])
	}
	return append(out, '}')
}

// appendPythonText writes a JSON string with Python's escapes. Halves of surrogate
// pairs stay what they are.
func appendPythonText(out []byte, quoted string) []byte {
	out = append(out, '"')
	for i := 1; i < len(quoted)-1; {
		c := quoted[i]
		if c != '\\' {
			r, size := utf8.DecodeRuneInString(quoted[i:])
			out = appendPythonRune(out, r)
			i += size
			continue
		}
		if quoted[i+1] != 'u' {
			out = appendPythonRune(out, unescaped(quoted[i+1]))
			i += 2
			continue
		}
		unit, _ := strconv.ParseUint(quoted[i+2:i+6], 16, 16)
		out = appendPythonRune(out, rune(unit))
		i += 6
	}
	return append(out, '"')
}

func unescaped(c byte) rune {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return rune(c)
}

func appendPythonRune(out []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(out, '\\', byte(r))
	case '\n':
		return append(out, `\n`...)
	case '\r':
		return append(out, `\r`...)
	case '\t':
		return append(out, `\t`...)
	case '\b':
		return append(out, `\b`...)
	case '\f':
		return append(out, `\f`...)
	}
	if r >= ' ' && r <= '~' {
		return append(out, byte(r))
	}
	if r > 0xFFFF {
		high, low := utf16.EncodeRune(r)
		return appendUnit(appendUnit(out, high), low)
	}
	return appendUnit(out, r)
}

func appendUnit(out []byte, unit rune) []byte {
	const digits = "0123456789abcdef"
	return append(out, '\\', 'u', digits[unit>>12&15], digits[unit>>8&15], digits[unit>>4&15], digits[unit&15])
}

// appendPythonNumber writes an integer as it is and a float as Python's repr does.
func appendPythonNumber(out []byte, number string) []byte {
	if !strings.ContainsAny(number, ".eE") {
		if number == "-0" {
			number = "0"
		}
		return append(out, number...)
	}
	f, _ := strconv.ParseFloat(number, 64) // beyond its range it is infinite
	switch {
	case math.IsInf(f, 1):
		return append(out, "Infinity"...)
	case math.IsInf(f, -1):
		return append(out, "-Infinity"...)
	}
	if magnitude := math.Abs(f); f != 0 && (magnitude < 1e-4 || magnitude >= 1e16) {
		return strconv.AppendFloat(out, f, 'e', -1, 64)
	}
	start := len(out)
	out = strconv.AppendFloat(out, f, 'f', -1, 64)
	if !strings.Contains(string(out[start:]), ".") {
		out = append(out, ".0"...)
	}
	return out
}
