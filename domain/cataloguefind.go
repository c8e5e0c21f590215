package domain

import (
	"cmp"
	"slices"
	"strings"
)

// found is what of the catalogue a producer has named.
type found struct {
	eventID, action, detail, resourceType string
}

// find looks up what a producer names.
func (c *Catalogue) find(n NewUserMessage) (f found, err error) {
	if n.EventID != "" {
		return c.findEvent(n)
	}
	its, known := c.actions[n.Action]
	switch {
	case n.Action == "":
		return f, Errorf(Invalid, "action_id, action or event_id is required")
	case !known:
		return f, Errorf(Invalid, "action_id and action must be in the catalogue")
	}
	if f.detail, err = c.findDetail(n); err != nil {
		return f, err
	}
	if f.resourceType, err = its.service.resourceType(n.ResourceType); err != nil {
		return f, err
	}
	f.action = its.ID
	f.eventID = its.service.Name + "_" + f.resourceType + "_" + f.action + "_" + f.detail
	return f, nil
}

// findDetail is the detail that a producer names, or what its exception stands for. Of an
// exception nothing but the name of its class is ever looked at.
func (c *Catalogue) findDetail(n NewUserMessage) (id string, err error) {
	its, known := c.details[n.Detail]
	switch {
	case n.Detail != "" && !known:
		return "", Errorf(Invalid, "detail_id and detail must be in the catalogue")
	case n.Exception != "" && !classForm.MatchString(n.Exception):
		return "", Errorf(Invalid, "exception must be the name of a class, out of letters, _ and .")
	}
	class := n.Exception[strings.LastIndexByte(n.Exception, '.')+1:]
	if mapped, known := c.exceptions[class]; known {
		return mapped, nil
	}
	return cmp.Or(its.ID, unknownDetail), nil
}

// resourceType finds a type of the service in any case; empty: its first one.
func (s CatalogueService) resourceType(asked string) (string, error) {
	if asked == "" {
		return s.ResourceTypes[0], nil
	}
	if upper := strings.ToUpper(asked); slices.Contains(s.ResourceTypes, upper) {
		return upper, nil
	}
	return "", Errorf(Invalid, "resource_type must be one of %s", strings.Join(s.ResourceTypes, ", "))
}

// findEvent looks up an event id in its older form, which stays as it is, or in today's.
func (c *Catalogue) findEvent(n NewUserMessage) (f found, err error) {
	if n.Action != "" || n.Detail != "" || n.Exception != "" {
		return f, Errorf(Invalid, "event_id goes without action, detail and exception")
	}
	if _, older := olderEvent(n.EventID); older {
		f.eventID = n.EventID
		f.resourceType, err = c.services[0].resourceType(n.ResourceType)
		return f, err
	}
	for _, s := range c.services {
		rest, its := strings.CutPrefix(n.EventID, s.Name+"_")
		if len(rest) < len("X_001_001") || !its {
			continue
		}
		ids := rest[len(rest)-len("_001_001"):]
		f = found{n.EventID, ids[1:4], ids[5:], strings.TrimSuffix(rest, ids)}
		act, knownAction := c.actions[f.action]
		_, knownDetail := c.details[f.detail]
		if ids[0] != '_' || ids[4] != '_' || !knownAction || !knownDetail || act.service.Name != s.Name ||
			!slices.Contains(s.ResourceTypes, f.resourceType) {
			continue // another service's name may begin like this one's
		}
		if n.ResourceType != "" && !strings.EqualFold(n.ResourceType, f.resourceType) {
			return f, Errorf(Invalid, "resource_type must be that of event_id")
		}
		return f, nil
	}
	return found{}, Errorf(Invalid, "event_id must be in the catalogue")
}

// Text is what users read: in a language that Languages has, in English as far as it has no
// words for it.
func (c *Catalogue) Text(m UserMessage, language string) string {
	its := c.translations[strings.ToLower(language)]
	if m.ActionID == "" {
		id, _ := olderEvent(m.EventID)
		return cmp.Or(its.Events[id], olderEvents[id], c.detailText(unknownDetail, its))
	}
	text := cmp.Or(its.Actions[m.ActionID], c.actions[m.ActionID].Text, its.UnknownAction, unknownAction)
	detail := m.DetailID
	if _, known := c.details[detail]; !known {
		detail = unknownDetail
	}
	return text + ":" + c.detailText(detail, its)
}

func (c *Catalogue) detailText(id string, its CatalogueTranslation) string {
	return cmp.Or(its.Details[id], c.details[id].Text)
}

// Languages are the tags of the languages that there are texts in, English first.
func (c *Catalogue) Languages() []string {
	languages := []string{}
	for _, t := range c.translations {
		languages = append(languages, t.Language)
	}
	slices.Sort(languages)
	return append([]string{English}, languages...)
}

// Services are those of the catalogue, in the order in which they were added. What they hold is
// the catalogue's own: it is not to be changed.
func (c *Catalogue) Services() []CatalogueService { return slices.Clone(c.services) }
