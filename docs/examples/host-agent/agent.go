package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
)

// event is what nabu posts to the queue of a host.
type event struct {
	ID         string  `json:"id"` // the same in the copies for all hosts of a server
	RequestID  string  `json:"request_id"`
	ReceivedAt string  `json:"received_at"`
	Host       string  `json:"host"`
	Role       string  `json:"role"` // current, source or destination
	Name       string  `json:"name"`
	Server     string  `json:"server_uuid"`
	Status     string  `json:"status"`
	Tag        *string `json:"tag,omitempty"`
}

// The agent's habits.
const (
	claimLife  = `{"ttl": 60, "grace": 60}` // seconds that a claim holds events
	claimLimit = 20
	claimWait  = 20 // seconds that a claim waits for events
	errorPause = 2 * time.Second
	callTime   = claimWait*time.Second + 30*time.Second // until a connection counts as lost
)

// agent gets the events of a host.
type agent struct {
	nabu   *url.URL
	host   string
	token  string // of Keystone; empty: none
	client string // how the agent calls itself
	wait   int    // seconds that a claim waits for events
	pause  time.Duration
	most   time.Duration // that a call may take; 0: callTime
	done   *journal
	act    func(context.Context, event) error
	tries  int            // of an event before it is given up; 0: as many as there can be
	failed map[string]int // how often, by the ids of events; a new agent begins anew
	log    func(error)

	queue, project string
}

func newClientID() string {
	var id uuid.UUID
	_, _ = rand.Read(id[:]) // never fails
	return id.String()
}

// run gets events until ctx ends. Whatever fails is tried again: nabu keeps the events.
func (a *agent) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := a.once(ctx); err != nil && ctx.Err() == nil {
			a.log(err)
			select {
			case <-time.After(a.pause):
			case <-ctx.Done():
			}
		}
	}
	return ctx.Err()
}

// once finds the host's queue, if that is not known yet, and works off one claim.
func (a *agent) once(ctx context.Context) error {
	if a.queue == "" {
		if err := a.findQueue(ctx); err != nil {
			return err
		}
	}
	var claimed struct {
		Messages []struct {
			Href string // with the claim's id
			Body json.RawMessage
		}
	}
	path := fmt.Sprintf("/v2/queues/%s/claims?limit=%d&wait=%d", a.queue, claimLimit, a.wait)
	if err := a.call(ctx, http.MethodPost, path, claimLife, &claimed); err != nil {
		return err
	}
	for _, m := range claimed.Messages {
		var e event
		if err := json.Unmarshal(m.Body, &e); err != nil {
			a.log(fmt.Errorf("message %s is no event: %w", m.Href, err)) // and stands in the way of those that are
		} else if err := a.handle(ctx, e); err != nil && !a.givesUp(ctx, e) {
			return fmt.Errorf("event %s: %w", e.ID, err) // it is claimed again later, and those behind it
		} else if err != nil {
			a.log(fmt.Errorf("event %s: %w; given up after %d tries", e.ID, err, a.tries))
		}
		if err := a.call(ctx, http.MethodDelete, m.Href, "", nil); err != nil {
			return err
		}
	}
	return nil
}

// handle acts on an event unless that was done before.
func (a *agent) handle(ctx context.Context, e event) error {
	if a.done.has(e.ID) {
		return nil
	}
	if err := a.act(ctx, e); err != nil {
		return err
	}
	return a.done.add(e.ID)
}

// givesUp counts a failure, and tells whether it was the last that the event may have. What
// fails because the agent ends does not count.
func (a *agent) givesUp(ctx context.Context, e event) bool {
	if a.tries == 0 || ctx.Err() != nil {
		return false
	}
	if a.failed == nil {
		a.failed = map[string]int{}
	}
	a.failed[e.ID]++
	if a.failed[e.ID] < a.tries {
		return false
	}
	delete(a.failed, e.ID)
	return true
}

func (a *agent) findQueue(ctx context.Context) error {
	var found struct {
		Queue struct {
			Queue   string `json:"queue"`
			Project string `json:"project_id"`
		} `json:"host_queue"`
	}
	if err := a.call(ctx, http.MethodGet, "/v2.1/os-host-queues/"+url.PathEscape(a.host), "", &found); err != nil {
		return err
	}
	a.queue, a.project = found.Queue.Queue, found.Queue.Project
	return nil
}

// call makes a request and reads what it is answered with, if there is something.
func (a *agent) call(ctx context.Context, method, path, body string, into any) error {
	at, err := a.nabu.Parse(path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(a.most, callTime))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, at.String(), bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	r.Header.Set("Client-ID", a.client)
	r.Header.Set("Content-Type", "application/json")
	if a.token != "" {
		r.Header.Set("X-Auth-Token", a.token)
	} else { // of a nabu that believes what it is told
		r.Header.Set("X-Project-ID", a.project)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s: %.200s", method, path, answer.Status, text)
	}
	if into == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return errors.Join(fmt.Errorf("%s %s: the answer cannot be read", method, path), err)
	}
	return nil
}
