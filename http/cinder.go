package http

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"nabu/domain"
)

// VolumeAPI is what the Block Storage API is called where several are, as in Routes and
// ServeAlone.
const VolumeAPI = "volume"

// volumePrefix is where the Block Storage API stands. Of it nabu serves the user messages,
// and those at the root as well.
const volumePrefix = "/volume"

// Volumes are the rules of the Block Storage API.
type Volumes struct {
	Messages domain.UserMessageRules
	// MaxLimit is how many items a page may have, and has if its client does not say; 0:
	// Cinder's 1000.
	MaxLimit int
	// Filters are what others than administrators may filter lists by from 3.31 on; with ~ at
	// the end for parts as well. Nil: Cinder's.
	Filters []string
	// PublicEndpoint is where clients reach the API, for links; empty: where they asked.
	PublicEndpoint string
	// Upstream is the real volume service, which gets every request under the prefix that
	// nabu has no route for; nil: there is none.
	Upstream *url.URL
	// Heartbeat is how often a stream without news shows that it is alive; 0: often enough for
	// proxies.
	Heartbeat time.Duration
}

// UserMessageFilters are those that Cinder ships.
var UserMessageFilters = []string{"resource_uuid", "resource_type", "event_id", "request_id", "message_level"}

const (
	defaultMaxLimit  = 1000
	defaultHeartbeat = 15 * time.Second
)

func (v Volumes) withDefaults() Volumes {
	if v.Messages.Catalogue == nil {
		v.Messages = domain.DefaultUserMessageRules()
	}
	if v.MaxLimit == 0 {
		v.MaxLimit = defaultMaxLimit
	}
	if v.Filters == nil {
		v.Filters = UserMessageFilters
	}
	if v.Heartbeat == 0 {
		v.Heartbeat = defaultHeartbeat
	}
	return v
}

// volumeVersions are the microversions of the Block Storage API. Nothing above 3.34 changes
// user messages.
var volumeVersions = microversions{service: "volume", min: microversion{3, 0}, max: microversion{3, 71}}

// The minor versions that change something of user messages.
const (
	messagesSince       = 3
	pagesSince          = 5
	filterRulesSince    = 31
	partialFiltersSince = 34
)

// volumes are all routes of the Block Storage API that nabu serves.
func (s *Server) volumes() []route {
	return []route{
		{"GET", "/v3/:project/messages", "message:get_all", s.listUserMessages, ""},
		{"POST", "/v3/:project/messages", ruleCreateUserMessage, s.createUserMessage, ""},
		{"GET", "/v3/:project/messages/:message", "message:get", s.showUserMessage, ""},
		{"DELETE", "/v3/:project/messages/:message", "message:delete", s.deleteUserMessage, ""},
		{"GET", "/v3/messages", "message:get_all", s.listUserMessages, ""},
		{"GET", "/v3/messages/:message", "message:get", s.showUserMessage, ""},
		{"DELETE", "/v3/messages/:message", "message:delete", s.deleteUserMessage, ""},
	}
}

// ruleCreateUserMessage lets services tell users of any project something.
const ruleCreateUserMessage = "nabu:message_create"

// onlyAddress is for tables whose paths mean nothing else.
func onlyAddress(prefix, path string) []string { return []string{prefix + path} }

// addVolumePath adds what a path answers to each method. It has nothing for those that the
// table does not have, and Cinder does not call that a wrong method.
func (s *Server) addVolumePath(address, _ string, routes []route) {
	s.dialects[address] = namedFaults
	var there []string
	for _, r := range routes {
		s.metrics.add(address, r, s.operations)
		s.add(r.method, address, r.rule, s.checkedAsCinder(r))
		there = append(there, r.method)
	}
	for _, method := range allMethods {
		if !slices.Contains(there, method) {
			s.add(method, address, open, s.checkedAsCinder(route{rule: open, handle: func(*call) error { return errNoResource }}))
		}
	}
}

