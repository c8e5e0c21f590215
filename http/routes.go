package http

import (
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// messagingAPI is what the Messaging API is called where several are.
const messagingAPI = "messaging"

// messagingPrefix is where the Messaging API stands besides the root. No link and
// no Location carries it: clients put such paths behind their endpoint, which has it.
const messagingPrefix = "/messaging"

// route is a line of an API's table.
type route struct {
	method string
	path   string
	rule   string // of the policy, or open
	handle func(*call) error
	// operation is the route's name in the health answer, if it has one there.
	operation string
}

// messaging are all routes of the Messaging API.
func (s *Server) messaging() []route {
	return []route{
		{"GET", "/", open, s.showVersions, ""},
		{"GET", "/v2", open, s.showHome, ""},
		{"GET", "/v2/", open, s.showHome, ""},
		{"GET", "/v2/ping", "ping:get", s.ping, ""},
		{"HEAD", "/v2/ping", "ping:get", s.pingHead, ""},
		{"GET", "/v2/health", "health:get", s.showHealth, ""},
		{"GET", "/ws", open, s.needsWebSocket, ""},

		{"GET", "/v2/queues", "queues:get_all", s.listQueues, ""},
		{"PUT", "/v2/queues/:queue", "queues:create", s.createQueue, "create_queue"},
		{"GET", "/v2/queues/:queue", "queues:get", s.showQueue, ""},
		{"HEAD", "/v2/queues/:queue", "queues:get", s.findQueue, ""},
		{"PATCH", "/v2/queues/:queue", "queues:update", s.changeQueue, ""},
		{"DELETE", "/v2/queues/:queue", "queues:delete", s.deleteQueue, "delete_queue"},

		{"GET", "/v2/queues/:queue/stats", "queues:stats", s.showStats, ""},
		{"POST", "/v2/queues/:queue/purge", "queues:purge", s.purgeQueue, ""},
		{"POST", "/v2/queues/:queue/share", "queues:share", s.shareQueue, ""},
		{"POST", "/v2/queues/:queue/share/revoke", "queues:share", s.revokeShares, ""},

		{"POST", "/v2/queues/:queue/messages", "messages:create", s.postMessages, "post_messages"},
		{"GET", "/v2/queues/:queue/messages", "messages:get_all", s.listMessages, "list_messages"},
		{"DELETE", "/v2/queues/:queue/messages", "messages:delete_all", s.deleteMessages, "bulk_delete_messages"},
		{"GET", "/v2/queues/:queue/messages/:message", "messages:get", s.showMessage, ""},
		{"DELETE", "/v2/queues/:queue/messages/:message", "messages:delete", s.deleteMessage, "delete_messages"},

		{"POST", "/v2/queues/:queue/claims", "claims:create", s.claimMessages, "claim_messages"},
		{"GET", "/v2/queues/:queue/claims/:claim", "claims:get", s.showClaim, ""},
		{"PATCH", "/v2/queues/:queue/claims/:claim", "claims:update", s.renewClaim, ""},
		{"DELETE", "/v2/queues/:queue/claims/:claim", "claims:delete", s.releaseClaim, "delete_claim"},

		{"POST", "/v2/queues/:queue/subscriptions", "subscription:create", s.subscribe, ""},
		{"GET", "/v2/queues/:queue/subscriptions", "subscription:get_all", s.listSubscriptions, ""},
		{"GET", "/v2/queues/:queue/subscriptions/:subscription", "subscription:get", s.showSubscription, ""},
		{"PATCH", "/v2/queues/:queue/subscriptions/:subscription", "subscription:update", s.changeSubscription, ""},
		{"DELETE", "/v2/queues/:queue/subscriptions/:subscription", "subscription:delete", s.deleteSubscription, ""},
		{"PUT", "/v2/queues/:queue/subscriptions/:subscription/confirm", "subscription:confirm", s.confirmSubscription, ""},
	}
}

// table are the routes of an API.
type table struct {
	api    string
	prefix string // where it stands besides the root
	routes []route
	// addresses are the paths that lead to a route of the table under a prefix.
	addresses func(prefix, path string) []string
	// add makes one of the addresses known, with all routes that it has.
	add func(address, path string, routes []route)
}

// tables are those of all APIs.
func (s *Server) tables() []table {
	return []table{
		{messagingAPI, messagingPrefix, s.messaging(), addresses, s.addPath},
		{ImageAPI, imagePrefix, s.images(), imageAddresses, s.addImagePath},
		{VolumeAPI, volumePrefix, s.volumes(), onlyAddress, s.addVolumePath},
		{ComputeAPI, computePrefix, s.computes(), computeAddresses, s.addComputePath},
	}
}

// addRoutes makes the routes known to echo.
func (s *Server) addRoutes() {
	for _, t := range s.tables() {
		for path, routes := range t.byPath() {
			for _, prefix := range []string{"", t.prefix} {
				for _, address := range t.addresses(prefix, path) {
					t.add(address, path, routes)
				}
			}
		}
	}
	s.addImageRest()
	s.addVolumeRest()
	s.addComputeRest()
	s.addOperatorRoutes()
}

// byPath are the routes of a table that differ in their method alone.
func (t table) byPath() map[string][]route {
	byPath := map[string][]route{}
	for _, r := range t.routes {
		if r.method == http.MethodDelete {
			r.handle = whole(r.handle)
		}
		byPath[r.path] = append(byPath[r.path], r)
	}
	return byPath
}

// addPath adds a path of the Messaging API. It answers every method: with what the table
// says, with its list of methods, or with a 405.
func (s *Server) addPath(address, path string, routes []route) {
	for _, r := range routes {
		s.metrics.add(address, r, s.operations)
		handler := s.checked(r)
		if r.method == http.MethodGet && slices.Contains(webSocketPaths, path) {
			handler = s.orWebSocket(handler)
		}
		s.add(r.method, address, r.rule, handler)
	}
	s.addOtherMethods(address, path, allowed(routes))
}

func allowed(routes []route) []string {
	methods := []string{}
	for _, r := range routes {
		methods = append(methods, r.method)
	}
	slices.Sort(methods)
	return append(methods, http.MethodOptions)
}

// addresses are the paths that lead to a route. A name that ends a path may be
// empty, which is a bad name and not another route.
func addresses(prefix, path string) []string {
	paths := []string{prefix + path}
	if prefix != "" && path == "/" {
		paths = append(paths, prefix)
	}
	if endsInName(path) {
		paths = append(paths, prefix+path[:strings.LastIndexByte(path, '/')+1])
	}
	return paths
}

// knownMethods are those that some route has; a request with any other is routed as
// if its method were anyOtherMethod.
var knownMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}

