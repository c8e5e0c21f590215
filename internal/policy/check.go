package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// parseCheck reads a single check: a kind, a colon, and what is wanted.
func parseCheck(text string) (*node, error) {
	switch text {
	case "@":
		return &node{kind: always}, nil
	case "!":
		return &node{kind: never}, nil
	}
	before, behind, found := strings.Cut(text, ":")
	switch {
	case !found:
		return nil, fmt.Errorf(`%q is no check: it has to be @, !, or something like role:member, with a colon`, text)
	case before == "":
		return nil, fmt.Errorf("there is nothing before the colon of %q", text)
	case behind == "":
		return nil, fmt.Errorf("there is nothing behind the colon of %q", text)
	}
	switch before {
	case "http", "https":
		return nil, fmt.Errorf("%q asks another server, which nabu does not", text)
	case "rule": // what it names is no template
		return &node{kind: reference, text: template{plain: behind}}, nil
	}
	wanted, err := parseTemplate(behind)
	if err != nil {
		return nil, err
	}
	if before == "role" {
		return &node{kind: role, text: wanted}, nil
	}
	if value, is, err := parseLiteral(before); is || err != nil {
		return &node{kind: literal, literal: value, text: wanted}, err
	}
	return &node{kind: credential, path: strings.Split(before, "."), text: wanted}, nil
}

var (
	wholeNumber  = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
	pathOfNames  = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_-]*(\.[\p{L}\p{N}_-]+)*$`)
	quotedString = regexp.MustCompile(`^('[^'\\]*'|"[^"\\]*")$`)
)

// parseLiteral reads what stands before the colon, if it is a value and no credential:
// what Python would write in the same way. Its rarer forms are refused.
func parseLiteral(text string) (value string, is bool, err error) {
	switch {
	case text == textNone || text == textTrue || text == textFalse || wholeNumber.MatchString(text):
		return text, true, nil
	case quotedString.MatchString(text):
		return text[1 : len(text)-1], true, nil
	case pathOfNames.MatchString(text):
		return "", false, nil
	}
	return "", false, fmt.Errorf(`%q before the colon is neither a credential's name nor 'text', True, False, None or a whole number`, text)
}

// template is a text with places for values of the target, "%(project_id)s".
type template struct {
	plain string // the text, when it has no places
	parts []templatePart
}

// templatePart is a text and the key of the value behind it.
type templatePart struct{ text, key string }

var errPercent = errors.New(`a "%" behind the colon has to begin something like %(project_id)s, or to be written twice`)

func parseTemplate(text string) (template, error) {
	var t template
	var before strings.Builder
	for {
		plain, rest, found := strings.Cut(text, "%")
		before.WriteString(plain)
		if !found {
			break
		}
		if rest, found = strings.CutPrefix(rest, "%"); found {
			before.WriteByte('%')
			text = rest
			continue
		}
		key, after, closed := strings.Cut(rest, ")s")
		if !strings.HasPrefix(key, "(") || !closed || len(key) == 1 || strings.ContainsAny(key[1:], "()%") {
			return template{}, errPercent
		}
		t.parts = append(t.parts, templatePart{before.String(), key[1:]})
		before.Reset()
		text = after
	}
	t.plain = before.String()
	return t, nil
}

// fill puts the target's values in. There is no text if it lacks one of them.
func (t *template) fill(e *evaluation) (text string, there bool) {
	switch {
	case len(t.parts) == 0:
		return t.plain, true
	case len(t.parts) == 1 && t.plain == "" && t.parts[0].text == "":
		return e.find(t.parts[0].key)
	}
	var whole strings.Builder
	for i := range t.parts {
		value, there := e.find(t.parts[i].key)
		if !there {
			return "", false
		}
		whole.WriteString(t.parts[i].text)
		whole.WriteString(value)
	}
	whole.WriteString(t.plain)
	return whole.String(), true
}
