package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// UserMessage is a user message as clients see it.
type UserMessage struct {
	domain.UserMessage
	Position int64 // of the event that recorded it
}

// UserMessageColumns are what a list of user messages can be sorted and filtered by, as
// Cinder names them.
var UserMessageColumns = []string{
	"id", "project_id", "event_id", "action_id", "detail_id", "message_level", "resource_type", "resource_uuid",
	"request_id", "created_at", "expires_at", "updated_at", "deleted_at", "deleted",
}

// userMessageColumn is what a column is called here; empty: there is none, as no message
// that is there has a value in it.
func userMessageColumn(name string) string {
	switch name {
	case "project_id":
		return "project"
	case "updated_at", "deleted_at", "deleted":
		return ""
	}
	return name
}

// UserMessageFilter asks for messages whose column has a value.
type UserMessageFilter struct {
	Column string // any; one that is not in UserMessageColumns finds nothing
	Value  string
	Part   bool // the value is a part of the column's
}

// UserMessageOrder is a key to sort by.
type UserMessageOrder struct {
	Column     string // of UserMessageColumns
	Descending bool
}

// UserMessageList asks for a page of the user messages of a project, or of all.
type UserMessageList struct {
	Project string
	All     bool // of all projects; Project plays no role
	Filters []UserMessageFilter
	// Order ends with the time of creation and the id, in the direction of its first key;
	// empty: the newest first.
	Order []UserMessageOrder
	// Marker is the message that the page comes after, which may be one that the list has
	// not got; zero: it begins with the first.
	Marker domain.UserMessageID
	Offset int
	Limit  int
}

// UserMessages lists user messages that nobody has deleted, whether they are guaranteed any
// more or not.
func (v *Views) UserMessages(ctx context.Context, list UserMessageList) ([]UserMessage, error) {
	statement, args, some := list.query()
	if !some {
		return nil, nil
	}
	return v.userMessages(ctx, statement, args)
}

// query is the statement of a page; some is false if the list can have none.
func (l UserMessageList) query() (statement string, args []any, some bool) {
	q := l.where()
	if q.none || l.Limit == 0 {
		return "", nil, false
	}
	order := l.order()
	if l.Marker != (domain.UserMessageID{}) {
		q.after(l.Marker, order)
	}
	var keys []string
	for _, key := range order {
		direction := ""
		if key.Descending {
			direction = " DESC"
		}
		keys = append(keys, "m."+key.Column+direction)
	}
	statement = `SELECT ` + userMessageRead + `, m.position FROM user_messages m
WHERE ` + strings.Join(q.conditions, ` AND `) + `
ORDER BY ` + strings.Join(keys, ", ") + ` LIMIT ` + q.add(l.Limit) + ` OFFSET ` + q.add(l.Offset)
	return statement, q.parameters, true
}

// NewUserMessages lists user messages that were recorded behind a position, in that order, and
// tells how far it has looked: there was none other of the list up to there. Of the list, its
// order, marker and offset play no role.
func (v *Views) NewUserMessages(ctx context.Context, list UserMessageList, after int64) (page []UserMessage, reached int64, err error) {
	q := list.where()
	if q.none {
		return nil, after, nil
	}
	reached = after
	if len(list.Filters) > 0 { // or what they leave out would be read again each time
		last, err := v.LastUserMessage(ctx)
		if err != nil {
			return nil, after, err
		}
		reached = max(reached, last)
	}
	statement := `SELECT ` + userMessageRead + `, m.position FROM user_messages m
WHERE ` + strings.Join(q.conditions, ` AND `) + ` AND m.position > ` + q.add(after) + `
ORDER BY m.position LIMIT ` + q.add(list.Limit)
	if page, err = v.userMessages(ctx, statement, q.parameters); err != nil {
		return nil, after, err
	}
	if n := len(page); n > 0 && n == list.Limit {
		reached = page[n-1].Position
	} else if n > 0 {
		reached = max(reached, page[n-1].Position)
	}
	return page, reached, nil
}

// LastUserMessage is the position behind which all user messages are new; 0: any.
func (v *Views) LastUserMessage(ctx context.Context) (position int64, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := v.DB.QueryRowContext(ctx, `SELECT coalesce(max(m.position), 0) FROM user_messages m`).Scan(&position); err != nil {
		return 0, fmt.Errorf("find the last user message: %w", err)
	}
	return position, nil
}

// UserMessage finds a user message of a project, or of any.
func (v *Views) UserMessage(ctx context.Context, id domain.UserMessageID, project string, all bool) (m UserMessage, exists bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	err = readUserMessage(v.DB.QueryRowContext(ctx, `SELECT `+userMessageRead+`, m.position FROM user_messages m
WHERE m.id = $1 AND NOT m.deleted AND ($2 OR m.project = $3)`, id, all, project), &m.UserMessage, &m.Position)
	if errors.Is(err, sql.ErrNoRows) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("read user message: %w", err)
	}
	return m, true, nil
}

// ExpiredUserMessages lists user messages that are not guaranteed any more, by their
// projects. Those that were deleted are among them.
func (v *Views) ExpiredUserMessages(ctx context.Context, l SweepLook[string]) (map[string][]domain.UserMessageID, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, `
SELECT m.project, m.id FROM user_messages m
WHERE m.expires_at < $1 AND m.project <> ALL ($3::text[]) ORDER BY m.expires_at LIMIT $2`, l.By, l.Most, pgarray.Texts(l.Except))
	return idsByProject("list expired user messages", rows, err)
}

