package domain_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
)

var (
	taskID   = uuid.MustParse("bfd7115e-756c-4db1-92df-24a3f9935a1d")
	handedAt = domain.PlaceOf(22, 0)
	// handed is the message that a task made at position 20 is handed out by: the queue is
	// made before.
	handed  = domain.NewMessageID(handedAt, 0x92df24a3f9935a1d)
	twoDays = noon.Add(48 * time.Hour)
	timeout = noon.Add(6 * time.Hour)
	ends    = noon.Add(14 * 24 * time.Hour)
	once    = domain.DefaultTaskRules()
	twice   = func() domain.TaskRules { r := once; r.MaxAttempts = 2; return r }()
	patient = func() domain.TaskRules { r := once; r.ProcessingTimeout = 0; return r }()
)

const importInput = `{"import_from": "http://a", "import_from_format": "raw", "image_properties": {}}`

// The facts of a task of project p1, all at noon.
var (
	taskCreated = domain.TaskCreated{
		Project: "p1", ID: taskID, Type: "import", User: "u1", RequestID: "req-1", Handed: handed, Deadline: ends, Input: importInput,
	}
	taskBegun     = begunBy("w1", 1)
	taskRequeued  = domain.TaskRequeued{Project: "p1", ID: taskID, Deadline: ends}
	taskSucceeded = domain.TaskSucceeded{Project: "p1", ID: taskID, Expires: twoDays, Result: `{"a": 1}`}
	taskFailed    = failedBecause(domain.TaskReported, "no")
)

func begunBy(worker string, attempt int) domain.TaskBegun {
	return domain.TaskBegun{Project: "p1", ID: taskID, Worker: worker, Attempt: attempt, Deadline: timeout}
}

func failedBecause(cause domain.TaskCause, message string) domain.TaskFailed {
	return domain.TaskFailed{Project: "p1", ID: taskID, Cause: cause, Message: message, Expires: twoDays}
}

func progressed(message string, deadline time.Time) domain.TaskProgressed {
	return domain.TaskProgressed{Project: "p1", ID: taskID, Message: message, Deadline: deadline}
}

// taskAfter is a task with this past, all of it at noon.
func taskAfter(past ...domain.Event) (t domain.Task) {
	for _, e := range past {
		t.Apply(noon, e)
	}
	return t
}

