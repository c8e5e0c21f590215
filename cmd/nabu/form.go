package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

// form is how a command shows what it found: as a table or as JSON.
type form string

const (
	asTable form = "table"
	asJSON  form = "json"
)

// addForm gives a command the flag -o.
func addForm(flags *pflag.FlagSet) *form {
	f := asTable
	flags.VarP(&f, "output", "o", "table or json")
	return &f
}

func (f *form) String() string { return string(*f) }

// Type is what the help calls the flag's value.
func (f *form) Type() string { return "form" }

// Set reads the flag's value.
func (f *form) Set(text string) error {
	if err := oneOf(string(asTable), string(asJSON))(text); err != nil {
		return err
	}
	*f = form(text)
	return nil
}

func writeJSON(out io.Writer, value any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

func writeTable(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
