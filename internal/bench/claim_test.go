package bench

import (
	"strings"
	"testing"
	"time"
)

// filled is a queue of 400 messages.
func filled(t *testing.T, f *fakeNabu) *supply {
	t.Helper()
	queue := newSupply(newFake(t, f), 100)
	if err := queue.Fill(t.Context(), 400); err != nil {
		t.Fatal(err)
	}
	return queue
}

func the(n int) func(int) bool { return func(at int) bool { return at == n } }

func TestTheCheckFindsWhatIsWrongWithClaims(t *testing.T) {
	kept, each, byIDs := claimTen(deleteNothing, timeClaims), claimTen(deleteEach, timeClaims), claimTen(deleteByIDs, timeClaims)
	tests := map[string]struct {
		fake *fakeNabu
		how  consuming
		want Check
		says string
	}{
		"nothing, claims":                 {&fakeNabu{}, kept, Check{Claimed: 400, Walked: 400, ByID: 400}, ""},
		"nothing, each deleted":           {&fakeNabu{}, each, Check{Claimed: 400, Deleted: 400}, ""},
		"nothing, deleted by ids":         {&fakeNabu{}, byIDs, Check{Claimed: 400, Deleted: 400}, ""},
		"messages in two claims":          {&fakeNabu{claimAgain: the(17)}, kept, Check{Claimed: 400, Walked: 400, ByID: 400, ClaimedTwice: 10}, "10 were in two live claims"},
		"messages that are lost":          {&fakeNabu{lose: the(17)}, kept, Check{Claimed: 400, Walked: 390, ByID: 400, Lost: 10, LostByID: 10}, "10 are lost"},
		"a message that stays":            {&fakeNabu{undelete: the(17)}, each, Check{Claimed: 400, Deleted: 400, Walked: 1, Undeleted: 1, UndeletedByID: 1}, "of 400 messages whose deletion was acknowledged 1 are there"},
		"a message of several that stays": {&fakeNabu{undelete: the(17)}, byIDs, Check{Claimed: 400, Deleted: 400, Walked: 1, Undeleted: 1, UndeletedByID: 1}, "1 are there"},
		"statistics that are wrong":       {&fakeNabu{miscount: 3}, each, Check{Claimed: 400, Deleted: 400, Miscounted: 3}, "wrong by 3"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			queue := filled(t, test.fake)
			if err := queue.UseUp(t.Context(), test.how); err != nil {
				t.Fatal(err)
			}
			got, err := queue.Check(t.Context(), queue.address, 50)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Acknowledged = 400
			if test.fake.claimAgain != nil { // whoever got them may have had later ones
				test.want.Disordered = got.Disordered
			}
			if got != test.want {
				t.Errorf("found %+v, not %+v", got, test.want)
			}
			if err := got.Err(); (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("the check says %v", err)
			}
		})
	}
}

func TestClaimsOutOfOrderAreFound(t *testing.T) {
	queue := newSupply(newFake(t, &fakeNabu{claimOther: the(2)}), 100)
	_, err := claimLoad{
		supply: queue, connections: 1, how: claimTen(deleteEach, timeClaims), least: 400, duration: 200 * time.Millisecond,
	}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if check, err := queue.Check(t.Context(), queue.address, 50); err != nil || check.Disordered == 0 {
		t.Errorf("found %+v, error %v", check, err)
	}
}

func TestAQueueThatRunsDryIsFilledAgain(t *testing.T) {
	queue := newSupply(newFake(t, &fakeNabu{}), 100)
	m, err := claimLoad{
		supply: queue, connections: 4, how: claimTen(deleteByIDs, timeClaims), least: 100,
		warmup: 10 * time.Millisecond, duration: 300 * time.Millisecond,
	}.run(t.Context())
	if err != nil || m.Errors > 0 {
		t.Fatalf("%d errors (%s), error %v", m.Errors, m.FirstErr, err)
	}
	if m.Took != 300*time.Millisecond || m.Requests == 0 || queue.Acknowledged() <= 100 {
		t.Errorf("%d requests in %v, out of %d messages", m.Requests, m.Took, queue.Acknowledged())
	}
	if check, err := queue.Check(t.Context(), queue.address, 50); err != nil || check.Err() != nil || check.Deleted < m.Messages {
		t.Errorf("%d messages deleted, check %+v, error %v", m.Messages, check, err)
	}
}

