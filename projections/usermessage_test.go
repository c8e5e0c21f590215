package projections_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// tellOrUntell does something to user messages.
func (w *walk) tellOrUntell() {
	how := rapid.IntRange(0, 2).Draw(w.T, "how")
	switch {
	case len(w.told) == 0 || how == 0:
		w.tell(uuid.New())
	case how == 1:
		w.tell(rapid.SampledFrom(w.told).Draw(w.T, "told"))
	default:
		w.untell(rapid.SampledFrom(w.told).Draw(w.T, "told"))
	}
}

// tell records a user message, perhaps once more, that is guaranteed for some minutes. What
// is answered is what the view shows, unless somebody has deleted it.
func (w *walk) tell(id domain.UserMessageID) {
	rules := domain.DefaultUserMessageRules()
	rules.TTL = 3 * time.Minute
	got, err := commands.Run(w.request(), w.executor, commands.RecordUserMessage{Rules: rules, Message: domain.NewUserMessage{
		Project: w.project, ID: id, Named: true, Action: rapid.SampledFrom([]string{"001", "002"}).Draw(w.T, "action"),
	}})
	if err != nil {
		return
	}
	w.told = append(w.told, id)
	seen, exists, err := w.views.UserMessage(context.Background(), id, w.project, false)
	if err != nil || exists == got.Deleted {
		w.house.Fatalf("user message %s: there: %v, deleted: %v, %v", id, exists, got.Deleted, err)
	}
	if diff := gocmp.Diff(got, seen.UserMessage); exists && diff != "" {
		w.house.Fatalf("(-answered +read):\n%s", diff)
	}
}

// untell deletes a user message, and takes away those that are not guaranteed any more.
func (w *walk) untell(id domain.UserMessageID) {
	_, _ = commands.Run(w.request(), w.executor, commands.DeleteUserMessage{ID: id, Project: w.project})
	by, err := w.views.Clock(context.Background())
	if err != nil {
		w.house.Fatal(err)
	}
	expired, err := w.views.ExpiredUserMessages(context.Background(), projections.SweepLook[string]{By: by, Most: 2})
	if err != nil {
		w.house.Fatal(err)
	}
	for project, ids := range expired {
		run(w.house, commands.SweepUserMessages{Project: project, IDs: ids})
	}
}

// fillUserMessages puts in messages of five projects as no history would; many of them are
// alike in all but their ids.
func (h *house) fillUserMessages(n int) {
	h.Helper()
	if _, err := h.db.Exec(`
INSERT INTO user_messages (id, project, event_id, action_id, detail_id, message_level, resource_type, resource_uuid, request_id,
    global_request_id, created_at, expires_at, sent, position, deleted)
SELECT gen_random_uuid(), 'p' || n % 5, 'VOLUME_VOLUME_00' || n % 7 || '_00' || n % 3, '00' || n % 7, '00' || n % 3,
    (ARRAY['ERROR', 'ERROR', 'ERROR', 'INFO', 'WARNING'])[1 + n / 5 % 5], (ARRAY['VOLUME', 'VOLUME_SNAPSHOT', 'VOLUME_BACKUP'])[1 + n % 3],
    CASE n % 4 WHEN 0 THEN '' ELSE md5((n % 997)::text)::uuid::text END, CASE n % 6 WHEN 0 THEN '' ELSE 'req-' || n % 1009 END,
    CASE n % 9 WHEN 0 THEN 'req-' || n % 1013 ELSE '' END,
    $2::timestamptz - interval '1 second' * (n / 3), $2::timestamptz - interval '1 second' * (n / 3) + interval '30 days', '', n, n % 29 = 0
FROM generate_series(1, $1) AS n`, n, h.now); err != nil {
		h.Fatal(err)
	}
	if _, err := h.db.Exec(`ANALYZE user_messages`); err != nil {
		h.Fatal(err)
	}
}

// userMessageColumn is a message's value of a column, such that values compare as texts.
func userMessageColumn(m domain.UserMessage, name string) string {
	switch name {
	case "id":
		return m.ID.String()
	case "project_id":
		return m.Project
	case "event_id":
		return m.EventID
	case "action_id":
		return m.ActionID
	case "detail_id":
		return m.DetailID
	case "message_level":
		return m.Level
	case "resource_type":
		return m.ResourceType
	case "resource_uuid":
		return m.ResourceUUID
	case "request_id":
		return m.RequestID
	case "created_at":
		return m.Created.UTC().Format("2006-01-02 15:04:05.000000")
	case "expires_at":
		return m.GuaranteedUntil.UTC().Format("2006-01-02 15:04:05.000000")
	}
	return ""
}

