package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
)

// Queue is where import tasks are handed out.
const Queue = "tasks.import"

// patience is how long a request may take that waits for nothing.
const patience = 30 * time.Second

// errGone: there is no such task, or no such claim.
var errGone = errors.New("not there")

// errConflict: the task does not allow this report, or belongs to another worker.
var errConflict = errors.New("conflict")

// Client speaks with nabu as any program may.
type Client struct {
	service *gophercloud.ServiceClient
}

// NewClient makes a client of the nabu at a URL that has no version. The headers go with
// every request, beside what the provider knows.
func NewClient(provider *gophercloud.ProviderClient, endpoint string, header map[string]string) *Client {
	more := map[string]string{"Client-ID": uuid.NewString()}
	for name, value := range header {
		more[name] = value
	}
	return &Client{&gophercloud.ServiceClient{
		ProviderClient: provider, Endpoint: strings.TrimSuffix(endpoint, "/"), MoreHeaders: more,
	}}
}

// onBehalfOf is a client whose requests are recorded as what came of another one; empty: of
// none.
func (c *Client) onBehalfOf(request string) *Client {
	if request == "" {
		return c
	}
	service := *c.service
	service.MoreHeaders = maps.Clone(service.MoreHeaders)
	service.MoreHeaders["X-Openstack-Request-Id"] = request
	return &Client{&service}
}

// claimed is a message under a claim. The paths begin with the version.
type claimed struct {
	claim   string // path of the claim
	message string // path of the message, with the claim's id
	body    json.RawMessage
	until   time.Time // when the claim is over
}

// lifetime is how long a claim holds its message, and how long that outlives it.
type lifetime struct {
	TTL   int `json:"ttl"`
	Grace int `json:"grace"`
}

// claim takes the oldest task, and waits for one if there is none; nil: there is none.
func (c *Client) claim(ctx context.Context, life lifetime, wait time.Duration) (*claimed, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+patience)
	defer cancel()
	var got struct {
		Messages []struct {
			Href string          `json:"href"`
			Body json.RawMessage `json:"body"`
		} `json:"messages"`
	}
	query := url.Values{"limit": {"1"}, "wait": {strconv.Itoa(int(wait / time.Second))}}
	asked := time.Now()
	answer, err := c.request(ctx, http.MethodPost, "/v2/queues/"+Queue+"/claims?"+query.Encode(), gophercloud.RequestOpts{
		JSONBody: life, JSONResponse: &got, OkCodes: []int{http.StatusCreated, http.StatusNoContent},
	})
	if err != nil {
		return nil, fmt.Errorf("claim a task: %w", err)
	}
	if answer.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	claim := answer.Header.Get("Location")
	if len(got.Messages) != 1 || !strings.HasPrefix(claim, "/v2/") || !strings.HasPrefix(got.Messages[0].Href, "/v2/") {
		return nil, fmt.Errorf("claim a task: an answer that cannot be understood, with %d messages", len(got.Messages))
	}
	// It may have been claimed at the end of the wait. What counts too early does no harm.
	return &claimed{claim, got.Messages[0].Href, got.Messages[0].Body, asked.Add(life.duration())}, nil
}

func (l lifetime) duration() time.Duration { return time.Duration(l.TTL) * time.Second }

// renew makes the claim hold from now on anew. It fails with errGone when it is over.
func (c *Client) renew(ctx context.Context, claim string, life lifetime) error {
	return c.send(ctx, http.MethodPatch, claim, life, http.StatusNoContent)
}

// release gives the message back to the queue.
func (c *Client) release(ctx context.Context, claim string) error {
	return c.send(ctx, http.MethodDelete, claim, nil, http.StatusNoContent)
}

// remove deletes a message under its claim.
func (c *Client) remove(ctx context.Context, message string) error {
	return c.send(ctx, http.MethodDelete, message, nil, http.StatusNoContent)
}

// report tells what became of a task: one of begin, progress, succeed and fail. It fails
// with errGone or errConflict when the task is not the worker's any more.
func (c *Client) report(ctx context.Context, task, action string, content map[string]any) error {
	path := "/v2/tasks/" + url.PathEscape(task) + "/action"
	return c.send(ctx, http.MethodPost, path, map[string]any{action: content}, http.StatusAccepted)
}

func (c *Client) send(ctx context.Context, method, path string, body any, status int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := c.request(ctx, method, path, gophercloud.RequestOpts{JSONBody: body, OkCodes: []int{status}})
	return err
}

func (c *Client) request(ctx context.Context, method, path string, options gophercloud.RequestOpts) (*http.Response, error) {
	answer, err := c.service.Request(ctx, method, c.service.Endpoint+path, &options)
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusNotFound):
		return nil, fmt.Errorf("%w: %w", errGone, err)
	case gophercloud.ResponseCodeIs(err, http.StatusConflict):
		return nil, fmt.Errorf("%w: %w", errConflict, err)
	}
	return answer, err
}
