package http

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// userMessagePage is a page of user messages as clients see it.
type userMessagePage struct {
	Messages []userMessageBody
	Links    []userMessageLink `json:"messages_links"`
}

func (a *api) userMessagesAt(path string, headers ...string) userMessagePage {
	a.Helper()
	var page userMessagePage
	a.volume("GET", path, ``, 200, headers...).into(&page)
	return page
}

// named are the messages by the names that a test has for their ids.
func (p userMessagePage) named(names map[string]string) string {
	var all []string
	for _, m := range p.Messages {
		all = append(all, names[m.ID])
	}
	return strings.Join(all, " ")
}

const (
	firstVolume  = "f292cc0c-54a7-4b3b-8174-d2ff82d87008"
	secondVolume = "0b1e5c9a-7c1d-4e0f-9a2b-3c4d5e6f7a8b"
	itsRequest   = "req-936666d2-4c8f-4e41-9ac9-237b43f8b848"
	itsCallers   = "req-2c7e64ad-04b3-4cd3-8f54-10e2fd0d9f4b"
)

// tellFour records four messages in two projects, a second apart: a, b and c for a1, d for b2.
func (a *api) tellFour() (names map[string]string, ids map[string]string) {
	a.Helper()
	names, ids = map[string]string{}, map[string]string{}
	for _, m := range []struct{ name, project, message string }{
		{"a", "a1", `{"action_id": "001", "detail_id": "003", "resource_uuid": "` + firstVolume + `", "request_id": "` + itsRequest + `", "global_request_id": "` + itsCallers + `"}`},
		{"b", "a1", `{"action_id": "009", "resource_type": "VOLUME_SNAPSHOT", "resource_uuid": "` + secondVolume + `", "message_level": "WARNING"}`},
		{"c", "a1", `{"action_id": "001", "resource_uuid": "` + firstVolume + `"}`},
		{"d", "b2", `{"action_id": "013", "resource_type": "VOLUME_BACKUP", "message_level": "INFO"}`},
	} {
		id := a.tells(m.project, m.message)
		names[id], ids[m.name] = m.name, id
		a.advance(time.Second)
	}
	return names, ids
}

var asMember = []string{"X-Roles", "member,reader"}

