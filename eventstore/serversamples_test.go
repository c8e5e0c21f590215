package eventstore

import (
	"maps"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
)

var (
	sampleServer = uuid.MustParse("11111111-1111-1111-1111-111111111111")
	sampleSeen   = time.Date(2026, 3, 1, 10, 0, 0, 250000, time.UTC)
	samplePort   = "6a1b5c1e-1111-4222-8333-abcdefabcdef"
	sampleNoTag  = ""
)

// wantOfServers is what the samples about servers mean.
var wantOfServers = map[string]domain.Event{
	"server.assigned.v1": domain.ServerAssigned{
		ID: sampleServer, ObservedAt: sampleSeen, Source: "api",
		Whereabouts: domain.Whereabouts{Host: "compute1", Node: "node1.example.org", SourceHost: "compute1", DestHost: "compute2", State: "active"},
	},
	"server.assigned.v1.project": domain.ServerAssigned{
		ID: sampleServer, ObservedAt: sampleSeen, Source: "api", Whereabouts: domain.Whereabouts{Host: "compute1", Project: "a1"},
	},
	"server.forgotten.v1.project": domain.ServerForgotten{ID: sampleServer, ObservedAt: sampleSeen, Source: "api", Project: "a1"},
	"server.unassigned.v1": domain.ServerUnassigned{
		ID: sampleServer, ObservedAt: sampleSeen, Source: "api", Whereabouts: domain.Whereabouts{State: "shelved_offloaded"},
	},
	"server.forgotten.v1": domain.ServerForgotten{ID: sampleServer, ObservedAt: sampleSeen, Source: "api"},
	"server.observation-ignored.v1": domain.ServerObservationIgnored{
		ID: sampleServer, ObservedAt: sampleSeen, Source: "api", Known: sampleSeen.Add(time.Minute),
		Whereabouts: domain.Whereabouts{Host: "compute3"},
	},
	"external-events.accepted.v1": domain.ExternalEventsAccepted{
		Server: sampleServer,
		Hosts:  []domain.ServerHost{{Host: "compute1", Role: "current"}, {Host: "compute2", Role: "destination"}},
		Events: []domain.AcceptedEvent{
			{
				ID: "evt-0190a6c4-7d1e-7b3a-9c55-0c1d2e3f4a5b", Name: "network-vif-plugged", Status: "failed", Tag: &samplePort,
				Copies: []domain.MessageID{domain.NewMessageID(domain.PlaceOf(43, 0), 7), domain.NewMessageID(domain.PlaceOf(45, 0), 7)},
			},
			{
				ID: "evt-0190a6c4-7d1e-7b3a-9c55-0c1d2e3f4a5c", Index: 3, Name: "network-changed", Status: "completed",
				Copies: []domain.MessageID{domain.NewMessageID(domain.PlaceOf(43, 1), 8), domain.NewMessageID(domain.PlaceOf(45, 1), 8)},
			},
		},
	},
	"external-events.accepted.v1.forward": domain.ExternalEventsAccepted{
		Server: sampleServer, Hosts: []domain.ServerHost{{Host: "compute1", Role: "current"}}, Forward: true,
		Events: []domain.AcceptedEvent{{ID: "evt-0190a6c4-7d1e-7b3a-9c55-0c1d2e3f4a5b", Name: "network-changed", Status: "completed"}},
	},
	"external-events.rejected.v1": domain.ExternalEventsRejected{
		Server: sampleServer,
		Events: []domain.RejectedEvent{
			{ID: "evt-0190a6c4-7d1e-7b3a-9c55-0c1d2e3f4a5d", Index: 1, Name: "volume-extended", Status: "completed", Code: 400},
			{ID: "evt-0190a6c4-7d1e-7b3a-9c55-0c1d2e3f4a5e", Index: 2, Name: "power-update", Status: "completed", Tag: &sampleNoTag, Code: 422},
		},
	},
	"external-events.forwarded.v1": domain.ExternalEventsForwarded{
		Server: sampleServer, Status: 207,
		Events: []domain.ForwardedEvent{
			{ID: "evt-0190a6c4-7d1e-7b3a-9c55-0c1d2e3f4a5b", Code: 200}, {ID: "evt-0190a6c4-7d1e-7b3a-9c55-0c1d2e3f4a5c", Code: 404},
		},
	},
	"external-events.forwarded.v1.expired": domain.ExternalEventsForwarded{
		Server: sampleServer, Error: "the compute service answered 503",
		Events: []domain.ForwardedEvent{{ID: "evt-0190a6c4-7d1e-7b3a-9c55-0c1d2e3f4a5b"}},
	},
}

// also adds samples to others.
func also(these, others map[string]domain.Event) map[string]domain.Event {
	maps.Copy(others, these)
	return others
}
