// Package jsonschema checks JSON texts against schemas. It must never fetch a schema from
// anywhere: what one refers to is in it.
package jsonschema

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Schema is a JSON schema that was read.
type Schema struct {
	schema *jsonschema.Schema
}

// here is the address of every schema. It leads nowhere.
const here = "nabu:///schema"

// nowhere refuses to load anything.
type nowhere struct{}

func (nowhere) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema must not refer to %s: nothing outside of it is read", url)
}

// Compile reads a schema. One that does not say which draft it is of is of 2020-12. Formats bind,
// whatever the draft; one that nobody knows lets everything pass.
func Compile(text string) (*Schema, error) {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("the schema is no JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nowhere{})
	compiler.AssertFormat() // the newer drafts leave formats to who checks
	if err := compiler.AddResource(here, document); err != nil {
		return nil, err
	}
	schema, err := compiler.Compile(here)
	if err != nil {
		return nil, err
	}
	return &Schema{schema}, nil
}

// maxExponent bounds those of numbers, beyond what floats can hold. The library writes numbers
// out: one of seven characters would keep it busy for longer than all the rest.
const maxExponent = 400

// hasVast tells whether there is a number with an exponent out of bounds in a value.
func hasVast(value any) bool {
	switch value := value.(type) {
	case json.Number:
		at := strings.IndexAny(value.String(), "eE")
		if at < 0 {
			return false
		}
		exponent, err := strconv.Atoi(value.String()[at+1:])
		return err != nil || exponent > maxExponent || exponent < -maxExponent
	case []any:
		return slices.ContainsFunc(value, hasVast)
	case map[string]any:
		for _, member := range value {
			if hasVast(member) {
				return true
			}
		}
	}
	return false
}

// Check tells what in a JSON text contradicts the schema: the first thing, and where it is.
func (s *Schema) Check(text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return errors.New("it is no JSON")
	}
	if hasVast(value) {
		return fmt.Errorf("a number's exponent must be between -%[1]d and %[1]d", maxExponent)
	}
	err = s.schema.Validate(value)
	failure, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	for len(failure.Causes) > 0 {
		failure = failure.Causes[0]
	}
	first, _, _ := strings.Cut(failure.Error(), "\n")
	return errors.New(first)
}
