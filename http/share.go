package http

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"nabu/commands"
	"nabu/domain"
	"nabu/internal/signedurl"
)

// maxShareBody is how large the body of a share or of its revocation may be; bytes.
const maxShareBody = 64 << 10

// defaultShareLife is how long a signed URL is good if its maker does not say, unless the
// operator allows less.
const defaultShareLife = 24 * time.Hour

// shared is a signed URL as its maker gets it. Who has it shows the members as headers.
type shared struct {
	Paths     []string `json:"paths"`
	Methods   []string `json:"methods"`
	Project   string   `json:"project"`
	Expires   string   `json:"expires"`
	Signature string   `json:"signature"`
}

// shareQueue serves POST /v2/queues/:queue/share. The queue need not be there.
func (s *Server) shareQueue(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), maxShareBody, buffer)
	if err != nil {
		return err
	}
	grant, err := decodeShare(body, queuePath(c.queue))
	if err != nil {
		return err
	}
	sharing, err := s.Views.Sharing(c.Request().Context(), c.queue, "")
	if err != nil {
		return err
	}
	if err := s.limitLife(&grant, sharing.Now); err != nil {
		return err
	}
	grant.Project = c.caller.Project
	signature := s.shareKey(c.queue, sharing).Sign(grant)
	// The same grant has the same signature, be it one that was taken back.
	if sharing, err = s.Views.Sharing(c.Request().Context(), c.queue, signedurl.Digest(signature)); err != nil {
		return err
	}
	if sharing.Revoked {
		return domain.Errorf(domain.Conflict, "a signed URL with exactly these members was revoked; give it another end")
	}
	text, err := json.Marshal(shared{
		Paths: grant.Paths, Methods: grant.Methods, Project: grant.Project,
		Expires: signedurl.FormatExpires(grant.Expires), Signature: signature,
	})
	if err != nil {
		return err
	}
	return writeJSON(c, http.StatusOK, text)
}

// limitLife gives a grant its end, or refuses the one that it has.
func (s *Server) limitLife(g *signedurl.Grant, now time.Time) error {
	most := time.Duration(s.Limits.MaxSignedURLLife) * time.Second
	if g.Expires.IsZero() {
		life := defaultShareLife
		if most > 0 {
			life = min(life, most)
		}
		g.Expires = now.Add(life)
	}
	g.Expires = g.Expires.Truncate(time.Second)
	switch {
	case !g.Expires.After(now):
		return domain.Errorf(domain.Invalid, "expires must be in the future")
	case most > 0 && g.Expires.After(now.Add(most)):
		return domain.Errorf(domain.Invalid, "expires must be at most %d seconds ahead", s.Limits.MaxSignedURLLife)
	}
	return nil
}

// decodeShare reads what is to be shared of the queue with this path.
func decodeShare(body []byte, queue string) (g signedurl.Grant, err error) {
	text, err := parseShare(body)
	if err != nil {
		return g, err
	}
	for name, value := range members(text) {
		switch name {
		case "paths":
			g.Paths, err = textList(name, value)
		case "methods":
			g.Methods, err = textList(name, value)
		case "expires":
			g.Expires, err = readExpires(value)
		default:
			err = domain.Errorf(domain.Invalid, "the body may have paths, methods and expires only")
		}
		if err != nil {
			return g, err
		}
	}
	if len(g.Paths) == 0 {
		g.Paths = []string{"messages"}
	}
	if len(g.Methods) == 0 {
		g.Methods = []string{http.MethodGet}
	}
	for i, path := range g.Paths {
		if path != "messages" && path != "claims" && path != "subscriptions" {
			return g, domain.Errorf(domain.Invalid, "paths may hold messages, claims and subscriptions only")
		}
		g.Paths[i] = queue + "/" + path
	}
	slices.Sort(g.Paths)
	slices.Sort(g.Methods)
	return g, nil
}

