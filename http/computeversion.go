package http

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// computeVersion is an item of the Compute API's version documents.
type computeVersion struct {
	ID      string        `json:"id"`
	Status  string        `json:"status"`
	Version string        `json:"version"`
	Min     string        `json:"min_version"`
	Updated string        `json:"updated"`
	Links   []versionLink `json:"links"`
	Media   []mediaShown  `json:"media-types,omitempty"`
}

type versionLink struct {
	Rel  string `json:"rel"`
	Type string `json:"type,omitempty"`
	Href string `json:"href"`
}

type mediaShown struct {
	Base string `json:"base"`
	Type string `json:"type"`
}

// computeVersionOf is the version document of the version that a path begins with, whose
// first link leads to rest behind it.
func (s *Server) computeVersionOf(c echo.Context, version, rest string) computeVersion {
	its := computeVersion{
		ID: "v2.1", Status: "CURRENT", Version: computeVersions.max.String(), Min: computeVersions.min.String(),
		Updated: "2013-07-23T11:33:21Z", Media: []mediaShown{{"application/json", "application/vnd.openstack.compute+json;version=2.1"}},
	}
	if version == legacyCompute {
		its = computeVersion{
			ID: "v2.0", Status: "SUPPORTED", Updated: "2011-01-21T11:33:21Z",
			Media: []mediaShown{{"application/json", "application/vnd.openstack.compute+json;version=2"}},
		}
	}
	its.Links = []versionLink{{Rel: "self", Href: s.computeEndpoint(c) + version + "/" + rest}}
	return its
}

// bothComputeVersions are the two that are listed, the older one first, as in Nova.
var bothComputeVersions = []string{legacyCompute, "/v2.1"}

// showComputeVersions serves GET /compute.
func (s *Server) showComputeVersions(c echo.Context) error {
	var versions []computeVersion
	for _, version := range bothComputeVersions {
		its := s.computeVersionOf(c, version, "")
		its.Media = nil
		versions = append(versions, its)
	}
	return writeDocument(c, http.StatusOK, "versions", versions)
}

// showComputeVersion serves GET /compute/v2.1/, and the same of the legacy version.
func (s *Server) showComputeVersion(c echo.Context) error {
	version := "/v2.1"
	if isLegacyCompute(c) || strings.HasSuffix(c.Path(), legacyCompute) {
		version = legacyCompute
	} else if _, err := computeVersions.choose(c.Request().Header, c.Response().Header()); err != nil {
		return err
	}
	its := s.computeVersionOf(c, version, "")
	its.Links = append(its.Links, versionLink{"describedby", "text/html", "http://docs.openstack.org/"})
	return writeDocument(c, http.StatusOK, "version", its)
}

// chooseComputeVersion answers where no version is named.
func (s *Server) chooseComputeVersion(c echo.Context) error {
	type choice struct {
		ID     string        `json:"id"`
		Status string        `json:"status"`
		Links  []versionLink `json:"links"`
		Media  []mediaShown  `json:"media-types"`
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(c.Request().URL.EscapedPath(), computePrefix), "/")
	var choices []choice
	for _, version := range bothComputeVersions {
		its := s.computeVersionOf(c, version, rest)
		choices = append(choices, choice{its.ID, its.Status, its.Links, its.Media})
	}
	return writeDocument(c, http.StatusMultipleChoices, "choices", choices)
}

func writeDocument(c echo.Context, status int, name string, value any) error {
	text, err := json.Marshal(map[string]any{name: value})
	if err != nil {
		return err
	}
	return writeJSON(c, status, text)
}

// computeEndpoint is where the client reaches the Compute API, without a slash at the end.
func (s *Server) computeEndpoint(c echo.Context) string {
	return endpointOf(c, s.Computes.PublicEndpoint, computePrefix)
}
