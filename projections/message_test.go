package projections_test

import (
	"testing"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

func TestWhichQueuesHideDelayedMessages(t *testing.T) {
	h := newHouse(t)
	h.create("slow", `{"_default_message_delay": 30}`)
	h.post("slow", "c", plain(`1`))
	list := projections.MessageList{Queue: h.id("slow"), Limit: 10, Echo: true}
	if got := h.list(list); len(got) != 0 {
		t.Errorf("delayed messages are shown: %v", got)
	}
	run(h, commands.ChangeQueue{Queue: h.id("slow"), Patch: domain.MetadataPatch{{Op: "remove", Key: "_default_message_delay"}}})
	if got := h.list(list); len(got) != 1 {
		t.Error("a queue that delays nothing any more hides a message")
	}
	list.DefaultDelay = 5 // the server's
	if got := h.list(list); len(got) != 0 {
		t.Errorf("the server's own delay does not count: %v", got)
	}
	list.DefaultDelay, list.DelayOnAnyQueue = 0, true
	if got := h.list(list); len(got) != 0 {
		t.Errorf("a delay that counts on any queue does not: %v", got)
	}
	list.IncludeDelayed = true
	if got := h.list(list); len(got) != 1 {
		t.Error("a delayed message is not shown to who asks for it")
	}
}
