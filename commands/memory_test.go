package commands

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
)

// TestWhatIsRememberedOfMessagesIsBoundedAsQueuesAre: also of those that were found to be empty,
// by one replica that nobody else writes beside.
func TestWhatIsRememberedOfMessagesIsBoundedAsQueuesAre(t *testing.T) {
	m := newMemory()
	claimed := 0
	claim := func() {
		claimed++
		id := domain.QueueID{Project: "p1", Name: strconv.Itoa(claimed)}
		s := newState(Config{})
		m.recall([]domain.QueueID{id}, s)
		s.queues[id] = queueState{Versioned: eventstore.Versioned[domain.Queue]{State: domain.Queue{Number: int64(claimed)}}}
		s.take(domain.LoadedMessages{Free: map[domain.QueueID]domain.FreeMessages{id: {}}})
		m.install(s, eventstore.Head{Position: int64(claimed)})
	}
	for claimed < maxRemembered {
		claim()
	}
	if len(m.queues) != maxRemembered || len(m.hots) != maxRemembered {
		t.Fatalf("%d queues are remembered, and of the messages of %d", len(m.queues), len(m.hots))
	}
	for range 10 {
		claim()
	}
	if len(m.queues) != maxRemembered || len(m.hots) != maxRemembered {
		t.Errorf("after 10 more %d queues are remembered, and of the messages of %d", len(m.queues), len(m.hots))
	}
	for id := range m.hots {
		if _, remembered := m.queues[id]; !remembered {
			t.Errorf("of the messages of %s something is remembered, and not of the queue", id.Name)
		}
	}
}

// TestADrainedQueueTakesNoRoom, nor does one that was drained but for a message: there may be as many
// of them as there are queues.
func TestADrainedQueueTakesNoRoom(t *testing.T) {
	const queues = 1000
	m := newMemory()
	before := heap()
	for q := range queues {
		id := domain.QueueID{Project: "p1", Name: strconv.Itoa(q)}
		free := make([]domain.Message, 220)
		for i := range free {
			free[i] = domain.Message{ID: uuid.New(), Place: domain.PlaceOf(1, i)}
		}
		s := newState(Config{})
		s.queues[id] = queueState{}
		s.take(domain.LoadedMessages{Free: map[domain.QueueID]domain.FreeMessages{id: {Messages: free}}})
		claimed := domain.MessagesClaimed{Claim: uuid.New(), TTL: 60}
		var gone domain.MessagesDeleted
		for i, message := range free {
			if i < len(free)-1 {
				claimed.Messages = append(claimed.Messages, domain.ClaimedMessage{ID: message.ID, Place: message.Place})
			}
			if 0 < i && i < len(free)-1-q%2 { // and of every other queue one stays that is held
				gone.Messages = append(gone.Messages, domain.DeletedMessage{ID: message.ID, Place: message.Place})
			}
		}
		for i, e := range []domain.Event{claimed, gone} {
			s.recordFree(id, int64(i+2), e)
			s.recordMessages(id, e)
		}
		m.install(s, eventstore.Head{Position: 3})
	}
	if each := (heap() - before) / queues; each > 8<<10 {
		t.Errorf("%d bytes are kept for each of %d queues with one free and at most two held messages", each, queues)
	}
	runtime.KeepAlive(m)
}

// TestAQueueThatGotMuchTakesNoRoom for more than is remembered of it.
func TestAQueueThatGotMuchTakesNoRoom(t *testing.T) {
	m := newMemory()
	id := domain.QueueID{Project: "p1", Name: "orders"}
	s := newState(Config{})
	s.queues[id] = queueState{}
	s.now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s.take(domain.LoadedMessages{Free: map[domain.QueueID]domain.FreeMessages{id: {}}}) // there was nothing
	var posted domain.MessagesPosted
	for range 40 * maxHotFree {
		posted.Messages = append(posted.Messages, domain.PostedMessage{ID: uuid.New(), TTL: 3600, Body: "1"})
	}
	s.recordFree(id, 2, posted)
	m.install(s, eventstore.Head{Position: 2})
	if its := m.hots[id].free.Messages; len(its) != maxHotFree || cap(its) > 2*maxHotFree {
		t.Errorf("%d messages are remembered, with room for %d", len(its), cap(its))
	}
}

// heap is what is in use of it.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
