package http

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/tasks"
	"github.com/gophercloud/gophercloud/v2/openstack/messaging/v2/claims"
	"github.com/gophercloud/gophercloud/v2/openstack/messaging/v2/messages"
	"github.com/gophercloud/gophercloud/v2/openstack/messaging/v2/queues"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

// endpoints are where a catalogue may say that the API is; the library adds the v2.
var endpoints = map[string]string{"at the root": "/", "under its prefix": "/messaging/"}

func (a *api) gophercloud(endpoint, clientID string) *gophercloud.ServiceClient {
	return &gophercloud.ServiceClient{
		ProviderClient: &gophercloud.ProviderClient{HTTPClient: *client},
		Endpoint:       a.url + endpoint,
		MoreHeaders:    map[string]string{"Client-ID": clientID, "X-Project-Id": "p1"},
	}
}

// imageEndpoints are those of the Image API.
var imageEndpoints = map[string]string{"at the root": "/v2/", "under its prefix": "/image/v2/"}

func TestGophercloudTasks(t *testing.T) {
	t.Parallel()
	for name, endpoint := range imageEndpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			ctx, client := t.Context(), a.gophercloud(endpoint, ours)
			var ids []string
			for range 5 {
				made, err := tasks.Create(ctx, client, tasks.CreateOpts{Type: "import", Input: map[string]any{
					"import_from": "https://images.example/x.qcow2", "import_from_format": "qcow2", "image_properties": map[string]any{},
				}}).Extract()
				if err != nil {
					t.Fatal(err)
				}
				if made.Status != string(tasks.TaskStatusPending) || made.Owner != "p1" || made.CreatedAt.Year() != 2026 {
					t.Fatalf("made %+v", made)
				}
				ids = append([]string{made.ID}, ids...)
				a.advance(time.Second)
			}
			a.report(ids[0], `{"begin": {}}`)
			a.report(ids[0], `{"succeed": {"result": {"image_id": "i1"}}}`)
			done, err := tasks.Get(ctx, client, ids[0]).Extract()
			if err != nil || done.Status != string(tasks.TaskStatusSuccess) || done.Result["image_id"] != "i1" || done.ExpiresAt.IsZero() {
				t.Fatalf("done: %+v, %v", done, err)
			}
			for opts, want := range map[tasks.ListOpts][]string{
				{Limit: 2}: ids, {Limit: 5, SortKey: "created_at", SortDir: "desc"}: ids, {Status: tasks.TaskStatusSuccess}: ids[:1], {Limit: 2, Marker: ids[2]}: ids[3:],
			} {
				pages, err := tasks.List(client, opts).AllPages(ctx)
				if err != nil {
					t.Fatal(err)
				}
				all, err := tasks.ExtractTasks(pages)
				if err != nil {
					t.Fatal(err)
				}
				var listed []string
				for _, its := range all {
					listed = append(listed, its.ID)
				}
				if diff := cmp.Diff(want, listed); diff != "" {
					t.Fatalf("%+v: %s", opts, diff)
				}
			}
			if _, err := tasks.Get(ctx, client, ours).Extract(); !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
				t.Fatal(err)
			}
		})
	}
}

func TestGophercloudQueues(t *testing.T) {
	t.Parallel()
	for name, endpoint := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			ctx, client := t.Context(), a.gophercloud(endpoint, ours)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			for i := range 5 {
				opts := queues.CreateOpts{
					QueueName: fmt.Sprintf("queue-%d", i), DefaultMessageTTL: 600, MaxClaimCount: 2, DeadLetterQueue: "dead", Flavor: "any",
					Extra: map[string]any{"description": "x", "i": i},
				}
				must(queues.Create(ctx, client, opts).ExtractErr())
				must(queues.Create(ctx, client, opts).ExtractErr())
			}

			got, err := queues.Get(ctx, client, "queue-3").Extract()
			must(err)
			want := queues.QueueDetails{
				DeadLetterQueue: "dead", DefaultMessageTTL: 600, MaxClaimCount: 2, MaxMessagesPostSize: 262144,
				Extra: map[string]any{"description": "x", "i": 3.0, "_flavor": "any"},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}

			got, err = queues.Update(ctx, client, "queue-3", queues.BatchUpdateOpts{
				{Op: queues.ReplaceOp, Path: "/metadata/_max_claim_count", Value: 9},
				{Op: queues.RemoveOp, Path: "/metadata/description", Value: "x"},
			}).Extract()
			must(err)
			want.MaxClaimCount = 9
			delete(want.Extra, "description")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}

			pages, err := queues.List(client, queues.ListOpts{Limit: 2, Detailed: true, WithCount: true}).AllPages(ctx)
			must(err)
			all, err := queues.ExtractQueues(pages)
			must(err)
			if len(all) != 5 || all[4].Name != "queue-4" || all[3].Metadata.MaxClaimCount != 9 {
				t.Fatalf("listed: %+v", all)
			}
			must(queues.List(client, queues.ListOpts{WithCount: true}).EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
				if count, err := page.(queues.QueuePage).GetCount(); err != nil || count != 5 {
					t.Fatalf("count is %d, %v", count, err)
				}
				return false, nil
			}))

			must(queues.Delete(ctx, client, "queue-3").ExtractErr())
			must(queues.Delete(ctx, client, "queue-3").ExtractErr())
			err = queues.Create(ctx, client, queues.CreateOpts{QueueName: "q", DefaultMessageTTL: 1}).ExtractErr()
			if !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) {
				t.Fatal(err)
			}
		})
	}
}

