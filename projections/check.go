package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nabu/eventstore"
	"nabu/internal/pgrows"
)

// Difference is a row of a live table that is not what the history adds up to.
type Difference struct {
	Table string  `json:"table"`
	Key   []Value `json:"key"`
	// Live and Folded are the columns that differ, as texts; none: there is no such row.
	Live   []Value `json:"live"`
	Folded []Value `json:"folded"`
}

// Value is a column's value in a row; nil: NULL.
type Value struct {
	Column string  `json:"column"`
	Text   *string `json:"value"`
}

// Checking compares the live read models with what the history adds up to.
type Checking struct {
	// DB is as for a Rebuilding.
	DB          *sql.DB
	Projections []Projection
	// Tell is told how far it has come; nil: nobody is. It is called from Run.
	Tell func(Progress)
	// Found is told each row that differs. It is called from Run.
	Found func(Difference) error
	// Slice is how many events are folded at once, at most; 0: as many as is good.
	Slice int
}

// Run checks, while the service serves. Head and live rows are of one moment, and the
// history is folded to exactly that head; for a projection that follows the feed, to its
// checkpoint. It fails with ErrBusy when another check or a rebuild is at work.
func (k Checking) Run(ctx context.Context) error {
	var inline []Projection
	for _, p := range k.Projections {
		if !p.async() {
			inline = append(inline, p)
		}
	}
	if len(inline) > 0 {
		if err := k.check(ctx, inline, ""); err != nil {
			return err
		}
	}
	for _, p := range k.Projections {
		if !p.async() {
			continue
		}
		if err := k.check(ctx, []Projection{p}, p.Name); err != nil {
			return err
		}
	}
	return nil
}

// check checks projections that are at the same position: all that are written with the
// ledger, or one that follows the feed as a consumer.
func (k Checking) check(ctx context.Context, projections []Projection, follows string) (err error) {
	c, err := startCopy(ctx, k.DB, scratchSchema, projections, k.Slice, k.Tell)
	if err != nil {
		return err
	}
	c.follows = follows
	defer func() { err = c.clear(ctx, err, scratchSchema) }()
	if err := c.bulk(ctx); err != nil {
		return err
	}
	if err := c.catchUp(ctx); err != nil {
		return err
	}
	return k.compare(ctx, c)
}

// compare sees everything as it was at one moment, and folds what is left up to there in
// the same transaction, which leaves nothing behind.
func (k Checking) compare(ctx context.Context, c *copying) error {
	tables, err := c.tables(ctx, scratchSchema)
	if err != nil {
		return err
	}
	tx, err := c.conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := c.look(ctx, tx); err != nil {
		return err
	}
	c.report(Comparing)
	if err := c.finish(ctx, tx, c.head); err != nil {
		return err
	}
	shapes, err := k.compareShapes(ctx, tx)
	if err != nil {
		return err
	}
	// The fold has told the planner to look up each row by itself.
	if _, err := tx.ExecContext(ctx, `
SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on; SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on; SET LOCAL enable_sort = on`); err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	for _, table := range tables {
		_, name, _ := strings.Cut(table, ".")
		if slices.Contains(shapes, name) {
			continue // its rows cannot be compared
		}
		if err := k.compareRows(ctx, tx, name); err != nil {
			return fmt.Errorf("compare %s: %w", name, err)
		}
	}
	return nil
}

// shapes are the columns, indexes and functions of a schema ($1) whose name the scratch
// schema ($2) knows too. Names of schemas are left out of what they are.
const shapes = `
SELECT format('column %I of %I', a.attname, c.relname), c.relname,
    format('%s%s%s', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN ' NOT NULL' END,
        ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = $1::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND c.relname IN (
    SELECT t.relname FROM pg_class t WHERE t.relnamespace = $2::regnamespace)
UNION ALL
SELECT format('index %I', x.relname), '', replace(pg_get_indexdef(i.indexrelid), ' ON ' || $1 || '.', ' ON ')
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class c ON c.oid = i.indrelid
WHERE x.relnamespace = $1::regnamespace AND c.relname IN (
    SELECT t.relname FROM pg_class t WHERE t.relnamespace = $2::regnamespace)
UNION ALL
SELECT format('function %I', p.proname), '', replace(pg_get_functiondef(p.oid), ' FUNCTION ' || $1 || '.', ' FUNCTION ')
FROM pg_proc p
WHERE p.pronamespace = $1::regnamespace AND p.prokind = 'f' AND p.proname IN (
    SELECT t.proname FROM pg_proc t WHERE t.pronamespace = $2::regnamespace)
ORDER BY 1`

