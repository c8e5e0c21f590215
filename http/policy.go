package http

import (
	"maps"
	"slices"

	"github.com/labstack/echo/v4"

	"nabu/internal/policy"
)

// open stands for the rule of what needs none: documents and answers that depend on
// nobody. A line of a table names a rule or is open.
const open = "@"

// forbidden is the refusal of a caller whom a rule of the policy keeps out. Each API has
// its own words for it.
type forbidden struct{ rule string }

func (f *forbidden) Error() string { return "policy: " + f.rule }

// check refuses a caller what a rule does not allow in the caller's own project.
func (s *Server) check(rule string, c Caller) error {
	return s.checkTarget(rule, c, policy.Target{{Key: "project_id", Value: c.Project}})
}

// checkTarget is check for what may be of another project, or has more to it.
func (s *Server) checkTarget(rule string, c Caller, target policy.Target) error {
	if rule == open {
		return nil
	}
	credentials := c.credentials()
	if !s.Policy.Rule(rule).Allows(&credentials, target) {
		return &forbidden{rule}
	}
	return nil
}

// credentials are what rules can know of a caller.
func (c Caller) credentials() policy.Credentials {
	return policy.Credentials{UserID: c.User, ProjectID: c.Project, Roles: c.Roles, IsAdminProject: true}
}

// add makes a route known to echo, and says which rule its handler checks, or that it is
// open.
func (s *Server) add(method, address, rule string, handle echo.HandlerFunc) {
	if rule == "" {
		panic("the route " + method + " " + address + " has no rule and is not open")
	}
	s.echo.Add(method, address, handle)
	s.rules[routeKey{address, method}] = rule
}

// Route is something that clients can ask for.
type Route struct {
	API    string
	Method string // of HTTP, or an action of frames
	Path   string // without a prefix; "websocket" for actions
	Rule   string // of the policy that has to allow it; empty: none has to
}

// Routes are all that clients can ask for, and by which rule.
func Routes() []Route {
	var routes []Route
	for _, t := range (&Server{}).tables() {
		for _, r := range t.routes {
			routes = append(routes, Route{t.api, r.method, r.path, r.rule})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(actions)) {
		routes = append(routes, Route{messagingAPI, name, onWebSocket, actions[name].rule})
	}
	for i := range routes {
		if routes[i].Rule == open {
			routes[i].Rule = ""
		}
	}
	return routes
}
