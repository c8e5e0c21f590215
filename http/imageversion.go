package http

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"
)

// latestImageMinor is the newest minor version of the Image API that is listed. Clients look
// for what they need in the list: glanceclient for 2.12 before it asks for an image's tasks.
const latestImageMinor = 17

// imageVersions are the versions that may begin a path.
var imageVersions = func() []string {
	versions := []string{"v2"}
	for minor := range latestImageMinor + 1 {
		versions = append(versions, fmt.Sprintf("v2.%d", minor))
	}
	return versions
}()

// showImageVersions serves GET /versions of the Image API.
func (s *Server) showImageVersions(c echo.Context) error {
	return s.writeImageVersions(c, http.StatusOK)
}

// chooseImageVersion answers where no version is named, or none that there is. Glance has
// nothing at /v2/ itself; openstacksdk, told of an endpoint that ends so, needs the list.
func (s *Server) chooseImageVersion(c echo.Context) error {
	return s.writeImageVersions(c, http.StatusMultipleChoices)
}

// imageVersion is an item of the version document.
type imageVersion struct {
	ID     string      `json:"id"`
	Status string      `json:"status"`
	Links  []imageLink `json:"links"`
}

type imageLink struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

func (s *Server) writeImageVersions(c echo.Context, status int) error {
	links := []imageLink{{"self", s.imageEndpoint(c) + "/v2/"}}
	var versions []imageVersion
	for minor := latestImageMinor; minor >= 0; minor-- {
		version := imageVersion{fmt.Sprintf("v2.%d", minor), "SUPPORTED", links}
		if minor == latestImageMinor {
			version.Status = "CURRENT"
		}
		versions = append(versions, version)
	}
	text, err := json.Marshal(map[string]any{"versions": versions})
	if err != nil {
		return err
	}
	return writeJSON(c, status, text)
}

// standsAlone marks requests that came in where one API stands at the root.
type standsAlone struct{}

// AloneHandler answers for a listener at which the API of a prefix stands alone, at the root.
func (s *Server) AloneHandler(prefix string) http.Handler {
	whole := s.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		its, url := r.WithContext(context.WithValue(r.Context(), standsAlone{}, true)), *r.URL
		url.Path = prefix + url.Path
		if url.RawPath != "" {
			url.RawPath = prefix + url.RawPath
		}
		its.URL = &url
		whole.ServeHTTP(w, its)
	})
}

// imageEndpoint is where the client reaches the Image API, without a slash at the end.
func (s *Server) imageEndpoint(c echo.Context) string {
	return endpointOf(c, s.Images.PublicEndpoint, imagePrefix)
}
