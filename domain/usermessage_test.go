package domain

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
)

var (
	itsID  = uuid.MustParse("384468b0-e1d6-4772-afc5-ef9de64d0331")
	volume = "f292cc0c-54a7-4b3b-8174-d2ff82d87008"
	noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// says is what a producer says, with a project and an id.
func says(t testing.TB, message string) NewUserMessage {
	t.Helper()
	n, err := ParseUserMessage(`{"message": ` + message + `}`)
	if err != nil {
		t.Fatalf("%s: %v", message, err)
	}
	n.Project = "p1"
	if !n.Named {
		n.ID = itsID
	}
	return n
}

// told is the message that is recorded at noon, with what a test cares about.
func told(eventID, action, detail, resourceType string) UserMessageRecorded {
	return UserMessageRecorded{
		Project: "p1", ID: itsID, EventID: eventID, ActionID: action, DetailID: detail, Level: LevelError,
		ResourceType: resourceType, Created: noon, GuaranteedUntil: noon.Add(2592000 * time.Second),
	}
}

func TestRecordUserMessage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		says string
		then UserMessageRecorded
		text string // in English
	}{
		"ids":                {`{"action_id": "001", "detail_id": "003"}`, told("VOLUME_VOLUME_001_003", "001", "003", "VOLUME"), "schedule allocate volume:Could not find any available weighted backend."},
		"names":              {`{"action": "ATTACH_VOLUME", "detail": "ATTACH_ERROR"}`, told("VOLUME_VOLUME_002_021", "002", "021", "VOLUME"), "attach volume:Failed to attach volume."},
		"no detail":          {`{"action_id": "007"}`, told("VOLUME_VOLUME_007_001", "007", "001", "VOLUME"), "extend volume:An unknown error occurred."},
		"nulls":              {`{"action_id": "007", "detail_id": null, "created_at": null, "exception": null}`, told("VOLUME_VOLUME_007_001", "007", "001", "VOLUME"), "extend volume:An unknown error occurred."},
		"a mapped exception": {`{"action_id": "001", "detail_id": "006", "exception": "NoValidBackend"}`, told("VOLUME_VOLUME_001_003", "001", "003", "VOLUME"), "schedule allocate volume:Could not find any available weighted backend."},
		"one in a module":    {`{"action_id": "009", "exception": "cinder.exception.SnapshotLimitExceeded", "resource_type": "VOLUME_SNAPSHOT"}`, told("VOLUME_VOLUME_SNAPSHOT_009_006", "009", "006", "VOLUME_SNAPSHOT"), "create snapshot:Not enough quota resource for operation."},
		"another exception":  {`{"action_id": "001", "detail_id": "006", "exception": "ValueError"}`, told("VOLUME_VOLUME_001_006", "001", "006", "VOLUME"), "schedule allocate volume:Not enough quota resource for operation."},
		"only such a one":    {`{"action_id": "001", "exception": "ValueError"}`, told("VOLUME_VOLUME_001_001", "001", "001", "VOLUME"), "schedule allocate volume:An unknown error occurred."},
		"a small type":       {`{"action_id": "013", "resource_type": "volume_backup"}`, told("VOLUME_VOLUME_BACKUP_013_001", "013", "001", "VOLUME_BACKUP"), "create backup:An unknown error occurred."},
		"an event id":        {`{"event_id": "VOLUME_VOLUME_SNAPSHOT_010_015"}`, told("VOLUME_VOLUME_SNAPSHOT_010_015", "010", "015", "VOLUME_SNAPSHOT"), "delete snapshot:Snapshot is busy."},
		"an older event id":  {`{"event_id": "VOLUME_000005"}`, told("VOLUME_000005", "", "", "VOLUME"), "Unmanaging encrypted volumes is not supported."},
		"one without prefix": {`{"event_id": "000002"}`, told("000002", "", "", "VOLUME"), "No storage could be allocated for this volume request. You may be able to try another size or volume type."},
		"of an image":        {`{"action": "IMPORT_IMAGE", "detail": "TASK_OVERDUE"}`, told("IMAGE_IMAGE_101_104", "101", "104", "IMAGE"), "import image:The task was not done in time."},
		"of a task":          {`{"event_id": "IMAGE_TASK_104_006"}`, told("IMAGE_TASK_104_006", "104", "006", "TASK"), "run task:Not enough quota resource for operation."},
	} {
		recorded, err := RecordUserMessage(says(t, test.says), DefaultUserMessageRules(), noon)
		if diff := cmp.Diff(test.then, recorded); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		var m UserMessage
		m.Apply(recorded)
		if text := DefaultCatalogue().Text(m, English); text != test.text {
			t.Errorf("%s: text %q, want %q", name, text, test.text)
		}
	}
}

