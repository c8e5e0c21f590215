package main

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newRoot(environ environment) *cobra.Command {
	root := &cobra.Command{
		Use:           "nabu",
		Short:         "Asynchronous operations of an OpenStack cloud, with their history",
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(explainFlag)
	group(root,
		newServe(environ),
		newWorker(environ),
		newMigrate(environ),
		newReplay(environ),
		newEvents(environ),
		newConsumers(environ),
		newKeys(environ),
		newConfig(environ),
		newPolicy(environ),
		newCatalogue(environ),
		newBench(environ),
		newBenchBaseline(environ),
		newVersion(),
	)
	root.SetHelpCommand(newHelp(root))
	return root
}

// newHelp is cobra's own, but that one calls it a success when it knows no such command.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show what a command does, and its flags",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil {
				return misused(err)
			}
			if len(rest) > 0 {
				return unknownCommand(c, rest[0])
			}
			c.InitDefaultHelpFlag()
			return c.Help()
		},
	}
}

// group makes a command that only holds others: alone it shows its help.
func group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.AddCommand(commands...)
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return unknownCommand(c, args[0])
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	return c
}

// unknownCommand refuses a word that names nothing a command holds, and suggests what was meant.
func unknownCommand(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	same := func(name string) string { return name }
	return misused(fmt.Errorf("unknown command %q of %s%s; %[2]s --help shows them all", word, c.CommandPath(), suggestion(word, names, same)))
}

// noArguments refuses any word behind a command's name.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misused(fmt.Errorf("%s takes no arguments, only flags: %q", c.CommandPath(), args[0]))
	}
	return nil
}

// wantArguments wants a word behind a command's name for each of these.
func wantArguments(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error { return checkArguments(c, args, len(names), names...) }
}

// checkArguments looks for the words behind a command's name, of which so many are a must.
func checkArguments(c *cobra.Command, args []string, least int, names ...string) error {
	if len(args) < least {
		return missing(c, names[len(args)])
	}
	if len(args) > len(names) {
		return misused(fmt.Errorf("%q is too much; use: %s", args[len(names)], c.UseLine()))
	}
	return nil
}

// missing refuses a call without something that has no default.
func missing(c *cobra.Command, what string) error {
	return misused(fmt.Errorf("%s is missing; use: %s", what, c.UseLine()))
}

// explainFlag says what a flag must be, and suggests the one that was meant.
func explainFlag(c *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok && strings.HasPrefix(bad.GetFlag().Value.Type(), "int") {
		return misused(fmt.Errorf("--%s must be a whole number, not %q", bad.GetFlag().Name, bad.GetValue()))
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return misused(err)
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	dashed := func(name string) string { return "--" + name }
	return misused(fmt.Errorf("%w%s", err, suggestion(unknown.GetSpecifiedName(), names, dashed)))
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show what was built",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), version())
			return err
		},
	}
}

// described is what git calls the commit. make build has the linker write it, where there is
// git; empty: nobody has said it.
var described string

// version is what make and the Go tools noted about this build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "nabu (unknown build)"
	}
	return versionOf(described, info)
}

func versionOf(described string, info *debug.BuildInfo) string {
	commit := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = " commit " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			commit += " with changes"
		}
	}
	return fmt.Sprintf("nabu %s%s %s", cmp.Or(described, info.Main.Version), commit, info.GoVersion)
}
