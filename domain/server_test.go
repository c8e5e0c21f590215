package domain_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"nabu/domain"
)

var serverID = uuid.MustParse("11111111-1111-1111-1111-111111111111")

func on(host string) domain.Whereabouts { return domain.Whereabouts{Host: host} }

func assigned(at time.Time, w domain.Whereabouts) domain.Event {
	return domain.ServerAssigned{ID: serverID, Whereabouts: w, ObservedAt: at, Source: "api"}
}

func unassigned(at time.Time) domain.Event {
	return domain.ServerUnassigned{ID: serverID, ObservedAt: at, Source: "api"}
}

func ignored(at time.Time, host string, known time.Time) domain.Event {
	return domain.ServerObservationIgnored{ID: serverID, Whereabouts: on(host), ObservedAt: at, Source: "api", Known: known}
}

// serverAfter is a server with this past.
func serverAfter(past ...domain.Event) (s domain.Server) {
	for _, e := range past {
		s.Apply(e)
	}
	return s
}

func TestObserveServer(t *testing.T) {
	before, after := noon.Add(-time.Hour), noon.Add(time.Hour)
	onOne := []domain.Event{assigned(noon, on("c1"))}
	forgotten := []domain.Event{assigned(before, on("c1")), domain.ServerForgotten{ID: serverID, ObservedAt: noon, Source: "api"}}
	long := domain.Whereabouts{Node: strings.Repeat("ä", 256)}
	tests := map[string]struct {
		given   []domain.Event
		w       domain.Whereabouts
		at, now time.Time
		then    []domain.Event
		refused domain.Code
	}{
		"the first time":                 {nil, on("c1"), before, noon, []domain.Event{assigned(before, on("c1"))}, ""},
		"without a time":                 {nil, on("c1"), time.Time{}, noon, []domain.Event{assigned(noon, on("c1"))}, ""},
		"on no host":                     {nil, on(""), noon, noon, []domain.Event{unassigned(noon)}, ""},
		"on its way only":                {nil, domain.Whereabouts{DestHost: "c2"}, noon, noon, []domain.Event{assigned(noon, domain.Whereabouts{DestHost: "c2"})}, ""},
		"elsewhere, later":               {onOne, on("c2"), after, after, []domain.Event{assigned(after, on("c2"))}, ""},
		"elsewhere, at the same time":    {onOne, on("c2"), noon, after, []domain.Event{assigned(noon, on("c2"))}, ""},
		"elsewhere, earlier":             {onOne, on("c2"), before, after, []domain.Event{ignored(before, "c2", noon)}, ""},
		"the same, earlier":              {onOne, on("c1"), before, after, []domain.Event{ignored(before, "c1", noon)}, ""},
		"the same again":                 {onOne, on("c1"), noon, after, nil, ""},
		"the same, later":                {onOne, on("c1"), after, after, []domain.Event{assigned(after, on("c1"))}, ""},
		"by a clock that is fast":        {onOne, on("c2"), after.Add(time.Hour), after, []domain.Event{assigned(after, on("c2"))}, ""},
		"gone from its host":             {onOne, on(""), after, after, []domain.Event{unassigned(after)}, ""},
		"finer than microseconds":        {nil, on("c1"), before.Add(999), noon, []domain.Event{assigned(before, on("c1"))}, ""},
		"in another zone":                {nil, on("c1"), before.In(time.FixedZone("", 3600)), noon, []domain.Event{assigned(before, on("c1"))}, ""},
		"after it was forgotten":         {forgotten, on("c1"), after, after, []domain.Event{assigned(after, on("c1"))}, ""},
		"from before it was forgotten":   {forgotten, on("c1"), before, after, []domain.Event{ignored(before, "c1", noon)}, ""},
		"too long a name":                {nil, long, noon, noon, nil, domain.Invalid},
		"a name with NUL":                {nil, on("c\x00"), noon, noon, nil, domain.Invalid},
		"from a time without any server": {nil, on("c1"), time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), noon, nil, domain.Invalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := domain.Observation{ID: serverID, Whereabouts: test.w, At: test.at, Source: "api"}
			events, err := serverAfter(test.given...).Observe(o, test.now)
			expect(t, events, err, test.then, test.refused)
		})
	}
}

func TestForgetServer(t *testing.T) {
	gone := func(at time.Time) domain.Event {
		return domain.ServerForgotten{ID: serverID, ObservedAt: at, Source: "api"}
	}
	tests := map[string]struct {
		given   []domain.Event
		then    []domain.Event
		refused domain.Code
	}{
		"one on a host":          {[]domain.Event{assigned(noon.Add(-1), on("c1"))}, []domain.Event{gone(noon)}, ""},
		"one on none":            {[]domain.Event{unassigned(noon.Add(-1))}, []domain.Event{gone(noon)}, ""},
		"one seen since":         {[]domain.Event{unassigned(noon.Add(time.Second))}, []domain.Event{gone(noon.Add(time.Second))}, ""},
		"one that is not there":  {nil, nil, domain.NotFound},
		"one that was forgotten": {[]domain.Event{unassigned(noon.Add(-2)), gone(noon.Add(-1))}, nil, domain.NotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			events, err := serverAfter(test.given...).Forget(serverID, "api", noon)
			expect(t, events, err, test.then, test.refused)
		})
	}
}

func TestHostsOfAServer(t *testing.T) {
	tests := map[string]struct {
		w    domain.Whereabouts
		want []domain.ServerHost
	}{
		"none":                   {domain.Whereabouts{Node: "n", State: "active"}, nil},
		"one":                    {on("c1"), []domain.ServerHost{{Host: "c1", Role: "current"}}},
		"on its way":             {domain.Whereabouts{Host: "c1", SourceHost: "c1", DestHost: "c2"}, []domain.ServerHost{{Host: "c1", Role: "current"}, {Host: "c2", Role: "destination"}}},
		"arrived, not confirmed": {domain.Whereabouts{Host: "c2", SourceHost: "c1", DestHost: "c2"}, []domain.ServerHost{{Host: "c2", Role: "current"}, {Host: "c1", Role: "source"}}},
		"three":                  {domain.Whereabouts{Host: "c3", SourceHost: "c1", DestHost: "c2"}, []domain.ServerHost{{Host: "c3", Role: "current"}, {Host: "c1", Role: "source"}, {Host: "c2", Role: "destination"}}},
		"to itself":              {domain.Whereabouts{SourceHost: "c1", DestHost: "c1"}, []domain.ServerHost{{Host: "c1", Role: "source"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, test.w.Hosts()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestQueuesOfHosts(t *testing.T) {
	fits := strings.Repeat("h", 52)
	tests := map[string]string{
		"compute1":             "nova-events.compute1",
		"node-1_a.example.org": "nova-events.node-1_a.example.org",
		fits:                   "nova-events." + fits,
		fits + "h":             "nova-events.0ba5567e22adc5cd2d5edfd6ad4bd04ab433bef9",
		"a b":                  "nova-events.c8687a08aa5d6ed2044328fa6a697ab8e96dc342",
		"":                     "nova-events.e3b0c44298fc1c149afbf4c8996fb92427ae41e4",
	}
	for host, want := range tests {
		if got := domain.HostQueue(host); got != want || domain.CheckQueueName(got) != nil {
			t.Errorf("the queue of %q is %q, want %q", host, got, want)
		}
	}
}
