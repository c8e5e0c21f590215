package http

import (
	"slices"
	"strings"
)

// policy is who may do what.
var policy = map[string]func(Caller) bool{
	"queues:get_all":       anybody,
	"queues:create":        anybody,
	"queues:get":           anybody,
	"queues:update":        anybody,
	"queues:delete":        anybody,
	"queues:stats":         anybody,
	"queues:purge":         anybody,
	"queues:share":         anybody,
	"messages:get_all":     anybody,
	"messages:create":      anybody,
	"messages:get":         anybody,
	"messages:delete":      anybody,
	"messages:delete_all":  anybody,
	"claims:create":        anybody,
	"claims:get":           anybody,
	"claims:update":        anybody,
	"claims:delete":        anybody,
	"subscription:get_all": anybody,
	"subscription:create":  anybody,
	"subscription:get":     anybody,
	"subscription:update":  anybody,
	"subscription:delete":  anybody,
	"subscription:confirm": anybody,
	"ping:get":             anybody,
	"health:get":           hasRole("admin"),
}

// check is the policy's check for a rule. Routes without a rule are open, and a rule
// that is not listed lets nobody in.
func check(rule string) func(Caller) bool {
	if rule == "" {
		return anybody
	}
	if allowed, listed := policy[rule]; listed {
		return allowed
	}
	return func(Caller) bool { return false }
}

// anybody of a project: its data is separated from others' by the project itself.
func anybody(Caller) bool { return true }

// hasRole compares as Keystone does, without regard to case.
func hasRole(role string) func(Caller) bool {
	return func(c Caller) bool {
		return slices.ContainsFunc(c.Roles, func(its string) bool { return strings.EqualFold(strings.TrimSpace(its), role) })
	}
}