func TestATopppedUpQueueStaysAsLongAsItIs(t *testing.T) {
	queue := filled(t, &fakeNabu{})
	l := claimLoad{
		supply: queue, connections: 4, how: claimTen(deleteByIDs, timeClaims), topUp: true, duration: 100 * time.Millisecond,
	}
	for range 2 {
		if m, err := l.run(t.Context()); err != nil || m.Errors > 0 {
			t.Fatalf("%d errors (%s), error %v", m.Errors, m.FirstErr, err)
		}
	}
	left := queue.remaining()
	if check, err := queue.Check(t.Context(), queue.address, 50); err != nil || check.Err() != nil || check.Walked != left {
		t.Errorf("found %+v, not %d messages, error %v", check, left, err)
	}
	if queue.Acknowledged() <= 400 || left < 360 || left > 400 {
		t.Errorf("%d of %d messages are left, not about 400", left, queue.Acknowledged())
	}
}

func TestDelayedMessagesAreNotClaimed(t *testing.T) {
	queue := newSupply(newFake(t, &fakeNabu{}), 100)
	if err := queue.Create(`{"_default_message_delay":1}`); err != nil {
		t.Fatal(err)
	}
	if err := queue.of(`"delay":900,`).Fill(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	free := queue.of(`"delay":0,`)
	if err := free.Fill(t.Context(), 50); err != nil {
		t.Fatal(err)
	}
	if err := free.UseUp(t.Context(), claimTen(deleteEach, timeClaims)); err != nil {
		t.Fatal(err)
	}
	check, err := queue.Check(t.Context(), queue.address, 50)
	if err != nil || check.Err() != nil || check.Deleted != 50 || check.Walked != 100 {
		t.Errorf("found %+v, error %v", check, err)
	}
}

func TestCyclesTellHowLongMessagesWaited(t *testing.T) {
	address := newFake(t, &fakeNabu{})
	cycled, err := CycleLoad{
		Address: address, Producers: 2, Consumers: 2, Body: 100, Duration: 500 * time.Millisecond, Rate: 200, Parts: 5,
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	posts, claims := cycled.Measured, cycled.Claims
	if posts.Errors+claims.Errors > 0 || posts.Requests != 100 {
		t.Errorf("%d posts; %d errors (%s)", posts.Requests, posts.Errors+claims.Errors, posts.FirstErr+claims.FirstErr)
	}
	if wait := claims.Latency.Quantile(0.5); wait <= 0 || wait > 400*time.Millisecond {
		t.Errorf("messages waited for %v", wait)
	}
	messages := 0
	for _, part := range claims.parts {
		messages += part.Messages
	}
	if len(claims.parts) != 5 || messages != claims.Messages || claims.parts[4].Took != 100*time.Millisecond {
		t.Errorf("the parts of %d messages have %d", claims.Messages, messages)
	}
	if check, err := cycled.Check(t.Context(), address, 50); err != nil || check.Err() != nil || check.Deleted < claims.Messages {
		t.Errorf("%d messages deleted, check %+v, error %v", claims.Messages, check, err)
	}
}

func TestPurgesAreLookedAt(t *testing.T) {
	queue := filled(t, &fakeNabu{})
	if _, err := queue.purge(); err != nil {
		t.Fatal(err)
	}
	check, err := queue.Check(t.Context(), queue.address, 50)
	if err != nil || check.Err() != nil || check.Deleted != 400 || check.Walked != 0 {
		t.Errorf("found %+v, error %v", check, err)
	}
	queue = filled(t, &fakeNabu{undelete: the(17)})
	if _, err := queue.purge(); err == nil || !strings.Contains(err.Error(), "right after its purge the queue counts 1 message") {
		t.Errorf("the error is %v", err)
	}
}

func TestPollsAndStatisticsAreLookedAt(t *testing.T) {
	s := newStage(Options{Duration: 50 * time.Millisecond})
	queue := filled(t, &fakeNabu{})
	if m, err := statsLoad(s, queue, 2).run(t.Context()); err != nil || m.Errors > 0 || m.Requests == 0 {
		t.Errorf("%d requests, %d errors (%s), error %v", m.Requests, m.Errors, m.FirstErr, err)
	}
	if m, err := pollLoad(s, queue, 2).run(t.Context()); err != nil || m.Errors == 0 {
		t.Errorf("claims of a full queue pass for empty: %d requests, error %v", m.Requests, err)
	}
	if m, err := statsLoad(s, filled(t, &fakeNabu{miscount: 1}), 2).run(t.Context()); err != nil || m.Errors == 0 {
		t.Errorf("wrong figures pass: %d requests, error %v", m.Requests, err)
	}
	empty := newSupply(queue.address, 100)
	if m, err := pollLoad(s, empty, 2).run(t.Context()); err != nil || m.Errors > 0 || m.Requests == 0 {
		t.Errorf("%d requests, %d errors (%s), error %v", m.Requests, m.Errors, m.FirstErr, err)
	}
}
