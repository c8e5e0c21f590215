package http

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"nabu/domain"
)

// imageService asks the image service which images there are. It follows nothing: an answer
// that leads elsewhere is none.
var imageService = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// findImageTimeout is how long the image service may take to say whether it has an image.
const findImageTimeout = 10 * time.Second

// findImage refuses an image that the image service does not know, or that the caller may not
// see there.
func (s *Server) findImage(c *call, image string) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), findImageTimeout)
	defer cancel()
	if image == "." || image == ".." { // no image, and a way to elsewhere
		return fault(http.StatusNotFound, "No image found with ID %s", image)
	}
	at := s.Images.Service.JoinPath("v2", "images", url.PathEscape(image))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return fault(http.StatusNotFound, "No image found with ID %s", image)
	}
	for _, name := range []string{"X-Auth-Token", headerProject, "X-User-Id", "X-Roles"} {
		if sent, given := c.Request().Header[name]; given {
			r.Header[name] = sent
		}
	}
	r.Header.Set(headerRequestID, requestID(c))
	answer, err := imageService.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", domain.Errorf(domain.Unavailable, "The image service cannot be reached."), err)
	}
	_ = answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusNotFound, http.StatusForbidden, http.StatusBadRequest:
		return fault(http.StatusNotFound, "No image found with ID %s", image)
	case http.StatusUnauthorized:
		return fault(http.StatusUnauthorized, "")
	}
	return fmt.Errorf("%w: it answers %s", domain.Errorf(domain.Unavailable, "The image service cannot tell of its images."), answer.Status)
}
