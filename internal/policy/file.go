package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// written is a rule of an operator's file.
type written struct {
	name         string
	line, column int
	check        string     // the string form
	lists        [][]string // the old form: "or" outside, "and" inside
	isList       bool
}

// readFile reads an operator's file. What is wrong with one rule does not keep the
// others from being read.
func readFile(data []byte) ([]written, error) {
	if len(data) > maxFile {
		return nil, &Error{Reason: fmt.Sprintf("the file must not be larger than %d bytes", maxFile)}
	}
	if json.Valid(data) {
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" ")) // which YAML does not take
	}
	var document, another yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, unreadable(data, err)
	}
	if err := decoder.Decode(&another); !errors.Is(err, io.EOF) {
		return nil, &Error{Reason: "must be one document of YAML, and nothing behind it"}
	}
	root := document.Content[0]
	switch {
	case root.Tag == "!!null":
		return nil, nil
	case root.Kind != yaml.MappingNode:
		return nil, at(root, "", "must be rules, each a name, a colon and a check")
	}
	return readRules(root)
}

// unreadable says where a file is no YAML. The library does not name the first line.
func unreadable(data []byte, err error) error {
	reason := strings.TrimPrefix(err.Error(), "yaml: ")
	if !strings.HasPrefix(reason, "line ") && !strings.Contains(reason, "control") && utf8.Valid(data) {
		reason = "line 1: " + reason
	}
	return &Error{Reason: "cannot be read: " + reason}
}

func readRules(root *yaml.Node) ([]written, error) {
	var rules []written
	var problems []error
	lines := map[string]int{}
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag != "!!str" || key.Value == "":
			problems = append(problems, at(key, "", "the name of a rule must be a text"))
			continue
		case lines[key.Value] > 0:
			problems = append(problems, at(key, key.Value, fmt.Sprintf("stands in line %d already", lines[key.Value])))
			continue
		}
		lines[key.Value] = key.Line
		w, err := readCheck(key.Value, value)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		rules = append(rules, w)
	}
	return rules, errors.Join(problems...)
}

// readCheck reads one rule's check, in either form.
func readCheck(name string, value *yaml.Node) (w written, err error) {
	w = written{name: name, line: value.Line, column: value.Column}
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	switch {
	case isTextNode(value):
		w.check = value.Value
		return w, nil
	case value.Kind != yaml.SequenceNode:
		return w, at(value, name, `must be a check in quotes, such as "role:member", or a list of lists of them`)
	}
	w.isList = true
	for _, outer := range value.Content {
		if isTextNode(outer) {
			w.lists = append(w.lists, []string{outer.Value})
			continue
		}
		if outer.Kind != yaml.SequenceNode {
			return w, at(outer, name, "must be a check, or a list of checks")
		}
		inner := []string{}
		for _, check := range outer.Content {
			if !isTextNode(check) {
				return w, at(check, name, "must be a check")
			}
			inner = append(inner, check.Value)
		}
		w.lists = append(w.lists, inner)
	}
	return w, nil
}

func isTextNode(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!str" }

func at(n *yaml.Node, rule, reason string) error {
	return &Error{Rule: rule, Line: n.Line, Column: n.Column, Reason: reason}
}

// text is the rule's check as it is shown.
func (w *written) text() string {
	if !w.isList {
		return w.check
	}
	text, err := json.Marshal(w.lists)
	if err != nil {
		panic(err) // texts always encode
	}
	return string(text)
}

// parse reads the rule's check.
func (w *written) parse() (*node, error) {
	if !w.isList {
		return parse(w.check)
	}
	return parseLists(w.lists)
}

// parseLists reads the old form. A list without any list lets everybody in, one that
// holds only empty lists nobody.
func parseLists(lists [][]string) (*node, error) {
	if len(lists) == 0 {
		return &node{kind: always}, nil
	}
	outer := &node{kind: or}
	for i, list := range lists {
		if len(list) == 0 {
			continue
		}
		inner := &node{kind: and}
		for j, text := range list {
			n, err := parseCheck(text)
			if err != nil {
				return nil, &Error{Reason: fmt.Sprintf("list %d, check %d: %v", i+1, j+1, err)}
			}
			inner.parts = append(inner.parts, n)
		}
		outer.parts = append(outer.parts, inner)
	}
	return outer, nil
}