func TestUserMessagesHaveAllThatWasSaid(t *testing.T) {
	t.Parallel()
	n := says(t, `{"id": "384468B0-E1D6-4772-AFC5-EF9DE64D0331", "action_id": "001", "resource_uuid": "F292CC0C-54A7-4B3B-8174-D2FF82D87008",
		"message_level": "WARNING", "request_id": "r", "global_request_id": "g", "created_at": "2026-03-01T12:30:00.1234567+01:00"}`)
	n.BroughtRequestID, n.BroughtGlobalRequestID = "req-local", "req-global"
	got, err := RecordUserMessage(n, DefaultUserMessageRules(), noon)
	if err != nil {
		t.Fatal(err)
	}
	want := told("VOLUME_VOLUME_001_001", "001", "001", "VOLUME")
	want.ResourceUUID, want.Level, want.RequestID, want.GlobalRequestID = volume, LevelWarning, "r", "g"
	want.Created = time.Date(2026, 3, 1, 11, 30, 0, 123456000, time.UTC)
	want.GuaranteedUntil = want.Created.Add(2592000 * time.Second)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(UserMessageRecorded{}, "Sent")); diff != "" || len(got.Sent) != 32 {
		t.Errorf("recorded (-want +got):\n%s", diff)
	}
	n = says(t, `{"action_id": "001", "created_at": "2026-03-01T12:00:00"}`)
	n.BroughtRequestID, n.BroughtGlobalRequestID = "req-local", "req-global"
	got, err = RecordUserMessage(n, DefaultUserMessageRules(), noon)
	if err != nil || got.RequestID != "req-local" || got.GlobalRequestID != "req-global" || !got.Created.Equal(noon) || got.Sent != "" {
		t.Errorf("recorded %+v, %v", got, err)
	}
}

func TestUserMessagesRefused(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for says, names := range map[string]string{
		`{}`: "action_id, action or event_id is required",
		`{"action_id": "001", "user_message": "The disk /dev/sda of host7 is broken"}`: "message must not have user_message",
		`{"action_id": "001", "project_id": "p2"}`:                                     "message must not have project_id",
		`{"action_id": "099"}`:                                                      "action_id",
		`{"action_id": "SCHEDULE_ALLOCATE_VOLUME"}`:                                 "action_id",
		`{"action": "001"}`:                                                         "action",
		`{"action": "NOTHING"}`:                                                     "action",
		`{"action_id": 1}`:                                                          "action_id must be a text",
		`{"action_id": "001", "action": "ATTACH_VOLUME"}`:                           "only one of action_id and action",
		`{"action_id": "001", "detail_id": "099"}`:                                  "detail_id",
		`{"action_id": "001", "detail": "no space"}`:                                "detail",
		`{"action_id": "001", "detail_id": "001", "detail": "UNKNOWN_ERROR"}`:       "only one of detail_id and detail",
		`{"action_id": "001", "exception": "No valid backend on host7"}`:            "exception",
		`{"action_id": "001", "exception": "E()"}`:                                  "exception",
		`{"action_id": "001", "event_id": "VOLUME_VOLUME_001_001"}`:                 "event_id",
		`{"event_id": "VOLUME_VOLUME_001_001", "detail_id": "003"}`:                 "event_id",
		`{"event_id": "VOLUME_VOLUME_001_001", "exception": "ImageTooBig"}`:         "event_id",
		`{"event_id": "VOLUME_VOLUME_001_001", "resource_type": "VOLUME_SNAPSHOT"}`: "resource_type must be that of event_id",
		`{"event_id": "VOLUME_000006"}`:                                             "event_id",
		`{"event_id": "000005"}`:                                                    "event_id",
		`{"event_id": "VOLUME_001_003"}`:                                            "event_id",
		`{"event_id": "VOLUME_IMAGE_001_003"}`:                                      "event_id",
		`{"event_id": "VOLUME_VOLUME_101_003"}`:                                     "event_id",
		`{"event_id": "IMAGE_IMAGE_001_003"}`:                                       "event_id",
		`{"event_id": "VOLUME_VOLUME_099_003"}`:                                     "event_id",
		`{"event_id": "VOLUME_VOLUME_001_099"}`:                                     "event_id",
		`{"event_id": "_"}`:                                                         "event_id",
		`{"event_id": "VOLUME_VOLUME_001-003"}`:                                     "event_id",
		`{"event_id": "VOLUME_VOLUME-001_003"}`:                                     "event_id",
		`{"action_id": "001", "resource_type": "SERVER"}`:                           "resource_type must be one of VOLUME, VOLUME_SNAPSHOT, VOLUME_BACKUP",
		`{"action_id": "101", "resource_type": "VOLUME"}`:                           "resource_type must be one of IMAGE, TASK",
		`{"action_id": "001", "resource_uuid": "x"}`:                                "resource_uuid must be a UUID",
		`{"action_id": "001", "resource_uuid": "f292cc0c54a74b3b8174d2ff82d87008"}`: "resource_uuid must be a UUID",
		`{"action_id": "001", "message_level": "error"}`:                            "message_level",
		`{"action_id": "001", "request_id": "` + long + `"}`:                        "request_id must not be longer than 255",
		`{"action_id": "001", "global_request_id": "a\u0000"}`:                      "global_request_id",
		`{"action_id": "001", "created_at": "yesterday"}`:                           "created_at",
		`{"action_id": "001", "created_at": "2026-03-01T12:00:00.000001"}`:          "created_at must not be in the future",
		`{"action_id": "001", "created_at": "2026-03-01T12:00:01+00:00"}`:           "created_at must not be in the future",
		`{"action_id": "001", "created_at": "0001-01-01"}`:                          "from 1970 on",
		`{"action_id": "001", "id": "x"}`:                                           "id must be a UUID",
		`{"action_id": "001", "id": "00000000-0000-0000-0000-000000000000"}`:        "id must not be zero",
		`[]`:   "message must be a JSON object",
		`null`: "message must be a JSON object",
	} {
		n, err := ParseUserMessage(`{"message": ` + says + `}`)
		if n.Project = "p1"; err == nil {
			_, err = RecordUserMessage(n, DefaultUserMessageRules(), noon)
		}
		if err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: %v, want %q", says, err, names)
		}
	}
}

