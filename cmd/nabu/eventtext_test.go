package main

import (
	"encoding/json"
	"testing"

	"nabu/domain"
	"nabu/eventstore"
)

// In the story of one message a report on deliveries says what has become of that one.
func TestAReportInTheStoryOfAMessage(t *testing.T) {
	first, second := domain.NewMessageID(domain.PlaceOf(7, 0), 1), domain.NewMessageID(domain.PlaceOf(7, 1), 2)
	data, err := json.Marshal(domain.DeliveriesAttempted{Project: "p", Queue: "q", Attempts: []domain.DeliveryAttempt{
		{Message: first, Outcome: domain.DeliveryDelivered},
		{Message: second, Outcome: domain.DeliveryRetry, Status: 503},
		{Message: second, Outcome: domain.DeliveryDelivered, Status: 200},
	}})
	if err != nil {
		t.Fatal(err)
	}
	stored := eventstore.StoredEvent{Type: domain.DeliveriesAttempted{}.EventType(), Data: data}
	want := second.String() + " retry, status 503; " + second.String() + " delivered, status 200"
	if got := eventText(onlyOf(second, stored)); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	other := eventstore.StoredEvent{Type: domain.MessagesPosted{}.EventType(), Data: []byte(`{}`)}
	if got := onlyOf(second, other); string(got.Data) != `{}` {
		t.Errorf("another event is changed to %s", got.Data)
	}
}
