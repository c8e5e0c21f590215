package domain

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// TaskType is a kind of work that tasks may ask for.
type TaskType struct {
	// Missing says what the input (a JSON text; empty: null) lacks so much that no worker
	// is to see the task, in words for its owner; empty: nothing. Nil: it never lacks
	// anything.
	Missing func(input string) string
	// Schema is a JSON schema of the input, as it is served; empty: none.
	Schema string
	// Check says what in the input contradicts the schema; nil: nothing ever does.
	Check func(input string) error
}

// The types that are always there.
const (
	TaskImport         = "import"
	TaskAPIImageImport = "api_image_import"
	TaskLocationImport = "location_import"
)

// TaskTypes are the types that are always there, as Glance's.
func TaskTypes() map[string]TaskType {
	return map[string]TaskType{
		TaskImport:         {Missing: missingImport},
		TaskAPIImageImport: {Missing: missingImageImport},
		TaskLocationImport: {Missing: missingLocation},
	}
}

// The words are Glance's. It tells nobody that import_req is missing; that is worded as
// for image_id here.

func missingImport(input string) string {
	return lacks(input, "", "Input does not contain '%s' field", "import_from", "import_from_format", "image_properties")
}

func missingImageImport(input string) string {
	return lacks(input, "Input to api_image_import task is empty.", "Missing required '%s' field", "image_id", "import_req")
}

func missingLocation(input string) string {
	return lacks(input, "Input to location_import task is empty.", "Input does not contain '%s' field",
		"image_id", "loc_url", "validation_data")
}

// lacks says which of the keys an input lacks first. One without any key is empty, if
// there is a word for that.
func lacks(input, empty, without string, keys ...string) string {
	var members map[string]json.RawMessage
	_ = json.Unmarshal([]byte(orNull(input)), &members) // what is no object has no key
	if len(members) == 0 && empty != "" {
		return empty
	}
	for _, key := range keys {
		if _, there := members[key]; !there {
			return fmt.Sprintf(without, key)
		}
	}
	return ""
}

// TaskRules are what an operator says of tasks.
type TaskRules struct {
	// ServiceProject is where the queues are that hand tasks out.
	ServiceProject string
	// TimeToLive is how long a task is kept after its end.
	TimeToLive time.Duration
	// ProcessingTimeout is how long a task may be in processing without a report; 0: for
	// ever.
	ProcessingTimeout time.Duration
	// MaxAttempts is how often a task may be begun, from 1 on.
	MaxAttempts int
	// Types are those that there are, by name.
	Types map[string]TaskType
	// EventsQueue: each change is also a message in the owner's queue TaskEventsQueue.
	EventsQueue bool
}

// DefaultTaskRules are Glance's where it has such a rule.
func DefaultTaskRules() TaskRules {
	return TaskRules{
		ServiceProject: "service", TimeToLive: 48 * time.Hour, ProcessingTimeout: 6 * time.Hour, MaxAttempts: 1,
		Types: TaskTypes(),
	}
}

// Check tells which rule is out of its bounds, by its name in the configuration.
func (r TaskRules) Check() error {
	if err := CheckProject(r.ServiceProject); err != nil {
		return fmt.Errorf("service_project_id: %w", err)
	}
	switch {
	case r.TimeToLive < time.Hour || r.TimeToLive > maxTaskSpan:
		return fmt.Errorf("task_time_to_live must be between 1 hour and %d hours, not %v", maxTaskSpan/time.Hour, r.TimeToLive)
	case r.ProcessingTimeout < 0 || r.ProcessingTimeout > maxTaskSpan:
		return fmt.Errorf("task_processing_timeout must be between 0 and %d hours, not %v", maxTaskSpan/time.Hour, r.ProcessingTimeout)
	case r.MaxAttempts < 1 || r.MaxAttempts > maxTaskAttempts:
		return fmt.Errorf("max_attempts must be between 1 and %d, not %d", maxTaskAttempts, r.MaxAttempts)
	}
	for _, name := range r.TypeNames() {
		if err := CheckTaskType(name); err != nil {
			return fmt.Errorf("task_types: %w", err)
		}
	}
	return nil
}

const (
	maxTaskSpan     = 10 * 365 * 24 * time.Hour
	maxTaskAttempts = 1000
)

// TypeNames are the names of the types, those first that are always there.
func (r TaskRules) TypeNames() []string {
	names := []string{}
	for _, name := range []string{TaskImport, TaskAPIImageImport, TaskLocationImport} {
		if _, there := r.Types[name]; there {
			names = append(names, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Types)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// CheckTaskType refuses a name that no type can have: it is a part of a queue's name, and
// one of those queues is for something else.
func CheckTaskType(name string) error {
	if len(name) > MaxTaskType || CheckQueueName(name) != nil {
		return Errorf(Invalid, "the name of a task type must have 1 to %d characters out of letters, digits, _, - and .", MaxTaskType)
	}
	if handOutPrefix+name == TaskEventsQueue {
		return Errorf(Invalid, "no task type can have the name %s: the queue %s tells of changes of tasks", name, TaskEventsQueue)
	}
	return nil
}
