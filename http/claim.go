package http

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// maxClaimBody is how large the body of a claim's POST or PATCH may be; bytes.
const maxClaimBody = 64 << 10

// claimMessages serves POST /v2/queues/:queue/claims.
func (s *Server) claimMessages(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), maxClaimBody, buffer)
	if err != nil {
		return err
	}
	asked := claimBody{life: s.defaultLife()}
	if len(body) > 0 {
		if asked, err = s.decodeClaim(body); err != nil {
			return err
		}
	}
	q := parseQuery(c.Request().URL.RawQuery)
	limit, given, err := q.limit(s.Limits.MaxMessagesPerClaimOrPop)
	if err != nil {
		return err
	}
	wait, err := q.wait(s.Limits.MaxWait)
	if err != nil {
		return err
	}
	if !given && asked.limit > 0 {
		limit = asked.limit
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	claim, err := uuid.NewV7()
	if err != nil {
		return err
	}
	cmd := commands.ClaimMessages{Queue: c.queue, Claiming: domain.Claiming{Claim: claim, Life: asked.life, Limit: limit}}
	var taken []commands.Taken
	if wait > 0 && s.News != nil {
		taken, err = s.claimWaiting(ctx, c, cmd, wait)
	} else {
		taken, err = commands.Run(ctx, s.Executor, cmd)
	}
	if err != nil {
		return err
	}
	return s.writeClaimed(c, taken)
}

// writeClaimed answers with what a claim has got hold of. Each message tells its claim:
// a request that is repeated for its key gets the claim of the first one.
func (s *Server) writeClaimed(c *call, taken []commands.Taken) error {
	messages, err := s.withBodies(c.Request().Context(), c.queue, taken)
	if err != nil {
		return err
	}
	if len(messages) == 0 {
		return c.NoContent(http.StatusNoContent)
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	*buffer = append(s.appendMessages(append(*buffer, '{'), c.queue, messages), '}')
	c.Response().Header()[headerLocation] = []string{claimPath(c.queue, messages[0].Claim)}
	return writeJSON(c, http.StatusCreated, *buffer)
}

func claimPath(queue domain.QueueID, claim domain.ClaimID) string {
	return queuePath(queue) + "/claims/" + claim.String()
}

// errTaken: what a claim or a pop has taken cannot be told.
var errTaken = errors.New("messages were taken and cannot be read")

// withBodies opens the bodies of messages that were taken, and reads those that were too
// long to be carried along by a batch. They are in the history, where they stay even if
// the message has gone since. They are read also for a caller who seems to have left: what
// was taken is his. Any error is an errTaken.
func (s *Server) withBodies(ctx context.Context, queue domain.QueueID, taken []commands.Taken) (_ []projections.Message, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", errTaken, err)
		}
	}()
	ctx = context.WithoutCancel(ctx)
	messages := make([]projections.Message, len(taken))
	var missing []domain.Place
	for i, t := range taken {
		messages[i] = projections.Message{
			ID: t.ID, TTL: t.TTL, Age: t.Age, Claim: t.Claim, Place: t.Place, ClaimCount: t.ClaimCount,
			Key: t.Key, Body: []byte(t.Body),
		}
		if t.Body == "" {
			missing = append(missing, t.Place)
		}
	}
	if len(missing) == 0 {
		return s.Views.Open(ctx, queue.Project, messages)
	}
	bodies, err := s.Views.Bodies(ctx, missing)
	if err != nil {
		return nil, err
	}
	for i, t := range taken {
		if t.Body != "" {
			continue
		}
		body, found := bodies[t.Place]
		if !found {
			return nil, fmt.Errorf("the body of message %s is not in the ledger", t.ID)
		}
		messages[i].Body = []byte(body)
	}
	return s.Views.Open(ctx, queue.Project, messages)
}

// claimBody is what the body of a claim's POST or PATCH says.
type claimBody struct {
	life  domain.ClaimLife
	limit int // 0: none that could be heeded
}

func (s *Server) defaultLife() domain.ClaimLife {
	return domain.ClaimLife{TTL: s.Limits.DefaultClaimTTL, Grace: s.Limits.DefaultClaimGrace}
}