// parseShare reads a body that must be an object. It may be empty, but not absent.
func parseShare(body []byte) (string, error) {
	text, err := parseJSON(body)
	if err == nil && !isObject(text) {
		err = domain.Errorf(domain.Malformed, "the body must be an object")
	}
	return text, err
}

// textList reads a list of texts. A backslash in one could make it pass for another part
// of what is signed, and no method has any.
func textList(name, value string) ([]string, error) {
	if !isArray(value) {
		return nil, domain.Errorf(domain.Invalid, "%s must be a list", name)
	}
	var items []string
	for item := range elements(value) {
		if !isText(item) || strings.Contains(unquote(item), `\`) {
			return nil, domain.Errorf(domain.Invalid, "%s must be a list of texts without a backslash", name)
		}
		items = append(items, unquote(item))
	}
	return items, nil
}

func readText(name, value string) (string, error) {
	if !isText(value) {
		return "", domain.Errorf(domain.Invalid, "%s must be a text", name)
	}
	return unquote(value), nil
}

func readExpires(value string) (at time.Time, err error) {
	ok := isText(value)
	if ok {
		at, ok = signedurl.ParseExpires(unquote(value))
	}
	if !ok {
		return at, domain.Errorf(domain.Invalid, "expires must be a date and a time such as 2036-03-02T10:00:00")
	}
	return at, nil
}

// revokeShares serves POST /v2/queues/:queue/share/revoke: it takes back a signed URL that
// is told as share has told it, or all of the queue's.
func (s *Server) revokeShares(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, err := readBody(c.Request(), maxShareBody, buffer)
	if err != nil {
		return err
	}
	grant, signature, err := decodeRevocation(body)
	if err != nil {
		return err
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	if signature == "" {
		if _, err := commands.Run(ctx, s.Executor, commands.RevokeShares{Queue: c.queue}); err != nil {
			return err
		}
		return c.NoContent(http.StatusNoContent)
	}
	if err := s.isShare(ctx, c, grant, signature); err != nil {
		return err
	}
	share := domain.Share{Queue: c.queue, Digest: signedurl.Digest(signature), Expires: grant.Expires}
	if _, err := commands.Run(ctx, s.Executor, commands.RevokeShare{Share: share}); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// isShare refuses what is no signed URL of the call's queue, or has been worth nothing
// since all of them were taken back.
func (s *Server) isShare(ctx context.Context, c *call, g signedurl.Grant, signature string) error {
	sharing, err := s.Views.Sharing(ctx, c.queue, "")
	if err != nil {
		return err
	}
	ofQueue := slices.ContainsFunc(g.Paths, func(path string) bool { return queueOfPath(path) == c.queue.Name })
	if g.Project != c.caller.Project || !ofQueue || !s.keyOf(g, c.queue, sharing).Verify(g, signature) {
		return domain.Errorf(domain.NotFound, "queue %s has no such signed URL, or not any more", c.queue.Name)
	}
	return nil
}

// decodeRevocation reads what is to be taken back. Without a signature that is all.
func decodeRevocation(body []byte) (g signedurl.Grant, signature string, err error) {
	text, err := parseShare(body)
	if err != nil {
		return g, "", err
	}
	all, alone := "", true
	for name, value := range members(text) {
		alone = alone && name == "all"
		switch name {
		case "all":
			all = value
		case "paths":
			g.Paths, err = textList(name, value)
		case "methods":
			g.Methods, err = textList(name, value)
		case "expires":
			g.Expires, err = readExpires(value)
		case "project":
			g.Project, err = readText(name, value)
		case "signature":
			signature, err = readText(name, value)
		default:
			err = domain.Errorf(domain.Invalid, "the body may have all, or what share has answered")
		}
		if err != nil {
			return g, "", err
		}
	}
	if all == "true" && alone {
		return g, "", nil
	}
	if all != "" || signature == "" || g.Expires.IsZero() || len(g.Paths) == 0 || len(g.Methods) == 0 {
		return g, "", domain.Errorf(domain.Invalid, "the body must have all the members that share has answered, or all: true alone")
	}
	return g, signature, nil
}
