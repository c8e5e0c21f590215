// Package compute speaks to a real compute service, as its client. It must never decide
// what is said there.
package compute

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Timeout is how long the service may take for one request.
const Timeout = 30 * time.Second

// maxIdle is how many connections wait for the next request.
const maxIdle = 16

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 4 << 20

// Client is a client of a compute service.
type Client struct {
	// Endpoint is where the service stands, with the version in it, such as
	// http://nova:8774/v2.1.
	Endpoint *url.URL
	// TokenFile has the token to show, and is read anew for each request, so that whoever
	// renews the token need not tell; empty: none is shown.
	TokenFile string
	// HTTP carries requests; nil: a client that follows nothing.
	HTTP *http.Client
}

// Event is an external event as the service takes it.
type Event struct {
	Name   string  `json:"name"`
	Server string  `json:"server_uuid"`
	Status string  `json:"status,omitempty"`
	Tag    *string `json:"tag,omitempty"`
}

// Told is a request to tell the service of events.
type Told struct {
	Events    []Event
	Minor     int    // of the version behind 2.
	RequestID string // by which both services know the request
}

// Answer is what the service said: its status, and the code of each event, in order; no
// codes: it had none, or not for all.
type Answer struct {
	Status int
	Codes  []int
}

var following = &http.Client{
	Timeout:       Timeout,
	Transport:     manyIdle(),
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ErrAway: the service could not even be asked.
var ErrAway = errors.New("the compute service is away")

// manyIdle keeps connections for those who tell at the same time.
func manyIdle() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = maxIdle
	return transport
}

// Tell tells the service of events. It fails when there is no answer; with ErrAway when there
// was no connection either, no token to show, or no compute service at its address.
func (c *Client) Tell(ctx context.Context, told Told) (a Answer, err error) {
	body, err := bodyOf(told.Events)
	if err != nil {
		return a, fmt.Errorf("encode external events: %w", err)
	}
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	at := c.Endpoint.JoinPath("os-server-external-events")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(body))
	if err != nil {
		return a, fmt.Errorf("tell the compute service: %w", err)
	}
	version := fmt.Sprintf("2.%d", told.Minor)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("OpenStack-API-Version", "compute "+version)
	r.Header.Set("X-OpenStack-Nova-API-Version", version)
	if told.RequestID != "" {
		r.Header.Set("X-OpenStack-Request-ID", told.RequestID)
	}
	if c.TokenFile != "" {
		token, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return a, fmt.Errorf("%w: read the token for it: %w", ErrAway, err)
		}
		r.Header.Set("X-Auth-Token", strings.TrimSpace(string(token)))
	}
	client := c.HTTP
	if client == nil {
		client = following
	}
	response, err := client.Do(r)
	if err != nil {
		if urlErr, ok := errors.AsType[*url.Error](err); ok {
			err = urlErr.Err // without the URL, which may hold a password
		}
		if !connected.Load() {
			return a, fmt.Errorf("%w: %w", ErrAway, err)
		}
		return a, fmt.Errorf("tell the compute service: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return a, fmt.Errorf("read what the compute service answers: %w", err)
	}
	if response.StatusCode == http.StatusNotFound && !saysNotFound(text) {
		return a, fmt.Errorf("%w: its address answers 404, and not as a compute service does that knows none of the servers", ErrAway)
	}
	a.Status = response.StatusCode
	a.Codes, _ = codes(text, len(told.Events)) // an answer without is one all the same
	return a, nil
}

// saysNotFound tells whether a text is the fault by which a compute service answers 404.
func saysNotFound(text []byte) bool {
	var fault struct {
		ItemNotFound *struct{} `json:"itemNotFound"`
	}
	return json.Unmarshal(text, &fault) == nil && fault.ItemNotFound != nil
}

// bodyOf is a request with events. It is not longer than what a client would send: the
// service refuses what is longer than it would take from one.
func bodyOf(events []Event) ([]byte, error) {
	events = slices.Clone(events)
	for i := range events {
		if events[i].Status == usualStatus {
			events[i].Status = ""
		}
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(map[string]any{"events": events})
	return body.Bytes(), err
}

// usualStatus is the one of events that come without.
const usualStatus = "completed"

var errOther = errors.New("the answer tells of other events")

func codes(text []byte, want int) ([]int, error) {
	var answer struct{ Events []struct{ Code int } }
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, err
	}
	if len(answer.Events) != want {
		return nil, errOther
	}
	list := make([]int, want)
	for i, e := range answer.Events {
		list[i] = e.Code
	}
	return list, nil
}
