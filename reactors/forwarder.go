package reactors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/compute"
)

// ForwarderConsumer is the forwarder's name as a consumer of the feed.
const ForwarderConsumer = "forwarder"

// ForwarderTypes are the events that another compute service may be to get.
var ForwarderTypes = []string{domain.ExternalEventsAccepted{}.EventType()}

// ErrNotForwarded: the compute service has not taken events, and may do so later.
var ErrNotForwarded = errors.New("the compute service has not taken external events")

// ComputeService is told of external events.
type ComputeService interface {
	// Tell fails when there is no answer.
	Tell(ctx context.Context, told compute.Told) (compute.Answer, error)
}

// Forwarder tells another compute service of the external events that were accepted for it,
// request by request in the order of the history, so also in that of each server. What it
// does not get is told again, with pauses, until nobody can be waiting for it any more. After
// a crash it may be told of the same once more.
type Forwarder struct {
	Executor *commands.Executor
	Service  ComputeService
	TTL      time.Duration // for how long an event is of use
	Log      *slog.Logger
	Now      func() time.Time // nil: this machine's clock

	// told are the answers to what of the slice at hand was told in an earlier try, by the
	// position of a request's first event. Only one slice is at hand at a time.
	told map[int64]forwarded
}

// forwarded is what has become of one request.
type forwarded struct {
	compute.Answer
	failure string // why the service has not got it
}

// React is called with each slice of the events in ForwarderTypes. It fails with
// ErrNotForwarded when the slice is to come again.
func (f *Forwarder) React(msg *message.Message) error {
	slice, ok := eventstore.SliceOf(msg)
	if !ok {
		return fmt.Errorf("message %s carries no slice of the ledger", msg.UUID)
	}
	var reports []domain.ExternalEventsForwarded
	told := map[int64]forwarded{}
	defer func() { f.told = told }()
	for _, request := range requestsOf(slice.Events) {
		at := request[0].Position
		its, before := f.told[at]
		if !before {
			var err error
			if its, err = f.forward(msg.Context(), request); err != nil {
				return err
			}
		}
		told[at] = its
		reports = append(reports, its.reports(request)...)
	}
	if len(reports) == 0 {
		return nil
	}
	ctx := commands.WithRequest(msg.Context(), commands.Request{Origin: slice.Events[0].Origin, Handled: &slice})
	if _, err := commands.Run(ctx, f.Executor, commands.ReportForwarded{Reports: reports}); err != nil {
		return fmt.Errorf("report what was forwarded: %w", err)
	}
	told = nil
	return nil
}

// requestsOf are the events to forward, those of one request together.
func requestsOf(history []eventstore.RecordedEvent) (requests [][]eventstore.RecordedEvent) {
	for _, recorded := range history {
		if e, ok := recorded.Event.(domain.ExternalEventsAccepted); !ok || !e.Forward {
			continue
		}
		if last := len(requests) - 1; last >= 0 && sameRequest(requests[last][0], recorded) {
			requests[last] = append(requests[last], recorded)
			continue
		}
		requests = append(requests, []eventstore.RecordedEvent{recorded})
	}
	return requests
}

func sameRequest(a, b eventstore.RecordedEvent) bool {
	return a.Batch == b.Batch && a.Origin.RequestID == b.Origin.RequestID
}

// sentEvent is an event in its request.
type sentEvent struct {
	index int
	id    string
	compute.Event
}

// sentOf are the events of a request in its order.
func sentOf(request []eventstore.RecordedEvent) (sent []sentEvent) {
	for _, recorded := range request {
		accepted := recorded.Event.(domain.ExternalEventsAccepted)
		for _, e := range accepted.Events {
			sent = append(sent, sentEvent{e.Index, e.ID, compute.Event{
				Name: e.Name, Server: accepted.Server.String(), Status: e.Status, Tag: e.Tag,
			}})
		}
	}
	slices.SortFunc(sent, func(a, b sentEvent) int { return a.index - b.index })
	return sent
}

// forward tells the service of one request. It fails when that is to be tried again.
func (f *Forwarder) forward(ctx context.Context, request []eventstore.RecordedEvent) (its forwarded, err error) {
	first := request[0]
	told := compute.Told{RequestID: cmp.Or(first.Origin.GlobalRequestID, first.Origin.RequestID)}
	var names []string
	for _, e := range sentOf(request) {
		told.Events, names = append(told.Events, e.Event), append(names, e.Name)
	}
	told.Minor = domain.ExternalEventsVersion(names)
	failure := "nobody could use the events any more"
	if now := f.now(); now.Before(first.RecordedAt.Add(f.TTL)) {
		its.Answer, err = f.Service.Tell(ctx, told)
		switch {
		case err != nil:
			failure = err.Error()
		case passing(its.Status):
			failure = fmt.Sprintf("the compute service answered %d", its.Status)
		default:
			if its.Status >= http.StatusMultipleChoices && its.Status != http.StatusNotFound {
				its.failure = fmt.Sprintf("the compute service answered %d", its.Status)
				f.Log.Warn("the compute service refuses external events", "status", its.Status, "request_id", told.RequestID)
			}
			return its, nil
		}
		if ctx.Err() != nil || f.now().Before(first.RecordedAt.Add(f.TTL)) {
			return its, fmt.Errorf("%w: %s", ErrNotForwarded, failure)
		}
	}
	f.Log.Warn("external events were not forwarded in time", "events", len(told.Events), "request_id", told.RequestID, "error", failure)
	return forwarded{failure: failure}, nil
}

// passing tells whether a status may be another one later: the service is away or busy, or
// the operator has still to give the right token.
func passing(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

func (f *Forwarder) now() time.Time {
	if f.Now != nil {
		return f.Now()
	}
	return time.Now()
}

// reports are what is recorded of the servers of a request.
func (its forwarded) reports(request []eventstore.RecordedEvent) (reports []domain.ExternalEventsForwarded) {
	codes := map[string]int{}
	for i, e := range sentOf(request) {
		if i < len(its.Codes) {
			codes[e.id] = its.Codes[i]
		}
	}
	for _, recorded := range request {
		accepted := recorded.Event.(domain.ExternalEventsAccepted)
		report := domain.ExternalEventsForwarded{Server: accepted.Server, Status: its.Status, Error: its.failure}
		if len(report.Error) > domain.MaxForwardError {
			report.Error = report.Error[:domain.MaxForwardError]
		}
		for _, e := range accepted.Events {
			report.Events = append(report.Events, domain.ForwardedEvent{ID: e.ID, Code: domain.EventCode(codes[e.ID])})
		}
		reports = append(reports, report)
	}
	return reports
}
