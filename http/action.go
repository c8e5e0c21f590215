package http

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/signedurl"
)

// action is what a frame can ask for.
type action struct {
	rule  string // of the policy
	knows parameters
	do    func(*order) (status int, err error)
	// method is what the action is on a queue's messages, for those who come with a
	// signature; empty: they may not ask for it.
	method string
	// once: it is not the same when it is done twice, so a client may name it with a key.
	once bool
	// operation is the action's name in the health answer, if it has one there.
	operation string
}

// actions are all actions but one, to authenticate, which comes before them.
var actions = map[string]action{
	"queue_list":      {rule: "queues:get_all", knows: parameters{{"marker", aText, false}, {"limit", aNumber, false}, {"detailed", aFlag, false}}, do: (*order).listQueues},
	"queue_create":    {rule: "queues:create", knows: ofQueue(parameters{{"metadata", anObject, false}}), do: (*order).createQueue, operation: "create_queue"},
	"queue_get":       {rule: "queues:get", knows: ofQueue(nil), do: (*order).showQueue},
	"queue_get_stats": {rule: "queues:stats", knows: ofQueue(nil), do: (*order).showStats},
	"queue_delete":    {rule: "queues:delete", knows: ofQueue(nil), do: (*order).deleteQueue, operation: "delete_queue"},
	"queue_purge":     {rule: "queues:purge", knows: ofQueue(parameters{{"resource_types", aList, false}}), do: (*order).purgeQueue, once: true},

	"message_post": {rule: "messages:create", method: "POST", knows: ofQueue(parameters{{"messages", aList, true}}), do: (*order).postMessages, once: true, operation: "post_messages"},
	"message_list": {rule: "messages:get_all", method: "GET", knows: ofQueue(parameters{{"marker", aText, false}, {"limit", aNumber, false},
		{"echo", aFlag, false}, {"include_claimed", aFlag, false}, {"include_delayed", aFlag, false}}), do: (*order).listMessages, operation: "list_messages"},
	"message_get":      {rule: "messages:get", method: "GET", knows: ofQueue(parameters{{"message_id", aText, true}}), do: (*order).showMessage},
	"message_get_many": {rule: "messages:get_all", method: "GET", knows: ofQueue(parameters{{"message_ids", aList, true}}), do: (*order).showMessages},
	"message_delete":   {rule: "messages:delete", method: "DELETE", knows: ofQueue(parameters{{"message_id", aText, true}, {"claim_id", aText, false}}), do: (*order).deleteMessage, operation: "delete_messages"},
	"message_delete_many": {rule: "messages:delete_all", method: "DELETE", knows: ofQueue(parameters{{"message_ids", aList, false},
		{"claim_ids", aList, false}, {"pop", aNumber, false}}), do: (*order).deleteMessages, once: true, operation: "bulk_delete_messages"},

	"claim_create": {rule: "claims:create", knows: ofQueue(parameters{{"limit", aNumber, false}}), do: (*order).claimMessages, once: true, operation: "claim_messages"},
	"claim_get":    {rule: "claims:get", knows: ofClaim, do: (*order).showClaim},
	"claim_update": {rule: "claims:update", knows: ofClaim, do: (*order).renewClaim},
	"claim_delete": {rule: "claims:delete", knows: ofClaim, do: (*order).releaseClaim, operation: "delete_claim"},

	"subscription_create": {rule: "subscription:create", knows: ofQueue(parameters{{"subscriber", aText, false}, {"ttl", aNumber, false}, {"options", anObject, false}}), do: (*order).subscribe, once: true},
	"subscription_list":   {rule: "subscription:get_all", knows: ofQueue(parameters{{"marker", aText, false}, {"limit", aNumber, false}}), do: (*order).listSubscriptions},
	"subscription_get":    {rule: "subscription:get", knows: ofSubscription, do: (*order).showSubscription},
	"subscription_delete": {rule: "subscription:delete", knows: ofSubscription, do: (*order).deleteSubscription},
}

// ofQueue are the parameters of an action on a queue.
func ofQueue(others parameters) parameters {
	return append(parameters{{"queue_name", aText, true}}, others...)
}

var ofClaim = ofQueue(parameters{{"claim_id", aText, true}})