func TestBodiesOfUserMessagesRefused(t *testing.T) {
	t.Parallel()
	for body, names := range map[string]string{
		``: "the body must be a JSON object", `{}`: "message is required", `{"message": {}, "x": 1}`: "the body must not have x",
		`{"message": {"action_id": "001"}, "project_id": "p1"}`: "the body must not have project_id",
	} {
		if _, err := ParseUserMessage(body); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: %v, want %q", body, err, names)
		}
	}
	for body, names := range map[string]string{
		`{"message": {"action_id": "001"}}`: "project id", `{"project_id": 1, "message": {}}`: "project_id must be a text",
		`{"project_id": "p1"}`: "message is required", `"x"`: "the body must be a JSON object",
	} {
		if _, err := ParseProduced(body); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%s: %v, want %q", body, err, names)
		}
	}
}

// The rules of an id: what was recorded under it, what is asked now, and what that records.
func TestUserMessageIDs(t *testing.T) {
	t.Parallel()
	rules := DefaultUserMessageRules()
	const same = `{"id": "384468b0-e1d6-4772-afc5-ef9de64d0331", "action_id": "001"}`
	first, err := RecordUserMessage(says(t, same), rules, noon)
	if err != nil {
		t.Fatal(err)
	}
	drawn := first
	drawn.Sent = ""
	deleted, expired := UserMessageDeleted{"p1", itsID}, UserMessageExpired{"p1", itsID}
	other := says(t, same)
	other.Project = "p2"
	late := says(t, same)
	late.BroughtRequestID = "req-later"
	for name, test := range map[string]struct {
		given   []Event
		when    NewUserMessage
		then    []Event
		refused Code
	}{
		"a new one":                   {nil, says(t, same), []Event{first}, ""},
		"the same again":              {[]Event{first}, says(t, same), nil, ""},
		"the same, another call":      {[]Event{first}, late, nil, ""},
		"the same after its deletion": {[]Event{first, deleted}, says(t, same), nil, ""},
		"another text":                {[]Event{first}, says(t, `{"id": "384468b0-e1d6-4772-afc5-ef9de64d0331", "action_id": "002"}`), nil, KeyReused},
		"another project":             {[]Event{first}, other, nil, KeyReused},
		"one that nabu drew":          {[]Event{drawn}, says(t, same), nil, KeyReused},
		"one that has expired":        {[]Event{first, expired}, says(t, same), nil, Conflict},
	} {
		var m UserMessage
		for _, e := range test.given {
			m.Apply(e)
		}
		events, err := m.Record(test.when, rules, noon.Add(time.Hour))
		if test.then != nil {
			events, err = m.Record(test.when, rules, noon)
		}
		if diff := cmp.Diff(test.then, events, cmpopts.EquateEmpty()); diff != "" || codeOf(err) != test.refused {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestUserMessagesEnd(t *testing.T) {
	t.Parallel()
	recorded := told("VOLUME_VOLUME_001_003", "001", "003", "VOLUME")
	end := recorded.GuaranteedUntil
	deleted, expired := UserMessageDeleted{"p1", itsID}, UserMessageExpired{"p1", itsID}
	for name, test := range map[string]struct {
		given   []Event
		when    func(UserMessage) ([]Event, error)
		then    []Event
		refused Code
	}{
		"its user deletes it":              {[]Event{recorded}, deletes("p1"), []Event{deleted}, ""},
		"an administrator does":            {[]Event{recorded}, deletes(""), []Event{deleted}, ""},
		"another project does not":         {[]Event{recorded}, deletes("p2"), nil, NotFound},
		"deleted twice":                    {[]Event{recorded, deleted}, deletes("p1"), nil, NotFound},
		"deleted when it is gone":          {[]Event{recorded, expired}, deletes("p1"), nil, NotFound},
		"deleted when it never was":        {nil, deletes("p1"), nil, NotFound},
		"swept while it is guaranteed":     {[]Event{recorded}, sweeps(end), nil, ""},
		"swept a moment later":             {[]Event{recorded}, sweeps(end.Add(time.Microsecond)), []Event{expired}, ""},
		"swept after its deletion":         {[]Event{recorded, deleted}, sweeps(end.Add(time.Hour)), []Event{expired}, ""},
		"swept twice":                      {[]Event{recorded, expired}, sweeps(end.Add(time.Hour)), nil, ""},
		"deleted though its time has come": {[]Event{recorded}, deletes("p1"), []Event{deleted}, ""},
	} {
		var m UserMessage
		for _, e := range test.given {
			m.Apply(e)
		}
		events, err := test.when(m)
		if diff := cmp.Diff(test.then, events, cmpopts.EquateEmpty()); diff != "" || codeOf(err) != test.refused {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// codeOf is the kind of a refusal; empty: there is none.
func codeOf(err error) Code {
	refusal, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	return refusal.Code
}

func deletes(project string) func(UserMessage) ([]Event, error) {
	return func(m UserMessage) ([]Event, error) { return m.Delete(itsID, project, project == "") }
}

func sweeps(now time.Time) func(UserMessage) ([]Event, error) {
	return func(m UserMessage) ([]Event, error) { return m.Sweep(now), nil }
}

// The catalogue is Cinder's letter by letter, for as long as it has no more.
func TestCatalogueIsCinders(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/catalogue.json")
	if err != nil {
		t.Fatal(err)
	}
	var sample struct {
		ResourceTypes    []string `json:"resource_types"`
		Actions, Details []CatalogueEntry
		Exceptions       map[string]string
	}
	if err := json.Unmarshal(text, &sample); err != nil {
		t.Fatal(err)
	}
	its := DefaultCatalogue().services[0]
	want := CatalogueService{"VOLUME", sample.ResourceTypes, sample.Actions, sample.Details, sample.Exceptions}
	if diff := cmp.Diff(want, its); diff != "" || len(its.Actions) != 16 || len(its.Details) != 30 {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A second language is shipped, and has a text for everything.
func TestCatalogueInGerman(t *testing.T) {
	t.Parallel()
	c := DefaultCatalogue()
	german := c.translations["de"]
	for _, s := range c.services {
		for _, its := range s.Actions {
			if german.Actions[its.ID] == "" || german.Actions[its.ID] == its.Text {
				t.Errorf("action %s has no text", its.ID)
			}
		}
		for _, its := range s.Details {
			if german.Details[its.ID] == "" || german.Details[its.ID] == its.Text {
				t.Errorf("detail %s has no text", its.ID)
			}
		}
	}
	for id := range olderEvents {
		if german.Events[id] == "" {
			t.Errorf("event %s has no text", id)
		}
	}
	for _, m := range []struct {
		message UserMessage
		text    string
	}{
		{UserMessage{ActionID: "002", DetailID: "021"}, "Volume anhängen:Das Volume konnte nicht angehängt werden."},
		{UserMessage{ActionID: "199", DetailID: "199"}, "unbekannter Vorgang:Ein unbekannter Fehler ist aufgetreten."},
		{UserMessage{EventID: "000003"}, "Ein schreibgeschütztes Volume muss schreibgeschützt angehängt werden."},
	} {
		if text := c.Text(m.message, "DE"); text != m.text {
			t.Errorf("%+v: %q, want %q", m.message, text, m.text)
		}
	}
	if text := c.Text(UserMessage{ActionID: "199", DetailID: "199"}, "fr"); text != "unknown action:An unknown error occurred." {
		t.Errorf("of what is in no catalogue: %q", text)
	}
	if diff := cmp.Diff([]string{"en", "de"}, c.Languages()); diff != "" {
		t.Error(diff)
	}
}

func TestOperatorsAddToTheCatalogue(t *testing.T) {
	t.Parallel()
	file, err := ParseCatalogue([]byte(`{"services": [{"name": "SHARE", "resource_types": ["SHARE"],
		"actions": [{"id": "150", "name": "EXTEND_SHARE", "text": "extend share"}],
		"details": [{"id": "150", "name": "SHARE_BUSY", "text": "Share is busy."}],
		"exceptions": {"ShareBusyException": "150"}}],
		"translations": [{"language": "pt-BR", "actions": {"150": "estender"}}, {"language": "de", "details": {"150": "Belegt."}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	rules := DefaultUserMessageRules()
	if rules.Catalogue, err = NewCatalogue(file); err != nil {
		t.Fatal(err)
	}
	recorded, err := RecordUserMessage(says(t, `{"action_id": "150", "exception": "ShareBusyException"}`), rules, noon)
	if err != nil || recorded.EventID != "SHARE_SHARE_150_150" {
		t.Fatalf("%+v, %v", recorded, err)
	}
	var m UserMessage
	m.Apply(recorded)
	for language, want := range map[string]string{
		"en": "extend share:Share is busy.", "pt-br": "estender:Share is busy.", "de": "extend share:Belegt.",
	} {
		if text := rules.Catalogue.Text(m, language); text != want {
			t.Errorf("in %s: %q, want %q", language, text, want)
		}
	}
	for file, problem := range map[string]string{
		`{"services": [{"name": "share"}]}`:                                       "capitals",
		`{"services": [{"name": "VOLUME"}]}`:                                      "no other service",
		`{"services": [{"name": "X"}]}`:                                           "at least one",
		`{"services": [{"name": "X", "resource_types": ["x"], "actions": [{}]}]}`: "resource type",
		`{"services": [{"name": "X", "resource_types": ["X"], "actions": [{"id": "017", "name": "A", "text": "a"}]}]}`:                                       "from 100 to 199",
		`{"services": [{"name": "X", "resource_types": ["X"], "actions": [{"id": "101", "name": "A", "text": "a"}]}]}`:                                       "there already",
		`{"services": [{"name": "X", "resource_types": ["X"], "actions": [{"id": "150", "name": "ATTACH_VOLUME", "text": "a"}]}]}`:                           "there already",
		`{"services": [{"name": "X", "resource_types": ["X"], "actions": [{"id": "150", "name": "a", "text": "a"}]}]}`:                                       "capitals",
		`{"services": [{"name": "X", "resource_types": ["X"], "actions": [{"id": "150", "name": "A", "text": " "}]}]}`:                                       "empty",
		`{"services": [{"name": "X", "resource_types": ["X"], "actions": [{"id": "150", "name": "A", "text": "a"}], "details": [{"id": "001"}]}]}`:           "there already",
		`{"services": [{"name": "X", "resource_types": ["X"], "actions": [{"id": "150", "name": "A", "text": "a"}], "exceptions": {"E": "199"}}]}`:           "exception",
		`{"services": [{"name": "X", "resource_types": ["X"], "actions": [{"id": "150", "name": "A", "text": "a"}], "exceptions": {"ImageTooBig": "001"}}]}`: "exception",
		`{"translations": [{"language": "en"}]}`:                            "not English",
		`{"translations": [{"language": "fr", "actions": {"099": "x"}}]}`:   "no action 099",
		`{"translations": [{"language": "fr", "details": {"BUSY": "x"}}]}`:  "no detail BUSY",
		`{"translations": [{"language": "fr", "events": {"000001": "x"}}]}`: "no event 000001",
		`{"other": 1}`: "unknown field",
		`{} {}`:        "behind the end",
	} {
		parsed, err := ParseCatalogue([]byte(file))
		if err == nil {
			_, err = NewCatalogue(parsed)
		}
		if err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v, want %q", file, err, problem)
		}
	}
}

// A service whose name begins with that of another one is itself.
func TestServicesWhoseNamesBeginAlike(t *testing.T) {
	t.Parallel()
	file, err := ParseCatalogue([]byte(`{"services": [
		{"name": "SHARE", "resource_types": ["SHARE"], "actions": [{"id": "150", "name": "EXTEND_SHARE", "text": "extend share"}]},
		{"name": "SHARE_GROUP", "resource_types": ["GROUP"], "actions": [{"id": "160", "name": "CREATE_GROUP", "text": "create group"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	rules := DefaultUserMessageRules()
	if rules.Catalogue, err = NewCatalogue(file); err != nil {
		t.Fatal(err)
	}
	recorded, err := RecordUserMessage(says(t, `{"event_id": "SHARE_GROUP_GROUP_160_001"}`), rules, noon)
	if err != nil || recorded.ActionID != "160" || recorded.ResourceType != "GROUP" {
		t.Errorf("%+v, %v", recorded, err)
	}
}

// What users are told of tasks that fail, by type, cause and image.
func TestTaskFailuresAreTold(t *testing.T) {
	t.Parallel()
	rules := DefaultUserMessageRules()
	id := uuid.MustParse("bfd7115e-756c-4db1-92df-24a3f9935a1d")
	nothing := func(UserMessageRef) UserMessage { return UserMessage{} }
	for _, test := range []struct {
		task    Task
		cause   TaskCause
		eventID string
		about   string
	}{
		{Task{Type: TaskImport}, TaskReported, "IMAGE_TASK_101_101", id.String()},
		{Task{Type: TaskAPIImageImport, ImageID: volume}, TaskOverdue, "IMAGE_IMAGE_102_104", volume},
		{Task{Type: TaskLocationImport, ImageID: "x"}, TaskWorkerLost, "IMAGE_TASK_103_103", id.String()},
		{Task{Type: "own"}, TaskDeadLetter, "IMAGE_TASK_104_103", id.String()},
		{Task{Type: TaskImport}, TaskIncomplete, "IMAGE_TASK_101_102", id.String()},
	} {
		test.task.ID, test.task.Owner, test.task.RequestID = id, "p1", "req-1"
		events := []Event{TaskFailed{Project: "p1", ID: id, Cause: test.cause, Message: "secret"}}
		task := func(TaskID) Task { return test.task }
		if test.cause == TaskIncomplete { // it was made by the same decision
			events = append([]Event{TaskCreated{Project: "p1", ID: id, Type: test.task.Type, RequestID: "req-1"}}, events...)
			task = func(TaskID) Task { return Task{} }
		}
		if silent := rules.Failures(events, task, nothing, Moment{Time: noon}); silent != nil {
			t.Errorf("told though nobody wants it: %v", silent)
		}
		telling := rules
		telling.TaskFailures = true
		got := telling.Failures(events, task, nothing, Moment{Time: noon})
		want := []Event{UserMessageRecorded{
			Project: "p1", ID: TaskFailureID(id), EventID: test.eventID, ActionID: test.eventID[len(test.eventID)-7 : len(test.eventID)-4],
			DetailID: test.eventID[len(test.eventID)-3:], Level: LevelError, ResourceType: strings.Split(test.eventID, "_")[1],
			ResourceUUID: test.about, RequestID: "req-1", Created: noon, GuaranteedUntil: noon.Add(rules.TTL),
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s by %s (-want +got):\n%s", test.task.Type, test.cause, diff)
		}
		taken := func(UserMessageRef) UserMessage { return UserMessage{ID: TaskFailureID(id), Project: "p1"} }
		if again := telling.Failures(events, task, taken, Moment{Time: noon}); again != nil {
			t.Errorf("told under an id that is taken: %v", again)
		}
	}
}

func TestUserMessageRules(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*UserMessageRules){
		"message_ttl":           func(r *UserMessageRules) { r.TTL = 0 },
		"message_reap_interval": func(r *UserMessageRules) { r.ReapInterval = maxUserMessageSpan + time.Second },
	} {
		rules := DefaultUserMessageRules()
		if err := rules.Check(); err != nil {
			t.Fatal(err)
		}
		change(&rules)
		if err := rules.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
