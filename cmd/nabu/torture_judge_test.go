package main

import (
	"testing"
	"time"

	"nabu/domain"
	"nabu/eventstore"
)

// TestATortureSeesWhatIsWrong: a judge who cannot find anything proves nothing.
func TestATortureSeesWhatIsWrong(t *testing.T) {
	id, _ := domain.ParseMessageID("0197a0b4-0000-8000-8000-000000000001")
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	posted := domain.MessagesPosted{Messages: []domain.PostedMessage{{ID: id, Body: `"0-0"`}}}
	again := domain.MessagesPosted{Messages: []domain.PostedMessage{{ID: domain.MessageID{1}, Body: `"0-0"`}}}
	claimed := domain.MessagesClaimed{TTL: 300, Messages: []domain.ClaimedMessage{{ID: id}}}
	released := domain.ClaimReleased{Messages: []domain.MessageAt{{ID: id}}}
	gone := domain.MessagesDeleted{Messages: []domain.DeletedMessage{{ID: id}}}
	tests := map[string]struct {
		history []domain.Event
		known   sent
		want    verdict
		unsound bool
	}{
		"all is well":                    {[]domain.Event{posted}, sent{id: id.String()}, verdict{acknowledged: 1}, false},
		"a deletion that was asked for":  {[]domain.Event{posted, gone}, sent{id: id.String(), asked: true}, verdict{acknowledged: 1}, false},
		"a claim after a release":        {[]domain.Event{posted, claimed, released, claimed}, sent{}, verdict{}, false},
		"a post that was not committed":  {nil, sent{id: id.String()}, verdict{acknowledged: 1, lost: 1}, false},
		"a deletion nobody asked for":    {[]domain.Event{posted, gone}, sent{id: id.String()}, verdict{acknowledged: 1, lost: 1}, false},
		"a post that is there twice":     {[]domain.Event{posted, again}, sent{id: id.String()}, verdict{acknowledged: 1, doubled: 1}, false},
		"a deletion that did not happen": {[]domain.Event{posted}, sent{id: id.String(), asked: true, gone: true}, verdict{acknowledged: 1, risen: 1}, false},
		"two live claims":                {[]domain.Event{posted, claimed, claimed}, sent{}, verdict{}, true},
		"a claim of what is gone":        {[]domain.Event{posted, gone, claimed}, sent{}, verdict{}, true},
		"one deletion too many":          {[]domain.Event{posted, gone, gone}, sent{}, verdict{}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLedgered()
			var unsound error
			for _, event := range test.history {
				if unsound == nil {
					unsound = l.apply(eventstore.RecordedEvent{Event: event, RecordedAt: now})
				}
			}
			if test.unsound != (unsound != nil) {
				t.Fatalf("error %v", unsound)
			}
			known := test.known
			v, err := l.judge(&tormented{messages: map[string]*sent{"0-0": &known}})
			if err != nil || !test.unsound && v != test.want {
				t.Errorf("judged %+v, error %v, want %+v", v, err, test.want)
			}
		})
	}
}
