package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Credentials are what is known of a caller. An empty text is a credential that the
// caller does not have, which is None in the language.
type Credentials struct {
	UserID          string
	UserDomainID    string
	ProjectID       string // tenant_id as well
	ProjectDomainID string
	DomainID        string
	SystemScope     string
	Roles           []string
	// IsAdminProject: the token is of the project of administrators, or there is none.
	IsAdminProject bool
	// The service that passes the user's request on.
	ServiceUserID    string
	ServiceProjectID string
	ServiceRoles     []string
	// Token is what else the token says, as encoding/json reads it.
	Token map[string]any
}

// credentials are the names under which checks find them.
var credentials = []string{
	"user_id", "user_domain_id", "project_id", "tenant_id", "project_domain_id", "domain_id", "system_scope", "roles", "is_admin",
	"is_admin_project", "service_user_id", "service_project_id", "service_roles", "token",
}

// Target is what a caller wants to touch, such as a project_id and a user_id.
type Target []Attribute

// Attribute is one value of a target, as a text.
type Attribute struct{ Key, Value string }

// Allows tells whether a caller may do with the target what the rule is about.
func (r *Rule) Allows(c *Credentials, t Target) bool {
	e := evaluation{policy: r.policy, caller: c, target: t}
	return e.holds(r.root)
}

// IsAdmin tells whether a caller is an administrator, by the rule context_is_admin.
func (p *Policy) IsAdmin(c *Credentials) bool {
	e := evaluation{policy: p, caller: c}
	return e.callerIsAdmin()
}

// evaluation is one question to a policy.
type evaluation struct {
	policy *Policy
	caller *Credentials
	target Target
	self   bool // the caller is the target
	// isAdmin is what is known of the caller so far. While that is being found out, the
	// caller is none, as in OpenStack's services.
	isAdmin, asked bool
}

// callerIsAdmin asks the rule that says so, with the caller's own project as the target,
// as Nova and Cinder do.
func (e *evaluation) callerIsAdmin() bool {
	if !e.asked {
		e.asked, e.self = true, true
		e.isAdmin = e.holds(e.policy.Rule(ruleIsAdmin).root)
		e.self = false
	}
	return e.isAdmin
}

// find looks for a value of the target.
func (e *evaluation) find(key string) (value string, there bool) {
	if e.self {
		switch key {
		case "project_id":
			return e.caller.ProjectID, true
		case "user_id":
			return e.caller.UserID, true
		}
		return "", false
	}
	for i := range e.target {
		if e.target[i].Key == key {
			return e.target[i].Value, true
		}
	}
	return "", false
}

func (e *evaluation) holds(n *node) bool {
	switch n.kind {
	case always:
		return true
	case not:
		return !e.holds(n.parts[0])
	case and:
		for _, part := range n.parts {
			if !e.holds(part) {
				return false
			}
		}
		return true
	case or:
		for _, part := range n.parts {
			if e.holds(part) {
				return true
			}
		}
		return false
	case reference:
		return e.holds(n.rule.root)
	}
	wanted, there := n.text.fill(e)
	if !there {
		return false
	}
	switch n.kind {
	case role:
		return e.hasRole(wanted)
	case literal:
		return wanted == n.literal
	case credential:
		return e.hasCredential(n.path, wanted)
	}
	return false
}

// hasRole compares without regard to case.
func (e *evaluation) hasRole(wanted string) bool {
	for _, its := range e.caller.Roles {
		if sameRole(its, wanted) {
			return true
		}
	}
	return false
}

// sameRole is stricter than strings.EqualFold, for which "ſervice" is "service" too.
func sameRole(a, b string) bool {
	for i := range min(len(a), len(b)) {
		if a[i] >= 0x80 || b[i] >= 0x80 {
			a, b = strings.ToLower(a), strings.ToLower(b)
			return a == b
		}
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c - 'A' + 'a'
	}
	return c
}

// hasCredential follows a path into the credentials and compares what is there.
func (e *evaluation) hasCredential(path []string, wanted string) bool {
	c, below := e.caller, path[1:]
	switch path[0] {
	case "user_id":
		return isText(c.UserID, below, wanted)
	case "user_domain_id":
		return isText(c.UserDomainID, below, wanted)
	case "project_id", "tenant_id":
		return isText(c.ProjectID, below, wanted)
	case "project_domain_id":
		return isText(c.ProjectDomainID, below, wanted)
	case "domain_id":
		return isText(c.DomainID, below, wanted)
	case "system_scope":
		return isText(c.SystemScope, below, wanted)
	case "service_user_id":
		return isText(c.ServiceUserID, below, wanted)
	case "service_project_id":
		return isText(c.ServiceProjectID, below, wanted)
	case "roles":
		return len(below) == 0 && slices.Contains(c.Roles, wanted)
	case "service_roles":
		return len(below) == 0 && slices.Contains(c.ServiceRoles, wanted)
	case "is_admin":
		return len(below) == 0 && isFlag(e.callerIsAdmin(), wanted)
	case "is_admin_project":
		return len(below) == 0 && isFlag(c.IsAdminProject, wanted)
	case "token":
		return matches(c.Token, below, wanted)
	}
	return false
}

// The language compares texts, as Python writes its values.
const (
	textNone  = "None"
	textTrue  = "True"
	textFalse = "False"
)

func isText(its string, below []string, wanted string) bool {
	if its == "" {
		its = textNone
	}
	return len(below) == 0 && its == wanted
}

func isFlag(its bool, wanted string) bool {
	if its {
		return wanted == textTrue
	}
	return wanted == textFalse
}

// matches follows a path into a JSON value. A list matches if any of its items does.
func matches(value any, path []string, wanted string) bool {
	if len(path) > 0 {
		object, isObject := value.(map[string]any)
		value, there := object[path[0]]
		if !isObject || !there {
			return false
		}
		items, isList := value.([]any)
		if !isList {
			return matches(value, path[1:], wanted)
		}
		return slices.ContainsFunc(items, func(item any) bool { return matches(item, path[1:], wanted) })
	}
	switch value := value.(type) {
	case nil:
		return wanted == textNone
	case bool:
		return isFlag(value, wanted)
	case string:
		return value == wanted
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64) == wanted
	case fmt.Stringer: // json.Number
		return value.String() == wanted
	}
	return false
}
