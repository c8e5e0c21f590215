package bench

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"nabu/internal/postgres"
)

// What a rebuild has to reach.
const (
	rebuildToRows = 10.0
	rebuildStall  = 100.0 // milliseconds
)

// How much is folded row by row: enough for messages to come and go.
const sampledEvents = 100_000

// measureRebuild makes the messages' read model anew from a history of so many events,
// alone for the time it takes, and while others post and list for how long they wait.
func measureRebuild(ctx context.Context, s *stage, r *Report, events int) error {
	url, err := s.database(ctx, postgres.Owner)
	if err != nil {
		return err
	}
	db, err := sql.Open("postgres", url)
	if err != nil {
		return fmt.Errorf("rebuild: database URL: %w", err)
	}
	defer func() { _ = db.Close() }()
	s.progress(fmt.Sprintf("writing a history of %d events", events))
	h := newHistory(db, s.Body)
	after, err := h.write(ctx, events)
	if err != nil {
		return err
	}
	if _, err := s.replay(ctx, url); err != nil { // the live tables know nothing of it yet
		return err
	}
	var rebuilt, naive []float64
	for n := range s.Runs {
		s.progress(fmt.Sprintf("row by row, run %d of %d", n+1, s.Runs))
		rate, err := h.rowByRow(ctx, after, min(events, sampledEvents))
		if err != nil {
			return fmt.Errorf("row by row: %w", err)
		}
		s.progress(fmt.Sprintf("rebuild, run %d of %d", n+1, s.Runs))
		done, err := s.replay(ctx, url, "messages")
		if err != nil {
			return err
		}
		rebuilt, naive = append(rebuilt, float64(done.Events)/done.Seconds), append(naive, rate)
	}
	r.least("row by row", median(naive), "events/s", 0)
	r.least("rebuild", median(rebuilt), "events/s", 0)
	r.least("rebuild / row by row", ratio(rebuilt, naive), "", rebuildToRows)
	return s.rebuildBeside(ctx, r, url)
}

// rebuildBeside rebuilds while others post and list, few enough for both to go on, and
// looks at the longest time that one of them waited.
func (s *stage) rebuildBeside(ctx context.Context, r *Report, url string) error {
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	filled, err := Fill(ctx, address, leastSupply/10, s.Body)
	if err != nil {
		return err
	}
	var posts, lists []*Measured
	var sum Check
	for n := range s.Runs {
		s.progress(fmt.Sprintf("rebuild beside posts and lists, run %d of %d", n+1, s.Runs))
		posted, listed, err := s.besideReplay(ctx, url, address, filled)
		if err != nil {
			return err
		}
		check, err := posted.Check(ctx, address, s.pageSize())
		if err != nil {
			return err
		}
		sum.Add(check)
		posts, lists = append(posts, posted.Measured), append(lists, listed)
	}
	r.Lines = append(r.Lines,
		newLine(scenario{name: "posts beside a rebuild", connections: 8}, posts, &sum),
		newLine(scenario{name: "lists beside a rebuild", connections: 4}, lists, nil))
	r.most("longest wait of a post beside a rebuild", longest(posts), "ms", rebuildStall)
	r.most("longest wait of a list beside a rebuild", longest(lists), "ms", rebuildStall)
	return nil
}

// besideReplay posts and lists from a little before a replay until a little after it.
func (s *stage) besideReplay(ctx context.Context, url, address string, filled *Posted) (posted *Posted, listed *Measured, err error) {
	const postsPerSecond, listsPerSecond = 200, 100
	during, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	var posting, listing error
	others.Go(func() {
		posted, posting = PostLoad{
			Addresses: []string{address}, Connections: 8, Queues: 1, PerRequest: 1, Body: s.Body,
			Duration: time.Hour, Rate: postsPerSecond,
		}.Run(during)
	})
	others.Go(func() {
		listed, listing = ListLoad{
			Address: address, Connections: 4, Filled: filled, Page: s.Page, Anywhere: true,
			Duration: time.Hour, Rate: listsPerSecond,
		}.Run(during)
	})
	pause(ctx, s.Warmup)
	_, err = s.replay(ctx, url)
	pause(ctx, s.Warmup)
	stop()
	others.Wait()
	for _, ended := range []error{posting, listing} {
		if !errors.Is(ended, context.Canceled) {
			err = errors.Join(err, ended)
		}
	}
	return posted, listed, err
}

// longest is the longest time of a request in all runs.
func longest(runs []*Measured) float64 {
	var most time.Duration
	for _, m := range runs {
		most = max(most, m.Latency.Max())
	}
	return milliseconds(most)
}

// rebuilding is what nabu replay says that it did.
type rebuilding struct {
	Events  int64   `json:"events"`
	Seconds float64 `json:"seconds"`
}

// replay lets a nabu of its own rebuild.
func (s *stage) replay(ctx context.Context, url string, projections ...string) (done rebuilding, err error) {
	c := exec.CommandContext(ctx, s.Binary, append([]string{"replay", "-o", "json"}, projections...)...)
	c.Env = append(append([]string{}, s.Environ...), "NABU_DATABASE_URL="+url) // whose password is nobody's business
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		return done, fmt.Errorf("nabu replay: %w: %s", err, problems.String())
	}
	if err := json.Unmarshal(out.Bytes(), &done); err != nil {
		return done, fmt.Errorf("nabu replay wrote %q: %w", out.String(), err)
	}
	return done, nil
}
