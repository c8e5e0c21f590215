package main

import (
	"fmt"
	"strings"

	"nabu/domain"
)

// serverText is what an event about a server says.
func serverText(event domain.Event) string {
	switch e := event.(type) {
	case domain.ServerAssigned:
		return whereaboutsText(e.Whereabouts)
	case domain.ServerUnassigned:
		return whereaboutsText(e.Whereabouts)
	case domain.ServerObservationIgnored:
		return whereaboutsText(e.Whereabouts) + ", older than " + e.Known.Format("2006-01-02 15:04:05.000000")
	case domain.ExternalEventsAccepted:
		to := "forwarded for " + hostsText(e.Hosts)
		if !e.Forward {
			to = "to " + hostsText(e.Hosts)
		}
		parts := make([]string, len(e.Events))
		for i, its := range e.Events {
			parts[i] = externalText(its.ID, its.Name, its.Tag) + idsBehind(its.Copies)
		}
		return to + ": " + strings.Join(parts, ", ")
	case domain.ExternalEventsRejected:
		parts := make([]string, len(e.Events))
		for i, its := range e.Events {
			parts[i] = fmt.Sprintf("%d %s", its.Code, externalText(its.ID, its.Name, its.Tag))
		}
		return strings.Join(parts, ", ")
	case domain.ExternalEventsForwarded:
		parts := make([]string, len(e.Events))
		for i, its := range e.Events {
			parts[i] = fmt.Sprintf("%d %s", its.Code, its.ID)
		}
		return fmt.Sprintf("answered %d: %s %s", e.Status, strings.Join(parts, ", "), e.Error)
	}
	return ""
}

func whereaboutsText(w domain.Whereabouts) string {
	if hosts := w.Hosts(); len(hosts) > 0 {
		return "on " + hostsText(hosts)
	}
	return "on no host"
}

func hostsText(hosts []domain.ServerHost) string {
	parts := make([]string, len(hosts))
	for i, its := range hosts {
		parts[i] = its.Host + " (" + string(its.Role) + ")"
	}
	return strings.Join(parts, ", ")
}

func externalText(id, name string, tag *string) string {
	if tag != nil {
		name += " " + *tag
	}
	return name + " " + id
}

func idsBehind(copies []domain.MessageID) string {
	if len(copies) == 0 {
		return ""
	}
	parts := make([]string, len(copies))
	for i, id := range copies {
		parts[i] = id.String()
	}
	return " as " + strings.Join(parts, " and ")
}