// decodeClaim reads the body of a claim's POST or PATCH. What is missing takes the
// server's default, also where an existing claim is renewed, and so does null:
// zaqarclient sends it for what its user does not say. A limit is openstacksdk's
// habit; whatever is none is ignored, as Zaqar ignores all.
func (s *Server) decodeClaim(body []byte) (claimBody, error) {
	asked := claimBody{life: s.defaultLife()}
	text, err := parseJSON(body)
	if err != nil {
		return asked, err
	}
	if !isObject(text) {
		return asked, domain.Errorf(domain.Malformed, "the body must be an object")
	}
	return s.readClaim(text)
}

// readClaim reads what decodeClaim does out of a JSON object.
func (s *Server) readClaim(object string) (claimBody, error) {
	asked := claimBody{life: s.defaultLife()}
	ttl, grace := "null", "null"
	for name, value := range members(object) { // of one that comes twice the last counts
		switch name {
		case "ttl":
			ttl = value
		case "grace":
			grace = value
		case "limit":
			asked.limit = 0
			if n, whole := wholeNumber(value); whole && n >= 1 && n <= int64(s.Limits.MaxMessagesPerClaimOrPop) {
				asked.limit = int(n)
			}
		}
	}
	if err := readSeconds("ttl", ttl, &asked.life.TTL); err != nil {
		return asked, err
	}
	if err := readSeconds("grace", grace, &asked.life.Grace); err != nil {
		return asked, err
	}
	return asked, asked.life.Check(s.Limits)
}

// readSeconds reads a number unless it is null.
func readSeconds(name, value string, into *int) error {
	if value == "null" {
		return nil
	}
	n, whole := wholeNumber(value)
	if !whole {
		return domain.Errorf(domain.Malformed, "%s must be an integer", name)
	}
	*into = int(n)
	return nil
}

// claimRef is the claim that the path names. What is no id names none.
func (c *call) claimRef() (domain.ClaimRef, bool) {
	id, ok := parseClaimID(c.Param("claim"))
	return domain.ClaimRef{Queue: c.queue, ID: id}, ok
}

// parseClaimID reads an id in its dashed form.
func parseClaimID(text string) (domain.ClaimID, bool) {
	if len(text) != 36 {
		return domain.ClaimID{}, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil && id != uuid.Nil
}

var errNoClaim = domain.Errorf(domain.NotFound, "the claim does not exist, or it is over")

// showClaim serves GET /v2/queues/:queue/claims/:claim.
func (s *Server) showClaim(c *call) error {
	ref, ok := c.claimRef()
	if !ok {
		return errNoClaim
	}
	claim, exists, err := s.Views.Claim(c.Request().Context(), ref)
	if err != nil {
		return err
	}
	if !exists {
		return errNoClaim
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := strconv.AppendInt(append(*buffer, `{"age":`...), int64(claim.Age), 10)
	out = strconv.AppendInt(append(out, `,"ttl":`...), int64(claim.TTL), 10)
	out = append(append(out, `,"href":"`...), claimPath(c.queue, ref.ID)...)
	*buffer = append(s.appendMessages(append(out, `",`...), c.queue, claim.Messages), '}')
	return writeJSON(c, http.StatusOK, *buffer)
}

// renewClaim serves PATCH /v2/queues/:queue/claims/:claim. The body is looked at
// first.
func (s *Server) renewClaim(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), maxClaimBody, buffer)
	if err != nil {
		return err
	}
	asked, err := s.decodeClaim(body)
	if err != nil {
		return err
	}
	ref, ok := c.claimRef()
	if !ok {
		return errNoClaim
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	if _, err := commands.Run(ctx, s.Executor, commands.RenewClaim{Queue: ref.Queue, Claim: ref.ID, Life: asked.life}); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// releaseClaim serves DELETE /v2/queues/:queue/claims/:claim.
func (s *Server) releaseClaim(c *call) error {
	ref, ok := c.claimRef()
	if !ok {
		return c.NoContent(http.StatusNoContent)
	}
	ctx, err := c.request(nil)
	if err != nil {
		return err
	}
	if _, err := commands.Run(ctx, s.Executor, commands.ReleaseClaim{Queue: ref.Queue, Claim: ref.ID}); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
