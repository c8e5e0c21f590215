package commands_test

import (
	"slices"
	"testing"
	"time"

	"nabu/commands"
	"nabu/domain"
)

// report is a report of one attempt that failed.
func report(queue domain.QueueID, id domain.SubscriptionID, version, cursor int64) commands.ReportDeliveries {
	return commands.ReportDeliveries{Queue: queue, Reports: []commands.DeliveryReport{{
		Subscription: id, Version: version, Cursor: domain.PlaceOf(cursor, 0),
		Attempts: []domain.DeliveryAttempt{{
			Place: domain.PlaceOf(cursor, 0), Message: domain.NewMessageID(domain.PlaceOf(cursor, 0), 1), Number: 1,
			Outcome: domain.DeliveryRetry, Due: time.Date(2030, 1, 1, 0, 0, 5, 0, time.UTC),
		}},
	}}}
}

// TestReportsOnDeliveries: of two that build on the same version one counts, also within a
// batch; and none on a subscription that is gone.
func TestReportsOnDeliveries(t *testing.T) {
	h := newHouse(t)
	e := h.executor(nil)
	ctx := as(t.Context(), "")
	id := run(t, e, subscribe(orders, "http://a"))
	var got [3][]int64
	errs := h.gathered(e,
		giver(ctx, e, report(orders, id, 1, 7), &got[0]),
		giver(ctx, e, report(orders, id, 1, 8), &got[1]),
		giver(ctx, e, report(orders, id, 2, 9), &got[2]),
	)
	if slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		t.Fatal(errs)
	}
	if want := [][]int64{{2}, {0}, {3}}; !slices.EqualFunc(got[:], want, slices.Equal) {
		t.Errorf("the versions are %v, want %v", got, want)
	}
	var cursor domain.Place
	var rows int
	if err := h.db.QueryRow(`SELECT cursor, (SELECT count(*) FROM deliveries) FROM delivery_cursors`).Scan(&cursor, &rows); err != nil || cursor != domain.PlaceOf(9, 0) || rows != 2 {
		t.Errorf("the cursor is %d, and %d wait: %v", cursor, rows, err)
	}
	other := domain.QueueID{Project: "p1", Name: "other"}
	if versions := run(t, e, report(other, id, 3, 9)); versions[0] != 0 {
		t.Error("a report on another queue's subscription counts")
	}
	run(t, e, commands.DeleteSubscription{Queue: orders, ID: id})
	if versions := run(t, e, report(orders, id, 4, 10)); versions[0] != 0 {
		t.Error("a report on a deleted subscription counts")
	}
	if err := h.db.QueryRow(`SELECT (SELECT count(*) FROM delivery_cursors) + (SELECT count(*) FROM deliveries)`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows are left: %v", rows, err)
	}
	reports := 0
	for _, recorded := range h.history() {
		if _, ok := recorded.Event.(domain.DeliveriesAttempted); ok {
			reports++
		}
	}
	if reports != 2 {
		t.Errorf("%d reports in the ledger", reports)
	}
	h.sound()
}
