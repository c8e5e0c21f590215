package eventstore_test

import (
	"testing"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgtest"
)

// TestVersionAt finds the same as somebody who counts.
func TestVersionAt(t *testing.T) {
	t.Parallel()
	db := pgtest.Open(t).DB()
	names := []string{"a", "b", "a", "a", "c", "b", "a", "c", "c", "a", "a"}
	var events []domain.Event
	for _, name := range names {
		events = append(events, posted(name, `1`))
	}
	if _, err := appendAlone(t.Context(), db, events...); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c", "none"} {
		stream := posted(name, `1`).Stream()
		version, last := int64(0), int64(0)
		for position := range int64(len(names) + 2) {
			if i := position - 1; i >= 0 && i < int64(len(names)) && names[i] == name {
				version, last = version+1, position
			}
			if got, err := eventstore.VersionAt(t.Context(), db, stream, position); err != nil || got != version {
				t.Errorf("%s at %d: version %d, not %d, %v", name, position, got, version, err)
			}
			if v, p, err := eventstore.StreamEnd(t.Context(), db, stream, version); err != nil || v != version || p != last {
				t.Errorf("%s up to version %d ends with %d at %d, not at %d, %v", name, version, v, p, last, err)
			}
		}
	}
}
