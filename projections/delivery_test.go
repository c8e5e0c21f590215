package projections_test

import (
	"testing"

	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
)

// deliver reports on deliveries to a subscriber, which may be one of the other queue, or
// gone.
func (w *walk) deliver(queue domain.QueueID, id domain.SubscriptionID) {
	cmd := commands.ReportDeliveries{Queue: queue}
	for version := range int64(12) { // one of them is right, and then those behind it
		place := domain.FirstCursor(id) + domain.Place(rapid.IntRange(0, 5).Draw(w.T, "place"))
		cmd.Reports = append(cmd.Reports, commands.DeliveryReport{
			Subscription: id, Version: version, Cursor: place,
			Attempts: []domain.DeliveryAttempt{{
				Place: place, Message: domain.NewMessageID(place, 1), Number: int(version) + 1, Due: w.now,
				Outcome: rapid.SampledFrom([]domain.DeliveryOutcome{
					domain.DeliveryRetry, domain.DeliveryDelayed, domain.DeliveryDelivered, domain.DeliveryDropped,
				}).Draw(w.T, "outcome"),
			}},
		})
	}
	run(w.house, cmd)
}

// A place that owed a confirmation may be reported on as that of a message: what a slice of
// history says last of it counts, and not only how often it was tried.
func TestTheLastReportOnAPlaceCounts(t *testing.T) {
	h := newHouse(t)
	id := run(h, commands.Subscribe{
		NewSubscription: domain.NewSubscription{Queue: h.id("q"), Subscriber: "http://a", TTL: 60, Salt: 1},
		Rules:           domain.SubscriptionRules{Types: domain.SubscriberTypes, Confirm: true},
	})
	place := domain.FirstCursor(id)
	run(h, commands.ReportDeliveries{Queue: h.id("q"), Reports: []commands.DeliveryReport{{
		Subscription: id, Version: 1, Cursor: place,
		Attempts: []domain.DeliveryAttempt{{
			Place: place, Message: domain.NewMessageID(place, 1), Number: 1, Outcome: domain.DeliveryRetry, Due: h.now,
		}},
	}}})
	if got := h.check(0); len(got) > 0 {
		t.Errorf("a check finds %q", got)
	}
}
