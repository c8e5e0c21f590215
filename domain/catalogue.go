package domain

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// The catalogue that nabu ships: Cinder's letter by letter, that of the tasks of images, and
// what both are called in other languages.
//
//go:embed catalogue/*.json
var shippedCatalogue embed.FS

// English is the language of the texts that the entries themselves have.
const English = "en"

// CatalogueFile is a part of a catalogue: what it adds to the parts before it.
type CatalogueFile struct {
	Services     []CatalogueService     `json:"services"`
	Translations []CatalogueTranslation `json:"translations"`
}

// CatalogueService is what a service can tell users. Its name begins the event ids.
type CatalogueService struct {
	Name          string            `json:"name"`
	ResourceTypes []string          `json:"resource_types"` // the first one by default
	Actions       []CatalogueEntry  `json:"actions"`
	Details       []CatalogueEntry  `json:"details"`
	Exceptions    map[string]string `json:"exceptions"` // ids of details, by the names of classes
}

// CatalogueEntry is an action or a detail.
type CatalogueEntry struct {
	ID   string `json:"id"` // three digits, unlike those of any other service
	Name string `json:"name"`
	Text string `json:"text"` // in English
}

// CatalogueTranslation are the texts of a language, by ids. What is missing is in English.
type CatalogueTranslation struct {
	Language      string            `json:"language"` // such as de, or pt-BR
	Actions       map[string]string `json:"actions"`
	Details       map[string]string `json:"details"`
	Events        map[string]string `json:"events"` // of the older event ids
	UnknownAction string            `json:"unknown_action"`
}

// Catalogue is everything that users can be told. It does not change once it is made.
type Catalogue struct {
	services     []CatalogueService
	actions      map[string]action // by id and by name
	details      map[string]CatalogueEntry
	exceptions   map[string]string
	translations map[string]CatalogueTranslation // by language in lower case
}

type action struct {
	CatalogueEntry
	service CatalogueService
}

// What is said where the catalogue has nothing.
const (
	unknownAction = "unknown action"
	unknownDetail = "001"
)

// olderEvents are the texts of the event ids that were in use until Pike. Before Ocata they
// had no prefix, and the last one did not exist.
var olderEvents = map[string]string{
	"VOLUME_000001": "An unknown error occurred.",
	"VOLUME_000002": "No storage could be allocated for this volume request. You may be able to try another size or volume type.",
	"VOLUME_000003": "A readonly volume must be attached as readonly.",
	"VOLUME_000004": "Failed to copy volume to image as image quota has been met. Please delete images or have your limit increased, then try again.",
	"VOLUME_000005": "Unmanaging encrypted volumes is not supported.",
}

const newestOlderEvent = "VOLUME_000005"

// olderEvent is an older event id with its prefix.
func olderEvent(id string) (prefixed string, known bool) {
	if prefixed = id; !strings.HasPrefix(id, "VOLUME_") {
		prefixed = "VOLUME_" + id
	}
	_, known = olderEvents[prefixed]
	return prefixed, known && (id == prefixed || prefixed != newestOlderEvent)
}

// DefaultCatalogue is the one that nabu ships.
var DefaultCatalogue = sync.OnceValue(func() *Catalogue {
	c, err := NewCatalogue()
	if err != nil {
		panic(err) // embedded at build time
	}
	return c
})

