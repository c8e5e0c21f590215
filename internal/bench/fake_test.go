package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeNabu is a service that keeps messages in memory, and not all that it
// acknowledges if it is told so.
type fakeNabu struct {
	mu     sync.Mutex
	queues map[string][]fakeMessage
	posts  int
	keep   func(post int, messages []fakeMessage) []fakeMessage // what is kept of the n-th post
	refuse func(post int) bool
}

type fakeMessage struct {
	ID   string          `json:"id"`
	Body json.RawMessage `json:"body"`
}

// newFake starts a fake and returns its address.
func newFake(t *testing.T, f *fakeNabu) string {
	t.Helper()
	f.queues = map[string][]fakeMessage{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v2/queues/{queue}/messages", f.post)
	mux.HandleFunc("GET /v2/queues/{queue}/messages", f.list)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func (f *fakeNabu) post(w http.ResponseWriter, r *http.Request) {
	var request struct{ Messages []fakeMessage }
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.posts++
	if f.refuse != nil && f.refuse(f.posts) {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	resources := make([]string, len(request.Messages))
	for i := range request.Messages {
		request.Messages[i].ID = fmt.Sprintf("%036d", f.posts*1000+i)
		resources[i] = r.URL.Path + "/" + request.Messages[i].ID
	}
	kept := request.Messages
	if f.keep != nil {
		kept = f.keep(f.posts, kept)
	}
	queue := r.PathValue("queue")
	f.queues[queue] = append(f.queues[queue], kept...)
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"resources": resources})
}

func (f *fakeNabu) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	queue, query := f.queues[r.PathValue("queue")], r.URL.Query()
	if ids := query.Get("ids"); ids != "" {
		found := slices.DeleteFunc(slices.Clone(queue), func(m fakeMessage) bool { return !strings.Contains(ids, m.ID) })
		if len(found) == 0 {
			http.Error(w, "none of them", http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"messages": found})
		return
	}
	from, _ := strconv.Atoi(query.Get("marker"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	to := min(from+limit, len(queue))
	next := fmt.Sprintf("%s?limit=%d&marker=%d", r.URL.Path, limit, to)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"messages": queue[from:to],
		"links":    []map[string]string{{"rel": "next", "href": next}},
	})
}
