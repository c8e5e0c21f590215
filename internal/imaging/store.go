package imaging

import (
	"context"
	"os"
)

// Image is what is to be stored.
type Image struct {
	Task  string // the task that asked for it
	Owner string // the project whose image it will be
	Import
	Fetched
	// File holds the image's bytes, and nothing else reads or writes it.
	File *os.File
}

// Store keeps images. What it fails with is a Refusal when the user can mend it. Every
// image knows its task: of several runs of one task the last one sweeps away what the
// others have left.
type Store interface {
	// Put stores an image under a new id. After a failure nothing of it is left, unless the
	// store itself cannot be reached.
	Put(ctx context.Context, image Image) (id string, err error)
	// Remove takes an image of a task away. One that is not there is no failure.
	Remove(ctx context.Context, task, id string) error
	// Sweep removes all images of a task but one; keep may be empty.
	Sweep(ctx context.Context, task, owner, keep string) error
}