var ofSubscription = ofQueue(parameters{{"subscription_id", aText, true}})

// authenticate is the action that says who a connection is.
const authenticate = "authenticate"

// order is a frame on its way to being carried out.
type order struct {
	*socket
	frame
	id     string // of the request
	header http.Header
	ctx    context.Context // says where a command comes from
	caller Caller
	client string         // who the caller's program says it is
	queue  domain.QueueID // of actions that name one
	args   arguments
	begun  bool // it has passed the checks
	status int
	out    []byte // the answer's body, JSON
	// replayed: it is the answer to an earlier frame with the same key.
	replayed bool
	then     func() // what begins when the frame has been answered; nil: nothing
}

// answer carries a frame out and answers it. It fails only with the connection.
func (w *socket) answer(binary bool, data []byte) error {
	began := time.Now()
	o := &order{socket: w, frame: undecoded(binary), id: newRequestID()}
	body, whole := getBuffer(), getBuffer()
	defer putBuffer(body)
	defer putBuffer(whole)
	o.out = *body
	if err := recovering(o.handle, data); err != nil {
		o.refuse(err)
	}
	*body = o.out
	*whole = o.appendAnswer(*whole, o.status, o.out, o.replayed)
	err := w.write(binary, *whole)
	if err == nil && o.then != nil {
		o.then()
	}
	o.account(time.Since(began))
	return err
}

// handle takes a frame through Zaqar's checks, in its order, and carries it out.
func (o *order) handle(data []byte) (err error) {
	if most := o.maxFrame(); int64(len(data)) > most {
		return domain.Errorf(domain.Malformed, "the frame must not be larger than %d bytes", most)
	}
	if o.frame, err = decodeFrame(o.binary, data); err != nil {
		return err
	}
	its, known := actions[o.name()]
	switch {
	case o.name() == authenticate:
		return o.authenticate()
	case !known:
		return domain.Errorf(domain.Malformed, "%s is not a valid action", o.action)
	}
	if err := o.readHeaders(headerClientID, headerProject); err != nil {
		return err
	}
	if o.args, err = its.knows.read(o.body); err != nil {
		return err
	}
	o.queue.Name = o.args.text("queue_name")
	if err := o.identify(its); err != nil {
		return err
	}
	if err := o.check(its.rule, o.caller); err != nil {
		return err
	}
	if o.ctx, err = o.requestFor(its); err != nil {
		return err
	}
	o.begun = true
	o.queue.Project = o.caller.Project
	if _, named := o.args["queue_name"]; named {
		if err := domain.CheckQueueName(o.queue.Name); err != nil {
			return err
		}
	}
	o.status, err = its.do(o)
	return err
}

// requestFor is the context for a command: it says where the command comes from and, for
// an action that is not the same when it is done twice, by which name the client wants it
// to be carried out only once.
func (o *order) requestFor(its action) (context.Context, error) {
	key, given := o.header[headerIdempotencyKey]
	if !given || !its.once {
		return o.requestWithoutKey(), nil
	}
	if err := checkIdempotencyKey(key[0]); err != nil {
		return nil, err
	}
	return commands.WithRequest(o.socket.ctx, commands.Request{
		Origin: originOf(o.caller, o.id, o.header), IdempotencyKey: key[0],
		RequestHash: sha256.Sum256(appendSorted([]byte(o.name()+" "), o.body)), Replayed: func() { o.replayed = true },
	}), nil
}

// requestWithoutKey is the context for a command that is no part of what a key names.
func (o *order) requestWithoutKey() context.Context {
	return commands.WithRequest(o.socket.ctx, commands.Request{Origin: originOf(o.caller, o.id, o.header)})
}

// refuseWait refuses what only a request of HTTP can do: frames are answered in their order,
// so one that waited would hold up all behind it.
func (o *order) refuseWait() error {
	if _, given := o.args["wait"]; given {
		return domain.Errorf(domain.Malformed, "wait is not for WebSockets: subscribe the connection to be sent what is posted")
	}
	return nil
}