func TestCreateTask(t *testing.T) {
	queue := domain.QueueID{Project: "service", Name: "tasks.import"}
	theQueue := domain.QueueCreated{Project: "service", Name: "tasks.import"}
	short := created(t, `{"_default_message_ttl": 100, "_default_message_delay": 30}`)
	posted := func(position, number int64, ttl int, input string) domain.Event {
		return domain.MessagesPosted{Project: "service", Queue: queue.Name, Number: number, Client: "nabu", Messages: []domain.PostedMessage{{
			ID: domain.NewMessageID(domain.PlaceOf(position, 0), 0x92df24a3f9935a1d), TTL: ttl,
			Body: `{"task_id":"bfd7115e-756c-4db1-92df-24a3f9935a1d","type":"import","owner":"p1","request_id":"req-1","input":` + input + `}`,
		}}}
	}
	at21 := taskCreated
	at21.Handed, at21.Deadline = domain.NewMessageID(domain.PlaceOf(21, 0), 0x92df24a3f9935a1d), noon.Add(100*time.Second)
	of := func(taskType, input string) domain.TaskCreated {
		return domain.TaskCreated{Project: "p1", ID: taskID, Type: taskType, User: "u1", RequestID: "req-1", Input: input}
	}
	ofImage := of("api_image_import", `{"image_id": "i1"}`)
	ofImage.ImageID = "i1"
	inCapitals := of("api_image_import", `{"IMAGE_ID": "i2", "image_id": "i1", "Image_Id": "i3"}`)
	inCapitals.ImageID = "i1"
	located := of("location_import", `{"image_id": "i1", "loc_url": null}`)
	located.ImageID = "i1"
	tests := map[string]struct {
		queue           []domain.Event
		taskType, input string
		then            []domain.Event
		refused         domain.Code
	}{
		"the first of its type":        {nil, "import", importInput, []domain.Event{taskCreated, theQueue, posted(22, 21, 1209600, importInput)}, ""},
		"one that is handed out later": {[]domain.Event{short}, "import", importInput, []domain.Event{at21, posted(21, 1, 100, importInput)}, ""},
		"an input of null":             {nil, "import", `null`, []domain.Event{of("import", ""), incomplete("Input does not contain 'import_from' field")}, ""},
		"an input that lacks a format": {nil, "import", `{"import_from": 1}`, []domain.Event{of("import", `{"import_from": 1}`), incomplete("Input does not contain 'import_from_format' field")}, ""},
		"an input that lacks properties": {nil, "import", `{"import_from": 1, "import_from_format": 2}`, []domain.Event{
			of("import", `{"import_from": 1, "import_from_format": 2}`), incomplete("Input does not contain 'image_properties' field")}, ""},
		"an empty import of an image":   {nil, "api_image_import", `{}`, []domain.Event{of("api_image_import", `{}`), incomplete("Input to api_image_import task is empty.")}, ""},
		"an import of no image":         {nil, "api_image_import", `{"import_req": 1}`, []domain.Event{of("api_image_import", `{"import_req": 1}`), incomplete("Missing required 'image_id' field")}, ""},
		"an import by no method":        {nil, "api_image_import", `{"image_id": "i1"}`, []domain.Event{ofImage, incomplete("Missing required 'import_req' field")}, ""},
		"an image in other letters":     {nil, "api_image_import", inCapitals.Input, []domain.Event{inCapitals, incomplete("Missing required 'import_req' field")}, ""},
		"an empty location":             {nil, "location_import", ``, []domain.Event{of("location_import", ``), incomplete("Input to location_import task is empty.")}, ""},
		"a location without validation": {nil, "location_import", `{"image_id": "i1", "loc_url": null}`, []domain.Event{located, incomplete("Input does not contain 'validation_data' field")}, ""},
		"an unknown type":               {nil, "export", `{}`, nil, domain.Invalid},
		"too long an image":             {nil, "import", `{"image_id": "` + strings.Repeat("x", 37) + `"}`, nil, domain.Invalid},
		"no text for an image":          {nil, "import", `{"image_id": "\u0000"}`, nil, domain.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := domain.NewTask{ID: taskID, Type: test.taskType, Owner: "p1", User: "u1", RequestID: "req-1", Input: test.input}
			events, err := queueAfter(test.queue...).CreateTask(n, once, limits, domain.Moment{Position: 20, Time: noon})
			expect(t, events, err, test.then, test.refused)
		})
	}
}

func incomplete(message string) domain.Event { return failedBecause(domain.TaskIncomplete, message) }

