package http

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"nabu/domain"
)

// property is a member of a task as its schema has it. The order of its fields is that of
// Glance's document.
type property struct {
	ReadOnly    bool           `json:"readOnly,omitempty"`
	Description string         `json:"description,omitempty"`
	Type        any            `json:"type"` // a name, or several
	Pattern     string         `json:"pattern,omitempty"`
	Enum        []string       `json:"enum,omitempty"`
	Definitions map[string]any `json:"definitions,omitempty"` // of inputs, by type of task

	pattern *regexp.Regexp
}

// taskSchema is what a task may be, as it is served and as it is checked.
type taskSchema struct {
	properties   map[string]*property
	one, several []byte // the documents
}

// notInLists are members that lists leave out.
var notInLists = []string{"input", "result", "message"}

const uuidPattern = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"

// newTaskSchema makes the schema of tasks. Types of the operator's own stand in it like
// Glance's: glanceclient takes no task of a type that the schema does not have. What their
// inputs have to be stands beside that of all inputs, as definitions, which bind nobody.
func newTaskSchema(rules domain.TaskRules) *taskSchema {
	orNull := func(kind string) []string { return []string{"null", kind} }
	s := &taskSchema{properties: map[string]*property{
		"id":         {Description: "UUID of the task", Type: "string", Pattern: uuidPattern},
		"type":       {Description: "What kind of work this task is", Type: "string", Enum: rules.TypeNames()},
		"status":     {Description: "Where the task is in its life", Type: "string", Enum: taskStatuses},
		"input":      {Description: "Parameters, by task type", Type: orNull("object")},
		"result":     {Description: "Outcome, set on success", Type: orNull("object")},
		"owner":      {Description: "Project that owns the task", Type: "string"},
		"message":    {Description: "Text for people: progress, or why it failed", Type: "string"},
		"image_id":   {Description: "Image the task works on", Type: "string"},
		"request_id": {Description: "Request that made the task", Type: "string"},
		"user_id":    {Description: "User that made the task", Type: "string"},
		"expires_at": {Description: "After this time the task may be removed", Type: orNull("string")},
		"created_at": {Description: "Creation time", Type: "string"},
		"updated_at": {Description: "Time of the last change", Type: "string"},
		"self":       {ReadOnly: true, Type: "string"},
		"schema":     {ReadOnly: true, Type: "string"},
	}}
	for name, its := range rules.Types {
		if its.Schema == "" {
			continue
		}
		input := s.properties["input"]
		if input.Definitions == nil {
			input.Definitions = map[string]any{}
		}
		input.Definitions[name] = json.RawMessage(its.Schema)
	}
	for _, p := range s.properties {
		if p.Pattern != "" {
			p.pattern = regexp.MustCompile(p.Pattern)
		}
	}
	s.write()
	return s
}

// write makes the documents.
func (s *taskSchema) write() {
	stub := map[string]*property{}
	for name, p := range s.properties {
		if !slices.Contains(notInLists, name) {
			stub[name] = p
		}
	}
	var err error
	if s.one, err = json.Marshal(map[string]any{"name": "task", "properties": s.properties}); err != nil {
		panic(err) // what an operator wrote was read as JSON before
	}
	if s.several, err = json.Marshal(map[string]any{
		"name": "tasks",
		"properties": map[string]any{
			"tasks":  map[string]any{"type": "array", "items": map[string]any{"name": "task", "properties": stub}},
			"schema": map[string]any{"type": "string"},
		},
		"links": []imageLink{{"describedby", "{schema}"}},
	}); err != nil {
		panic(err)
	}
}

// showTaskSchema serves GET /v2/schemas/task.
func (s *Server) showTaskSchema(c *call) error { return writeJSON(c, http.StatusOK, s.taskSchema.one) }

// showTasksSchema serves GET /v2/schemas/tasks.
func (s *Server) showTasksSchema(c *call) error {
	return writeJSON(c, http.StatusOK, s.taskSchema.several)
}

// contradicts says how a member of a task, valid JSON, does not fit the schema; empty: it
// does. The words are those of Python's jsonschema.
func (s *taskSchema) contradicts(name, value string) string {
	its, known := s.properties[name]
	if !known {
		return fmt.Sprintf("Additional properties are not allowed (%s was unexpected)", inPython(quoted(name)))
	}
	types, several := its.Type.([]string)
	if !several {
		types = []string{its.Type.(string)}
	}
	if kind := kindOf(value); !slices.Contains(types, kind) {
		return fmt.Sprintf("%s is not of type '%s'", inPython(value), strings.Join(types, "', '"))
	}
	if len(its.Enum) > 0 && !slices.Contains(its.Enum, unquote(value)) {
		return fmt.Sprintf("%s is not one of ['%s']", inPython(value), strings.Join(its.Enum, "', '"))
	}
	if its.pattern != nil && !its.pattern.MatchString(unquote(value)) {
		return fmt.Sprintf("%s does not match '%s'", inPython(value), its.Pattern)
	}
	return ""
}

// kindOf is what JSON schemas call a value.
func kindOf(value string) string {
	switch value[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	}
	return "number"
}

// maxShown is how much of what a client sent an error repeats; bytes.
const maxShown = 200

// inPython is a JSON value as Python shows it.
func inPython(value string) string {
	switch value[0] {
	case 'n':
		return "None"
	case 't':
		return "True"
	case 'f':
		return "False"
	case '"':
		text := unquote(value)
		value = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(text) + "'"
	}
	if len(value) > maxShown {
		value = beginning(value, maxShown)
	}
	return value
}

func quoted(text string) string { return string(appendText(nil, text)) }
