package http

import (
	"errors"
	"net/http"
	"strconv"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// maxSubscription is the most bytes of a request about a subscription. Zaqar has no such
// bound.
const maxSubscription = 64 << 10

// subscribe serves POST /v2/queues/:queue/subscriptions. The Location is that of all
// subscriptions: Zaqar's clients take the id from the body.
func (s *Server) subscribe(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), maxSubscription, buffer)
	if err != nil {
		return err
	}
	asked, err := s.decodeSubscription(body, false)
	if err != nil {
		return err
	}
	if asked.Subscriber == "" {
		return domain.Errorf(domain.Invalid, "the body must have a member subscriber")
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	id, err := commands.Run(ctx, s.Executor, commands.Subscribe{
		NewSubscription: domain.NewSubscription{
			Queue: c.queue, Subscriber: asked.Subscriber, TTL: asked.TTL, Options: asked.Options, Salt: newSalts(1)[0],
		},
		Rules: s.Subscriptions,
	})
	if refused, ok := errors.AsType[*domain.Error](err); err == nil || ok && refused.Code == domain.Conflict {
		c.Response().Header().Set(headerLocation, subscriptionsPath(c.queue))
	}
	if err != nil {
		return err
	}
	out := appendUUID(append((*buffer)[:0], `{"subscription_id":"`...), id)
	*buffer = append(out, `"}`...)
	return writeJSON(c, http.StatusCreated, *buffer)
}

func subscriptionsPath(queue domain.QueueID) string { return queuePath(queue) + "/subscriptions" }

// decodeSubscription reads the members of a subscription that a client may set, as far as
// they are there. nulls: null is as good as absent; "openstack messaging subscription
// update" sends it for what its user does not name.
func (s *Server) decodeSubscription(body []byte, nulls bool) (asked domain.SubscriptionChange, err error) {
	text, err := parseJSON(body)
	if err != nil {
		return asked, err
	}
	if !isObject(text) {
		return asked, domain.Errorf(domain.Malformed, "the body must be an object")
	}
	return s.readSubscription(text, nulls)
}

// readSubscription reads what decodeSubscription does out of a JSON object.
func (s *Server) readSubscription(object string, nulls bool) (asked domain.SubscriptionChange, err error) {
	for name, value := range members(object) {
		if nulls && value == "null" {
			continue
		}
		switch name {
		case "subscriber":
			if !isText(value) {
				return asked, domain.Errorf(domain.Malformed, "subscriber must be a text")
			}
			asked.Subscriber = unquote(value)
			err = s.Subscriptions.CheckSubscriber(asked.Subscriber)
		case "ttl":
			seconds, whole := wholeNumber(value)
			if !whole {
				return asked, domain.Errorf(domain.Malformed, "ttl must be an integer")
			}
			asked.TTL, err = int(seconds), domain.CheckSubscriptionTTL(seconds)
		case "options":
			if !isObject(value) {
				return asked, domain.Errorf(domain.Malformed, "options must be an object")
			}
			asked.Options, err = value, domain.CheckSubscriptionOptions(value)
		}
		if err != nil {
			return asked, err
		}
	}
	return asked, nil
}

