package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// What tasks are made with: one that its type finds nothing missing in, so that it waits for
// a worker.
const taskRequest = `{"type": "api_image_import", "input": {"image_id": "bench", "import_req": {"method": {"name": "copy-image"}}}}`

// fewTasks is the number of tasks beside which a large one is measured.
const fewTasks = 100

// measureTasks asks for pages of few tasks and of many, and makes tasks in between.
func measureTasks(ctx context.Context, s *stage, r *Report, many int) error {
	if many <= fewTasks || s.Page >= fewTasks {
		return fmt.Errorf("tasks: --fill must be more than %d and --page less", fewTasks)
	}
	address, err := s.address(ctx)
	if err != nil {
		return err
	}
	made := &madeTasks{address: address}
	var pages []Line
	for _, size := range []int{fewTasks, many} {
		s.progress(fmt.Sprintf("making tasks, up to %d", size))
		if err := made.fill(ctx, size, s.Connections); err != nil {
			return err
		}
		if err := s.tidy(ctx, size); err != nil {
			return err
		}
		lines, err := s.measure(ctx, taskPages(fmt.Sprintf("task pages of %d", size), made))
		if err != nil {
			return err
		}
		pages = append(pages, lines...)
	}
	creations, err := s.measure(ctx, scenario{"task creations", s.Connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		m, err := made.run(ctx, s.Connections, forEver, s.Warmup, s.Duration)
		return m, nil, err
	}})
	if err != nil {
		return err
	}
	r.Lines = append(append(r.Lines, pages...), creations...)
	r.most(fmt.Sprintf("task pages, time with %d / %d tasks", many, fewTasks), ratio(pages[0].runs, pages[1].runs), "", largeToSmall)
	return nil
}

// madeTasks are the ids of tasks that were made, about in that order.
type madeTasks struct {
	address string
	ids     []byte // idLength each
}

func (t *madeTasks) count() int { return len(t.ids) / idLength }

// fill makes tasks until there are so many. The first ones come over one connection, so that
// their order is known.
func (t *madeTasks) fill(ctx context.Context, size, connections int) error {
	if size <= fewTasks {
		connections = 1
	}
	each := (size - t.count() + connections - 1) / connections
	m, err := t.run(ctx, connections, each, 0, untilDone)
	if err == nil && m.Errors > 0 {
		err = fmt.Errorf("make tasks: %s", m.FirstErr)
	}
	return err
}

const forEver = -1

// run makes so many tasks with each connection, or as many as there is time for.
func (t *madeTasks) run(ctx context.Context, connections, each int, warmup, duration time.Duration) (*Measured, error) {
	makers, workers := make([]*taskMaker, connections), make([]worker, connections)
	for i := range workers {
		makers[i] = &taskMaker{left: each, request: requestText("POST", "/v2/tasks", sender, taskRequest)}
		workers[i] = makers[i]
	}
	m, err := load{addresses: []string{t.address}, connections: connections, workers: workers, warmup: warmup, duration: duration}.run(ctx)
	for at, more := 0, true; more; at += idLength { // dealt out in turn, as they were made
		more = false
		for _, maker := range makers {
			if at < len(maker.ids) {
				t.ids, more = append(t.ids, maker.ids[at:at+idLength]...), true
			}
		}
	}
	return m, err
}

// taskMaker is one connection's tasks.
type taskMaker struct {
	left    int // forEver: there is no end
	request []byte
	ids     []byte
}

func (w *taskMaker) next(time.Time) []byte {
	if w.left == 0 {
		return nil
	}
	w.left--
	return w.request
}

func (w *taskMaker) answered(r response, err error) (outcome, error) {
	if err := wanted(r, err, "POST tasks", http.StatusCreated); err != nil {
		return outcome{}, err
	}
	before := []byte(`"id":"`)
	at := bytes.Index(r.body, before) + len(before)
	if at < len(before) || at+idLength > len(r.body) {
		return outcome{}, errors.New("POST tasks: an answer without an id")
	}
	w.ids = append(w.ids, r.body[at:at+idLength]...)
	return outcome{messages: 1}, nil
}

// taskPages asks for full pages from all over the list.
func taskPages(name string, made *madeTasks) scenario {
	const connections = 4
	return scenario{name, connections, func(ctx context.Context, s *stage) (*Measured, *Check, error) {
		path := fmt.Sprintf("/v2/tasks?limit=%d&marker=", s.Page)
		// Behind a marker come those that were made before it.
		least := s.Page
		if made.count() > fewTasks { // about, where several connections made them
			least = min(s.Page+4*s.Connections, made.count()-1)
		}
		workers := make([]worker, connections)
		for i := range workers {
			workers[i] = &taskLister{
				ids: made.ids, least: least, page: s.Page, markerAt: len("GET ") + len(path),
				request: getRequest(path + strings.Repeat("0", idLength)), random: rand.New(rand.NewPCG(1, uint64(i))),
			}
		}
		m, err := load{
			addresses: []string{made.address}, connections: connections, workers: workers, warmup: s.Warmup, duration: s.Duration,
		}.run(ctx)
		return m, nil, err
	}}
}

// taskLister is one connection's pages.
type taskLister struct {
	ids         []byte
	least, page int
	request     []byte
	markerAt    int
	random      *rand.Rand
}

func (w *taskLister) next(time.Time) []byte {
	n := w.least + w.random.IntN(len(w.ids)/idLength-w.least)
	copy(w.request[w.markerAt:], w.ids[n*idLength:][:idLength])
	return w.request
}

func (w *taskLister) answered(r response, err error) (outcome, error) {
	if err := wanted(r, err, "GET tasks", http.StatusOK); err != nil {
		return outcome{}, err
	}
	if n := bytes.Count(r.body, []byte(`"self":`)); n != w.page {
		return outcome{}, fmt.Errorf("no full page but %d: %.200s", n, r.body)
	}
	return outcome{messages: w.page}, nil
}
