package http

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// subscribe carries out subscription_create: for a subscriber, or without one for the
// connection itself.
func (o *order) subscribe() (status int, err error) {
	if len(o.body) > maxSubscription {
		return 0, domain.Errorf(domain.Invalid, "the body must not be larger than %d bytes", maxSubscription)
	}
	asked, err := o.readSubscription(o.body, false)
	if err != nil {
		return 0, err
	}
	var id domain.SubscriptionID
	if asked.Subscriber == "" {
		id, err = o.subscribeConnection(asked)
	} else {
		id, err = commands.Run(o.ctx, o.Executor, commands.Subscribe{
			NewSubscription: domain.NewSubscription{
				Queue: o.queue, Subscriber: asked.Subscriber, TTL: asked.TTL, Options: asked.Options, Salt: newSalts(1)[0],
				Anew: true,
			},
			Rules: o.Subscriptions,
		})
	}
	if err != nil {
		return 0, err
	}
	o.out = appendUUID(append(o.out, `{"subscription_id":"`...), id)
	o.out = append(append(append(o.out, `","message":"Subscription `...), o.queue.Name...), ` created."}`...)
	return http.StatusCreated, nil
}

// subscribeConnection lets the connection get what is posted from now on. The queue is
// made if absent, as for other subscriptions; this one itself ends with the connection
// and is kept nowhere else, so a key means nothing here.
func (o *order) subscribeConnection(asked domain.SubscriptionChange) (id domain.SubscriptionID, err error) {
	p := &push{queue: o.queue, ttl: orElse(asked.TTL, o.Limits.DefaultSubscriptionTTL), options: orElse(asked.Options, "{}")}
	if p.id, err = uuid.NewV7(); err != nil {
		return id, err
	}
	if err := o.pushes.may(p); err != nil {
		return id, err
	}
	if _, err := commands.Run(o.requestWithoutKey(), o.Executor, commands.CreateQueue{Queue: o.queue}); err != nil {
		return id, err
	}
	if p.version, err = o.Views.PostingsEnd(o.ctx, o.queue); err != nil {
		return id, err
	}
	o.pushes.add(p, o.binary)
	o.then = func() { o.pushes.begin(o.socket, p) }
	return p.id, nil
}

// listSubscriptions carries out subscription_list. The connection's own comes first.
func (o *order) listSubscriptions() (status int, err error) {
	list, resolved := projections.SubscriptionList{Queue: o.queue}, true
	if list.Limit, err = o.args.limit(o.Limits.MaxSubscriptionsPerPage); err != nil {
		return 0, err
	}
	var page []projections.Subscription
	marker := o.args.text("marker")
	switch own, subscribed := o.pushes.of(o.queue); {
	case marker == "" && subscribed:
		page = append(page, own.shown())
	case marker != "" && !(subscribed && marker == own.id.String()):
		list.After, resolved = domain.ParseSubscriptionID(marker)
	}
	if resolved {
		stored, err := o.Views.Subscriptions(o.ctx, list)
		if err != nil {
			return 0, err
		}
		page = append(page, stored...)
		page = page[:min(len(page), list.Limit)]
	}
	o.out = append(o.out, `{"subscriptions":[`...)
	for i, its := range page {
		if i > 0 {
			o.out = append(o.out, ',')
		}
		o.out = appendSubscription(o.out, o.queue, its)
	}
	o.out = append(o.out, `]}`...)
	return http.StatusOK, nil
}

// shown is a subscription of a connection as others are shown.
func (p *push) shown() projections.Subscription {
	return projections.Subscription{ID: p.id, TTL: p.ttl, Age: int(time.Since(p.begun) / time.Second), Options: p.options}
}

// ownOrOther is the id that a frame names, and the connection's own subscription if it is
// that one's.
func (o *order) ownOrOther() (id uuid.UUID, own *push, ok bool) {
	text := o.args.text("subscription_id")
	if p, subscribed := o.pushes.of(o.queue); subscribed && p.id.String() == text {
		return p.id, p, true
	}
	id, ok = domain.ParseSubscriptionID(text)
	return id, nil, ok
}

// showSubscription carries out subscription_get.
func (o *order) showSubscription() (status int, err error) {
	id, own, exists := o.ownOrOther()
	var its projections.Subscription
	switch {
	case own != nil:
		its = own.shown()
	case exists:
		if its, exists, err = o.Views.Subscription(o.ctx, o.queue, id); err != nil {
			return 0, err
		}
	}
	if !exists {
		return 0, domain.Errorf(domain.NotFound, "subscription %s does not exist", o.args.text("subscription_id"))
	}
	o.out = appendSubscription(o.out, o.queue, its)
	return http.StatusOK, nil
}

// deleteSubscription carries out subscription_delete.
func (o *order) deleteSubscription() (status int, err error) {
	id, own, ok := o.ownOrOther()
	switch {
	case own != nil:
		o.pushes.remove(id)
	case ok:
		if _, err := commands.Run(o.ctx, o.Executor, commands.DeleteSubscription{Queue: o.queue, ID: id}); err != nil {
			return 0, err
		}
	}
	o.say("Subscription " + o.args.text("subscription_id") + " removed.")
	return http.StatusNoContent, nil
}