// NewCatalogue is what nabu ships and what an operator adds to it, in order.
func NewCatalogue(more ...CatalogueFile) (*Catalogue, error) {
	c := &Catalogue{
		actions: map[string]action{}, details: map[string]CatalogueEntry{}, exceptions: map[string]string{},
		translations: map[string]CatalogueTranslation{},
	}
	for _, name := range []string{"volume", "image", "de"} {
		text, err := shippedCatalogue.ReadFile("catalogue/" + name + ".json")
		if err != nil {
			return nil, err
		}
		file, err := ParseCatalogue(text)
		if err != nil {
			return nil, err
		}
		if err := c.add(file, anyEntryID); err != nil {
			return nil, err
		}
	}
	for _, file := range more {
		if err := c.add(file, ownEntryID); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ParseCatalogue reads a part of a catalogue. It refuses members that it does not know.
func ParseCatalogue(text []byte) (f CatalogueFile, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err = dec.Decode(&f)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return f, fmt.Errorf("%s must be %s, not a %s", cmp.Or(wrong.Field, "the file"), kindOf(wrong.Type), kindNames[wrong.Value])
	}
	if err != nil {
		return f, err
	}
	if dec.More() {
		return f, errors.New("there is text behind the end")
	}
	return f, nil
}

// kindOf is what a member of a catalogue has to be, in words for who writes one.
func kindOf(member reflect.Type) string {
	switch member.Kind() {
	case reflect.String:
		return "a text in quotation marks"
	case reflect.Slice:
		return "a list"
	}
	return "a group"
}

// kindNames are what those who write YAML call the kinds of JSON.
var kindNames = map[string]string{
	"number": "number", "string": "text", "bool": "truth value", "array": "list", "object": "group",
}

var (
	anyEntryID   = regexp.MustCompile(`^[01][0-9]{2}$`)
	ownEntryID   = regexp.MustCompile(`^1[0-9]{2}$`)
	capitals     = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
	languageForm = regexp.MustCompile(`^[a-z]{2,3}(-[a-z0-9]{2,8})*$`)
	classForm    = regexp.MustCompile(`^[A-Za-z_.]+$`)
)

func (c *Catalogue) add(f CatalogueFile, ids *regexp.Regexp) error {
	for _, service := range f.Services {
		if err := c.addService(service, ids); err != nil {
			return fmt.Errorf("service %q: %w", service.Name, err)
		}
	}
	for _, t := range f.Translations {
		if err := c.addTranslation(t); err != nil {
			return fmt.Errorf("language %q: %w", t.Language, err)
		}
	}
	return nil
}

func (c *Catalogue) addService(s CatalogueService, ids *regexp.Regexp) error {
	if !capitals.MatchString(s.Name) || slices.ContainsFunc(c.services, func(other CatalogueService) bool { return other.Name == s.Name }) {
		return errors.New("the name must be in capitals, and that of no other service")
	}
	if len(s.ResourceTypes) == 0 || len(s.Actions) == 0 {
		return errors.New("there must be at least one of resource_types and one of actions")
	}
	for _, its := range s.ResourceTypes {
		if !capitals.MatchString(its) || len(its) > MaxResourceType {
			return fmt.Errorf("resource type %q must be in capitals and have at most %d characters", its, MaxResourceType)
		}
	}
	for _, its := range s.Actions {
		if err := checkNew("action", its, c.actions, ids); err != nil {
			return err
		}
		c.actions[its.ID], c.actions[its.Name] = action{its, s}, action{its, s}
	}
	for _, its := range s.Details {
		if err := checkNew("detail", its, c.details, ids); err != nil {
			return err
		}
		c.details[its.ID], c.details[its.Name] = its, its
	}
	for class, detail := range s.Exceptions {
		its, known := c.details[detail]
		_, taken := c.exceptions[class]
		if !known || taken || !classForm.MatchString(class) || strings.Contains(class, ".") {
			return fmt.Errorf("exception %q must be the name of a class that is not there already, and lead to a detail", class)
		}
		c.exceptions[class] = its.ID
	}
	c.services = append(c.services, s)
	return nil
}

// checkNew refuses an entry whose id or name another has, and one that cannot be.
func checkNew[E any](kind string, its CatalogueEntry, others map[string]E, ids *regexp.Regexp) error {
	for _, key := range []string{its.ID, its.Name} {
		if _, taken := others[key]; taken {
			return fmt.Errorf("%s %s is there already", kind, key)
		}
	}
	if err := its.check(ids); err != nil {
		return fmt.Errorf("%s %s: %w", kind, its.ID, err)
	}
	return nil
}

// check refuses an entry that cannot be.
func (e CatalogueEntry) check(ids *regexp.Regexp) error {
	switch {
	case ids == ownEntryID && !ids.MatchString(e.ID):
		return errors.New("the id must be a text from 100 to 199")
	case !ids.MatchString(e.ID):
		return errors.New("the id must have three digits")
	case !capitals.MatchString(e.Name):
		return fmt.Errorf("the name %q must be in capitals", e.Name)
	case strings.TrimSpace(e.Text) == "":
		return errors.New("the text must not be empty")
	}
	return nil
}

func (c *Catalogue) addTranslation(t CatalogueTranslation) error {
	language := strings.ToLower(t.Language)
	if !languageForm.MatchString(language) || language == English {
		return errors.New("the language must be a tag such as de or pt-BR, and not English")
	}
	its, there := c.translations[language]
	if !there {
		its = CatalogueTranslation{Language: t.Language, Actions: map[string]string{}, Details: map[string]string{}, Events: map[string]string{}}
	}
	for id, text := range t.Actions {
		if entry, known := c.actions[id]; !known || entry.ID != id {
			return fmt.Errorf("there is no action %s", id)
		}
		its.Actions[id] = text
	}
	for id, text := range t.Details {
		if entry, known := c.details[id]; !known || entry.ID != id {
			return fmt.Errorf("there is no detail %s", id)
		}
		its.Details[id] = text
	}
	for id, text := range t.Events {
		if _, known := olderEvents[id]; !known {
			return fmt.Errorf("there is no event %s", id)
		}
		its.Events[id] = text
	}
	if t.UnknownAction != "" {
		its.UnknownAction = t.UnknownAction
	}
	c.translations[language] = its
	return nil
}
