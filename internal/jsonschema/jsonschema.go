// Package jsonschema checks JSON texts against schemas. It must never fetch a schema from
// anywhere: what one refers to is in it.
package jsonschema

import (
	"errors"
	"fmt"
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

// Compile reads a schema. One that does not say which draft it is of is of 2020-12.
func Compile(text string) (*Schema, error) {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("the schema is no JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nowhere{})
	if err := compiler.AddResource(here, document); err != nil {
		return nil, err
	}
	schema, err := compiler.Compile(here)
	if err != nil {
		return nil, err
	}
	return &Schema{schema}, nil
}

// Check tells what in a JSON text contradicts the schema: the first thing, and where it is.
func (s *Schema) Check(text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return errors.New("it is no JSON")
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
