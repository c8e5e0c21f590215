package http

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"nabu/domain"
	"nabu/internal/signedurl"
	"nabu/projections"
)

// authenticate tells who a request comes from. One that shows a signature needs nothing
// else: the signature says what it may do. An empty one is none.
func (s *Server) authenticate(r *http.Request) (Caller, error) {
	if sent := r.Header[signedurl.HeaderSignature]; len(sent) == 0 || sent[0] == "" {
		return s.Auth.Authenticate(r)
	}
	grant, signature, ok := signedurl.FromHeaders(r.Header)
	if !ok {
		return Caller{}, errNoRoute
	}
	return s.bearer(r.Context(), grant, signature, r.Method, strings.TrimPrefix(echo.GetPath(r), messagingPrefix))
}

// bearer is who shows the signature of a grant: somebody unknown without any roles, in
// the project that was signed. Whatever does not allow the request, there is nothing at
// its path then. The path is without a prefix, as it was sent.
func (s *Server) bearer(ctx context.Context, g signedurl.Grant, signature, method, path string) (Caller, error) {
	if !g.Allows(method, path) || domain.CheckProject(g.Project) != nil {
		return Caller{}, errNoRoute
	}
	digest := signedurl.Digest(signature)
	queue := domain.QueueID{Project: g.Project, Name: queueOfPath(path)}
	sharing, err := s.Views.Sharing(ctx, queue, digest)
	if err != nil {
		return Caller{}, err
	}
	if !g.Expires.After(sharing.Now) || !s.keyOf(g, queue, sharing).Verify(g, signature) || sharing.Revoked {
		return Caller{}, errNoRoute
	}
	return Caller{Project: g.Project, HasProject: true, Signature: digest}, nil
}

// queueOfPath is the name of the queue that a path is about, or empty.
func queueOfPath(path string) string {
	rest, _ := strings.CutPrefix(path, "/v2/queues/")
	name, _, _ := strings.Cut(rest, "/")
	if rest == path || domain.CheckQueueName(name) != nil {
		return ""
	}
	return name
}

// keyOf is the key by which a grant for a queue has to be signed.
func (s *Server) keyOf(g signedurl.Grant, queue domain.QueueID, sharing projections.Sharing) signedurl.Key {
	if queue.Name == "" || confirms(g) {
		return s.SigningKey
	}
	return s.shareKey(queue, sharing)
}

// confirms tells whether a grant is for the confirmation of one subscription. The service
// signs that for the subscriber, share never does, and it ends with the subscription.
func confirms(g signedurl.Grant) bool {
	if len(g.Paths) != 1 || len(g.Methods) != 1 || g.Methods[0] != http.MethodPut {
		return false
	}
	below, found := strings.CutPrefix(g.Paths[0], "/v2/queues/"+queueOfPath(g.Paths[0])+"/subscriptions/")
	subscription, what, _ := strings.Cut(below, "/")
	return found && subscription != "" && what == "confirm"
}

// shareKey is the key by which a queue's signed URLs are signed: the service's own, as in
// Zaqar, or, once all of the queue's were taken back, another one that follows from it.
func (s *Server) shareKey(queue domain.QueueID, sharing projections.Sharing) signedurl.Key {
	if sharing.AllRevoked == 0 {
		return s.SigningKey
	}
	purpose, err := json.Marshal([]any{"shares of a queue", queue.Project, queue.Name, sharing.AllRevoked})
	if err != nil {
		panic(err) // texts and a number
	}
	return s.SigningKey.Derive(string(purpose))
}