// The rows of the contract's table of what lists take, by microversion.
func TestListUserMessages(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	names, ids := a.tellFour()
	type asked struct{ version, query string }
	for its, want := range map[asked]string{
		{"3.3", ""}: "d c b a", {"3.4", "limit=1&resource_type=VOLUME_BACKUP&sort=x&marker=x&x=y"}: "d c b a",
		{"3.5", ""}: "d c b a", {"3.71", ""}: "d c b a",
		{"3.5", "limit=2"}: "d c", {"3.5", "limit=0"}: "", {"3.5", "limit=99999999999999999999"}: "d c b a", {"3.5", "limit=%202"}: "d c",
		{"3.5", "offset=1&limit=2"}: "c b", {"3.5", "offset=9"}: "", {"3.5", "offset=2147483647"}: "",
		{"3.5", "marker=" + ids["c"]}: "b a", {"3.5", "marker=" + ids["a"]}: "", {"3.5", "marker=" + ids["d"] + "&offset=1"}: "b a",
		{"3.5", "sort_dir=asc"}: "a b c d", {"3.5", "sort_key=id"}: strings.Join(sortedNames(names, true), " "),
		{"3.5", "sort=id:asc"}:                                               strings.Join(sortedNames(names, false), " "),
		{"3.5", "sort=resource_type"}:                                        "b d c a",
		{"3.5", "sort=resource_type:asc"}:                                    "a c d b",
		{"3.5", "sort=resource_type:asc,created_at:desc"}:                    "c a d b",
		{"3.5", "sort=message_level:asc,resource_type:desc"}:                 "a c d b",
		{"3.5", "sort=message_level,created_at:asc"}:                         "b d a c",
		{"3.5", "sort=%20resource_uuid%20:%20asc%20,%20id"}:                  "d b" + pair(ids, names, " c a", " a c"),
		{"3.5", "sort=project_id:asc,event_id:asc"}:                          "c a b d",
		{"3.5", "sort=deleted,updated_at,created_at:asc"}:                    "a b c d",
		{"3.5", "sort=expires_at:asc"}:                                       "a b c d",
		{"3.5", "sort=action_id:asc,detail_id:asc,request_id"}:               "c a b d",
		{"3.5", "sort=resource_type:asc,created_at:desc&marker=" + ids["c"]}: "a d b",
		{"3.5", "sort=resource_type:asc,created_at:desc&marker=" + ids["a"]}: "d b",
		{"3.5", "sort=resource_type:asc&marker=" + ids["c"]}:                 "d b",

		{"3.5", "resource_uuid=" + firstVolume}: "c a", {"3.5", "resource_uuid=" + strings.ToUpper(firstVolume)}: "c a",
		{"3.5", "resource_type=volume_snapshot"}: "b", {"3.71", "resource_type=Volume"}: "c a", {"3.5", "message_level=WARNING"}: "b",
		{"3.5", "event_id=VOLUME_VOLUME_001_003"}: "a", {"3.5", "request_id=" + itsRequest}: "a", {"3.5", "request_id=" + itsCallers}: "a",
		{"3.5", "request_id="}: "", {"3.5", "resource_uuid="}: "", {"3.5", "message_level=%00"}: "", {"3.5", "message_level=%ff"}: "",
		{"3.5", "resource_type=VOLUME&event_id=VOLUME_VOLUME_001_001"}: "c",
		{"3.5", "message_level=INFO&message_level=WARNING"}:            "b",
		{"3.5", "nothing=x"}: "", {"3.5", "all_tenants=1"}: "", {"3.71", "nothing=x"}: "", {"3.5", "resource_uuid~=f292"}: "", {"3.33", "resource_uuid~=f292"}: "",
		{"3.5", "id=" + ids["b"]}: "b", {"3.5", "id=x"}: "", {"3.5", "project_id=b2"}: "d", {"3.71", "project_id=a1&limit=2"}: "c b",
		{"3.5", "action_id=009"}: "b", {"3.5", "detail_id=003"}: "a", {"3.5", "deleted=False"}: "d c b a", {"3.5", "deleted=True"}: "", {"3.5", "deleted_at=x"}: "",
		{"3.5", "created_at=2026-03-01T10:00:01"}: "b", {"3.60", "created_at=2026-03-01T10:00:01.000000"}: "b", {"3.60", "created_at=gt:2026-03-01"}: "",
		{"3.5", "expires_at=2026-03-31%2010:00:00"}: "a", {"3.5", "guaranteed_until=2026-03-31T10:00:00"}: "",

		{"3.34", "resource_uuid~=f292"}: "c a", {"3.34", "resource_uuid~=F292CC"}: "c a", {"3.34", "resource_type~=snap"}: "b", {"3.34", "event_id~=_001_"}: "c a",
		{"3.34", "event_id~=%25"}: "", {"3.34", "event_id~=_003"}: "a", {"3.34", "request_id~=936666d2"}: "a", {"3.34", "request_id~=2c7e64ad"}: "a",
		{"3.34", "project_id~=b"}: "d", {"3.34", "created_at~=10:00:02"}: "c", {"3.34", "nothing~=x"}: "", {"3.34", "id~=" + ids["b"][:30]}: "b",
	} {
		path := "/v3/messages?" + its.query
		if got := a.userMessagesAt(path, "OpenStack-API-Version", "volume "+its.version).named(names); got != want {
			t.Errorf("%s with %s: %q, want %q", path, its.version, got, want)
		}
	}
}

// sortedNames are the names in the order of the ids.
func sortedNames(names map[string]string, descending bool) (sorted []string) {
	for id := range names {
		sorted = append(sorted, id)
	}
	slices.Sort(sorted)
	if descending {
		slices.Reverse(sorted)
	}
	for i, id := range sorted {
		sorted[i] = names[id]
	}
	return sorted
}

