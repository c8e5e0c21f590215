package http

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"nabu/internal/postgres"
)

// versions is the Messaging API's version document. The link is relative, because
// clients know better than nabu under which address they reached it.
const versions = `{"versions": [{"id": "2", "status": "CURRENT", "updated": "2014-9-24T04:06:47Z",` +
	` "media-types": [{"base": "application/json", "type": "application/vnd.openstack.messaging-v2+json"}],` +
	` "links": [{"href": "/v2/", "rel": "self"}]}]}`

// showVersions serves GET /. The odd status is what keystoneauth and gophercloud
// expect of a version document.
//
// Under a prefix the link is relative to the document: keystoneauth joins it to the
// address that it asked, and would leave the prefix by Zaqar's own link.
func (s *Server) showVersions(c *call) error {
	document := versions
	if strings.HasPrefix(c.Path(), messagingPrefix) {
		document = strings.Replace(document, `"/v2/"`, `"v2/"`, 1)
	}
	return writeJSON(c, http.StatusMultipleChoices, []byte(document))
}

// relation is one entry of the home document.
type relation struct {
	Template string            `json:"href-template"`
	Vars     map[string]string `json:"href-vars"`
	Hints    hints             `json:"hints"`
}

type hints struct {
	Allow      []string            `json:"allow"`
	Formats    map[string]struct{} `json:"formats"`
	AcceptPost []string            `json:"accept-post,omitempty"`
	AcceptPut  []string            `json:"accept-put,omitempty"`
}

// home is the home document: where everything is, for programs that look it up
// instead of knowing it.
var home = homeDocument()

func homeDocument() []byte {
	formats := map[string]struct{}{"application/json": {}}
	vars := func(names ...string) map[string]string {
		all := map[string]string{}
		for _, name := range names {
			all[name] = "param/" + name
		}
		return all
	}
	methods := func(allow ...string) hints { return hints{Allow: allow, Formats: formats} }
	put, post := methods("GET", "PUT", "DELETE"), methods("POST")
	put.AcceptPut, post.AcceptPost = []string{"application/json"}, []string{"application/json"}
	const queue = "/v2/queues/{queue_name}"
	const messages, subscriptions = queue + "/messages", queue + "/subscriptions"
	const subscription = subscriptions + "/{subscription_id}"
	text, err := json.Marshal(map[string]map[string]relation{"resources": {
		"rel/queues":        {"/v2/queues{?marker,limit,detailed}", vars("marker", "limit", "detailed"), methods("GET")},
		"rel/queue":         {queue, vars("queue_name"), put},
		"rel/messages":      {messages + "{?marker,limit,echo,include_claimed}", vars("queue_name", "marker", "limit", "echo", "include_claimed"), methods("GET")},
		"rel/post_messages": {messages, vars("queue_name"), post},
		// Zaqar's own document calls the variable claim, which it does not read.
		"rel/message_delete":     {messages + "/{message_id}{?claim_id}", vars("queue_name", "message_id", "claim_id"), methods("DELETE")},
		"rel/messages_delete":    {messages + "{?ids,pop}", vars("queue_name", "ids", "pop"), methods("DELETE")},
		"rel/queue_stats":        {queue + "/stats", vars("queue_name"), methods("GET")},
		"rel/queue_purge":        {queue + "/purge", vars("queue_name"), post},
		"rel/queue_share":        {queue + "/share", vars("queue_name"), post},
		"rel/post_claim":         {queue + "/claims{?limit}", vars("queue_name", "limit"), post},
		"rel/claim":              {queue + "/claims/{claim_id}", vars("queue_name", "claim_id"), methods("GET")},
		"rel/patch_claim":        {queue + "/claims/{claim_id}", vars("queue_name", "claim_id"), methods("PATCH")},
		"rel/delete_claim":       {queue + "/claims/{claim_id}", vars("queue_name", "claim_id"), methods("DELETE")},
		"rel/message_get":        {messages + "/{message_id}", vars("queue_name", "message_id"), methods("GET")},
		"rel/subscriptions_get":  {subscriptions + "{?marker,limit}", vars("queue_name", "marker", "limit"), methods("GET")},
		"rel/subscriptions_post": {subscriptions, vars("queue_name"), post},
		"rel/subscription":       {subscription, vars("queue_name", "subscription_id"), methods("GET", "DELETE")},
		"rel/subscription_patch": {subscription, vars("queue_name", "subscription_id"), methods("PATCH")},
		"rel/ping":               {"/v2/ping", vars(), methods("GET")},
		"rel/health":             {"/v2/health", vars(), methods("GET")},
	}})
	if err != nil {
		panic(err) // texts only
	}
	return text
}

// showHome serves GET /v2/. Zaqar knows it only with the slash.
func (s *Server) showHome(c *call) error {
	c.Response().Header().Set("Cache-Control", "max-age=86400")
	return writeBody(c.Response(), http.StatusOK, "application/json-home", home)
}

// pingTimeout is how long the database may take to say that it is there.
const pingTimeout = 2 * time.Second

func (s *Server) databaseReachable(ctx context.Context) bool { return s.askDatabase(ctx) == nil }

// askDatabase tells what is wrong with the database, as far as a connection finds out.
func (s *Server) askDatabase(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // see projections.Views
	_, err := postgres.Within(ctx, pingTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.Database.PingContext(ctx)
	})
	return err
}