func TestGophercloudMessages(t *testing.T) {
	t.Parallel()
	for name, endpoint := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			ctx, producer, consumer := t.Context(), a.gophercloud(endpoint, ours), a.gophercloud(endpoint, theirs)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			batch := messages.BatchCreateOpts{}
			for i := range 7 {
				batch = append(batch, messages.CreateOpts{TTL: 300 + i, Delay: 1, Body: map[string]any{"i": i}})
			}
			posted, err := messages.Create(ctx, producer, "q", batch).Extract()
			must(err)
			ids := []string{}
			for _, resource := range posted.Resources {
				ids = append(ids, resource[strings.LastIndexByte(resource, '/')+1:])
			}

			list := func(client *gophercloud.ServiceClient, opts messages.ListOpts) []string {
				t.Helper()
				pages, err := messages.List(client, "q", opts).AllPages(ctx)
				must(err)
				found, err := messages.ExtractMessages(pages)
				must(err)
				its := []string{}
				for _, m := range found {
					its = append(its, m.ID)
				}
				return its
			}
			if diff := cmp.Diff(ids, list(consumer, messages.ListOpts{Limit: 3})); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(ids[2:], list(producer, messages.ListOpts{Limit: 2, Echo: true, IncludeClaimed: true, Marker: ids[1]})); diff != "" {
				t.Fatal(diff)
			}
			if own := list(producer, messages.ListOpts{}); len(own) != 0 {
				t.Fatalf("own messages: %v", own)
			}

			one, err := messages.Get(ctx, consumer, "q", ids[5]).Extract()
			must(err)
			want := messages.Message{ID: ids[5], Href: posted.Resources[5], TTL: 305, Body: map[string]any{"i": 5.0}}
			if diff := cmp.Diff(want, one); diff != "" {
				t.Fatal(diff)
			}
			some, err := messages.GetMessages(ctx, consumer, "q", messages.GetMessagesOpts{IDs: []string{ids[5], ids[0]}}).Extract()
			must(err)
			if len(some) != 2 || some[0].ID != ids[0] {
				t.Fatalf("found: %+v", some)
			}

			must(messages.Delete(ctx, consumer, "q", ids[0], nil).ExtractErr())
			err = messages.Delete(ctx, consumer, "q", ids[1], messages.DeleteOpts{ClaimID: "x"}).ExtractErr()
			if !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) {
				t.Fatal(err)
			}
			must(messages.DeleteMessages(ctx, consumer, "q", messages.DeleteMessagesOpts{IDs: ids[1:6]}).ExtractErr())
			if diff := cmp.Diff(ids[6:], list(consumer, messages.ListOpts{})); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func TestGophercloudClaims(t *testing.T) {
	t.Parallel()
	for name, endpoint := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			ctx, client := t.Context(), a.gophercloud(endpoint, ours)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			none := claims.Create(ctx, client, "q", claims.CreateOpts{TTL: 60, Grace: 60})
			must(none.Err)
			if location := none.Header.Get("Location"); location != "" {
				t.Fatalf("a claim of nothing at %s", location)
			}
			batch := messages.BatchCreateOpts{}
			for i := range 5 {
				batch = append(batch, messages.CreateOpts{TTL: 300, Body: map[string]any{"i": i}})
			}
			must(messages.Create(ctx, client, "q", batch).Err)
			a.advance(1500 * time.Millisecond)

			made := claims.Create(ctx, client, "q", claims.CreateOpts{TTL: 400, Grace: 100, Limit: 2})
			held, err := made.Extract()
			must(err)
			location := made.Header.Get("Location")
			claim := location[strings.LastIndexByte(location, '/')+1:]
			if len(held) != 2 || held[1].Body["i"] != 1.0 || held[1].TTL != 500 || !strings.HasSuffix(held[0].Href, "?claim_id="+claim) {
				t.Fatalf("claimed: %+v", held)
			}
			must(claims.Update(ctx, client, "q", claim, claims.UpdateOpts{TTL: 600, Grace: 100}).Err)
			shown, err := claims.Get(ctx, client, "q", claim).Extract()
			must(err)
			if shown.TTL != 600 || shown.Href != location || len(shown.Messages) != 2 || shown.Messages[0].TTL != 700 {
				t.Fatalf("shown: %+v", shown)
			}

			path, _, _ := strings.Cut(held[0].Href, "?")
			first := path[strings.LastIndexByte(path, '/')+1:]
			err = messages.Delete(ctx, client, "q", first, nil).ExtractErr()
			if !gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
				t.Fatal(err)
			}
			must(messages.Delete(ctx, client, "q", first, messages.DeleteOpts{ClaimID: claim}).ExtractErr())
			stats, err := queues.GetStats(ctx, client, "q").Extract()
			must(err)
			if stats != (queues.Stats{Claimed: 1, Total: 4, Free: 3}) {
				t.Fatalf("stats: %+v", stats)
			}
			must(claims.Delete(ctx, client, "q", claim).ExtractErr())
			if _, err := claims.Get(ctx, client, "q", claim).Extract(); !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
				t.Fatal(err)
			}
			popped, err := messages.PopMessages(ctx, client, "q", messages.PopMessagesOpts{Pop: 2}).Extract()
			must(err)
			if len(popped) != 2 || popped[0].Body["i"] != 1.0 || popped[1].Body["i"] != 2.0 {
				t.Fatalf("popped: %+v", popped)
			}
			must(queues.Purge(ctx, client, "q", queues.PurgeOpts{ResourceTypes: []queues.PurgeResource{queues.ResourceMessages}}).ExtractErr())
			stats, err = queues.GetStats(ctx, client, "q").Extract()
			must(err)
			if stats != (queues.Stats{}) {
				t.Fatalf("stats after a purge: %+v", stats)
			}
		})
	}
}