// addVolumeRest adds what the Block Storage API answers where nabu has no route for it.
func (s *Server) addVolumeRest() {
	s.addOpen([]string{http.MethodGet, http.MethodHead}, volumePrefix+"/healthcheck", s.showHealthcheck)
	for _, slash := range []string{"", "/"} {
		s.addAnyOf(namedFaults, "/v3"+slash, s.showVolumeVersions(http.StatusOK))
	}
	if s.Volumes.Upstream != nil {
		pass := s.passOn(volumePrefix, s.Volumes.Upstream, s.volumeEndpoint)
		s.addAnyOf(namedFaults, volumePrefix, pass)
		s.addAnyOf(namedFaults, volumePrefix+"/*", pass)
		return
	}
	for _, slash := range []string{"", "/"} {
		s.addAnyOf(namedFaults, volumePrefix+slash, s.showVolumeVersions(http.StatusMultipleChoices))
		s.addAnyOf(namedFaults, volumePrefix+"/v3"+slash, s.showVolumeVersions(http.StatusOK))
	}
	s.addAnyOf(namedFaults, volumePrefix+"/*", func(c echo.Context) error {
		nameForNova(c)
		return errNoNamedRoute
	})
}

// showVolumeVersions serves GET / and GET /v3/ of the Block Storage API, to whoever asks:
// clients look here before they have a token.
func (s *Server) showVolumeVersions(status int) echo.HandlerFunc {
	return func(c echo.Context) error {
		nameForNova(c)
		if method := c.Request().Method; method != http.MethodGet && method != http.MethodHead {
			return errNoNamedRoute
		}
		text, err := json.Marshal(map[string]any{"versions": []any{map[string]any{
			"id": "v3.0", "status": "CURRENT", "version": volumeVersions.max.String(), "min_version": volumeVersions.min.String(),
			"updated": "2023-08-31T00:00:00Z",
			"links": []any{
				map[string]string{"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
				map[string]string{"rel": "self", "href": s.volumeEndpoint(c) + "/v3/"},
			},
			"media-types": []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}},
		}}})
		if err != nil {
			return err
		}
		return writeJSON(c, status, text)
	}
}

// volumeEndpoint is where the client reaches the Block Storage API, without a slash at the
// end.
func (s *Server) volumeEndpoint(c echo.Context) string {
	return endpointOf(c, s.Volumes.PublicEndpoint, volumePrefix)
}

// nameForNova names the request as Cinder and Nova name it besides.
func nameForNova(c echo.Context) {
	c.Response().Header().Set("X-Compute-Request-Id", requestID(c))
}

// projectInPath is what a project may look like that stands in a path; Cinder's
// project_id_regex.
var projectInPath = regexp.MustCompile(`^[0-9a-f-]+$`)

// checkedAsCinder wraps a route's handler into the checks that Cinder makes first, in its
// order.
func (s *Server) checkedAsCinder(r route) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		nameForNova(c)
		its := &call{Context: c}
		if its.caller, err = s.identifyCaller(c); err != nil {
			return err
		}
		if err := its.caller.checkProject(); err != nil {
			return err
		}
		project, named := c.Param("project"), slices.Contains(c.ParamNames(), "project")
		if named && !projectInPath.MatchString(project) {
			return errNoNamedRoute
		}
		if its.version, err = volumeVersions.choose(c.Request().Header, c.Response().Header()); err != nil {
			return err
		}
		// A service tells users of any project something.
		if named && project != its.caller.Project && r.rule != ruleCreateUserMessage {
			return namedFault(http.StatusBadRequest, "Malformed request url")
		}
		if !its.version.atLeast(messagesSince) {
			return errNoResource
		}
		if err := s.check(r.rule, its.caller); err != nil {
			return err
		}
		return r.handle(its)
	}
}

// endpointOf is where a client reaches an API that stands under a prefix: the public address,
// if the operator names one, or else the one that it asked.
func endpointOf(c echo.Context, public, prefix string) string {
	if public != "" {
		return strings.TrimRight(public, "/")
	}
	if alone, _ := c.Request().Context().Value(standsAlone{}).(bool); alone || !strings.HasPrefix(c.Path(), prefix) {
		prefix = ""
	}
	return c.Scheme() + "://" + c.Request().Host + prefix
}
