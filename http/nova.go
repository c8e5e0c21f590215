package http

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"nabu/domain"
)

// ComputeAPI is what the Compute API is called where several are.
const ComputeAPI = "compute"

// computePrefix is where the Compute API stands. Of it nabu serves external events and what
// they need, and those at the root as well.
const computePrefix = "/compute"

// Computes are the rules of the Compute API.
type Computes struct {
	Events domain.EventRules
	// PublicEndpoint is where clients reach the API, for links; empty: where they asked.
	PublicEndpoint string
	// Upstream is the real compute service, which gets every request under the prefix that
	// nabu has no route for; nil: there is none.
	Upstream *url.URL
}

// computeVersions are those of the Compute API.
var computeVersions = microversions{
	service: ComputeAPI, older: "X-OpenStack-Nova-API-Version", min: microversion{2, 1}, max: microversion{2, 104},
}

// computes are all routes of the Compute API that nabu serves.
func (s *Server) computes() []route {
	return []route{
		{"POST", "/v2.1/os-server-external-events", ruleTellEvents, s.tellEvents, ""},
		{"GET", "/v2.1/os-server-hosts", "nabu:server_hosts", s.listServerHosts, ""},
		{"POST", "/v2.1/os-server-hosts", "nabu:server_hosts", s.seedServerHosts, ""},
		{"GET", "/v2.1/os-server-hosts/:server", "nabu:server_hosts", s.showServerHost, ""},
		{"PUT", "/v2.1/os-server-hosts/:server", "nabu:server_hosts", s.assignServerHost, ""},
		{"DELETE", "/v2.1/os-server-hosts/:server", "nabu:server_hosts", s.forgetServerHost, ""},
		{"GET", "/v2.1/os-host-queues/:host", "nabu:server_hosts", s.showHostQueue, ""},
	}
}

// ruleTellEvents lets services tell of external events.
const ruleTellEvents = "os_compute_api:os-server-external-events:create"

// legacyCompute begins the paths of the version before microversions.
const legacyCompute = "/v2"

// computeAddresses are the paths that lead to a route of the Compute API: by both versions,
// with a project and without one, and under the prefix without a version too, because some
// catalogues leave it out.
func computeAddresses(prefix, path string) []string {
	path = strings.TrimPrefix(path, "/v2.1")
	var paths []string
	for _, version := range []string{"/v2.1", legacyCompute} {
		paths = append(paths, prefix+version+path, prefix+version+"/:project"+path)
	}
	if prefix != "" {
		paths = append(paths, prefix+path, prefix+"/:project"+path)
	}
	return paths
}

// isLegacyCompute tells whether a request names the version before microversions.
func isLegacyCompute(c echo.Context) bool {
	return strings.HasPrefix(strings.TrimPrefix(c.Path(), computePrefix), legacyCompute+"/")
}

// addComputePath adds what a path of the Compute API answers to each method. For those that
// the table does not have there is no route.
func (s *Server) addComputePath(address, _ string, routes []route) {
	s.dialects[address] = namedFaults
	var served []string
	for _, r := range routes {
		s.metrics.add(address, r, s.operations)
		s.add(r.method, address, r.rule, s.checkedAsNova(r))
		served = append(served, r.method)
	}
	for _, method := range allMethods {
		if !slices.Contains(served, method) {
			s.add(method, address, open, noNamedRoute)
		}
	}
}

func noNamedRoute(echo.Context) error { return errNoNamedRoute }

// addComputeRest adds what the Compute API answers where nabu has no route for it.
func (s *Server) addComputeRest() {
	s.addOpen([]string{http.MethodGet, http.MethodHead}, computePrefix+"/healthcheck", s.showHealthcheck)
	// At the root the paths of this version belong to no other API.
	s.addAnyOf(namedFaults, "/v2.1", s.showComputeVersion)
	s.addAnyOf(namedFaults, "/v2.1/", s.showComputeVersion)
	if s.Computes.Upstream != nil {
		pass := s.passOn(computePrefix, s.Computes.Upstream, s.computeEndpoint)
		s.addAnyOf(namedFaults, computePrefix, pass)
		s.addAnyOf(namedFaults, computePrefix+"/*", pass)
		return
	}
	for _, slash := range []string{"", "/"} {
		s.addAnyOf(namedFaults, computePrefix+slash, s.showComputeVersions)
		s.addAnyOf(namedFaults, computePrefix+"/v2.1"+slash, s.showComputeVersion)
		s.addAnyOf(namedFaults, computePrefix+legacyCompute+slash, s.showComputeVersion)
	}
	s.addAnyOf(namedFaults, computePrefix+"/v2.1/*", noNamedRoute)
	s.addAnyOf(namedFaults, computePrefix+legacyCompute+"/*", noNamedRoute)
	s.addAnyOf(namedFaults, computePrefix+"/*", s.chooseComputeVersion)
}

// checkedAsNova wraps a route's handler into the checks that Nova makes first. For external
// events the policy is asked by the handler, because Nova does so when it has understood the
// request.
func (s *Server) checkedAsNova(r route) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		if project := c.Param("project"); slices.Contains(c.ParamNames(), "project") && !projectInPath.MatchString(project) {
			return errNoNamedRoute
		}
		nameForNova(c)
		its := &call{Context: c}
		if its.caller, err = s.identifyCaller(c); err != nil {
			return err
		}
		if err := its.caller.checkProject(); err != nil {
			return err
		}
		its.version = computeVersions.min
		if !isLegacyCompute(c) { // which has no microversions, and does not speak of them
			if its.version, err = computeVersions.choose(c.Request().Header, c.Response().Header()); err != nil {
				return err
			}
		}
		its.allow = func() error { return s.check(r.rule, its.caller) }
		if r.rule != ruleTellEvents {
			if err := its.allow(); err != nil {
				return err
			}
		}
		return r.handle(its)
	}
}

// novaMedia are the types of body that Nova reads.
var novaMedia = []string{"", "application/json", "application/vnd.openstack.compute+json"}

// readNovaBody reads a body of JSON in Nova's way. Without one it is null.
func readNovaBody(r *http.Request, limit int, into *[]byte) (body []byte, value *jsonValue, err error) {
	if !slices.Contains(novaMedia, mediaType(r.Header.Get(headerContentType))) {
		return nil, nil, namedFault(http.StatusUnsupportedMediaType, "Unsupported Content-Type")
	}
	if body, err = readBody(r, limit, into); err != nil {
		return nil, nil, err
	}
	if len(body) == 0 {
		return body, &jsonValue{text: "null"}, nil
	}
	value, valid := parseValue(body)
	if !valid {
		return nil, nil, namedFault(http.StatusBadRequest, "Malformed request body")
	}
	return body, value, nil
}

// maxComputeBody is how large a request of the Compute API may be: Nova's
// max_request_body_size, in bytes.
const maxComputeBody = 114688
