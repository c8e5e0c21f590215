package http

import (
	"cmp"
	"iter"
	"slices"
)

// layout is a valid JSON text, and where each object and array in it ends: what is in one is
// not read to go past it. Who goes down level by level without that reads the deepest once
// for each level above it. A value is told by where it begins.
type layout struct {
	text  string
	spans []span // in the order in which they begin
}

// span is where an object or an array begins, and what is behind it.
type span struct{ begin, end int }

func layoutOf(text string) layout {
	l := layout{text: text}
	var open []int // indexes of those that have not ended
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i = skipText(text, i) - 1
		case '{', '[':
			open, l.spans = append(open, len(l.spans)), append(l.spans, span{begin: i})
		case '}', ']':
			innermost := len(open) - 1
			l.spans[open[innermost]].end = i + 1
			open = open[:innermost]
		}
	}
	return l
}

// end is what is behind a value.
func (l layout) end(value int) int {
	if c := l.text[value]; c != '{' && c != '[' {
		return skipValue(l.text, value)
	}
	i, _ := slices.BinarySearchFunc(l.spans, value, func(s span, value int) int { return cmp.Compare(s.begin, value) })
	return l.spans[i].end
}

// of is the text of a value.
func (l layout) of(value int) string { return l.text[value:l.end(value)] }

// members yields the members of an object in order, with their names as they were written. A
// name may come again.
func (l layout) members(object int) iter.Seq2[string, int] {
	return func(yield func(name string, value int) bool) {
		i := skipSpace(l.text, object+1)
		for l.text[i] != '}' {
			end := skipText(l.text, i)
			name := l.text[i:end]
			i = skipSpace(l.text, skipSpace(l.text, end)+1) // the colon
			if !yield(name, i) {
				return
			}
			if i = skipSpace(l.text, l.end(i)); l.text[i] == ',' {
				i = skipSpace(l.text, i+1)
			}
		}
	}
}

// elements yields the elements of an array in order.
func (l layout) elements(array int) iter.Seq[int] {
	return func(yield func(value int) bool) {
		i := skipSpace(l.text, array+1)
		for l.text[i] != ']' {
			if !yield(i) {
				return
			}
			if i = skipSpace(l.text, l.end(i)); l.text[i] == ',' {
				i = skipSpace(l.text, i+1)
			}
		}
	}
}