// readHeaders reads the frame's headers, some of which must be there.
func (o *order) readHeaders(required ...string) (err error) {
	if o.header, err = o.frame.header(); err != nil {
		return err
	}
	for _, name := range required {
		if _, given := o.header[name]; !given {
			return domain.Errorf(domain.Malformed, "headers must have %s, a text", name)
		}
	}
	return nil
}

// identify finds out who the frame comes from. The project that it names must be that
// one's.
func (o *order) identify(its action) (err error) {
	signed := o.header[signedurl.HeaderSignature]
	switch {
	case len(signed) > 0 && signed[0] != "":
		if o.caller, err = o.bearerOf(its); errors.Is(err, errNoRoute) {
			return errNotSigned
		}
	case o.known != nil:
		o.caller = *o.known
	default:
		o.caller, err = o.Auth.Authenticate(o.request(o.header))
		if p, ok := errors.AsType[*problem](err); ok && p.status == http.StatusUnauthorized {
			return errNobody
		}
	}
	if err != nil {
		return err
	}
	if o.caller.HasProject && o.caller.Project != o.header[headerProject][0] {
		return errOtherProject
	}
	o.client, err = o.Server.identify(o.caller, o.header)
	return err
}

// bearerOf is who shows a signature. It has to allow what the action would be with HTTP,
// on the messages of the queue that the frame names.
func (o *order) bearerOf(its action) (Caller, error) {
	grant, signature, ok := signedurl.FromHeaders(o.header)
	if !ok || its.method == "" {
		return Caller{}, errNoRoute
	}
	return o.bearer(o.socket.ctx, grant, signature, its.method, queuePath(o.queue)+"/messages")
}

var (
	errNobody       = problemf(http.StatusForbidden, "Not authenticated", "The connection must authenticate first.")
	errNotSigned    = problemf(http.StatusForbidden, "Not authenticated", "The signature does not allow this.")
	errOtherProject = problemf(http.StatusForbidden, "Not authorized", "X-Project-ID must be the project of who has authenticated.")
)

// authenticate carries out the action that says who the connection is from now on.
func (o *order) authenticate() error {
	if err := o.readHeaders(headerProject, "X-Auth-Token"); err != nil {
		return err
	}
	o.headers, o.body = "{}", "{}" // not repeated, as in Zaqar
	caller, err := o.Auth.Authenticate(o.request(o.header))
	if err != nil {
		return err
	}
	if caller.Project != o.header[headerProject][0] {
		return errOtherProject
	}
	if err := domain.CheckProject(caller.Project); err != nil {
		return err
	}
	o.authenticated(caller)
	o.status, o.out = http.StatusOK, append(o.out, `{"message":"Authenticated."}`...)
	return nil
}

// refuse makes an answer of an error, in one of Zaqar's two forms: the checks before an
// action have another than the action.
func (o *order) refuse(err error) {
	refusal, isRefusal := asProblem(err)
	if !isRefusal {
		refusal = failure(err, o.id)
	}
	o.status = refusal.status
	if o.status >= http.StatusInternalServerError && o.socket.ctx.Err() == nil {
		o.logFailure(o.socket.ctx, o.status, err, slog.String("request_id", o.id), slog.String("action", o.name()))
	}
	text := orElse(refusal.description, refusal.title)
	if !o.begun {
		o.out = append(appendText(append(o.out[:0], `{"error":`...), text), '}')
		return
	}
	o.out = appendText(append(o.out[:0], `{"exception":`...), refusal.Error())
	o.out = append(appendText(append(o.out, `,"error":`...), text), '}')
}

// say writes a body that is a sentence.
func (o *order) say(sentence string) { o.out = appendText(o.out, sentence) }

// account keeps count of a frame that was answered.
func (o *order) account(took time.Duration) {
	its := o.metrics.action(o.name())
	its.observe(o.status, took)
	if its.operation != nil {
		its.operation.record(o.status, took, o.id)
	}
	if o.LogRequests {
		o.Log.LogAttrs(o.socket.ctx, slog.LevelInfo, "request",
			slog.String("request_id", o.id),
			o.caller.logged(),
			slog.String("action", o.name()),
			slog.Int("status", o.status),
			slog.Int("bytes", len(o.out)),
			slog.Float64("seconds", took.Seconds()),
			slog.String("from", o.handshake.RemoteAddr))
	}
}