// compareShapes tells columns, indexes and functions that somebody has changed, and
// returns the tables whose columns are among them.
func (k Checking) compareShapes(ctx context.Context, tx eventstore.Tx) (changed []string, err error) {
	rows, err := tx.QueryContext(ctx, `
WITH live (name, owner, shape) AS (`+strings.NewReplacer("$1", "'live'", "$2", "'scratch'").Replace(shapes)+`),
folded (name, owner, shape) AS (`+strings.NewReplacer("$1", "'scratch'", "$2", "'scratch'").Replace(shapes)+`)
SELECT name, coalesce(l.owner, f.owner), l.shape, f.shape
FROM live l FULL JOIN folded f USING (name)
WHERE l.shape IS DISTINCT FROM f.shape
ORDER BY name`)
	err = pgrows.Each("compare the tables' shapes", rows, err, func() error {
		var name, table string
		var live, folded *string
		if err := rows.Scan(&name, &table, &live, &folded); err != nil {
			return err
		}
		d := Difference{Table: "the schema", Key: []Value{{"name", &name}}}
		if live != nil {
			d.Live = []Value{{"definition", live}}
		}
		if folded != nil {
			d.Folded = []Value{{"definition", folded}}
		}
		if err := k.Found(d); err != nil {
			return err
		}
		if table != "" {
			changed = append(changed, table)
		}
		return nil
	})
	return changed, err
}

// layout is what there is to know of a table to compare its rows.
type layout struct {
	key, columns []string
	written      map[string]bool // columns whose values are compared as texts
}

// layoutOf reads the columns of a table in the scratch schema, and those of its key.
func layoutOf(ctx context.Context, tx eventstore.Tx, table string) (l layout, err error) {
	rows, err := tx.QueryContext(ctx, `
SELECT quote_ident(a.attname), coalesce(a.attnum = ANY (i.indkey), false), a.atttypid = 'jsonb'::regtype
FROM pg_attribute a
LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = format('%s.%s', $1::text, $2::text)::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum`, scratchSchema, table)
	if err != nil {
		return l, err
	}
	defer rows.Close()
	l.written = map[string]bool{}
	for rows.Next() {
		var name string
		var ofKey, written bool
		if err := rows.Scan(&name, &ofKey, &written); err != nil {
			return l, err
		}
		if ofKey {
			l.key = append(l.key, name)
		}
		l.columns, l.written[name] = append(l.columns, name), written
	}
	if err := rows.Err(); err != nil {
		return l, err
	}
	if len(l.key) == 0 {
		return l, errors.New("the table has no primary key")
	}
	return l, nil
}

// query finds the rows that differ: whether each is live and folded, and all columns of
// both as texts. Values are compared as texts too where equal ones may be written in two
// ways.
func (l layout) query(table string) string {
	var joins, order, texts, live, folded []string
	for _, column := range l.key {
		joins = append(joins, fmt.Sprintf("l.%s = f.%[1]s", column))
		order = append(order, fmt.Sprintf("coalesce(l.%s, f.%[1]s)", column))
	}
	for _, column := range l.columns {
		texts = append(texts, fmt.Sprintf("l.%s::text, f.%[1]s::text", column))
		if l.written[column] {
			column += "::text"
		}
		live, folded = append(live, "l."+column), append(folded, "f."+column)
	}
	return fmt.Sprintf(`
SELECT l.ctid IS NOT NULL, f.ctid IS NOT NULL, %s
FROM live.%s l
FULL JOIN scratch.%[2]s f ON %[3]s
WHERE l.ctid IS NULL OR f.ctid IS NULL OR ROW(%[4]s) IS DISTINCT FROM ROW(%[5]s)
ORDER BY %[6]s`, strings.Join(texts, ", "), table, strings.Join(joins, " AND "),
		strings.Join(live, ", "), strings.Join(folded, ", "), strings.Join(order, ", "))
}

// compareRows tells the rows of a table that differ, in the order of the key.
func (k Checking) compareRows(ctx context.Context, tx eventstore.Tx, table string) error {
	l, err := layoutOf(ctx, tx, table)
	if err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, l.query(table))
	if err != nil {
		return err
	}
	defer rows.Close()
	var isLive, isFolded bool
	live, folded := make([]*string, len(l.columns)), make([]*string, len(l.columns))
	targets := []any{&isLive, &isFolded}
	for i := range l.columns {
		targets = append(targets, &live[i], &folded[i])
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		if err := k.Found(l.difference(table, isLive, isFolded, live, folded)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// difference is a row that differs, with those of its columns that do.
func (l layout) difference(table string, isLive, isFolded bool, live, folded []*string) Difference {
	d := Difference{Table: table}
	for i, column := range l.columns {
		text := live[i]
		if !isLive {
			text = folded[i]
		}
		if slices.Contains(l.key, column) {
			d.Key = append(d.Key, Value{column, text})
		}
		if isLive && isFolded && same(live[i], folded[i]) {
			continue
		}
		if isLive {
			d.Live = append(d.Live, Value{column, live[i]})
		}
		if isFolded {
			d.Folded = append(d.Folded, Value{column, folded[i]})
		}
	}
	return d
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
