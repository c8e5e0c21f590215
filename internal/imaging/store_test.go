package imaging

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
)

const oneTask = "bfd7115e-756c-4db1-92df-24a3f9935a1d"

// small is an image to be stored, in a file below a folder.
func small(t *testing.T, folder string, properties map[string]any) Image {
	t.Helper()
	file, err := os.CreateTemp(folder, "partial")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	if properties == nil {
		properties = map[string]any{"disk_format": "raw", "container_format": "bare"}
	}
	return Image{
		Task: oneTask, Owner: "p1", File: file, Fetched: Fetched{Size: int64(len(content)), SHA512: sum512(content)},
		Import: Import{DiskFormat: "raw", Properties: properties},
	}
}

// files are those below a folder.
func files(t *testing.T, folder string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			paths = append(paths, strings.TrimPrefix(path, folder+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}

func TestAFolderOfImages(t *testing.T) {
	path := t.TempDir()
	store, err := OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	first, err := store.Put(t.Context(), small(t, path, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{first, first + ".json", first + ".sha512", "tasks/" + oneTask + "/" + first}
	slices.Sort(want)
	if got := files(t, path); !slices.Equal(got, want) {
		t.Errorf("there are %v", got)
	}
	sum, err := os.ReadFile(filepath.Join(path, first+".sha512"))
	if err != nil || string(sum) != sum512(content)+"  "+first+"\n" {
		t.Errorf("the checksum is %q, %v", sum, err)
	}
	var about stored
	text, err := os.ReadFile(filepath.Join(path, first+".json"))
	if err != nil || json.Unmarshal(text, &about) != nil || about.ID != first || about.Owner != "p1" || about.Properties["disk_format"] != "raw" {
		t.Errorf("the properties are %s, %v", text, err)
	}
	if bytes, err := os.ReadFile(filepath.Join(path, first)); err != nil || sum512(bytes) != sum512(content) {
		t.Errorf("%d bytes, %v", len(bytes), err)
	}

	// A second run of the task leaves one image.
	second, err := store.Put(t.Context(), small(t, path, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Sweep(t.Context(), oneTask, "p1", second); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(files(t, path), " "); strings.Contains(got, first) || strings.Count(got, second) != 4 {
		t.Errorf("there are %s", got)
	}
	for range 2 { // what is gone can be removed again
		if err := store.Remove(t.Context(), oneTask, second); err != nil {
			t.Error(err)
		}
	}
	if got := files(t, path); len(got) > 0 {
		t.Errorf("there are %v", got)
	}
}

// TestAnImageThatCannotBeStored leaves nothing.
func TestAnImageThatCannotBeStored(t *testing.T) {
	path := t.TempDir()
	store, err := OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	image := small(t, path, nil)
	if err := os.Remove(image.File.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), image); err == nil {
		t.Error("it was stored")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.ErrNoProgress)
	image = small(t, path, nil)
	if _, err := store.Put(ctx, image); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
	if got := files(t, path); !slices.Equal(got, []string{filepath.Base(image.File.Name())}) {
		t.Errorf("there are %v", got)
	}
}

// imageService is Glance as far as nabu asks it.
type imageService struct {
	mu     sync.Mutex
	images map[string]map[string]any
	refuse map[string]int // method and last part of the path: the status
	calls  []string
}

func newImageService(t *testing.T) (*imageService, *Service) {
	s := &imageService{images: map[string]map[string]any{}, refuse: map[string]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, serviceAt(server.URL)
}

func serviceAt(place string) *Service {
	return &Service{Client: &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{}, Endpoint: place + "/v2/"}}
}

func (s *imageService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/v2/images"), "/"), "/")
	call := strings.TrimSpace(r.Method + " " + rest)
	s.calls = append(s.calls, call)
	if status := s.refuse[call]; status != 0 {
		w.WriteHeader(status)
		return
	}
	image, known := s.images[id]
	if id != "" && !known {
		w.WriteHeader(404)
		return
	}
	switch call {
	case "POST":
		image = map[string]any{"id": uuid.NewString(), "status": "queued"}
		if json.NewDecoder(r.Body).Decode(&image) != nil {
			w.WriteHeader(400)
			return
		}
		s.images[image["id"].(string)] = image
		answerJSON(w, 201, image)
	case "PUT file":
		sum := sha512.New()
		size, err := io.Copy(sum, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		image["size"], image["status"] = size, "active"
		image["os_hash_algo"], image["os_hash_value"] = "sha512", hex.EncodeToString(sum.Sum(nil))
		w.WriteHeader(204)
	case "PATCH":
		var steps []struct {
			Path  string
			Value any
		}
		_ = json.NewDecoder(r.Body).Decode(&steps)
		for _, step := range steps {
			image[step.Path[1:]] = step.Value
		}
		answerJSON(w, 200, image)
	case "DELETE":
		if image["protected"] == true {
			w.WriteHeader(403)
			return
		}
		delete(s.images, id)
		w.WriteHeader(204)
	case "GET":
		if known {
			answerJSON(w, 200, image)
			return
		}
		s.list(w, r)
	}
}

func (s *imageService) list(w http.ResponseWriter, r *http.Request) {
	found := []any{}
	query := r.URL.Query()
	for _, image := range s.images {
		hidden := image["os_hidden"] == true
		if image["nabu_task_id"] == query.Get("nabu_task_id") && image["owner"] == query.Get("owner") && fmt.Sprint(hidden) == query.Get("os_hidden") {
			found = append(found, image)
		}
	}
	answerJSON(w, 200, map[string]any{"images": found, "first": "/v2/images", "schema": "/v2/schemas/images"})
}

func answerJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func TestAnImageService(t *testing.T) {
	server, store := newImageService(t)
	properties := map[string]any{
		"name": "x", "disk_format": "raw", "container_format": "bare", "min_disk": 10.0, "protected": true, "os_version": "12", "os_hidden": true,
	}
	id, err := store.Put(t.Context(), small(t, t.TempDir(), properties))
	if err != nil {
		t.Fatal(err)
	}
	made := server.images[id]
	for name, want := range map[string]any{
		"name": "x", "min_disk": 10.0, "protected": true, "os_version": "12", "owner": "p1", "nabu_task_id": oneTask,
		"status": "active", "os_hash_value": sum512(content), "size": int64(len(content)),
	} {
		if made[name] != want {
			t.Errorf("%s is %v, not %v", name, made[name], want)
		}
	}
	if want := []string{"POST", "PUT file", "GET", "PATCH"}; !slices.Equal(server.calls, want) {
		t.Errorf("asked for %v", server.calls)
	}

	// A second run of the task leaves one image, though the first is protected and hidden.
	second, err := store.Put(t.Context(), small(t, t.TempDir(), nil))
	if err != nil {
		t.Fatal(err)
	}
	server.images["theirs"] = map[string]any{"id": "theirs", "owner": "p2", "nabu_task_id": oneTask, "status": "active"}
	if err := store.Sweep(t.Context(), oneTask, "p1", second); err != nil {
		t.Fatal(err)
	}
	if len(server.images) != 2 || server.images[second] == nil || server.images["theirs"] == nil {
		t.Errorf("there are %v", server.images)
	}
	for range 2 {
		if err := store.Remove(t.Context(), oneTask, second); err != nil {
			t.Error(err)
		}
	}
}

// TestAnImageServiceThatRefuses is left without a record, and the user is told what is his.
func TestAnImageServiceThatRefuses(t *testing.T) {
	for call, want := range map[string]struct {
		status int
		says   string // empty: nothing that is for the user
	}{
		"POST":     {403, "The image service refused the image: 403 Forbidden."},
		"PUT file": {413, "The image service refused the image: 413 Request Entity Too Large."},
		"GET":      {500, ""}, "PATCH": {500, ""},
	} {
		server, store := newImageService(t)
		server.refuse[call] = want.status
		_, err := store.Put(t.Context(), small(t, t.TempDir(), map[string]any{"protected": true}))
		refusal, refused := errors.AsType[*Refusal](err)
		if err == nil || refused != (want.says != "") || refused && refusal.Text != want.says {
			t.Errorf("%s: %v", call, err)
		}
		if len(server.images) != 0 {
			t.Errorf("%s leaves %v", call, server.images)
		}
	}
	server, store := newImageService(t)
	image := small(t, t.TempDir(), nil)
	image.SHA512 = sum512(nil) // something happened on the way
	if _, err := store.Put(t.Context(), image); err == nil || len(server.images) != 0 {
		t.Errorf("%v, %v", err, server.images)
	}
}

// TestAnImageServiceThatHangs does not keep its worker.
func TestAnImageServiceThatHangs(t *testing.T) {
	whole := &imageService{images: map[string]map[string]any{}, refuse: map[string]int{"PUT file": 500}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			<-r.Context().Done()
			return
		}
		whole.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	store := serviceAt(server.URL)
	store.Patience = 10 * time.Millisecond
	if _, err := store.Put(t.Context(), small(t, t.TempDir(), nil)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