// pair is one of two texts: by whether c's id is behind a's.
func pair(ids, _ map[string]string, after, before string) string {
	if ids["c"] > ids["a"] {
		return after
	}
	return before
}

// Who is no administrator sees the own project, and may filter by less.
func TestListUserMessagesOfOneProject(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	names, ids := a.tellFour()
	for _, path := range []string{"/v3/a1/messages", "/v3/messages", "/volume/v3/a1/messages", "/v3/messages?all_tenants=1", "/v3/messages?limit=3"} {
		if got := a.userMessagesAt(path, asMember...).named(names); got != "c b a" {
			t.Errorf("%s: %q", path, got)
		}
	}
	for _, version := range []string{"3.3", "3.5"} {
		if got := a.userMessagesAt("/v3/messages", append(asMember, "OpenStack-API-Version", "volume "+version)...).named(names); got != "c b a" {
			t.Errorf("with %s: %q", version, got)
		}
	}
	for query, want := range map[string]string{
		"project_id=b2": "", "action_id=009": "b", "project_id=a1&limit=1": "c", "all_tenants=1": "",
	} {
		if got := a.userMessagesAt("/v3/messages?"+query, append(asMember, "OpenStack-API-Version", "volume 3.30")...).named(names); got != want {
			t.Errorf("%s below 3.31: %q, want %q", query, got, want)
		}
	}
	for query, message := range map[string]string{
		"project_id=a1": "Invalid filters project_id are found in query options.",
		"action_id=1&resource_type=x&project_id=": "Invalid filters action_id,project_id are found in query options.",
		"all_tenants=1&id=x":                      "Invalid filters all_tenants,id are found in query options.",
		"resource_uuid~=f292":                     "Invalid filters resource_uuid~ are found in query options.",
		"resource_type%C3%A4=x":                   "Filter keys may only contain ASCII characters.",
		"created_at=2026-03-01":                   "Invalid filters created_at are found in query options.",
	} {
		a.volume("GET", "/v3/messages?"+query, ``, 400, asMember...).faults("badRequest", message)
	}
	a.volume("GET", "/v3/messages?resource_type%C3%A4=x", ``, 400).faults("badRequest", "Filter keys may only contain ASCII characters.")
	a.volume("GET", "/v3/messages?marker="+ids["d"], ``, 404, asMember...).faults("itemNotFound", "Message "+ids["d"]+" could not be found.")
	if got := a.userMessagesAt("/v3/messages", "X-Project-Id", "", "X-Roles", "admin").named(names); got != "d c b a" {
		t.Errorf("an administrator without a project: %q", got)
	}
}

// An operator may let everybody filter by more.
func TestConfiguredFilters(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Volumes.Filters = []string{"event_id~", "action_id"} })
	names, _ := a.tellFour()
	for query, want := range map[string]string{"event_id~=003": "a", "event_id=VOLUME_VOLUME_001_003": "a", "action_id=009": "b"} {
		if got := a.userMessagesAt("/v3/messages?"+query, asMember...).named(names); got != want {
			t.Errorf("%s: %q", query, got)
		}
	}
	a.volume("GET", "/v3/messages?resource_type=VOLUME", ``, 400, asMember...)
	a.volume("GET", "/v3/messages?event_id=x", ``, 400, append(asMember, "OpenStack-API-Version", "volume 3.33")...)
}

