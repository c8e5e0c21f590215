package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
)

func TestWhatEventsSay(t *testing.T) {
	t.Parallel()
	by := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	for want, event := range map[string]domain.Event{
		`import, until 2026-03-01 10:00:00: {"a": 1}`:       domain.TaskCreated{ID: uuid.New(), Type: "import", Deadline: by, Input: `{"a": 1}`},
		"attempt 2 of worker w1, until 2026-03-01 10:00:00": domain.TaskBegun{Worker: "w1", Attempt: 2, Deadline: by},
		"Copied 15 MiB":                                  domain.TaskProgressed{Message: "Copied 15 MiB"},
		`{"image_id": "i1"}`:                             domain.TaskSucceeded{Expires: by, Result: `{"image_id": "i1"}`},
		"reported: no such image":                        domain.TaskFailed{Cause: domain.TaskReported, Message: "no such image", Expires: by},
		"the worker was lost, until 2026-03-01 10:00:00": domain.TaskRequeued{Deadline: by},
		`http://a/b to queue q for 60 s {"c": 1}`:        domain.SubscriptionCreated{Queue: "q", Subscriber: "http://a/b", TTL: 60, Options: `{"c": 1}`},
		"http://a/b to queue q {}":                       domain.SubscriptionUpdated{Queue: "q", Subscriber: "http://a/b", Options: "{}"},
		"http://a/b to queue q for 90 s {}":              domain.SubscriptionUpdated{Queue: "q", Subscriber: "http://a/b", TTL: 90, Options: "{}"},
		"ERROR IMAGE_TASK_101_101 about TASK t1":         domain.UserMessageRecorded{Level: "ERROR", EventID: "IMAGE_TASK_101_101", ResourceType: "TASK", ResourceUUID: "t1"},
	} {
		data, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		stored := eventstore.StoredEvent{Type: event.EventType(), Data: data}
		if texts, has := event.(interface{ Bodies() []string }); has {
			stored.Bodies = texts.Bodies()
		}
		if got := eventText(stored); got != want {
			t.Errorf("%T says %q, want %q", event, got, want)
		}
	}
}
