package http

import (
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"nabu/domain"
)

// NewTaskType is a type of task of the operator's own: its input must fit a JSON schema, which
// may refer to nothing outside itself. Schemas that do not say of what draft they are, are
// of 2020-12.
func NewTaskType(schema string) (domain.TaskType, error) {
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		return domain.TaskType{}, fmt.Errorf("read the schema: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(nothingOutside{})
	const name = "urn:nabu:input"
	if err := compiler.AddResource(name, document); err != nil {
		return domain.TaskType{}, err
	}
	compiled, err := compiler.Compile(name)
	if err != nil {
		return domain.TaskType{}, err
	}
	return domain.TaskType{Schema: schema, Check: func(input string) error {
		if input == "" {
			input = jsonEmpty
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(input))
		if err != nil {
			return fmt.Errorf("read the input: %w", err)
		}
		if wrong, ok := errors.AsType[*jsonschema.ValidationError](compiled.Validate(value)); ok {
			return firstReason(wrong)
		}
		return nil
	}}, nil
}

// nothingOutside refuses to load what a schema refers to.
type nothingOutside struct{}

func (nothingOutside) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema may not refer to %s, which is outside of it", url)
}

// firstReason is the first thing that is wrong, and where in the input.
func firstReason(wrong *jsonschema.ValidationError) error {
	for len(wrong.Causes) > 0 {
		wrong = wrong.Causes[0]
	}
	where := strings.Join(append([]string{"input"}, wrong.InstanceLocation...), "/")
	return fmt.Errorf("%s: %s", where, wrong.ErrorKind.LocalizedString(message.NewPrinter(language.English)))
}