// The rows of the contract's table of what lists refuse.
func TestListUserMessagesRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	deleted := a.tells("a1", `{"action_id": "001"}`)
	a.volume("DELETE", "/v3/messages/"+deleted, ``, 204)
	const both = "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter."
	const key, direction = "Invalid input received: Invalid sort key", "Invalid input received: Unknown sort direction, must be 'desc' or 'asc'."
	for query, message := range map[string]string{
		"limit=": "limit param must be an integer", "limit=x": "limit param must be an integer", "limit=1.5": "limit param must be an integer",
		"limit=-1": "limit param must be positive", "offset=-1": "offset must be >= 0", "offset=x": "offset must be an integer",
		"offset=2147483648": "offset must be <= 2147483647", "sort=id&sort_key=id": both, "sort=id&sort_dir=asc": both,
		"sort_key=nothing": key, "sort=user_message": key, "sort=guaranteed_until": key, "sort=": key, "sort=id,": key, "sort_key=id;drop": key,
		"sort_dir=up": direction, "sort_dir=": direction, "sort=id:up": direction, "sort=id:ASC": direction,
	} {
		a.volume("GET", "/v3/a1/messages?"+query, ``, 400, "OpenStack-API-Version", "volume 3.5").faults("badRequest", message)
	}
	for _, marker := range []string{"", "x", deleted, firstVolume} {
		a.volume("GET", "/v3/a1/messages?marker="+marker, ``, 404).faults("itemNotFound", "Message "+marker+" could not be found.")
	}
}

// Pages are walked by their links, whatever the order.
func TestUserMessagePages(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(cfg *Config) { cfg.Volumes.MaxLimit = 3 })
	names := map[string]string{}
	var made []string
	for i := range 8 {
		id := a.tells("a1", fmt.Sprintf(`{"action_id": "%03d", "message_level": "%s"}`, i%3+1, []string{"ERROR", "INFO"}[i%2]))
		names[id] = fmt.Sprint(i)
		made = append(made, id)
		if i%2 == 0 {
			a.advance(time.Second)
		}
	}
	for _, its := range []struct {
		query, link string // with which the second page is asked for
		pages       int
	}{
		{"limit=2", "limit=2&marker=", 5},
		{"", "marker=", 3},
		{"limit=9&sort=created_at:asc", "limit=9&sort=created_at%3Aasc&marker=", 3},
		{"sort=message_level:asc,action_id:desc", "sort=message_level%3Aasc%2Caction_id%3Adesc&marker=", 3},
		{"sort=action_id:desc,message_level:asc,created_at:desc,id:asc&limit=1", "", 9},
		{"sort_key=event_id&sort_dir=asc", "", 3},
	} {
		var walked []string
		path, pages := "/v3/a1/messages?"+its.query, 0
		for ; path != ""; pages++ {
			page := a.userMessagesAt(path)
			for _, m := range page.Messages {
				walked = append(walked, names[m.ID])
			}
			path = ""
			if len(page.Links) > 0 {
				last := page.Messages[len(page.Messages)-1].ID
				if page.Links[0].Rel != "next" || pages == 0 && its.link != "" && page.Links[0].Href != a.url+"/v3/a1/messages?"+its.link+last {
					t.Errorf("%s: link %+v", its.query, page.Links)
				}
				path = strings.TrimPrefix(page.Links[0].Href, a.url)
			}
		}
		if sorted := slices.Sorted(slices.Values(walked)); strings.Join(sorted, "") != "01234567" || pages != its.pages {
			t.Errorf("%s: walked %v in %d pages, want %d", its.query, walked, pages, its.pages)
		}
	}
	if page := a.userMessagesAt("/v3/a1/messages?limit=0"); page.Links != nil || page.Messages == nil {
		t.Errorf("of none: %+v", page)
	}
	// Before there were pages, every message was in the answer, and no link.
	all := a.userMessagesAt("/v3/a1/messages?limit=1", "OpenStack-API-Version", "volume 3.4")
	if len(all.Messages) != len(made) || all.Links != nil {
		t.Errorf("with 3.4: %d of %d, %v", len(all.Messages), len(made), all.Links)
	}
	for _, m := range made[6:] {
		a.volume("DELETE", "/v3/messages/"+m, ``, 204)
	}
	if all = a.userMessagesAt("/v3/a1/messages", "OpenStack-API-Version", "volume 3.3"); len(all.Messages) != 6 {
		t.Errorf("with 3.3, two whole pages: %d", len(all.Messages))
	}
}
