package domain_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
)

var (
	port       = "6a1b5c1e-1111-4222-8333-abcdefabcdef"
	hostless   = uuid.MustParse("22222222-2222-2222-2222-222222222222")
	unheardOf  = uuid.MustParse("33333333-3333-3333-3333-333333333333")
	gone       = uuid.MustParse("44444444-4444-4444-4444-444444444444")
	moving     = uuid.MustParse("55555555-5555-5555-5555-555555555555")
	eventRules = domain.DefaultEventRules()
	eventAt    = domain.Moment{Position: 20, Time: noon.Add(123456 * time.Microsecond)}
)

// cloud is a few servers, one of each kind.
func cloud(id domain.ServerID) domain.Server {
	s := domain.Server{ID: id, ObservedAt: noon}
	switch id {
	case serverID:
		s.Host = "c1"
	case moving:
		s.Whereabouts = domain.Whereabouts{Host: "c1", SourceHost: "c1", DestHost: "c2"}
	case gone:
		s.Deleted, s.Project = true, "a1"
	case unheardOf:
		return domain.Server{}
	}
	return s
}

// event is one with this number as its id.
func event(n int, server domain.ServerID, name string, tag *string) domain.ExternalEvent {
	return domain.ExternalEvent{ID: uuid.MustParse(fmt.Sprintf("0190a6c4-7d1e-7b3a-9c55-%012x", n)), Name: name, Server: server, Status: "completed", Tag: tag}
}

func eventID(n int) string { return fmt.Sprintf("evt-0190a6c4-7d1e-7b3a-9c55-%012x", n) }

// copyAt is the message with this index in the post at a position, for the event with this
// number.
func copyAt(position int64, index, n int) domain.MessageID {
	return domain.NewMessageID(domain.PlaceOf(position, index), 0x9c55_0000_0000_0000+uint64(n))
}

// noQueues knows no queue.
func noQueues(domain.QueueID) domain.Queue { return domain.Queue{} }

func TestTheTestsOfAnEvent(t *testing.T) {
	empty := ""
	tests := map[string]struct {
		server domain.ServerID
		name   string
		tag    *string
		want   domain.EventCode
	}{
		"a server on a host":                      {serverID, "network-changed", nil, 200},
		"a server between two":                    {moving, "network-changed", &port, 200},
		"a server on no host":                     {hostless, "network-changed", nil, 422},
		"no such server":                          {unheardOf, "network-changed", nil, 404},
		"a server that is gone":                   {gone, "network-changed", nil, 404},
		"no tag where one is needed":              {serverID, "volume-extended", nil, 400},
		"no power state":                          {serverID, "power-update", nil, 400},
		"no request":                              {serverID, "accelerator-request-bound", nil, 400},
		"no tag where none is asked for":          {serverID, "volume-reimaged", nil, 200},
		"an empty tag":                            {serverID, "volume-extended", &empty, 200},
		"any tag":                                 {serverID, "power-update", &port, 200},
		"no server is told before no tag":         {unheardOf, "power-update", nil, 404},
		"no tag is told before no host":           {hostless, "power-update", nil, 400},
		"no server is told before no host either": {gone, "power-update", &port, 404},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := domain.Dispatch{Events: []domain.ExternalEvent{event(1, test.server, test.name, test.tag)}}
			codes, events, err := d.Decide(cloud, noQueues, eventRules, limits, eventAt)
			if err != nil || len(codes) != 1 || codes[0] != test.want {
				t.Fatalf("%v %v, want %d", codes, err, test.want)
			}
			switch e := events[0].(type) {
			case domain.ExternalEventsAccepted:
				if test.want != 200 || len(events) < 3 {
					t.Errorf("recorded %+v", events)
				}
			case domain.ExternalEventsRejected:
				if test.want == 200 || len(events) != 1 || e.Events[0].Code != test.want {
					t.Errorf("recorded %+v", events)
				}
			}
		})
	}
}

