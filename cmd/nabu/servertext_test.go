package main

import (
	"testing"
	"time"

	"nabu/domain"
)

func TestWhatEventsOfServersSay(t *testing.T) {
	tag := "v1"
	known := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	hosts := []domain.ServerHost{{Host: "c1", Role: "current"}, {Host: "c2", Role: "destination"}}
	accepted := domain.ExternalEventsAccepted{Hosts: hosts, Events: []domain.AcceptedEvent{{
		ID: "evt-1", Name: "network-changed", Copies: []domain.MessageID{domain.NewMessageID(1<<16, 0), domain.NewMessageID(2<<16, 0)},
	}}}
	for want, event := range map[string]domain.Event{
		"on c1 (current), c2 (destination)": domain.ServerAssigned{Whereabouts: domain.Whereabouts{Host: "c1", DestHost: "c2"}},
		"on no host":                        domain.ServerUnassigned{},
		"on c1 (current), older than 2026-03-01 10:00:00.000000": domain.ServerObservationIgnored{
			Whereabouts: domain.Whereabouts{Host: "c1"}, Known: known,
		},
		"to c1 (current), c2 (destination): network-changed evt-1 as " + accepted.Events[0].Copies[0].String() + " and " + accepted.Events[0].Copies[1].String(): accepted,
		"forwarded for c1 (current), c2 (destination): volume-extended v1 evt-1": domain.ExternalEventsAccepted{
			Hosts: hosts, Forward: true, Events: []domain.AcceptedEvent{{ID: "evt-1", Name: "volume-extended", Tag: &tag}},
		},
		"404 volume-extended v1 evt-1": domain.ExternalEventsRejected{Events: []domain.RejectedEvent{
			{ID: "evt-1", Name: "volume-extended", Tag: &tag, Code: 404},
		}},
		"answered 207: 200 evt-1, 404 evt-2 ": domain.ExternalEventsForwarded{Status: 207, Events: []domain.ForwardedEvent{
			{ID: "evt-1", Code: 200}, {ID: "evt-2", Code: 404},
		}},
	} {
		if got := serverText(event); got != want {
			t.Errorf("%T says %q, want %q", event, got, want)
		}
	}
}
