package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fakeNabu is a service that keeps messages in memory, and not all that it
// acknowledges if it is told so.
type fakeNabu struct {
	mu      sync.Mutex
	queues  map[string]*fakeQueue
	posts   int
	claims  int
	deletes int

	keep       func(post int, messages []*fakeMessage) []*fakeMessage // what is kept of the n-th post
	refuse     func(post int) bool
	claimAgain func(claim int) bool  // the n-th claim gets what was claimed before
	claimOther func(claim int) bool  // the n-th claim gets the newest messages
	undelete   func(delete int) bool // the n-th deletion of a message is forgotten
	lose       func(claim int) bool  // the messages of the n-th claim are gone as well
	miscount   int
	tasks      []string // ids of tasks
}

type fakeQueue struct {
	messages []*fakeMessage
	byID     map[string]*fakeMessage
	free     int // no message before it is free
}

type fakeMessage struct {
	ID    string          `json:"id"`
	Href  string          `json:"href"`
	Body  json.RawMessage `json:"body"`
	Delay int             `json:"delay,omitempty"`
	claim string
	gone  bool
}

// newFake starts a fake and returns its address.
func newFake(t *testing.T, f *fakeNabu) string {
	t.Helper()
	f.queues = map[string]*fakeQueue{}
	mux := http.NewServeMux()
	for route, handle := range map[string]func(*fakeQueue, http.ResponseWriter, *http.Request){
		"PUT /v2/queues/{queue}":                  f.create,
		"POST /v2/queues/{queue}/messages":        f.post,
		"GET /v2/queues/{queue}/messages":         f.list,
		"POST /v2/queues/{queue}/claims":          f.claim,
		"DELETE /v2/queues/{queue}/messages":      f.deleteSome,
		"DELETE /v2/queues/{queue}/messages/{id}": f.deleteOne,
		"GET /v2/queues/{queue}/stats":            f.stats,
		"POST /v2/queues/{queue}/purge":           f.purge,
		"POST /v2/tasks":                          f.makeTask,
		"GET /v2/tasks":                           f.listTasks,
	} {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			name := r.PathValue("queue")
			if f.queues[name] == nil {
				f.queues[name] = &fakeQueue{byID: map[string]*fakeMessage{}}
			}
			handle(f.queues[name], w, r)
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func (f *fakeNabu) makeTask(_ *fakeQueue, w http.ResponseWriter, _ *http.Request) {
	f.tasks = append(f.tasks, fmt.Sprintf("%036d", len(f.tasks)))
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"id":"%s"}`, f.tasks[len(f.tasks)-1])
}

// listTasks lists those that were made before the marker, the last one first.
func (f *fakeNabu) listTasks(_ *fakeQueue, w http.ResponseWriter, r *http.Request) {
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	marker, _ := strconv.Atoi(r.URL.Query().Get("marker"))
	for i := marker - 1; i >= max(0, marker-limit); i-- {
		fmt.Fprintf(w, `{"id":"%s","self":""}`, f.tasks[i])
	}
}

func (f *fakeNabu) create(_ *fakeQueue, w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusCreated)
}

func (f *fakeNabu) post(queue *fakeQueue, w http.ResponseWriter, r *http.Request) {
	var request struct{ Messages []*fakeMessage }
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.posts++
	if f.refuse != nil && f.refuse(f.posts) {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	resources := make([]string, len(request.Messages))
	for i, m := range request.Messages {
		m.ID = fmt.Sprintf("%036d", f.posts*1000+i)
		m.Href = r.URL.Path + "/" + m.ID
		resources[i] = m.Href
	}
	kept := request.Messages
	if f.keep != nil {
		kept = f.keep(f.posts, kept)
	}
	queue.messages = append(queue.messages, kept...)
	for _, m := range kept {
		queue.byID[m.ID] = m
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"resources": resources})
}

func (f *fakeNabu) list(queue *fakeQueue, w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if ids := query.Get("ids"); ids != "" {
		var found []*fakeMessage
		for id := range strings.SplitSeq(ids, ",") {
			if m := queue.byID[id]; m != nil && !m.gone {
				found = append(found, m)
			}
		}
		if len(found) == 0 {
			http.Error(w, "none of them", http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"messages": found})
		return
	}
	at, _ := strconv.Atoi(query.Get("marker"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	messages := []*fakeMessage{}
	for ; at < len(queue.messages) && len(messages) < limit; at++ {
		m := queue.messages[at]
		if !m.gone && (m.claim == "" || query.Get("include_claimed") == "true") {
			messages = append(messages, m)
		}
	}
	query.Set("marker", strconv.Itoa(at))
	_ = json.NewEncoder(w).Encode(map[string]any{
		"messages": messages,
		"links":    []map[string]string{{"rel": "next", "href": r.URL.Path + "?" + query.Encode()}},
	})
}

func (f *fakeNabu) claim(queue *fakeQueue, w http.ResponseWriter, r *http.Request) {
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	f.claims++
	claim := fmt.Sprintf("%036d", f.claims)
	told := func(fault func(int) bool) bool { return fault != nil && fault(f.claims) }
	given := []*fakeMessage{}
	from := queue.free
	switch {
	case told(f.claimAgain):
		from = 0
	case told(f.claimOther):
		from = len(queue.messages) - limit
	}
	for i := from; i < len(queue.messages) && len(given) < limit; i++ {
		m := queue.messages[i]
		if m.gone || m.Delay > 0 || m.claim != "" && !told(f.claimAgain) {
			continue
		}
		if i == queue.free {
			queue.free++
		}
		m.claim, m.gone = claim, told(f.lose)
		m.Href, _, _ = strings.Cut(m.Href, "?")
		m.Href += "?claim_id=" + claim
		given = append(given, m)
	}
	if len(given) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"messages": given})
}

func (f *fakeNabu) deleteSome(queue *fakeQueue, w http.ResponseWriter, r *http.Request) {
	for id := range strings.SplitSeq(r.URL.Query().Get("ids"), ",") {
		f.remove(queue.byID[id])
	}
	w.WriteHeader(http.StatusNoContent)
}

func (f *fakeNabu) deleteOne(queue *fakeQueue, w http.ResponseWriter, r *http.Request) {
	m := queue.byID[r.PathValue("id")]
	if m != nil && m.claim != r.URL.Query().Get("claim_id") {
		http.Error(w, "another's", http.StatusForbidden)
		return
	}
	f.remove(m)
	w.WriteHeader(http.StatusNoContent)
}

func (f *fakeNabu) remove(m *fakeMessage) {
	f.deletes++
	if m != nil && (f.undelete == nil || !f.undelete(f.deletes)) {
		m.gone = true
	}
}

func (f *fakeNabu) stats(queue *fakeQueue, w http.ResponseWriter, _ *http.Request) {
	claimed, free := 0, f.miscount
	for _, m := range queue.messages {
		switch {
		case m.gone:
		case m.claim != "":
			claimed++
		default:
			free++
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"messages": map[string]int{"claimed": claimed, "free": free, "total": claimed + free}})
}

func (f *fakeNabu) purge(queue *fakeQueue, w http.ResponseWriter, _ *http.Request) {
	for i, m := range queue.messages {
		m.gone = f.undelete == nil || !f.undelete(i)
	}
	w.WriteHeader(http.StatusNoContent)
}
