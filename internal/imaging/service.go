package imaging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
)

// ownPrefix begins the properties that nabu gives the images it makes.
const ownPrefix = "nabu_"

// taskProperty says which task has made an image.
const taskProperty = ownPrefix + "task_id"

// Service is OpenStack's image service as a store.
type Service struct {
	// Client is of the image service; its endpoint ends in /v2/.
	Client *gophercloud.ServiceClient
	// Patience is how long it may take to remove what a failed Put has left; 0: a minute.
	Patience time.Duration
}

// newImage is the body of a request that makes an image. The library's own knows only some
// properties.
type newImage map[string]any

// ToImageCreateMap is what images.Create asks for.
func (n newImage) ToImageCreateMap() (map[string]any, error) { return n, nil }

// Put makes a record, uploads the bytes, and so the image becomes active. A protected image
// could not be removed after a failure: protection comes last.
func (s *Service) Put(ctx context.Context, image Image) (string, error) {
	body := newImage(maps.Clone(image.Properties))
	protected, _ := body[propertyProtected].(bool)
	delete(body, propertyProtected)
	body[propertyOwner], body[taskProperty] = image.Owner, image.Task
	if _, named := body[propertyName]; !named {
		body[propertyName] = image.Task
	}
	record, err := images.Create(ctx, s.Client, body).Extract()
	if err != nil {
		return "", said(err, "make the image's record")
	}
	if err := s.fill(ctx, record.ID, image, protected); err != nil {
		// Though nobody waits any more, but not for ever.
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(s.Patience, time.Minute))
		defer cancel()
		return "", errors.Join(err, s.Remove(removing, image.Task, record.ID))
	}
	return record.ID, nil
}

func (s *Service) fill(ctx context.Context, id string, image Image, protected bool) error {
	if _, err := image.File.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	// Without a Close, which the HTTP client would call.
	bytes := struct{ io.ReadSeeker }{image.File}
	if err := imagedata.Upload(ctx, s.Client, id, bytes).ExtractErr(); err != nil {
		return said(err, "upload the image")
	}
	made, err := images.Get(ctx, s.Client, id).Extract()
	if err != nil {
		return fmt.Errorf("look at the image: %w", err)
	}
	sum, _ := made.Properties["os_hash_value"].(string)
	if algorithm, _ := made.Properties["os_hash_algo"].(string); algorithm == "sha512" && sum != image.SHA512 ||
		made.Status != images.ImageStatusActive || made.SizeBytes != image.Size {
		return fmt.Errorf("the image service has %d bytes of %d, status %s, SHA-512 %s", made.SizeBytes, image.Size, made.Status, sum)
	}
	if !protected {
		return nil
	}
	protect := images.UpdateOpts{images.ReplaceImageProtected{NewProtected: true}}
	if _, err := images.Update(ctx, s.Client, id, protect).Extract(); err != nil {
		return fmt.Errorf("protect the image: %w", err)
	}
	return nil
}

// said hands on what the image service refuses for the user's sake.
func said(err error, doing string) error {
	answer, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err)
	if !ok {
		return fmt.Errorf("%s: %w", doing, err)
	}
	switch answer.Actual {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusConflict, http.StatusRequestEntityTooLarge:
		return &refusedUpload{fmt.Errorf("%s: %w", doing, err), answer.Actual}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// refusedUpload is a Refusal for the user and all of it for the log.
type refusedUpload struct {
	error
	status int
}

func (r *refusedUpload) Unwrap() []error {
	return []error{Refusef("The image service refused the image: %d %s.", r.status, http.StatusText(r.status)), r.error}
}

// Remove deletes an image, protected or not.
func (s *Service) Remove(ctx context.Context, _, id string) error {
	err := images.Delete(ctx, s.Client, id).ExtractErr()
	if gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
		unprotect := images.UpdateOpts{images.ReplaceImageProtected{NewProtected: false}}
		if _, err := images.Update(ctx, s.Client, id, unprotect).Extract(); err != nil {
			return fmt.Errorf("unprotect an image that is to go: %w", err)
		}
		err = images.Delete(ctx, s.Client, id).ExtractErr()
	}
	if err != nil && !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		return fmt.Errorf("remove an image: %w", err)
	}
	return nil
}

// ofTask is a query for the images that a task has made.
type ofTask struct {
	task, owner string
	hidden      bool // images are listed that are hidden, or those that are not
}

// ToImageListQuery is what images.List asks for.
func (o ofTask) ToImageListQuery() (string, error) {
	query := url.Values{taskProperty: {o.task}, propertyOwner: {o.owner}, "visibility": {"all"}, "os_hidden": {strconv.FormatBool(o.hidden)}}
	return "?" + query.Encode(), nil
}

// Sweep deletes the other images of a task. Only images of the task's owner count: anybody
// can give an image any property.
func (s *Service) Sweep(ctx context.Context, task, owner, keep string) error {
	for _, hidden := range []bool{false, true} {
		if err := s.sweep(ctx, ofTask{task, owner, hidden}, keep); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) sweep(ctx context.Context, of ofTask, keep string) error {
	pages, err := images.List(s.Client, of).AllPages(ctx)
	if err != nil {
		return fmt.Errorf("look for a task's images: %w", err)
	}
	found, err := images.ExtractImages(pages)
	if err != nil {
		return fmt.Errorf("read the list of a task's images: %w", err)
	}
	for _, image := range found {
		if image.ID == keep || image.Owner != of.owner || image.Properties[taskProperty] != of.task {
			continue
		}
		if err := s.Remove(ctx, of.task, image.ID); err != nil {
			return err
		}
	}
	return nil
}
