package projections_test

import (
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
