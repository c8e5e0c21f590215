package commands

import (
	"strconv"
	"testing"

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

// TestADrainedQueueTakesNoRoom: there may be as many of them as there are queues.
func TestADrainedQueueTakesNoRoom(t *testing.T) {
	m := newMemory()
	id := domain.QueueID{Project: "p1", Name: "drained"}
	free := make([]domain.Message, 200)
	held := map[domain.MessageID]domain.Message{}
	var gone domain.MessagesDeleted
	for i := range free {
		free[i] = domain.Message{ID: uuid.New(), Place: domain.PlaceOf(1, i)}
		held[free[i].ID] = free[i]
		gone.Messages = append(gone.Messages, domain.DeletedMessage{ID: free[i].ID, Place: free[i].Place})
	}
	s := newState(Config{})
	s.queues[id] = queueState{}
	s.hots[id] = &hotQueue{free: &freeState{FreeMessages: domain.FreeMessages{Messages: free}}, held: held}
	s.recordFree(id, 2, gone)
	s.recordMessages(id, gone)
	m.install(s, eventstore.Head{Position: 2})
	if h := m.hots[id]; h.free.Messages != nil || h.held != nil { // an empty one still has its room
		t.Errorf("room is kept for free messages: %v, for held ones: %v", h.free.Messages != nil, h.held != nil)
	}
}
