package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nabu/http"
	"nabu/internal/policy"
)

// usualPolicy is the policy's file when nobody names one, as OpenStack's services have it.
const usualPolicy = "policy.yaml"

// readPolicy reads who may do what. folder is that of the file of the settings. Afterwards
// PolicyFile is the file that was read; empty: there is none.
func (c *config) readPolicy(folder string) error {
	file, err := c.findPolicy(folder)
	if err != nil {
		return fmt.Errorf("policy_file: %w", err)
	}
	if err := c.takePolicy(file); err != nil {
		return fmt.Errorf("policy_file: %w", err)
	}
	return nil
}

// takePolicy reads a policy's file. An empty name: there is none.
func (c *config) takePolicy(file string) (err error) {
	o := policy.Options{LegacyDefaults: c.LegacyDefaults}
	if file != "" {
		if o.File, err = os.ReadFile(file); err != nil {
			return err
		}
	}
	if c.policy, err = policy.New(o); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	c.PolicyFile = file
	return nil
}

// findPolicy looks for the usual file beside that of the settings where none is named.
func (c *config) findPolicy(folder string) (string, error) {
	if c.PolicyFile != "" {
		return c.PolicyFile, nil
	}
	beside, err := whole(folder, usualPolicy)
	if err != nil {
		return "", err
	}
	_, err = os.Stat(beside)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return beside, err
}

func newPolicy(environ environment) *cobra.Command {
	return group(&cobra.Command{Use: "policy", Short: "Look at who may do what"}, newPolicyShow(environ), newPolicyCheck(environ))
}

func newPolicyShow(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Show what clients can ask for, by which rule, and what that rule checks",
		Long: `Show what clients can ask for, by which rule of the policy, what that rule checks, and the
line of the policy's file that says so. Rules that stand alone at the end are named by others; of
those with "none yet" no API asks for them yet.`,
		Args: noArguments,
	}
	form := addForm(c.Flags())
	addSettings(c, policyFiles...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, _, err := loadConfig(c.Flags(), environ)
		if err != nil {
			return err
		}
		return writePolicy(c.OutOrStdout(), *form, cfg.policy)
	}
	return c
}

// shownRule is a line of the policy: something that clients can ask for, or a rule alone.
type shownRule struct {
	API    string `json:"api,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Rule   string `json:"rule,omitempty"` // empty: there is none, everybody may
	Check  string `json:"check"`
	Line   int    `json:"line,omitempty"`  // of the file; 0: it is the default
	Later  bool   `json:"later,omitempty"` // no API asks for it yet
}

func writePolicy(out io.Writer, f form, p *policy.Policy) error {
	var shown []shownRule
	for _, r := range http.Routes() {
		one := shownRule{API: r.API, Method: r.Method, Path: r.Path, Rule: r.Rule}
		if r.Rule != "" {
			one.Check, one.Line = p.Rule(r.Rule).Check, p.Rule(r.Rule).Line
		}
		shown = append(shown, one)
	}
	for _, r := range p.Rules() {
		if !slices.ContainsFunc(shown, func(s shownRule) bool { return s.Rule == r.Name }) {
			shown = append(shown, shownRule{Rule: r.Name, Check: r.Check, Line: r.Line, Later: isForLater(r)})
		}
	}
	if f == asJSON {
		return writeJSON(out, shown)
	}
	rows := [][]string{{"api", "method", "path", "rule", "check", "from"}}
	for _, s := range shown {
		rows = append(rows, s.row())
	}
	return writeTable(out, rows)
}

func (s shownRule) row() []string {
	check, from := strings.Join(strings.Fields(s.Check), " "), "default"
	switch {
	case s.Rule == "":
		check, from = "", ""
	case s.Line > 0:
		from = fmt.Sprintf("line %d", s.Line)
	}
	if check == "" && s.Rule != "" {
		check = `""`
	}
	if s.Later {
		s.API = "none yet"
	}
	row := []string{s.API, s.Method, s.Path, s.Rule, check, from}
	for i := range row {
		if row[i] == "" {
			row[i] = "-"
		}
	}
	return row
}

func newPolicyCheck(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the policy's file, or another one before it is taken",
		Long: `Check the policy's file, or another one before it is taken. What nabu would refuse at its start
is an error, with the rule and the place. What can hardly be meant is only told.`,
		Args: noArguments,
	}
	file := c.Flags().String("file", "", "check this file instead of policy_file")
	strict := c.Flags().Bool("strict", false, "end with code 1 if there are warnings")
	form := addForm(c.Flags())
	addSettings(c, policyFiles...)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *file != "" { // the one that it is to replace may be wrong, and is not looked at
			if err := c.Flags().Set("policy-file", os.DevNull); err != nil {
				return err
			}
		}
		cfg, _, err := loadConfig(c.Flags(), environ)
		if err != nil {
			return err
		}
		if *file != "" {
			path, err := filepath.Abs(*file)
			if err != nil {
				return err
			}
			if err := cfg.takePolicy(path); err != nil {
				return misconfigured(fmt.Errorf("--file: %w", err))
			}
		}
		v := judge(cfg.PolicyFile, cfg.policy)
		if err := v.write(c.OutOrStdout(), *form); err != nil {
			return err
		}
		if *strict && len(v.Warnings) > 0 {
			return fmt.Errorf("the policy's file has %s", count(len(v.Warnings), "warning"))
		}
		return nil
	}
	return c
}

// policyVerdict is what can be said of a policy's file that nabu takes.
type policyVerdict struct {
	File     string   `json:"file"`  // empty: there is none
	Rules    int      `json:"rules"` // that the file has
	Asked    int      `json:"asked"` // of these nabu's APIs ask for
	Warnings []string `json:"warnings"`
}

// isAsked tells whether something that clients can ask for obeys the rule.
func isAsked(rule string) bool {
	return slices.ContainsFunc(http.Routes(), func(r http.Route) bool { return r.Rule == rule })
}

// isForLater tells whether the rule belongs to an API that nabu does not have yet. Rules
// that others name have no colon.
func isForLater(r *policy.Rule) bool {
	return r.Known && strings.Contains(r.Name, ":") && !isAsked(r.Name)
}

// judge says what can be said of a file. An empty name: there is none.
func judge(file string, p *policy.Policy) policyVerdict {
	v := policyVerdict{File: file, Warnings: append([]string{}, p.Warnings(similar)...)}
	for _, r := range p.Rules() {
		if r.Line > 0 {
			v.Rules++
			if isAsked(r.Name) {
				v.Asked++
			}
			if isForLater(r) {
				v.Warnings = append(v.Warnings, fmt.Sprintf("no API asks for rule %q yet", r.Name))
			}
		}
	}
	return v
}

// similar is what is said of a rule's name that comes near to one that there is.
func similar(name string, known []string) string {
	return suggestion(name, known, func(name string) string { return fmt.Sprintf("%q", name) })
}

func (v policyVerdict) write(out io.Writer, f form) error {
	if f == asJSON {
		return writeJSON(out, v)
	}
	text := "there is no file: the defaults hold"
	if v.File != "" {
		text = fmt.Sprintf("%s: %s, of which APIs ask for %d", v.File, count(v.Rules, "rule"), v.Asked)
	}
	for _, warning := range v.Warnings {
		text += "\nwarning: " + warning
	}
	_, err := fmt.Fprintln(out, text)
	return err
}
