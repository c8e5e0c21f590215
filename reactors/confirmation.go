package reactors

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"nabu/domain"
	"nabu/internal/signedurl"
	"nabu/projections"
)

// Confirmations writes what subscribers are asked and told about their subscriptions, with
// a signature by which they can answer without an account.
type Confirmations struct {
	Key signedurl.Key
	// Endpoint is where clients find the Messaging API, without a path of it; empty: it is
	// left to the subscriber to know.
	Endpoint string
	// Page is where a mail leads, with what the signature says as parameters; empty: no
	// mail can be sent.
	Page string
}

// howToConfirm ends a sentence. Who does exactly what it says is let in.
const howToConfirm = "PUT the SubscribeBody to the path of URL-Paths, with these headers: " +
	"the members whose names begin with URL, X-Project-ID, and as Client-ID any UUID."

// Confirmation packs what a subscriber is owed. A mail without a page to lead to is
// refused.
func (c Confirmations) Confirmation(_ context.Context, s projections.Subscriber, owes domain.Confirmation) (Parcel, error) {
	grant := signedurl.Grant{
		Paths:   []string{"/v2/queues/" + s.Queue.Name + "/subscriptions/" + s.ID.String() + "/confirm"},
		Methods: []string{http.MethodPut}, Project: s.Queue.Project, Expires: s.Expires,
	}
	kind, says := "SubscriptionConfirmation", fmt.Sprintf("You have been chosen to get what is posted to queue %s. To agree, %s", s.Queue.Name, howToConfirm)
	if owes == domain.ConfirmUnsubscription {
		kind, says = "UnsubscribeConfirmation", fmt.Sprintf("You get nothing of queue %s any more. To change that, %s", s.Queue.Name, howToConfirm)
	}
	p := Parcel{
		Subscriber: s.Subscriber, ID: s.ID.String() + "." + string(owes), Subject: "Subscription to queue " + s.Queue.Name,
		Text:  c.text(kind, says, s.Queue.Name, grant),
		Facts: map[string]string{"X-Nabu-Subscription-Id": s.ID.String()},
	}
	if scheme, _, _ := strings.Cut(s.Subscriber, ":"); strings.EqualFold(scheme, "mailto") {
		link, err := c.link(s.Queue.Name, grant)
		if err != nil {
			return Parcel{}, err
		}
		p.Mail = fmt.Sprintf("Queue %s of project %s has you as a subscriber. To agree to get its messages by mail, or to decline, open\n\n%s\n",
			s.Queue.Name, s.Queue.Project, link)
		if owes == domain.ConfirmUnsubscription {
			p.Mail = fmt.Sprintf("You get no more messages of queue %s of project %s. To change that, open\n\n%s\n",
				s.Queue.Name, s.Queue.Project, link)
		}
	}
	return p, nil
}

// text is the body in the order of Zaqar's members. Methods and paths are single texts.
func (c Confirmations) text(kind, says, queue string, g signedurl.Grant) string {
	members := [][2]string{
		{"Message_Type", quoted(kind)}, {"Message", quoted(says)},
		{"URL-Signature", quoted(c.Key.Sign(g))}, {"URL-Methods", quoted(g.Methods[0])},
		{"URL-Expires", quoted(signedurl.FormatExpires(g.Expires))}, {"URL-Paths", quoted(g.Paths[0])},
		{"X-Project-ID", quoted(g.Project)},
		{"SubscribeBody", `{"confirmed": true}`}, {"UnsubscribeBody", `{"confirmed": false}`},
	}
	if c.Endpoint != "" {
		members = append(members, [2]string{"WSGISubscribeURL", quoted(c.subscribeURL(g))})
	}
	members = append(members, [2]string{"queue_name", quoted(queue)})
	parts := make([]string, len(members))
	for i, m := range members {
		parts[i] = quoted(m[0]) + ": " + m[1]
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (c Confirmations) subscribeURL(g signedurl.Grant) string {
	return strings.TrimSuffix(c.Endpoint, "/") + g.Paths[0]
}

// link leads to the operator's page, with what it needs to send the PUT.
func (c Confirmations) link(queue string, g signedurl.Grant) (string, error) {
	if c.Page == "" {
		return "", domain.Errorf(domain.Conflict, "a mail that asks for a confirmation needs external_confirmation_url")
	}
	page, err := url.Parse(c.Page)
	if err != nil {
		return "", domain.Errorf(domain.Conflict, "external_confirmation_url cannot be read")
	}
	q := page.Query()
	for name, value := range map[string]string{
		"Signature": c.Key.Sign(g), "Methods": g.Methods[0], "Paths": g.Paths[0], "Project": g.Project,
		"Expires": signedurl.FormatExpires(g.Expires), "Queue": queue,
	} {
		q.Set(name, value)
	}
	if c.Endpoint != "" {
		q.Set("Url", c.subscribeURL(g))
	}
	page.RawQuery = q.Encode()
	return page.String(), nil
}
