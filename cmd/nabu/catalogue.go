package main

import (
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nabu/domain"
)

func newCatalogue(environ environment) *cobra.Command {
	return group(&cobra.Command{Use: "catalogue", Short: "Look at what user messages can say"}, newCatalogueShow(environ))
}

func newCatalogueShow(environ environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the actions, details and exceptions that user messages can name",
		Long: `Show what user messages can name, with the words that users read in English: what nabu ships and
what user_message_catalogue adds. Names do as well as ids. An exception stands for the detail with its id.
As JSON it has the form of the setting's file.`,
		Args: noArguments,
	}
	form := addForm(c.Flags())
	addSettings(c, "user_message_catalogue")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, _, err := loadConfig(c.Flags(), environ)
		if err != nil {
			return err
		}
		return writeCatalogue(c.OutOrStdout(), *form, cfg.Volumes.rules.Catalogue.Services())
	}
	return c
}

func writeCatalogue(out io.Writer, f form, services []domain.CatalogueService) error {
	if f == asJSON {
		return writeJSON(out, map[string]any{"services": services})
	}
	rows := [][]string{{"service", "what", "id", "name", "text"}}
	for _, s := range services {
		rows = append(rows, []string{s.Name, "resource types", "-", strings.Join(s.ResourceTypes, ", "), "-"})
		for _, its := range s.Actions {
			rows = append(rows, []string{s.Name, "action", its.ID, its.Name, its.Text})
		}
		for _, its := range s.Details {
			rows = append(rows, []string{s.Name, "detail", its.ID, its.Name, its.Text})
		}
		for _, class := range slices.Sorted(maps.Keys(s.Exceptions)) {
			rows = append(rows, []string{s.Name, "exception", s.Exceptions[class], class, "-"})
		}
	}
	return writeTable(out, rows)
}
