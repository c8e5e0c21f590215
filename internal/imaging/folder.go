package imaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// Folder is a store of files. Each image is a file under its id, with <id>.sha512 and
// <id>.json beside it. tasks/<task>/<id> says which task has made it.
type Folder struct {
	path string
}

// OpenFolder makes the folder if it is not there.
func OpenFolder(path string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Join(path, "tasks"), 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of images: %w", err)
	}
	return &Folder{path}, nil
}

// stored is the text beside an image.
type stored struct {
	ID         string         `json:"id"`
	Owner      string         `json:"owner"`
	Task       string         `json:"task_id"`
	Size       int64          `json:"size"`
	Properties map[string]any `json:"properties"`
}

// Put moves the image's file in, which must lie on the same file system. The image is there
// when all of it is on the disk, under its name, and not before.
func (f *Folder) Put(ctx context.Context, image Image) (string, error) {
	id := uuid.NewString()
	err := f.put(ctx, id, image)
	if err != nil {
		return "", errors.Join(err, f.Remove(context.WithoutCancel(ctx), image.Task, id))
	}
	return id, nil
}

func (f *Folder) put(ctx context.Context, id string, image Image) error {
	text, err := json.MarshalIndent(stored{id, image.Owner, image.Task, image.Size, image.Properties}, "", "  ")
	if err != nil {
		return fmt.Errorf("write the image's properties: %w", err)
	}
	made := f.madeBy(image.Task)
	if err := os.MkdirAll(made, 0o750); err != nil {
		return fmt.Errorf("note the image's task: %w", err)
	}
	err = errors.Join(
		write(filepath.Join(made, id), nil),
		write(f.file(id, ".json"), append(text, '\n')),
		write(f.file(id, ".sha512"), []byte(image.SHA512+"  "+id+"\n")),
		image.File.Sync(), syncFolder(made), syncFolder(f.path))
	if err != nil {
		return fmt.Errorf("write beside the image: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := os.Rename(image.File.Name(), f.file(id, "")); err != nil {
		return fmt.Errorf("store the image: %w", err)
	}
	return syncFolder(f.path)
}

// Remove takes the image away before what tells of it.
func (f *Folder) Remove(_ context.Context, task, id string) error {
	made := f.madeBy(task)
	for _, path := range []string{f.file(id, ""), f.file(id, ".sha512"), f.file(id, ".json"), filepath.Join(made, id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an image: %w", err)
		}
	}
	_ = os.Remove(made) // unless others are in it
	return nil
}

// Sweep removes the other images of a task.
func (f *Folder) Sweep(ctx context.Context, task, _, keep string) error {
	entries, err := os.ReadDir(f.madeBy(task))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for a task's images: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == keep {
			continue
		}
		if err := f.Remove(ctx, task, entry.Name()); err != nil {
			return err
		}
	}
	return nil
}

// madeBy is the folder of what a task has made. A task's id is a UUID; any other text
// could lead out of the folder.
func (f *Folder) madeBy(task string) string {
	id, err := uuid.Parse(task)
	if err != nil {
		id = uuid.NewSHA1(uuid.Nil, []byte(task))
	}
	return filepath.Join(f.path, "tasks", id.String())
}

func (f *Folder) file(id, ending string) string { return filepath.Join(f.path, id+ending) }

// write writes a whole file, to the disk.
func write(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Sync(), file.Close())
}

// syncFolder writes a folder's names to the disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