const anyOtherMethod = http.MethodTrace

// addOtherMethods answers the methods that the table does not have for a path. They
// are added one by one, because echo forgets a path's parameters when it finds no
// route for the method.
func (s *Server) addOtherMethods(address, path string, allow []string) {
	for _, method := range append(knownMethods, anyOtherMethod) {
		if !slices.Contains(allow, method) {
			s.add(method, address, open, s.otherMethod(allow, path))
		}
	}
	s.add(http.MethodOptions, address, open, func(c echo.Context) error {
		c.Response().Header().Set("Allow", strings.Join(allow, ", "))
		return c.NoContent(http.StatusOK)
	})
	names, _, _ := strings.Cut(path, "/:")
	s.add(echo.RouteNotFound, address, open, s.otherMethod(allow, names))
	if endsInName(path) && !strings.HasSuffix(address, "/") {
		// Otherwise the last name of a path would reach over further slashes.
		s.add(echo.RouteNotFound, address+"/*", open, func(echo.Context) error { return errNoRoute })
	}
}

// otherMethod answers 405, after the checks that every request to the path passes.
func (s *Server) otherMethod(allow []string, path string) echo.HandlerFunc {
	return s.checked(route{path: path, rule: open, handle: func(c *call) error {
		c.Response().Header().Set("Allow", strings.Join(allow, ", "))
		return errWrongMethod
	}})
}

func endsInName(path string) bool {
	return strings.HasPrefix(path[strings.LastIndexByte(path, '/'):], "/:")
}
