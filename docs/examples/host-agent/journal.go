package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// journalKept is how many ids a journal keeps when it is opened: more than can come again
// while messages live for an hour.
const journalKept = 100_000

// journal is a file of what was done, an id a line. An id is added when its event was acted
// on: an agent that dies in between acts again. Who must not do that adds it before, and may
// miss an event instead.
type journal struct {
	file *os.File
	ids  map[string]bool
}

func openJournal(path string) (*journal, error) {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	lines := strings.Fields(string(text))
	lines = lines[max(0, len(lines)-journalKept):]
	j := &journal{ids: make(map[string]bool, len(lines))}
	next, err := os.CreateTemp(folderOf(path), "journal")
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	out := bufio.NewWriter(next)
	for _, id := range lines {
		j.ids[id] = true
		_, _ = out.WriteString(id + "\n") // Flush tells
	}
	if err := out.Flush(); err != nil {
		return nil, fmt.Errorf("write the journal: %w", err)
	}
	if err := os.Rename(next.Name(), path); err != nil {
		return nil, fmt.Errorf("write the journal: %w", err)
	}
	j.file = next
	return j, nil
}

func folderOf(path string) string {
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
		return path[:slash+1]
	}
	return "."
}

func (j *journal) has(id string) bool { return j.ids[id] }

func (j *journal) add(id string) error {
	if _, err := j.file.WriteString(id + "\n"); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	j.ids[id] = true
	return nil
}

// Close closes the file.
func (j *journal) Close() error { return j.file.Close() }
