package commands

import "testing"

func TestAThreadIsKeptWhileARushLasts(t *testing.T) {
	var its thread
	batches := func(n int, waiting, kept bool) {
		t.Helper()
		for i := range n {
			if its.keep(waiting); its.kept != kept {
				t.Fatalf("kept after batch %d: %t, want %t", i+1, its.kept, kept)
			}
		}
	}
	batches(1, false, false)
	batches(3, true, true)
	batches(calmBatches-1, false, true)
	batches(1, true, true) // it goes on
	batches(calmBatches-1, false, true)
	batches(2, false, false)
	batches(1, true, true)
	batches(calmBatches-1, false, true)
	batches(1, false, false)
}