// sortedUserMessages are those that a list is to have, in its order.
func sortedUserMessages(all []projections.UserMessage, list projections.UserMessageList) (ids []domain.UserMessageID) {
	wanted := slices.DeleteFunc(slices.Clone(all), func(m projections.UserMessage) bool {
		for _, f := range list.Filters {
			value := userMessageColumn(m.UserMessage, f.Column)
			its := value == f.Value || f.Part && strings.Contains(value, f.Value)
			if f.Column == "request_id" {
				its = its || m.GlobalRequestID == f.Value || f.Part && strings.Contains(m.GlobalRequestID, f.Value)
			}
			if !its {
				return true
			}
		}
		return !list.All && m.Project != list.Project
	})
	descending := len(list.Order) == 0 || list.Order[0].Descending
	order := append(slices.Clone(list.Order), projections.UserMessageOrder{Column: "created_at", Descending: descending})
	slices.SortFunc(wanted, func(a, b projections.UserMessage) int {
		for _, key := range order {
			if c := cmp.Compare(userMessageColumn(a.UserMessage, key.Column), userMessageColumn(b.UserMessage, key.Column)); c != 0 {
				if key.Descending {
					return -c
				}
				return c
			}
		}
		if c := bytes.Compare(a.ID[:], b.ID[:]); !descending {
			return c
		}
		return bytes.Compare(b.ID[:], a.ID[:])
	})
	for _, m := range wanted {
		ids = append(ids, m.ID)
	}
	return ids
}

// walkUserMessages goes through a list page by page.
func (h *house) walkUserMessages(list projections.UserMessageList) (ids []domain.UserMessageID) {
	h.Helper()
	for {
		page, err := h.views.UserMessages(context.Background(), list)
		if err != nil {
			h.Fatalf("%+v: %v", list, err)
		}
		for _, m := range page {
			ids = append(ids, m.ID)
		}
		if len(page) < list.Limit {
			return ids
		}
		list.Marker = page[len(page)-1].ID
	}
}

func TestUserMessagesAreListed(t *testing.T) {
	h := newHouse(t)
	const many = 240
	h.fillUserMessages(many)
	all, err := h.views.UserMessages(t.Context(), projections.UserMessageList{All: true, Limit: many})
	if err != nil || len(all) != many-many/29 {
		t.Fatalf("%d of %d are there, %v", len(all), many, err)
	}
	some := all[17]
	is := func(column, value string) projections.UserMessageFilter {
		return projections.UserMessageFilter{Column: column, Value: value}
	}
	part := func(column, value string) projections.UserMessageFilter {
		return projections.UserMessageFilter{Column: column, Value: value, Part: true}
	}
	filters := [][]projections.UserMessageFilter{
		nil, {is("message_level", "INFO")}, {is("resource_type", "VOLUME"), is("event_id", some.EventID)}, {is("project_id", "p3")},
		{is("request_id", "req-9")}, {is("id", some.ID.String())}, {is("resource_uuid", all[20].ResourceUUID)}, {part("event_id", "_001")},
		{part("request_id", "req-1"), part("resource_type", "SNAP")}, {part("created_at", "23:59:4")}, {is("created_at", "2029-12-31 23:59:40")},
	}
	orders := [][]projections.UserMessageOrder{nil, {{Column: "message_level"}, {Column: "resource_type", Descending: true}, {Column: "id"}}}
	for _, column := range projections.UserMessageColumns {
		orders = append(orders, []projections.UserMessageOrder{{Column: column}}, []projections.UserMessageOrder{{Column: column, Descending: true}},
			[]projections.UserMessageOrder{{Column: column, Descending: true}, {Column: "created_at"}})
	}
	for _, order := range orders {
		for i, filter := range filters {
			list := projections.UserMessageList{All: i%2 == 0, Project: "p3", Filters: filter, Order: order, Limit: 7}
			asked := list
			for i, f := range filter { // a time may be written in many ways
				if f.Column == "created_at" && !f.Part {
					asked.Filters = slices.Clone(filter)
					asked.Filters[i].Value += ".000000"
				}
			}
			if diff := gocmp.Diff(sortedUserMessages(all, asked), h.walkUserMessages(list)); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", list, diff)
			}
		}
	}
	if page, err := h.views.UserMessages(t.Context(), projections.UserMessageList{All: true, Limit: 9, Marker: uuid.New()}); err != nil || len(page) > 0 {
		t.Errorf("after nothing: %v, %v", page, err)
	}
}

// A page in the middle of a long list costs a page, by whatever key it is sorted and
// whichever of the usual filters it has.
func TestAPageOfUserMessagesCostsAPage(t *testing.T) {
	h := newHouse(t)
	const many = 20_000
	h.fillUserMessages(many)
	var marker domain.UserMessageID
	if err := h.db.QueryRow(`SELECT id FROM user_messages WHERE project = 'p3' ORDER BY created_at OFFSET 2000 LIMIT 1`).Scan(&marker); err != nil {
		t.Fatal(err)
	}
	filters := [][]projections.UserMessageFilter{nil}
	for column, value := range map[string]string{
		"event_id": "VOLUME_VOLUME_003_001", "message_level": "WARNING", "resource_type": "VOLUME_BACKUP",
		"resource_uuid": "c4ca4238-a0b9-2382-0dcc-509a6f75849b", "request_id": "req-77",
	} {
		filters = append(filters, []projections.UserMessageFilter{{Column: column, Value: value}})
	}
	for _, all := range []bool{false, true} {
		for _, filter := range filters {
			for _, column := range []string{"created_at", "event_id", "message_level", "resource_type"} {
				if filter != nil && column != "created_at" {
					continue
				}
				for _, descending := range []bool{false, true} {
					list := projections.UserMessageList{
						All: all, Project: "p3", Filters: filter, Limit: 25, Marker: marker,
						Order: []projections.UserMessageOrder{{Column: column, Descending: descending}},
					}
					if cost := h.blocks(list.Query()); cost > 300 {
						t.Errorf("%+v: %d blocks", list, cost)
					}
				}
			}
		}
	}
}