func TestTypesOfTasks(t *testing.T) {
	rules := domain.DefaultTaskRules()
	rules.Types["build"] = domain.TaskType{Check: func(input string) error {
		if input != `{"a":1}` {
			return errors.New("a is required")
		}
		return nil
	}}
	if diff := cmp.Diff([]string{"import", "api_image_import", "location_import", "build"}, rules.TypeNames()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if err := rules.Check(); err != nil {
		t.Errorf("the rules are refused: %v", err)
	}
	n := domain.NewTask{ID: taskID, Type: "build", Owner: "p1", Input: `{"a":1}`}
	if err := n.CheckInput(rules); err != nil {
		t.Errorf("an input by the schema is refused: %v", err)
	}
	n.Input = `{}`
	if err := n.CheckInput(rules); err == nil || err.Error() != "Provided object does not match schema 'task': a is required" {
		t.Errorf("an input against the schema: %v", err)
	}
	for _, name := range []string{"", "events", "a b", "ä", strings.Repeat("x", 31)} {
		rules.Types = map[string]domain.TaskType{name: {}}
		if rules.Check() == nil {
			t.Errorf("a type may be called %q", name)
		}
	}
	for name, change := range map[string]func(*domain.TaskRules){
		"no service project": func(r *domain.TaskRules) { r.ServiceProject = "" },
		"no life":            func(r *domain.TaskRules) { r.TimeToLive = 0 },
		"a timeout below 0":  func(r *domain.TaskRules) { r.ProcessingTimeout = -1 },
		"no attempt":         func(r *domain.TaskRules) { r.MaxAttempts = 0 },
	} {
		broken := domain.DefaultTaskRules()
		change(&broken)
		if broken.Check() == nil {
			t.Errorf("%s is allowed", name)
		}
	}
}

func TestReportTask(t *testing.T) {
	pending := []domain.Event{taskCreated}
	begun := []domain.Event{taskCreated, taskBegun}
	unnamed := []domain.Event{taskCreated, begunBy("", 1)}
	copied := []domain.Event{taskCreated, taskBegun, progressed("15", timeout)}
	requeued := []domain.Event{taskCreated, taskBegun, taskRequeued}
	succeeded := []domain.Event{taskCreated, taskBegun, taskSucceeded}
	failed := []domain.Event{taskCreated, taskBegun, taskFailed}
	begin := func(worker string) domain.TaskReport { return domain.TaskReport{Action: "begin", Worker: worker} }
	progress := func(worker, message string) domain.TaskReport {
		return domain.TaskReport{Action: "progress", Worker: worker, Message: message}
	}
	succeed := func(worker, result string) domain.TaskReport {
		return domain.TaskReport{Action: "succeed", Worker: worker, Result: result}
	}
	fail := func(worker, message string) domain.TaskReport {
		return domain.TaskReport{Action: "fail", Worker: worker, Message: message}
	}
	success := func(result string) domain.Event {
		e := taskSucceeded
		e.Result = result
		return e
	}
	endless := taskBegun
	endless.Deadline = time.Time{}
	tests := map[string]struct {
		given   []domain.Event
		report  domain.TaskReport
		rules   domain.TaskRules
		now     time.Time
		then    []domain.Event
		refused domain.Code
	}{
		"begin":                                {pending, begin("w1"), once, noon, []domain.Event{taskBegun}, ""},
		"begin without a timeout":              {pending, begin("w1"), patient, noon, []domain.Event{endless}, ""},
		"begin by nobody in particular":        {pending, begin(""), once, noon, []domain.Event{begunBy("", 1)}, ""},
		"the same begin again":                 {begun, begin("w1"), once, noon, nil, ""},
		"the same begin of a nameless one":     {unnamed, begin(""), once, noon, nil, domain.Conflict},
		"begin by another":                     {begun, begin("w2"), once, noon, nil, domain.Conflict},
		"begin by a nameless one":              {begun, begin(""), once, noon, nil, domain.Conflict},
		"begin once more":                      {requeued, begin("w2"), twice, noon, []domain.Event{begunBy("w2", 2)}, ""},
		"begin once more by the same":          {requeued, begin("w1"), twice, noon, []domain.Event{begunBy("w1", 2)}, ""},
		"begin after success":                  {succeeded, begin("w1"), once, noon, nil, domain.Conflict},
		"progress":                             {begun, progress("w1", "15"), once, noon, []domain.Event{progressed("15", timeout)}, ""},
		"progress of a nameless one":           {begun, progress("", "15"), once, noon, []domain.Event{progressed("15", timeout)}, ""},
		"no words":                             {copied, progress("w1", ""), once, noon, []domain.Event{progressed("", timeout)}, ""},
		"the same progress again":              {copied, progress("w1", "15"), once, noon.Add(time.Minute), nil, ""},
		"the same progress much later":         {copied, progress("w1", "15"), once, noon.Add(time.Hour), []domain.Event{progressed("15", timeout.Add(time.Hour))}, ""},
		"the same much later, without timeout": {copied, progress("w1", "15"), patient, noon.Add(time.Hour), nil, ""},
		"progress by another":                  {begun, progress("w2", "15"), once, noon, nil, domain.Conflict},
		"progress before the beginning":        {pending, progress("w1", "15"), once, noon, nil, domain.Conflict},
		"progress of a worker that was lost":   {requeued, progress("w1", "15"), twice, noon, nil, domain.Conflict},
		"progress after the end":               {failed, progress("w1", "15"), once, noon, nil, domain.Conflict},
		"success":                              {begun, succeed("w1", `{"a": 1}`), once, noon, []domain.Event{taskSucceeded}, ""},
		"success with nothing":                 {begun, succeed("", `null`), once, noon, []domain.Event{success("")}, ""},
		"the same success again":               {succeeded, succeed("w1", `{"a": 1}`), once, noon, nil, ""},
		"another success":                      {succeeded, succeed("w1", `{"a":1}`), once, noon, nil, domain.Conflict},
		"the same success of another":          {succeeded, succeed("w2", `{"a": 1}`), once, noon, nil, domain.Conflict},
		"success before the beginning":         {pending, succeed("w1", `{}`), once, noon, nil, domain.Conflict},
		"success of a worker that was lost":    {requeued, succeed("", `{}`), twice, noon, nil, domain.Conflict},
		"success of another's":                 {begun, succeed("w2", `{}`), once, noon, nil, domain.Conflict},
		"success after failure":                {failed, succeed("w1", `{}`), once, noon, nil, domain.Conflict},
		"failure":                              {begun, fail("w1", "no"), once, noon, []domain.Event{taskFailed}, ""},
		"failure before the beginning":         {pending, fail("w1", "no"), once, noon, []domain.Event{taskFailed}, ""},
		"failure of a worker that was lost":    {requeued, fail("w1", "no"), twice, noon, nil, domain.Conflict},
		"failure of the next worker":           {requeued, fail("w2", "no"), twice, noon, []domain.Event{taskFailed}, ""},
		"failure of another's":                 {begun, fail("w2", "no"), once, noon, nil, domain.Conflict},
		"the same failure again":               {failed, fail("w1", "no"), once, noon, nil, ""},
		"another failure":                      {failed, fail("w1", "yes"), once, noon, nil, domain.Conflict},
		"failure after success":                {succeeded, fail("w1", "no"), once, noon, nil, domain.Conflict},
		"the last moment":                      {succeeded, succeed("w1", `{"a": 1}`), once, twoDays.Add(-1), nil, ""},
		"of a task that has expired":           {succeeded, succeed("w1", `{"a": 1}`), once, twoDays, nil, domain.NotFound},
		"of a task that is not there":          {nil, begin("w1"), once, noon, nil, domain.NotFound},
		"of a task that is gone":               {append(succeeded[:3:3], domain.TaskExpired{Project: "p1", ID: taskID}), begin("w1"), once, noon, nil, domain.NotFound},
		"another action":                       {pending, domain.TaskReport{Action: "sleep"}, once, noon, nil, domain.Invalid},
		"too long a name":                      {pending, begin(strings.Repeat("ä", 256)), once, noon, nil, domain.Invalid},
		"too long a message":                   {begun, progress("w1", strings.Repeat("x", 65537)), once, noon, nil, domain.Invalid},
		"a message with NUL":                   {begun, fail("w1", "\x00"), once, noon, nil, domain.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := taskAfter(test.given...).Report(test.report, test.rules, test.now)
			expect(t, events, err, test.then, test.refused)
		})
	}
}