func (v *Views) userMessages(ctx context.Context, statement string, args []any) ([]UserMessage, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	rows, err := v.DB.QueryContext(ctx, statement, args...)
	return pgrows.Collect("list user messages", rows, err, func(m *UserMessage) error {
		return readUserMessage(rows, &m.UserMessage, &m.Position)
	})
}

// userMessageQuery is a statement that is being written.
type userMessageQuery struct {
	conditions []string
	parameters
	none bool // no message can satisfy it
}

// where are the conditions of a list. They stand in the order of the columns, so that there
// are few statements.
func (l UserMessageList) where() *userMessageQuery {
	q := &userMessageQuery{conditions: []string{"NOT m.deleted"}}
	if !l.All {
		q.conditions = append(q.conditions, "m.project = "+q.add(l.Project))
	}
	filters := slices.Clone(l.Filters)
	slices.SortStableFunc(filters, func(a, b UserMessageFilter) int {
		return slices.Index(UserMessageColumns, a.Column) - slices.Index(UserMessageColumns, b.Column)
	})
	for _, f := range filters {
		q.filter(f)
	}
	return q
}

// filter adds a condition.
func (q *userMessageQuery) filter(f UserMessageFilter) {
	column := userMessageColumn(f.Column)
	switch {
	case f.Column == "deleted" && slices.Contains([]string{"0", "false", "False"}, f.Value):
		return
	case column == "" || !slices.Contains(UserMessageColumns, f.Column) || !domain.Storable(f.Value):
		q.none = true
		return
	case f.Part:
		q.partOf(column, f.Value)
		return
	case f.Value == "": // what is absent equals nothing
		q.none = true
		return
	}
	var value any = f.Value
	switch column {
	case "id":
		id, err := uuid.Parse(f.Value)
		q.none = q.none || err != nil
		value = id
	case "created_at", "expires_at":
		at, err := domain.ParseUserMessageTime(f.Value)
		q.none = q.none || err != nil
		value = at
	case "resource_type": // as where databases compare texts without regard to case
		value = strings.ToUpper(f.Value)
	case "resource_uuid":
		value = strings.ToLower(f.Value)
	case "request_id":
		at := q.add(value)
		q.conditions = append(q.conditions, `m.id IN (SELECT r.id FROM user_messages r WHERE r.request_id = `+at+
			` UNION ALL SELECT r.id FROM user_messages r WHERE r.global_request_id = `+at+`)`)
		return
	}
	q.conditions = append(q.conditions, "m."+column+" = "+q.add(value))
}

// partOf looks for a text within a column, whatever characters it has.
func (q *userMessageQuery) partOf(column, value string) {
	switch column {
	case "resource_type":
		value = strings.ToUpper(value)
	case "resource_uuid", "id":
		value = strings.ToLower(value)
	}
	at := q.add(value)
	condition := `strpos(m.` + column + `::text, ` + at + `) > 0`
	switch column {
	case "request_id":
		condition = `(` + condition + ` OR strpos(m.global_request_id, ` + at + `) > 0)`
	case "created_at", "expires_at":
		condition = `strpos(to_char(m.` + column + ` AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), ` + at + `) > 0`
	}
	q.conditions = append(q.conditions, condition)
}

// order are the keys that the list is sorted by; together they are unlike in any two
// messages.
func (l UserMessageList) order() []UserMessageOrder {
	var order []UserMessageOrder
	add := func(column string, descending bool) {
		column = userMessageColumn(column)
		there := slices.ContainsFunc(order, func(o UserMessageOrder) bool { return o.Column == column })
		if last := len(order) - 1; column == "" || there || last >= 0 && order[last].Column == "id" {
			return
		}
		order = append(order, UserMessageOrder{column, descending})
	}
	descending := len(l.Order) == 0 || l.Order[0].Descending
	for _, key := range l.Order {
		add(key.Column, key.Descending)
	}
	add("created_at", descending)
	add("id", descending)
	return order
}

// after asks for what comes behind a message in an order. Where all keys go the same way
// that is one comparison, which an index answers; otherwise the first key bounds it.
func (q *userMessageQuery) after(marker domain.UserMessageID, order []UserMessageOrder) {
	id := q.add(marker)
	its := func(column string) string {
		if column == "id" {
			return id + "::uuid"
		}
		return `(SELECT k.` + column + ` FROM user_messages k WHERE k.id = ` + id + `)`
	}
	beyond := func(key UserMessageOrder) string {
		if key.Descending {
			return " < "
		}
		return " > "
	}
	mixed := slices.ContainsFunc(order, func(key UserMessageOrder) bool { return key.Descending != order[0].Descending })
	var mine, theirs, ways, equal []string
	for _, key := range order {
		mine, theirs = append(mine, "m."+key.Column), append(theirs, its(key.Column))
		ways = append(ways, strings.Join(append(equal, "m."+key.Column+beyond(key)+its(key.Column)), " AND "))
		equal = append(equal, "m."+key.Column+" = "+its(key.Column))
	}
	if !mixed {
		q.conditions = append(q.conditions, "("+strings.Join(mine, ", ")+")"+beyond(order[0])+"("+strings.Join(theirs, ", ")+")")
		return
	}
	bound := strings.TrimSuffix(beyond(order[0]), " ") + "= "
	q.conditions = append(q.conditions, mine[0]+bound+theirs[0], "("+strings.Join(ways, " OR ")+")")
}
