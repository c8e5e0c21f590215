// Package policy tells who may do what, in the language of oslo.policy: rules with
// names, each of them a check of the caller's credentials and of the target, which is
// what the caller wants to touch. nabu's own rules are its defaults; an operator's file
// replaces single ones. What is wrong with a file is found when it is read and never
// later. The package must never reach out: a check that asks another server is refused.
package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Names of rules that mean something to the engine itself.
const (
	ruleDefault = "default"          // stands in for rules that are not there
	ruleIsAdmin = "context_is_admin" // says who is_admin
)

// What a policy may cost.
const (
	maxFile  = 1 << 20 // bytes of a file
	maxCheck = 16384   // bytes of one rule's check
	maxDepth = 100     // of operators within one another, through other rules too
	maxSteps = 10_000  // checks that one rule comes to, with those of the rules it names
)

// Options are what a policy is made of besides the defaults.
type Options struct {
	// File is an operator's rules, YAML or JSON; empty: there are none.
	File []byte
	// LegacyDefaults lets in as well whom the default of an older release let in, in
	// rules that have one and that the file does not replace.
	LegacyDefaults bool
}

// Policy is a set of rules. It does not change, so everybody may use it at once.
type Policy struct {
	rules   map[string]*Rule
	unknown *Rule // stands in for those that are not there
}

// Rule is a check with a name, by which nabu asks for it and other checks refer to it.
type Rule struct {
	Name string
	// Check is what has to hold, as it was written; lists are shown as JSON.
	Check string
	// Known: nabu asks for the rule or has a default for it. Others only help to write
	// those.
	Known bool
	// Line is where the rule stands in the operator's file, from 1; 0: it is a default.
	Line int

	policy   *Policy
	root     *node
	column   int
	measured bool
	// steps and depth are those of its checks and of the rules they name.
	steps, depth int
}

// Error is what is wrong with a rule.
type Error struct {
	Rule         string // empty: it concerns the file
	Line, Column int    // of the rule's check in the file, from 1; 0: unknown
	Character    int    // of the check, from 1; 0: it concerns all of it
	Reason       string
}

func (e *Error) Error() string {
	var text strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&text, "line %d, column %d: ", e.Line, e.Column)
	}
	if e.Rule != "" {
		fmt.Fprintf(&text, "rule %q: ", e.Rule)
	}
	if e.Character > 0 {
		fmt.Fprintf(&text, "character %d: ", e.Character)
	}
	return text.String() + e.Reason
}

// Default is the policy of a nabu whose operator has none.
func Default() *Policy {
	p, err := New(Options{})
	if err != nil {
		panic(err) // a test makes the same
	}
	return p
}

// New makes a policy. It fails with an Error for each rule that is wrong, all joined.
func New(o Options) (*Policy, error) {
	p := &Policy{rules: map[string]*Rule{}}
	for _, d := range defaults {
		p.rules[d.name] = &Rule{Name: d.name, Check: d.text(o.LegacyDefaults), Known: true}
	}
	written, err := readFile(o.File)
	problems := []error{err}
	for _, w := range written {
		known := p.rules[w.name] != nil || w.name == ruleDefault
		p.rules[w.name] = &Rule{Name: w.name, Check: w.text(), Known: known, Line: w.line, column: w.column}
		p.rules[w.name].root, err = w.parse()
		problems = append(problems, p.rules[w.name].complain(err))
	}
	for _, r := range p.rules {
		r.policy = p
		if r.root == nil && r.Line == 0 {
			r.root, err = parse(r.Check)
			problems = append(problems, r.complain(err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return p, p.link()
}

// complain gives an error the place of the rule that it is about.
func (r *Rule) complain(err error) error {
	if its, ok := errors.AsType[*Error](err); ok {
		its.Rule, its.Line, its.Column = r.Name, r.Line, r.column
	}
	return err
}

// Rule finds a rule. For one that is not there the rule "default" stands in, and
// nobody may do anything where that is not there either.
func (p *Policy) Rule(name string) *Rule {
	if r, there := p.rules[name]; there {
		return r
	}
	return p.unknown
}

// Knows tells whether a rule is there by its own name.
func (p *Policy) Knows(name string) bool { return p.rules[name] != nil }

// Rules are all rules, by name.
func (p *Policy) Rules() []*Rule {
	all := make([]*Rule, 0, len(p.rules))
	for _, name := range slices.Sorted(maps.Keys(p.rules)) {
		all = append(all, p.rules[name])
	}
	return all
}

// link gives each check of another rule the rule that it means, and sees to it that
// none leads back to itself or to too much work.
func (p *Policy) link() error {
	p.unknown = p.rules[ruleDefault]
	if p.unknown == nil {
		p.unknown = &Rule{Name: ruleDefault, Check: "!", policy: p, root: &node{kind: never}}
	}
	for _, r := range p.rules {
		for n := range r.root.references() {
			n.rule = p.Rule(n.text.plain)
		}
	}
	var m measuring
	for _, r := range p.Rules() {
		if err := m.measure(r); err != nil {
			return err
		}
	}
	return nil
}

// measuring finds out what each rule comes to.
type measuring struct {
	under []*Rule // those whose checks are looked at, each named by the one before
}

func (m *measuring) measure(r *Rule) error {
	if r.measured {
		return nil
	}
	if at := slices.Index(m.under, r); at >= 0 {
		var names strings.Builder
		for _, rule := range m.under[at:] {
			names.WriteString(rule.Name + " -> ")
		}
		return r.complain(&Error{Reason: "leads back to itself: " + names.String() + r.Name})
	}
	m.under = append(m.under, r)
	if len(m.under) <= maxDepth {
		for n := range r.root.references() {
			if err := m.measure(n.rule); err != nil {
				return err
			}
		}
	}
	m.under = m.under[:len(m.under)-1]
	if r.steps, r.depth = r.root.size(); r.steps > maxSteps || r.depth > maxDepth || len(m.under) >= maxDepth {
		return r.complain(&Error{Reason: fmt.Sprintf(
			"asks for too much: with the rules that it names, there may be %d checks, %d within one another", maxSteps, maxDepth)})
	}
	r.measured = true
	return nil
}

// Warnings tell what is allowed in the operator's rules and can hardly be meant. similar
// says at their end which of the names there are is like one that is not; nil: nothing does.
func (p *Policy) Warnings(similar func(name string, known []string) string) []string {
	if similar == nil {
		similar = func(string, []string) string { return "" }
	}
	var there, asked []string // names of rules: all, and those that nabu knows
	for _, r := range p.Rules() {
		there = append(there, r.Name)
		if r.Known {
			asked = append(asked, r.Name)
		}
	}
	named := map[*Rule]bool{}
	var warnings []string
	for _, r := range p.Rules() {
		for n := range r.root.references() {
			named[n.rule] = true
			if !p.Knows(n.text.plain) {
				warnings = append(warnings, fmt.Sprintf("rule %q names the rule %q, which is not there: %q stands in (%s)%s",
					r.Name, n.text.plain, ruleDefault, p.unknown.Check, similar(n.text.plain, there)))
			}
		}
		for n := range r.root.all() {
			if n.kind == credential && !slices.Contains(credentials, n.path[0]) {
				warnings = append(warnings, fmt.Sprintf("rule %q asks for the credential %q, which nobody has", r.Name, n.path[0]))
			}
		}
	}
	for _, r := range p.Rules() {
		if !r.Known && !named[r] {
			warnings = append(warnings, fmt.Sprintf("rule %q is never asked for%s", r.Name, similar(r.Name, asked)))
		}
	}
	return warnings
}
