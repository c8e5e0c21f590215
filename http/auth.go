package http

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"nabu/domain"
)

// Caller is who a request comes from.
type Caller struct {
	User       string // empty: unknown
	Project    string
	HasProject bool // the request names a project, be it an empty one
	Roles      []string
	// Signature is the digest of the signature that the request came with. There is no
	// user then, and no role.
	Signature string
	// Expires is when what they showed does; zero: never. A WebSocket ends then.
	Expires time.Time
}

// actor is who did something, for the history. What a bearer of a signature did can be
// told apart from what others did, and nobody can make a signature out of it.
func (c Caller) actor() string {
	if c.Signature != "" {
		return "signed-url:" + c.Signature[:16]
	}
	return c.User
}

// checkProject refuses a project that cannot be one. None at all is not its business.
func (c Caller) checkProject() error {
	if c.Project != "" && domain.CheckProject(c.Project) != nil {
		return domain.Errorf(domain.Invalid, "The project id must be a text of at most %d characters.", domain.MaxProject)
	}
	return nil
}

// callerKey is where a request keeps who it comes from, for the log.
const callerKey = "nabu caller"

// identifyCaller tells who a request comes from.
func (s *Server) identifyCaller(c echo.Context) (Caller, error) {
	caller, err := s.authenticate(c.Request())
	if s.LogRequests {
		c.Set(callerKey, caller)
	}
	return caller, err
}

// logged is the caller as the request log names them. A project that cannot be one is left
// out: it may be of any length.
func (c Caller) logged() slog.Attr {
	if c.checkProject() != nil {
		c.Project = ""
	}
	return slog.Group("", slog.String("project", c.Project), slog.String("user", c.actor()))
}

// Authenticator tells who a request comes from, or refuses it.
type Authenticator interface {
	Authenticate(r *http.Request) (Caller, error)
}

// NoAuth believes what the request says of itself. Whoever can reach the server can
// be anybody, so it belongs on addresses of this machine only.
type NoAuth struct{}

// rolesByDefault let a client in that cannot state roles, as Zaqar's own cannot.
var rolesByDefault = []string{"admin", "member", "reader"}

// maxUser bounds what is written beside every event as the actor; characters.
const maxUser = 256

// Authenticate takes project, user and roles from the headers. Clients that can send nothing
// but a token, such as glanceclient's commands, may say user:project with it, as Nova and
// Cinder have it without Keystone.
func (NoAuth) Authenticate(r *http.Request) (Caller, error) {
	caller := Caller{User: r.Header.Get("X-User-Id"), Roles: rolesByDefault}
	if user, project, both := userAndProject(r.Header.Get("X-Auth-Token")); both {
		caller.User, caller.Project, caller.HasProject = cmp.Or(caller.User, user), project, true
	}
	if !utf8.ValidString(caller.User) || strings.ContainsRune(caller.User, 0) || utf8.RuneCountInString(caller.User) > maxUser {
		return Caller{}, badRequest("Invalid header value", "X-User-Id must be a text of at most %d characters, without a NUL.", maxUser)
	}
	// openstacksdk 4.18 sends an empty header where it knows of no project.
	if project, given := r.Header[headerProject]; given && (project[0] != "" || !caller.HasProject) {
		caller.Project, caller.HasProject = project[0], true
	}
	if roles, given := r.Header["X-Roles"]; given {
		caller.Roles = splitRoles(strings.Join(roles, ","))
	}
	return caller, nil
}

// userAndProject takes a token of user:project apart. glanceclient without a session escapes
// it as if it stood in a path.
func userAndProject(token string) (user, project string, both bool) {
	if !strings.Contains(token, ":") {
		if plain, err := url.PathUnescape(token); err == nil {
			token = plain
		}
	}
	return strings.Cut(token, ":")
}

// splitRoles takes a list of roles apart.
func splitRoles(list string) []string {
	var roles []string
	for role := range strings.SplitSeq(list, ",") {
		if role = strings.TrimSpace(role); role != "" {
			roles = append(roles, role)
		}
	}
	return roles
}
