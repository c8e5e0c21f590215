package http

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"nabu/domain"
)

// ImageAPI is what the Image API is called where several are, as in Routes and ServeAlone.
const ImageAPI = "image"

// imagePrefix is where the Image API stands. Of it nabu serves the tasks, and those at the
// root as well.
const imagePrefix = "/image"

// ImportFilter decides from where images may be imported. It refuses with an error that is
// not for clients.
type ImportFilter interface {
	// CheckURL looks at the URL alone, CheckHost at where its host is now.
	CheckURL(u *url.URL) error
	CheckHost(ctx context.Context, host string) error
}

// Images are the rules of the Image API.
type Images struct {
	Tasks domain.TaskRules
	// Imports filters what import tasks name; nil: nothing may be imported.
	Imports ImportFilter
	// SwiftPaths takes container/object for the place of an image to import, as old
	// openstacksdks name it.
	SwiftPaths bool
	// PublicEndpoint is where clients reach the API, for links; empty: where they asked.
	PublicEndpoint string
	// Upstream is the real image service, which gets every request under the prefix that
	// nabu has no route for; nil: there is none.
	Upstream *url.URL
	// Service is the image service that knows which images there are; nil: nobody does.
	Service *url.URL
}

// images are all routes of the Image API that nabu serves. Any version that it lists may
// stand in place of v2.
func (s *Server) images() []route {
	return []route{
		{"POST", "/v2/tasks", "tasks_api_access", s.createTask, ""},
		{"GET", "/v2/tasks", "tasks_api_access", s.listTasks, ""},
		{"GET", "/v2/tasks/:task", "tasks_api_access", s.showTask, ""},
		{"DELETE", "/v2/tasks/:task", "tasks_api_access", s.deleteTask, ""},
		{"POST", "/v2/tasks/:task/action", "nabu:task_report", s.reportTask, ""},
		{"GET", "/v2/images/:image/tasks", "get_image", s.listImageTasks, ""},
		{"GET", "/v2/schemas/task", open, s.showTaskSchema, ""},
		{"GET", "/v2/schemas/tasks", open, s.showTasksSchema, ""},
	}
}

// imageAddresses are the paths that lead to a route of the Image API.
func imageAddresses(prefix, path string) []string {
	return []string{prefix + strings.Replace(path, "/v2", "/:version", 1)}
}

// addImageRest adds what the Image API answers where nabu has no route for it.
func (s *Server) addImageRest() {
	// What begins like one of the routes belongs to the Image API at the root too.
	for _, family := range []string{"/tasks", "/images", "/schemas"} {
		s.addAny("/:version"+family+"/*", s.noImageRoute)
	}
	s.addOpen([]string{http.MethodGet, http.MethodHead}, imagePrefix+"/healthcheck", s.showHealthcheck)
	if s.Images.Upstream != nil {
		pass := s.passOn(imagePrefix, s.Images.Upstream, s.imageEndpoint)
		s.addAny(imagePrefix, pass)
		s.addAny(imagePrefix+"/*", pass)
		return
	}
	for _, slash := range []string{"", "/"} {
		s.addAny(imagePrefix+slash, s.chooseImageVersion)
		s.addAny(imagePrefix+"/versions"+slash, s.showImageVersions)
		s.addAny(imagePrefix+"/v2"+slash, s.chooseImageVersion)
	}
	s.addAny(imagePrefix+"/:version/*", s.noImageRoute)
	s.addAny(imagePrefix+"/*", s.chooseImageVersion)
}

// addImagePath adds what a path answers to each method. That is a 405 for those that the
// table does not have.
func (s *Server) addImagePath(address, _ string, routes []route) {
	s.dialects[address] = glance
	allow := []string{}
	for _, r := range routes {
		s.metrics.add(address, r, s.operations)
		s.add(r.method, address, r.rule, s.checkedAsGlance(r))
		allow = append(allow, r.method)
	}
	slices.SortFunc(allow, func(a, b string) int { return slices.Index(knownMethods, a) - slices.Index(knownMethods, b) })
	wrong := s.checkedAsGlance(route{rule: open, handle: func(c *call) error {
		c.Response().Header().Set("Allow", strings.Join(allow, ", "))
		return fault(http.StatusMethodNotAllowed, "")
	}})
	for _, method := range allMethods {
		if !slices.Contains(allow, method) {
			s.add(method, address, open, wrong)
		}
	}
}

// allMethods are those that a request can be routed by.
var allMethods = append([]string{http.MethodOptions, anyOtherMethod}, knownMethods...)

// addAny adds a handler of the Image API for every method.
func (s *Server) addAny(address string, handler echo.HandlerFunc) {
	s.addAnyOf(glance, address, handler)
}

// addAnyOf adds a handler of an API for every method.
func (s *Server) addAnyOf(its *dialect, address string, handler echo.HandlerFunc) {
	s.dialects[address] = its
	for _, method := range allMethods {
		s.add(method, address, open, handler)
	}
}

// noImageRoute answers what the Image API has, but not here: to who may ask at all.
func (s *Server) noImageRoute(c echo.Context) error {
	return s.checkedAsGlance(route{rule: open, handle: func(*call) error { return fault(http.StatusNotFound, "") }})(c)
}