// listSubscriptions serves GET /v2/queues/:queue/subscriptions. zaqarclient's parameter
// detailed means nothing.
func (s *Server) listSubscriptions(c *call) error {
	q := parseQuery(c.Request().URL.RawQuery)
	limit, given, err := q.limit(s.Limits.MaxSubscriptionsPerPage)
	if err != nil {
		return err
	}
	next := newLink(subscriptionsPath(c.queue))
	next.addLimit(limit, given)
	list, resolved := projections.SubscriptionList{Queue: c.queue, Limit: limit}, true
	if marker := q.text("marker"); marker != "" {
		list.After, resolved = domain.ParseSubscriptionID(marker)
	}
	var page []projections.Subscription
	if resolved { // nothing comes after a marker that leads nowhere
		if page, err = s.Views.Subscriptions(c.Request().Context(), list); err != nil {
			return err
		}
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	out := append(*buffer, `{"subscriptions":[`...)
	for i, its := range page {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendSubscription(out, c.queue, its)
	}
	out = append(out, `],`...)
	if n := len(page); n > 0 {
		next.add("marker", page[n-1].ID.String())
		out = appendNext(out, next)
	} else {
		out = appendNext(out, nil)
	}
	*buffer = append(out, '}')
	return writeJSON(c, http.StatusOK, *buffer)
}

// appendSubscription writes a subscription with the members that zaqarclient needs, all
// of them.
func appendSubscription(out []byte, queue domain.QueueID, its projections.Subscription) []byte {
	out = appendUUID(append(out, `{"id":"`...), its.ID)
	out = append(append(append(out, `","source":"`...), queue.Name...), `","subscriber":`...)
	out = appendText(out, its.Subscriber)
	out = strconv.AppendInt(append(out, `,"ttl":`...), int64(its.TTL), 10)
	out = strconv.AppendInt(append(out, `,"age":`...), int64(its.Age), 10)
	out = append(append(out, `,"options":`...), its.Options...)
	out = strconv.AppendBool(append(out, `,"confirmed":`...), its.Confirmed)
	return append(out, '}')
}

// subscriptionID is the id in the path. A text that is none of nabu's names no
// subscription.
func subscriptionID(c *call) (domain.SubscriptionID, error) {
	text := c.Param("subscription")
	id, ok := domain.ParseSubscriptionID(text)
	if !ok {
		return id, domain.Errorf(domain.NotFound, "subscription %s does not exist", text)
	}
	return id, nil
}

// showSubscription serves GET /v2/queues/:queue/subscriptions/:subscription.
func (s *Server) showSubscription(c *call) error {
	id, err := subscriptionID(c)
	if err != nil {
		return err
	}
	its, exists, err := s.Views.Subscription(c.Request().Context(), c.queue, id)
	if err != nil {
		return err
	}
	if !exists {
		return domain.Errorf(domain.NotFound, "subscription %s does not exist", id)
	}
	buffer := getBuffer()
	defer putBuffer(buffer)
	*buffer = appendSubscription(*buffer, c.queue, its)
	return writeJSON(c, http.StatusOK, *buffer)
}

// changeSubscription serves PATCH /v2/queues/:queue/subscriptions/:subscription. The body
// is no patch: it is checked before the subscription is looked for.
func (s *Server) changeSubscription(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), maxSubscription, buffer)
	if err != nil {
		return err
	}
	change, err := s.decodeSubscription(body, true)
	if err != nil {
		return err
	}
	if change == (domain.SubscriptionChange{}) {
		return badRequest("Unable to update subscription", "The body must have at least one of subscriber, ttl and options.")
	}
	return s.alterSubscription(c, body, "", func(id domain.SubscriptionID) commands.Command[bool] {
		return commands.ChangeSubscription{Queue: c.queue, ID: id, Change: change, Rules: s.Subscriptions}
	})
}

// alterSubscription carries out a command on the subscription that the path names, and
// answers with its place, or one below it.
func (s *Server) alterSubscription(
	c *call, body []byte, below string, command func(domain.SubscriptionID) commands.Command[bool],
) error {
	id, err := subscriptionID(c)
	if err != nil {
		return err
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	if _, err := commands.Run(ctx, s.Executor, command(id)); err != nil {
		return err
	}
	c.Response().Header().Set(headerLocation, subscriptionsPath(c.queue)+"/"+id.String()+below)
	return c.NoContent(http.StatusNoContent)
}

// deleteSubscription serves DELETE /v2/queues/:queue/subscriptions/:subscription.
func (s *Server) deleteSubscription(c *call) error {
	id, ok := domain.ParseSubscriptionID(c.Param("subscription"))
	if !ok {
		return c.NoContent(http.StatusNoContent)
	}
	ctx, err := c.request(nil)
	if err != nil {
		return err
	}
	if _, err := commands.Run(ctx, s.Executor, commands.DeleteSubscription{Queue: c.queue, ID: id}); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// confirmSubscription serves PUT /v2/queues/:queue/subscriptions/:subscription/confirm.
func (s *Server) confirmSubscription(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), maxSubscription, buffer)
	if err != nil {
		return err
	}
	confirmed, err := decodeConfirmation(body)
	if err != nil {
		return err
	}
	return s.alterSubscription(c, body, "/confirm", func(id domain.SubscriptionID) commands.Command[bool] {
		return commands.ConfirmSubscription{Queue: c.queue, ID: id, Confirmed: confirmed, Rules: s.Subscriptions}
	})
}

// decodeConfirmation reads the word of a subscriber.
func decodeConfirmation(body []byte) (confirmed bool, err error) {
	text, err := parseJSON(body)
	if err != nil {
		return false, err
	}
	word := ""
	if isObject(text) {
		for name, value := range members(text) {
			if name == "confirmed" {
				word = value
			}
		}
	}
	switch word {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, domain.Errorf(domain.Invalid, "the body must be an object with a member confirmed that is true or false")
}
