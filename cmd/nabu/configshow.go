package main

import (
	"io"

	"github.com/spf13/cobra"
)

func newConfig(environ environment) *cobra.Command {
	return group(&cobra.Command{Use: "config", Short: "Look at the settings"}, newConfigShow(environ))
}

func newConfigShow(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Show each setting's value, without passwords",
		Args:  noArguments,
	}
	withSources := c.Flags().Bool("sources", false, "also show where each value comes from")
	form := addForm(c.Flags())
	addSettings(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, from, err := loadConfig(c.Flags(), environ)
		if err != nil {
			return err
		}
		return showConfig(c.OutOrStdout(), *form, cfg, from, *withSources)
	}
	return c
}

// shownSetting is a setting as the command shows it.
type shownSetting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source,omitempty"`
}

func showConfig(out io.Writer, f form, cfg config, from sources, withSources bool) error {
	var shown []shownSetting
	var rows [][]string
	for _, s := range settings {
		one := shownSetting{Key: s.key, Value: s.show(&cfg)}
		row := []string{one.Key, one.Value}
		if withSources {
			one.Source = from[s.key]
			row = append(row, one.Source)
		}
		shown, rows = append(shown, one), append(rows, row)
	}
	if f == asJSON {
		return writeJSON(out, shown)
	}
	return writeTable(out, rows)
}
