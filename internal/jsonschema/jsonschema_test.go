package jsonschema_test

import (
	"strings"
	"testing"

	"nabu/internal/jsonschema"
)

func TestCheck(t *testing.T) {
	schema, err := jsonschema.Compile(`{"type": "object", "required": ["a"], "additionalProperties": false,
		"properties": {"a": {"$ref": "#/$defs/count"}}, "$defs": {"count": {"type": "integer", "minimum": 1}}}`)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"a": 1}`:                            ``,
		`{}`:                                  `missing property 'a'`,
		`{"a": 0}`:                            `/a`,
		`{"a": "1"}`:                          `want integer`,
		`{"a": 1, "b": 2}`:                    `'b' not allowed`,
		`null`:                                `want object`,
		`{`:                                   `no JSON`,
		`{"a": 1e400}`:                        ``,
		`{"a": 1e401}`:                        `exponent`,
		`{"a": 1E+1000000}`:                   `exponent`,
		`{"a": 1e-1000000}`:                   `exponent`,
		`{"a": 1, "b": [{"c": [1e1000000]}]}`: `exponent`,
		`{"a": 1e99999999999999999999}`:       `exponent`,
	} {
		err := schema.Check(text)
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestFormatsBind(t *testing.T) {
	for _, draft := range []string{"", `"$schema": "http://json-schema.org/draft-07/schema#", `, `"$schema": "https://json-schema.org/draft/2019-09/schema", `} {
		schema, err := jsonschema.Compile("{" + draft + `"properties": {"image_id": {"type": "string", "format": "uuid"}, "colour": {"format": "colour"}}}`)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Check(`{"image_id": "b2173dd3-7ad6-4362-baa6-a68bce3565cb", "colour": "red"}`); err != nil {
			t.Error(err)
		}
		if err := schema.Check(`{"image_id": "x"}`); err == nil || !strings.Contains(err.Error(), "/image_id") || !strings.Contains(err.Error(), "uuid") {
			t.Errorf("draft %q: %v does not name the member and the format", draft, err)
		}
	}
}

func TestBadSchemas(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":        `{`,
		"no schema":      `{"type": 7}`,
		"a file":         `{"$ref": "file:///etc/hostname"}`,
		"another server": `{"$ref": "http://127.0.0.1:1/schema.json"}`,
	} {
		if _, err := jsonschema.Compile(text); err == nil {
			t.Errorf("%s is taken for a schema", name)
		}
	}
}
