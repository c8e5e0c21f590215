package http

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// maxDepth is how deeply lists and maps may be nested in MessagePack: as deeply as
// encoding/json takes it in JSON.
const maxDepth = 10_000

var (
	errTooDeep = errors.New("lists and maps are nested too deeply")
	errNoJSON  = errors.New("MessagePack may hold what JSON can: maps with texts as keys, lists, texts, numbers, true, false and nil")
)

// jsonOf writes what a MessagePack document says as JSON. Integers stay integers and
// floats stay floats. Binary strings count as texts, as old encoders write all texts so.
func jsonOf(packed []byte) ([]byte, error) {
	out, rest, err := appendJSON(make([]byte, 0, 2*len(packed)), packed, 0)
	switch {
	case errors.Is(err, errTooDeep), errors.Is(err, errNoJSON):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("no MessagePack: %w", err)
	case len(rest) > 0:
		return nil, errors.New("something stands behind the end of the MessagePack document")
	}
	return out, nil
}

// appendJSON writes the first value of a MessagePack document as JSON.
func appendJSON(out, packed []byte, depth int) (_, rest []byte, err error) {
	if depth > maxDepth {
		return nil, nil, errTooDeep
	}
	switch msgp.NextType(packed) {
	case msgp.MapType:
		return appendJSONObject(out, packed, depth)
	case msgp.ArrayType:
		return appendJSONArray(out, packed, depth)
	case msgp.StrType, msgp.BinType:
		return appendJSONText(out, packed)
	case msgp.IntType:
		n, rest, err := msgp.ReadInt64Bytes(packed)
		return strconv.AppendInt(out, n, 10), rest, err
	case msgp.UintType:
		n, rest, err := msgp.ReadUint64Bytes(packed)
		return strconv.AppendUint(out, n, 10), rest, err
	case msgp.Float32Type:
		f, rest, err := msgp.ReadFloat32Bytes(packed)
		return appendFloat(out, float64(f), 32, rest, err)
	case msgp.Float64Type:
		f, rest, err := msgp.ReadFloat64Bytes(packed)
		return appendFloat(out, f, 64, rest, err)
	case msgp.BoolType:
		b, rest, err := msgp.ReadBoolBytes(packed)
		return strconv.AppendBool(out, b), rest, err
	case msgp.NilType:
		rest, err := msgp.ReadNilBytes(packed)
		return append(out, "null"...), rest, err
	case msgp.InvalidType:
		return nil, nil, msgp.ErrShortBytes
	}
	return nil, nil, errNoJSON
}

func appendJSONObject(out, packed []byte, depth int) (_, rest []byte, err error) {
	n, rest, err := msgp.ReadMapHeaderBytes(packed)
	out = append(out, '{')
	for i := uint32(0); i < n && err == nil; i++ {
		if i > 0 {
			out = append(out, ',')
		}
		if t := msgp.NextType(rest); t != msgp.StrType && t != msgp.BinType && len(rest) > 0 {
			return nil, nil, errNoJSON
		}
		if out, rest, err = appendJSONText(out, rest); err == nil {
			out, rest, err = appendJSON(append(out, ':'), rest, depth+1)
		}
	}
	return append(out, '}'), rest, err
}

func appendJSONArray(out, packed []byte, depth int) (_, rest []byte, err error) {
	n, rest, err := msgp.ReadArrayHeaderBytes(packed)
	out = append(out, '[')
	for i := uint32(0); i < n && err == nil; i++ {
		if i > 0 {
			out = append(out, ',')
		}
		out, rest, err = appendJSON(out, rest, depth+1)
	}
	return append(out, ']'), rest, err
}