// TestCopiesOfEvents: for each server what was accepted and what was not, then a post for
// each host in the order of the request.
func TestCopiesOfEvents(t *testing.T) {
	there := queueAfter(domain.QueueCreated{Project: "service", Name: "nova-events.c2"})
	queue := func(id domain.QueueID) domain.Queue {
		if id.Name == "nova-events.c2" {
			return there
		}
		return domain.Queue{}
	}
	failed := event(2, moving, "network-vif-plugged", &port)
	failed.Status = "failed"
	d := domain.Dispatch{
		RequestID: "req-1", GlobalRequestID: "req-2",
		Events: []domain.ExternalEvent{
			event(0, serverID, "network-changed", nil), event(1, unheardOf, "network-changed", nil),
			failed, event(3, serverID, "volume-extended", nil), event(4, serverID, "network-changed", nil),
		},
	}
	codes, events, err := d.Decide(cloud, queue, eventRules, limits, eventAt)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]domain.EventCode{200, 404, 200, 400, 200}, codes); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}
	body := func(n int, host, role, name string, server domain.ServerID, status, tag string) string {
		if tag != "" {
			tag = `,"tag":"` + tag + `"`
		}
		return fmt.Sprintf(`{"id":"%s","request_id":"req-1","global_request_id":"req-2","received_at":"2026-03-01T12:00:00.123456Z","host":"%s","role":"%s","name":"%s","server_uuid":"%s","status":"%s"%s}`,
			eventID(n), host, role, name, server, status, tag)
	}
	posted := func(queue string, number int64, messages ...domain.PostedMessage) domain.MessagesPosted {
		return domain.MessagesPosted{Project: "service", Queue: queue, Number: number, Client: "nabu", Messages: messages}
	}
	message := func(id domain.MessageID, body string) domain.PostedMessage {
		return domain.PostedMessage{ID: id, TTL: 3600, Body: body}
	}
	want := []domain.Event{
		domain.ExternalEventsAccepted{Server: serverID, Hosts: []domain.ServerHost{{Host: "c1", Role: "current"}}, Events: []domain.AcceptedEvent{
			{ID: eventID(0), Index: 0, Name: "network-changed", Status: "completed", Copies: []domain.MessageID{copyAt(25, 0, 0)}},
			{ID: eventID(4), Index: 4, Name: "network-changed", Status: "completed", Copies: []domain.MessageID{copyAt(25, 2, 4)}},
		}},
		domain.ExternalEventsRejected{Server: serverID, Events: []domain.RejectedEvent{
			{ID: eventID(3), Index: 3, Name: "volume-extended", Status: "completed", Code: 400},
		}},
		domain.ExternalEventsRejected{Server: unheardOf, Events: []domain.RejectedEvent{
			{ID: eventID(1), Index: 1, Name: "network-changed", Status: "completed", Code: 404},
		}},
		domain.ExternalEventsAccepted{
			Server: moving, Hosts: []domain.ServerHost{{Host: "c1", Role: "current"}, {Host: "c2", Role: "destination"}},
			Events: []domain.AcceptedEvent{{
				ID: eventID(2), Index: 2, Name: "network-vif-plugged", Status: "failed", Tag: &port,
				Copies: []domain.MessageID{copyAt(25, 1, 2), copyAt(26, 0, 2)},
			}},
		},
		domain.QueueCreated{Project: "service", Name: "nova-events.c1"},
		posted("nova-events.c1", 24,
			message(copyAt(25, 0, 0), body(0, "c1", "current", "network-changed", serverID, "completed", "")),
			message(copyAt(25, 1, 2), body(2, "c1", "current", "network-vif-plugged", moving, "failed", port)),
			message(copyAt(25, 2, 4), body(4, "c1", "current", "network-changed", serverID, "completed", ""))),
		posted("nova-events.c2", there.Number,
			message(copyAt(26, 0, 2), body(2, "c2", "destination", "network-vif-plugged", moving, "failed", port))),
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestForwardedEventsAreNotPosted: another compute service gets them.
func TestForwardedEventsAreNotPosted(t *testing.T) {
	rules := eventRules
	rules.Forward = true
	d := domain.Dispatch{Events: []domain.ExternalEvent{event(0, moving, "network-changed", nil), event(1, hostless, "network-changed", nil)}}
	codes, events, err := d.Decide(cloud, noQueues, rules, limits, eventAt)
	want := []domain.Event{
		domain.ExternalEventsAccepted{
			Server: moving, Hosts: []domain.ServerHost{{Host: "c1", Role: "current"}, {Host: "c2", Role: "destination"}}, Forward: true,
			Events: []domain.AcceptedEvent{{ID: eventID(0), Name: "network-changed", Status: "completed"}},
		},
		domain.ExternalEventsRejected{Server: hostless, Events: []domain.RejectedEvent{
			{ID: eventID(1), Index: 1, Name: "network-changed", Status: "completed", Code: 422},
		}},
	}
	if diff := cmp.Diff(want, events); diff != "" || err != nil || codes[0] != 200 || codes[1] != 422 {
		t.Errorf("%v %v (-want +got):\n%s", codes, err, diff)
	}
	if queues := rules.Queues(cloud(moving)); queues != nil {
		t.Errorf("posts to %v", queues)
	}
}

// TestWhatHostsGetIsAsTheyReadIt: without a global request id and with all that text can hold.
func TestWhatHostsGetIsAsTheyReadIt(t *testing.T) {
	tag := "<a>&\x00\"ä\u2028"
	d := domain.Dispatch{RequestID: "req-1", Events: []domain.ExternalEvent{event(0, serverID, "network-changed", &tag)}}
	_, events, err := d.Decide(cloud, noQueues, eventRules, limits, eventAt)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	body := events[2].(domain.MessagesPosted).Messages[0].Body
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	global, given := got["global_request_id"]
	if got["tag"] != tag || global != nil || !given || strings.Contains(body, "\n") {
		t.Errorf("a host gets %s", body)
	}
}

func TestEventRules(t *testing.T) {
	if err := eventRules.Check(limits); err != nil {
		t.Errorf("the rules are refused: %v", err)
	}
	for name, change := range map[string]func(*domain.EventRules){
		"too short a life":   func(r *domain.EventRules) { r.TTL = 59 },
		"too long a life":    func(r *domain.EventRules) { r.TTL = limits.MaxMessageTTL + 1 },
		"no service project": func(r *domain.EventRules) { r.ServiceProject = "" },
	} {
		broken := eventRules
		change(&broken)
		if broken.Check(limits) == nil {
			t.Errorf("%s is allowed", name)
		}
	}
	if v := domain.ExternalEventsVersion([]string{"network-changed", "power-update", "volume-extended"}); v != 76 {
		t.Errorf("power updates came with 2.%d", v)
	}
	if v := domain.ExternalEventsVersion([]string{"network-changed"}); v != 1 {
		t.Errorf("changes came with 2.%d", v)
	}
}

// TestRejectedEventsOfVolumesAreTold: once for each volume, and if the operator wants it.
func TestRejectedEventsOfVolumesAreTold(t *testing.T) {
	volume, other, noVolume := "f292cc0c-54a7-4b3b-8174-d2ff82d87008", "f292cc0c-54a7-4b3b-8174-d2ff82d87009", "x"
	d := domain.Dispatch{
		Project: "p1", RequestID: "req-1", GlobalRequestID: "req-2",
		Events: []domain.ExternalEvent{
			event(0, serverID, "volume-extended", &volume), event(1, hostless, "volume-extended", &volume),
			event(2, unheardOf, "volume-extended", &volume), event(3, unheardOf, "volume-reimaged", &volume),
			event(4, unheardOf, "network-changed", &volume), event(5, hostless, "volume-reimaged", nil),
			event(6, hostless, "volume-extended", nil), event(7, hostless, "volume-extended", &noVolume),
			event(8, gone, "volume-extended", &other),
		},
	}
	codes := []domain.EventCode{200, 422, 404, 404, 404, 422, 400, 422, 404}
	told := func(n int, id, action, detail, volume string) domain.UserMessageRecorded {
		return domain.UserMessageRecorded{
			Project: "p1", ID: event(n, serverID, "", nil).ID, EventID: id, ActionID: action, DetailID: detail, Level: "ERROR",
			ResourceType: "VOLUME", ResourceUUID: volume, RequestID: "req-1", GlobalRequestID: "req-2",
			Created: eventAt.Time, GuaranteedUntil: eventAt.Time.Add(30 * 24 * time.Hour),
		}
	}
	want := []domain.Event{
		told(1, "VOLUME_VOLUME_007_009", "007", "009", volume), told(3, "VOLUME_VOLUME_016_028", "016", "028", volume),
		told(8, "VOLUME_VOLUME_007_009", "007", "009", other),
	}
	ofServer := want[2].(domain.UserMessageRecorded)
	ofServer.Project = "a1" // its server's
	want[2] = ofServer
	rules := eventRules
	if events := rules.Messages(d, codes, cloud, domain.DefaultUserMessageRules(), eventAt); events != nil {
		t.Errorf("told although nobody wants it: %v", events)
	}
	rules.ToMessages = true
	if diff := cmp.Diff(want, rules.Messages(d, codes, cloud, domain.DefaultUserMessageRules(), eventAt)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