func TestSweepTask(t *testing.T) {
	begun := []domain.Event{taskCreated, taskBegun}
	overdue := func(at time.Time) []domain.Event {
		e := failedBecause(domain.TaskOverdue, domain.Lost)
		e.Expires = at.Add(48 * time.Hour)
		return []domain.Event{e}
	}
	tests := map[string]struct {
		given []domain.Event
		now   time.Time
		then  []domain.Event
	}{
		"none":                       {nil, ends, nil},
		"one that waits":             {[]domain.Event{taskCreated}, ends.Add(-1), nil},
		"one that has waited":        {[]domain.Event{taskCreated}, ends, overdue(ends)},
		"one that is worked on":      {begun, timeout.Add(-1), nil},
		"one that nobody works on":   {begun, timeout, overdue(timeout)},
		"one that waits again":       {append(begun[:2:2], taskRequeued), timeout, nil},
		"one that is told of":        {append(begun[:2:2], progressed("15", timeout.Add(1))), timeout, nil},
		"one that has ended":         {append(begun[:2:2], taskFailed), twoDays.Add(-1), nil},
		"one that ended long ago":    {append(begun[:2:2], taskFailed), twoDays, []domain.Event{domain.TaskExpired{Project: "p1", ID: taskID}}},
		"one that was swept already": {append(begun[:2:2], taskFailed, domain.TaskExpired{Project: "p1", ID: taskID}), twoDays, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			expect(t, taskAfter(test.given...).Sweep(once, test.now), nil, test.then, "")
		})
	}
}

func TestWhatATaskAddsUpTo(t *testing.T) {
	later := noon.Add(time.Minute)
	got := taskAfter(taskCreated, taskBegun, progressed("15", timeout))
	got.Apply(later, taskSucceeded)
	want := domain.Task{
		ID: taskID, Type: "import", Status: "success", Owner: "p1", User: "u1", RequestID: "req-1", Input: importInput,
		Result: `{"a": 1}`, Message: "15", Created: noon, Updated: later, Expires: twoDays, Worker: "w1", Attempts: 1, Handed: handed,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := taskAfter(taskCreated, taskBegun, progressed("15", timeout), taskRequeued); again.Message != "" || again.Worker != "w1" || again.Status != "pending" {
		t.Errorf("requeued: %+v", again)
	}
}