// blocks is how many blocks a statement looks at.
func (h *house) blocks(statement string, args []any) int {
	h.Helper()
	var text []byte
	if err := h.db.QueryRow(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+statement, args...).Scan(&text); err != nil {
		h.Fatal(err)
	}
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) != 1 {
		h.Fatalf("%s: %v", text, err)
	}
	return plans[0].Plan.Hit + plans[0].Plan.Read
}

// BenchmarkUserMessagePage reads a page in the middle of a list in small and in large tables:
// that must not matter.
func BenchmarkUserMessagePage(b *testing.B) {
	for _, size := range []int{100, 1_000_000} {
		h := newHouse(b)
		h.fillUserMessages(size)
		var marker domain.UserMessageID
		if err := h.db.QueryRow(`SELECT id FROM user_messages WHERE project = 'p3' ORDER BY created_at OFFSET $1 LIMIT 1`, size/10).Scan(&marker); err != nil {
			b.Fatal(err)
		}
		for _, filter := range [][]projections.UserMessageFilter{
			nil, {{Column: "resource_type", Value: "volume"}}, {{Column: "request_id", Value: "req-77"}}, {{Column: "message_level", Value: "INFO"}},
		} {
			list := projections.UserMessageList{Project: "p3", Filters: filter, Limit: 25, Marker: marker}
			b.Run(fmt.Sprintf("of %d where %v", size, filter), func(b *testing.B) {
				for b.Loop() {
					if _, err := h.views.UserMessages(b.Context(), list); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestAnIDThatTwoProjectsHadInTurn: what one project's message leaves behind when it expires
// is another project's to take, also where both stand in one slice of the history.
func TestAnIDThatTwoProjectsHadInTurn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id, rules := uuid.New(), domain.DefaultUserMessageRules()
	rules.TTL = time.Minute
	tell := func(project string) {
		run(h, commands.RecordUserMessage{Rules: rules, Message: domain.NewUserMessage{Project: project, ID: id, Named: true, Action: "001"}})
	}
	tell("p")
	h.now = h.now.Add(2 * time.Minute)
	run(h, commands.SweepUserMessages{Project: "p", IDs: []domain.UserMessageID{id}})
	tell("q")
	for _, slice := range []int{1, 2, 1000} {
		if found := h.check(slice); len(found) > 0 {
			t.Errorf("in slices of %d a check finds %v", slice, found)
		}
		before := h.tables()
		h.rebuild(slice)
		if diff := gocmp.Diff(before, h.tables()); diff != "" {
			t.Errorf("in slices of %d (-live +rebuilt):\n%s", slice, diff)
		}
	}
	if _, exists, err := h.views.UserMessage(t.Context(), id, "q", false); err != nil || !exists {
		t.Errorf("the second message is there: %v, %v", exists, err)
	}
}

// TestNewUserMessagesAreLookedAtOnce: who follows a list that leaves much out need not have
// that read again each time, and misses nothing for it.
func TestNewUserMessagesAreLookedAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tell := func(level string) {
		run(h, commands.RecordUserMessage{Rules: domain.DefaultUserMessageRules(), Message: domain.NewUserMessage{
			Project: "p", ID: uuid.New(), Action: "001", Level: level,
		}})
	}
	list := projections.UserMessageList{Project: "p", Limit: 2, Filters: []projections.UserMessageFilter{{Column: "message_level", Value: "INFO"}}}
	var after int64
	follow := func(want int) {
		t.Helper()
		page, reached, err := h.views.NewUserMessages(t.Context(), list, after)
		if err != nil || len(page) != want || reached <= after {
			t.Fatalf("from %d to %d, %d messages, want %d: %v", after, reached, len(page), want, err)
		}
		after = reached
	}
	tell("ERROR")
	tell("ERROR")
	follow(0)
	if last, err := h.views.LastUserMessage(t.Context()); err != nil || after != last {
		t.Errorf("looked as far as %d of %d: %v", after, last, err)
	}
	for _, level := range []string{"INFO", "ERROR", "INFO", "INFO", "ERROR"} {
		tell(level)
	}
	follow(2)
	follow(1)
	if _, reached, err := h.views.NewUserMessages(t.Context(), list, after); err != nil || reached != after {
		t.Errorf("went from %d to %d without news: %v", after, reached, err)
	}
}
