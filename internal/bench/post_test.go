package bench

import (
	"slices"
	"testing"
	"time"
)

// posted makes a small load: 4 connections with 50 requests each, over 3 queues.
func posted(t *testing.T, address string, perRequest int) *Posted {
	t.Helper()
	p, err := PostLoad{
		Addresses: []string{address}, Connections: 4, Queues: 3, PerRequest: perRequest, Body: 100,
		Duration: time.Minute, Requests: 50,
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheCheckFindsWhatIsWrong(t *testing.T) {
	double := func(messages []*fakeMessage) []*fakeMessage { return append(slices.Clone(messages), messages...) }
	tests := map[string]struct {
		keep func(post int, messages []*fakeMessage) []*fakeMessage
		want Check
	}{
		"nothing": {nil, Check{}},
		"a lost request": {func(post int, m []*fakeMessage) []*fakeMessage {
			if post == 17 {
				return nil
			}
			return m
		}, Check{Lost: 2, LostByID: 2}},
		"a lost message of a request": {func(post int, m []*fakeMessage) []*fakeMessage {
			if post == 17 {
				return m[1:]
			}
			return m
		}, Check{Lost: 1, LostByID: 1}},
		"a doubled request": {func(post int, m []*fakeMessage) []*fakeMessage {
			if post == 17 {
				return double(m)
			}
			return m
		}, Check{Doubled: 2}},
		"a request the wrong way round": {func(post int, m []*fakeMessage) []*fakeMessage {
			if post == 17 {
				slices.Reverse(m)
			}
			return m
		}, Check{Disordered: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			address := newFake(t, &fakeNabu{keep: test.keep})
			got, err := posted(t, address, 2).Check(t.Context(), address, 7)
			if err != nil {
				t.Fatal(err)
			}
			if wrong := test.want != (Check{}); (got.Err() != nil) != wrong {
				t.Errorf("the check says %v", got.Err())
			}
			test.want.Acknowledged, test.want.ByID = 400, 400
			test.want.Walked = 400 - test.want.Lost + test.want.Doubled
			if got != test.want {
				t.Errorf("found %+v, not %+v", got, test.want)
			}
		})
	}
}

func TestRefusedPostsAreErrorsAndNotAcknowledged(t *testing.T) {
	address := newFake(t, &fakeNabu{refuse: func(post int) bool { return post%10 == 0 }})
	p := posted(t, address, 1)
	if p.Measured.Errors != 20 || p.Acknowledged() != 180 {
		t.Errorf("%d errors and %d acknowledged, not 20 and 180", p.Measured.Errors, p.Acknowledged())
	}
	check, err := p.Check(t.Context(), address, 20)
	if err != nil || check.Err() != nil {
		t.Errorf("error %v, check %v", err, check.Err())
	}
}

func TestPostsCarryTheBodiesTheyPromise(t *testing.T) {
	fake := &fakeNabu{}
	address := newFake(t, fake)
	p := posted(t, address, 3)
	if p.Measured.Messages != 600 || p.Measured.Requests != 200 {
		t.Errorf("%d requests with %d messages, not 200 with 600", p.Measured.Requests, p.Measured.Messages)
	}
	if len(fake.queues) != 3 {
		t.Errorf("%d queues, not 3", len(fake.queues))
	}
	for name, queue := range fake.queues {
		for _, m := range queue.messages {
			if len(m.Body) != 100 {
				t.Fatalf("a body in %s has %d bytes, not 100: %s", name, len(m.Body), m.Body)
			}
		}
	}
}

func TestBodiesHaveToHoldAStamp(t *testing.T) {
	if _, err := (PostLoad{Connections: 1, Queues: 1, PerRequest: 1, Body: 10}).Run(t.Context()); err == nil {
		t.Error("a body of 10 bytes was taken")
	}
}

func TestAPlannedLoadKeepsItsRate(t *testing.T) {
	address := newFake(t, &fakeNabu{})
	p, err := PostLoad{
		Addresses: []string{address}, Connections: 4, Queues: 1, PerRequest: 1, Body: 100,
		Duration: 200 * time.Millisecond, Rate: 500,
	}.Run(t.Context())
	if err != nil || p.Measured.Requests != 100 {
		t.Errorf("%d requests in 200 ms at 500 a second, error %v", p.Measured.Requests, err)
	}
}

func TestListsStayWithinTheQueue(t *testing.T) {
	fake := &fakeNabu{}
	address := newFake(t, fake)
	filled, err := Fill(t.Context(), address, 1000, 100)
	if err != nil || filled.Acknowledged() != 1000 {
		t.Fatalf("%d messages, error %v", filled.Acknowledged(), err)
	}
	if check, err := filled.Check(t.Context(), address, 100); err != nil || check.Err() != nil {
		t.Fatalf("error %v, check %v", err, check.Err())
	}
	m, err := ListLoad{Address: address, Connections: 2, Filled: filled, Page: 20, Duration: 50 * time.Millisecond}.Run(t.Context())
	if err != nil || m.Errors > 0 || m.Requests == 0 || m.Messages != 20*m.Requests {
		t.Errorf("%d requests with %d messages, %d errors (%s), error %v", m.Requests, m.Messages, m.Errors, m.FirstErr, err)
	}
}
