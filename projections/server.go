package projections

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"nabu/domain"
	"nabu/eventstore"
	"nabu/internal/pgarray"
	"nabu/internal/pgrows"
)

// Servers are the servers of the Compute API and the hosts that they are on.
var Servers = Projection{Name: "servers", DDL: mustDDL("servers"), Apply: applyToServers}

// foldServers is the last word on each server, in the order of first mention.
func foldServers(history []eventstore.RecordedEvent) []*domain.Server {
	var servers mentions[domain.ServerID, domain.Server]
	for _, recorded := range history {
		switch e := recorded.Event.(type) {
		case domain.ServerAssigned:
			servers.of(e.ID).Apply(e)
		case domain.ServerUnassigned:
			servers.of(e.ID).Apply(e)
		case domain.ServerForgotten:
			servers.of(e.ID).Apply(e)
		}
	}
	return servers.rows
}

const upsertServers = `
INSERT INTO server_hosts (server_uuid, host, node, source_host, dest_host, state, project, deleted, observed_at, source)
SELECT s.id, s.host, s.node, s.source_host, s.dest_host, s.state, s.project, s.deleted = 1, s.observed_at, s.source
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::timestamptz[], $10::text[])
    AS s (id, host, node, source_host, dest_host, state, project, deleted, observed_at, source)
ON CONFLICT (server_uuid) DO UPDATE
SET host = excluded.host, node = excluded.node, source_host = excluded.source_host, dest_host = excluded.dest_host,
    state = excluded.state, project = excluded.project, deleted = excluded.deleted, observed_at = excluded.observed_at, source = excluded.source`

func applyToServers(ctx context.Context, tx eventstore.Tx, history []eventstore.RecordedEvent) error {
	servers := foldServers(history)
	if len(servers) == 0 {
		return nil
	}
	n := len(servers)
	ids, observed, deleted := make([]uuid.UUID, n), make([]time.Time, n), make([]int, n)
	texts := [7][]string{} // host, node, source_host, dest_host, state, project, source
	for i, s := range servers {
		ids[i], observed[i] = s.ID, s.ObservedAt
		if s.Deleted {
			deleted[i] = 1
		}
		for j, text := range []string{s.Host, s.Node, s.SourceHost, s.DestHost, s.State, s.Project, s.Source} {
			texts[j] = append(texts[j], text)
		}
	}
	args := []any{pgarray.UUIDs(ids)}
	for _, column := range texts[:6] {
		args = append(args, pgarray.TextsOrNull(column))
	}
	args = append(args, pgarray.Ints(deleted), pgarray.Times(observed), pgarray.Texts(texts[6]))
	if _, err := tx.ExecContext(ctx, upsertServers, args...); err != nil {
		return fmt.Errorf("write servers: %w", err)
	}
	return nil
}

// serverRead are the columns of a server, as readServer takes them.
const serverRead = `s.server_uuid, s.host, s.node, s.source_host, s.dest_host, s.state, s.project, s.deleted, s.observed_at, s.source`

// readServer reads the columns of serverRead, and more. Of a server that is not there all
// of them are NULL.
func readServer(rows interface{ Scan(...any) error }, s *domain.Server, more ...any) error {
	var id uuid.NullUUID
	var host, node, from, to, state, project, source sql.NullString
	var deleted sql.NullBool
	var observed sql.NullTime
	err := rows.Scan(append([]any{&id, &host, &node, &from, &to, &state, &project, &deleted, &observed, &source}, more...)...)
	*s = domain.Server{
		ID:          id.UUID,
		Whereabouts: domain.Whereabouts{Host: host.String, Node: node.String, SourceHost: from.String, DestHost: to.String, State: state.String, Project: project.String},
		Deleted:     deleted.Bool, ObservedAt: observed.Time, Source: source.String,
	}
	return err
}

var loadServers = `
SELECT ` + serverRead + `, asked.id, ` + eventstore.LastVersion("'server/' || asked.id") + `
FROM unnest($1::uuid[]) AS asked (id) LEFT JOIN server_hosts s ON s.server_uuid = asked.id`

// Servers finds what is known of servers, forgotten ones as well, and the versions of their
// streams, which those have as well of which nothing but events was ever heard.
func (States) Servers(
	ctx context.Context, tx eventstore.Tx, ids []domain.ServerID,
) (map[domain.ServerID]eventstore.Versioned[domain.Server], error) {
	rows, err := tx.QueryContext(ctx, loadServers, pgarray.UUIDs(ids))
	found := make(map[domain.ServerID]eventstore.Versioned[domain.Server], len(ids))
	err = pgrows.Each("load servers", rows, err, func() error {
		var its eventstore.Versioned[domain.Server]
		var id domain.ServerID
		if err := readServer(rows, &its.State, &id, &its.Version); err != nil {
			return err
		}
		found[id] = its
		return nil
	})
	return found, err
}

// ServerList asks for a page of the servers that there are, in the order of their ids.
type ServerList struct {
	Host  string           // that they are on, come from or go to; empty: any, or none
	After *domain.ServerID // nil: the page begins with the first
	Limit int
}

// Servers lists servers that were not forgotten.
func (v *Views) Servers(ctx context.Context, list ServerList) ([]domain.Server, error) {
	if !domain.Storable(list.Host) {
		return nil, nil // no host is called so
	}
	ctx, cancel := within(ctx)
	defer cancel()
	statement, args := listServers, []any{list.After, list.Limit}
	if list.Host != "" {
		statement, args = listServersOfHost, append(args, list.Host)
	}
	rows, err := v.DB.QueryContext(ctx, statement, args...)
	return pgrows.Collect("list servers", rows, err, func(s *domain.Server) error {
		return readServer(rows, s)
	})
}

const afterMarker = `NOT s.deleted AND ($1::uuid IS NULL OR s.server_uuid > $1::uuid)`

const listServers = `
SELECT ` + serverRead + ` FROM server_hosts s WHERE ` + afterMarker + ` ORDER BY s.server_uuid LIMIT $2`

// listServersOfHost looks into one index for each column: with OR it would read all.
const listServersOfHost = `
SELECT ` + serverRead + `
FROM (
    (SELECT s.server_uuid FROM server_hosts s WHERE s.host = $3 AND ` + afterMarker + ` ORDER BY s.server_uuid LIMIT $2)
    UNION
    (SELECT s.server_uuid FROM server_hosts s WHERE s.source_host = $3 AND ` + afterMarker + ` ORDER BY s.server_uuid LIMIT $2)
    UNION
    (SELECT s.server_uuid FROM server_hosts s WHERE s.dest_host = $3 AND ` + afterMarker + ` ORDER BY s.server_uuid LIMIT $2)
) AS its JOIN server_hosts s USING (server_uuid)
ORDER BY s.server_uuid LIMIT $2`

// Server finds a server that was not forgotten.
func (v *Views) Server(ctx context.Context, id domain.ServerID) (s domain.Server, exists bool, err error) {
	ctx, cancel := within(ctx)
	defer cancel()
	err = readServer(v.DB.QueryRowContext(ctx,
		`SELECT `+serverRead+` FROM server_hosts s WHERE s.server_uuid = $1 AND NOT s.deleted`, id), &s)
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("read server: %w", err)
	}
	return s, true, nil
}