// appendJSONText writes a text or a binary string, which must be UTF-8.
func appendJSONText(out, packed []byte) (_, rest []byte, err error) {
	var text []byte
	if msgp.NextType(packed) == msgp.BinType {
		text, rest, err = msgp.ReadBytesZC(packed)
	} else {
		text, rest, err = msgp.ReadStringZC(packed)
	}
	if err != nil {
		return nil, nil, err
	}
	if !utf8.Valid(text) {
		return nil, nil, errNoJSON
	}
	return appendText(out, string(text)), rest, nil
}

// appendFloat writes a float so that it is read as one again.
func appendFloat(out []byte, f float64, bits int, rest []byte, err error) (_, _ []byte, _ error) {
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, nil, errors.Join(err, errNoJSON)
	}
	from := len(out)
	out = strconv.AppendFloat(out, f, 'g', -1, bits)
	for _, c := range out[from:] {
		if c == '.' || c == 'e' {
			return out, rest, nil
		}
	}
	return append(out, ".0"...), rest, nil
}

// appendMessagePack writes a valid JSON text as MessagePack. Members stay in order.
func appendMessagePack(out []byte, text string) []byte {
	p := packer{text: text, sizes: containerSizes(text)}
	p.at = skipSpace(text, 0)
	return p.appendValue(out)
}

// containerSizes counts the members of each object and the elements of each array, in
// the order in which these begin: MessagePack says the number first.
func containerSizes(text string) []uint32 {
	var sizes []uint32
	var open []int
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			i = skipText(text, i) - 1
		case '{', '[':
			open, sizes = append(open, len(sizes)), append(sizes, 0)
			if text[skipSpace(text, i+1)] != c+2 { // the closing bracket is two behind the opening one
				sizes[len(sizes)-1] = 1
			}
		case ',':
			sizes[open[len(open)-1]]++
		case '}', ']':
			open = open[:len(open)-1]
		}
	}
	return sizes
}

// packer goes through a JSON text.
type packer struct {
	text  string
	at    int
	sizes []uint32 // of the objects and arrays that are to come
}

func (p *packer) appendValue(out []byte) []byte {
	switch p.text[p.at] {
	case '{':
		n := p.open()
		out = msgp.AppendMapHeader(out, n)
		for range n {
			out = p.appendString(out)
			p.at = skipSpace(p.text, p.at) + 1 // the colon
			p.at = skipSpace(p.text, p.at)
			out = p.appendValue(out)
			p.close()
		}
		if n == 0 {
			p.close()
		}
		return out
	case '[':
		n := p.open()
		out = msgp.AppendArrayHeader(out, n)
		for range n {
			out = p.appendValue(out)
			p.close()
		}
		if n == 0 {
			p.close()
		}
		return out
	case '"':
		return p.appendString(out)
	}
	return p.appendPlain(out)
}

// open goes behind an opening bracket, and tells what it says how much of.
func (p *packer) open() (size uint32) {
	size, p.sizes = p.sizes[0], p.sizes[1:]
	p.at = skipSpace(p.text, p.at+1)
	return size
}

// close goes behind the comma after an item, or behind the closing bracket.
func (p *packer) close() {
	p.at = skipSpace(p.text, p.at)
	if c := p.text[p.at]; c == ',' {
		p.at = skipSpace(p.text, p.at+1)
	} else {
		p.at++
	}
}

func (p *packer) appendString(out []byte) []byte {
	end := skipText(p.text, p.at)
	out = msgp.AppendString(out, unquote(p.text[p.at:end]))
	p.at = end
	return out
}

// appendPlain writes a number, true, false or null.
func (p *packer) appendPlain(out []byte) []byte {
	end := skipValue(p.text, p.at)
	value := p.text[p.at:end]
	p.at = end
	switch value {
	case "true", "false":
		return msgp.AppendBool(out, value == "true")
	case "null":
		return msgp.AppendNil(out)
	}
	if n, whole := wholeNumber(value); whole {
		return msgp.AppendInt64(out, n)
	}
	f, _ := strconv.ParseFloat(value, 64) // beyond the range it is infinite, as in Python
	return msgp.AppendFloat64(out, f)
}
