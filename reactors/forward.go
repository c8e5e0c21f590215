package reactors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"nabu/commands"
	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/compute"
	"nabu/internal/webhook"
	"nabu/projections"
)

// forwarded is what has become of events.
type forwarded struct {
	failure string             // why the service has got none of them; empty: see answers
	answers map[string]verdict // by the event's id
}

// verdict is what the service has said of an event.
type verdict struct {
	status  int // of the whole answer
	code    domain.EventCode
	failure string // why the service has not got the event
}

// attempt tells the service of a request, and reports what has become of it; or fails with
// why that is to be tried again. before is why the attempt before this one failed. Leave is
// called when the service has answered.
func (r *forwarding) attempt(ctx context.Context, request []projections.Forward, before error, leave func()) error {
	left := false
	defer func() {
		if !left {
			leave()
		}
	}()
	accepted, err := r.read(ctx, request)
	if err != nil {
		return err
	}
	var its forwarded
	if r.late(request[0]) {
		its.failure = "nobody could use the events any more"
		if before != nil {
			its.failure = webhook.ErrorText(before)
		}
		r.Log.Warn("external events were not forwarded in time", "servers", len(request), "request_id", request[0].RequestID, "error", its.failure)
	} else if its, err = r.tell(sentOf(accepted), nameOf(accepted)); err != nil {
		return err
	}
	left = true
	leave()
	return r.report(ctx, request, accepted, its)
}

// read reads what is owed. What is not in the ledger any more is left out.
func (r *forwarding) read(ctx context.Context, request []projections.Forward) ([]eventstore.RecordedEvent, error) {
	positions := make([]int64, len(request))
	for i, owed := range request {
		positions[i] = owed.Position
	}
	return eventstore.ReadPositions(ctx, r.Ledger, positions)
}

// nameOf is the name by which both services know a request.
func nameOf(accepted []eventstore.RecordedEvent) string {
	if len(accepted) == 0 {
		return ""
	}
	return cmp.Or(accepted[0].Origin.GlobalRequestID, accepted[0].Origin.RequestID)
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
	slices.SortStableFunc(sent, func(a, b sentEvent) int { return a.index - b.index })
	return sent
}

// tell tells the service of events. It fails when that is to be tried again. What is refused
// as a whole is told in halves, down to the single event, so that one that the service does
// not take is the only one that it does not get.
func (r *forwarding) tell(sent []sentEvent, name string) (its forwarded, err error) {
	if len(sent) == 0 { // the ledger has them no more
		return its, nil
	}
	answer, err := r.ask(sent, name)
	if err != nil {
		return its, err
	}
	said := verdict{status: answer.Status}
	refused := answer.Status >= http.StatusBadRequest && answer.Status != http.StatusNotFound
	switch {
	case refused && len(sent) > 1:
		return r.tellHalves(sent, name)
	case refused:
		said.failure = answered(answer.Status)
	case answer.Status < http.StatusMultipleChoices && answer.Codes == nil:
		said.failure = answered(answer.Status) + ", and not what has become of the events"
	}
	if said.failure != "" {
		r.Log.Warn("the compute service refuses external events", "error", said.failure, "request_id", name)
	}
	its.answers = map[string]verdict{}
	for i, e := range sent {
		if said.code = 0; answer.Codes != nil {
			said.code = domain.EventCode(answer.Codes[i])
		}
		its.answers[e.id] = said
	}
	return its, nil
}

func (r *forwarding) tellHalves(sent []sentEvent, name string) (its forwarded, err error) {
	half := len(sent) / 2
	if its, err = r.tell(sent[:half], name); err != nil {
		return its, err
	}
	second, err := r.tell(sent[half:], name)
	maps.Copy(its.answers, second.answers)
	return its, err
}

func answered(status int) string { return fmt.Sprintf("the compute service answered %d", status) }

// ask makes one request. It fails with compute.ErrAway when it makes no difference what is
// told, and in another way when it may.
func (r *forwarding) ask(sent []sentEvent, name string) (answer compute.Answer, err error) {
	done, err := r.breaker.Allow()
	if err != nil {
		return answer, fmt.Errorf("%w: %w", compute.ErrAway, ErrOpen)
	}
	told := compute.Told{RequestID: name}
	var names []string
	for _, e := range sent {
		told.Events, names = append(told.Events, e.Event), append(names, e.Name)
	}
	told.Minor = domain.ExternalEventsVersion(names)
	answer, err = r.Service.Tell(r.sending, told)
	switch {
	case r.sending.Err() != nil && err != nil:
		done(errCutOff)
		return answer, err
	case err == nil && away(answer.Status):
		err = fmt.Errorf("%w: it answered %d", compute.ErrAway, answer.Status)
	case err == nil && passing(answer.Status):
		err = errors.New(answered(answer.Status))
	}
	if errors.Is(err, compute.ErrAway) {
		done(errUnreachable)
	} else {
		done(nil)
	}
	return answer, err
}

// away tells whether a status says that nobody is told anything now: the service is away or
// busy, or the operator has still to give the right address or token.
func away(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return status >= http.StatusMultipleChoices && status < http.StatusBadRequest
}

// passing tells whether a status may be another one later.
func passing(status int) bool {
	return status == http.StatusRequestTimeout || status >= http.StatusInternalServerError
}

// report brings into the history what has become of events. It tries until that is done, or
// until ctx ends: then the service will be told once more.
func (r *forwarding) report(ctx context.Context, request []projections.Forward, accepted []eventstore.RecordedEvent, its forwarded) error {
	found := map[int64]eventstore.RecordedEvent{}
	for _, recorded := range accepted {
		found[recorded.Position] = recorded
	}
	var reporting sync.WaitGroup
	failures := make([]error, len(request))
	for i, owed := range request {
		cause := found[owed.Position]
		origin := cause.Origin
		origin.CausationID = cause.ID
		report := its.report(owed, cause.Event)
		reporting.Go(func() { failures[i] = r.record(ctx, origin, report) })
	}
	reporting.Wait()
	return errors.Join(failures...)
}

// record records what has become of the events of a server.
func (r *forwarding) record(ctx context.Context, origin domain.Origin, report domain.ExternalEventsForwarded) error {
	cmd := commands.ReportForwarded{Reports: []domain.ExternalEventsForwarded{report}}
	for pauses := r.pauses(); ; pause(ctx, pauses) {
		trying, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTime)
		_, err := commands.Run(commands.WithRequest(trying, commands.Request{Origin: origin}), r.Executor, cmd)
		cancel()
		if err == nil {
			return nil
		}
		r.Log.Warn("it could not be reported what was forwarded", "server", report.Server, "error", err)
		if ctx.Err() != nil {
			return err
		}
	}
}

// report is what is recorded of the events of a server. cause has accepted them; nil: it is
// not in the ledger any more.
func (its forwarded) report(owed projections.Forward, cause domain.Event) domain.ExternalEventsForwarded {
	report := domain.ExternalEventsForwarded{Server: owed.Server, Error: its.failure}
	accepted, known := cause.(domain.ExternalEventsAccepted)
	if !known {
		report.Error, report.Events = "the events are not in the history any more", []domain.ForwardedEvent{{ID: owed.Event}}
	}
	for _, e := range accepted.Events {
		said := its.answers[e.ID]
		report.Status, report.Error = max(report.Status, said.status), cmp.Or(report.Error, said.failure)
		report.Events = append(report.Events, domain.ForwardedEvent{ID: e.ID, Code: said.code})
	}
	report.Error = report.Error[:min(len(report.Error), domain.MaxForwardError)]
	return report
}
