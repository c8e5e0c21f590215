package http

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"nabu/commands"
	"nabu/domain"
	"nabu/projections"
)

// Bounds of what is said and asked of servers at once.
const (
	maxServerHosts     = 1000
	maxServerHostsBody = 2 << 20 // bytes
)

// serverHost is a server as clients see it; null: there is none.
type serverHost struct {
	ServerID   domain.ServerID `json:"server_uuid"`
	Host       *string         `json:"host"`
	Node       *string         `json:"node"`
	SourceHost *string         `json:"source_host"`
	DestHost   *string         `json:"dest_host"`
	State      *string         `json:"state"`
	Deleted    bool            `json:"deleted"`
	ObservedAt string          `json:"observed_at"`
	Source     string          `json:"source"`
	ProjectID  string          `json:"project_id,omitempty"` // absent: nobody has said
}

func shownServer(s domain.Server) serverHost {
	orNull := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	return serverHost{
		s.ID, orNull(s.Host), orNull(s.Node), orNull(s.SourceHost), orNull(s.DestHost), orNull(s.State),
		s.Deleted, s.ObservedAt.UTC().Format(time.RFC3339Nano), s.Source, s.Project,
	}
}

// serverInPath is the server that a route names.
func serverInPath(c *call) (domain.ServerID, error) {
	text, err := json.Marshal(readable(c.Param("server")))
	if err != nil {
		return domain.ServerID{}, err
	}
	id, err := readServerID("server_uuid", &jsonValue{string(text)})
	if err != nil {
		return id, namedFault(http.StatusBadRequest, "%v", err)
	}
	return id, nil
}

// showServerHost serves GET /v2.1/os-server-hosts/:server.
func (s *Server) showServerHost(c *call) error {
	id, err := serverInPath(c)
	if err != nil {
		return err
	}
	its, exists, err := s.Views.Server(c.Request().Context(), id)
	if err != nil {
		return err
	}
	if !exists {
		return domain.NoServer(id)
	}
	return writeDocument(c, http.StatusOK, "server_host", shownServer(its))
}

// forgetServerHost serves DELETE /v2.1/os-server-hosts/:server.
func (s *Server) forgetServerHost(c *call) error {
	id, err := serverInPath(c)
	if err != nil {
		return err
	}
	if _, err := commands.Run(c.requestWithoutKey(), s.Executor, commands.ForgetServer{ID: id, Source: domain.FromAPI}); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// assignServerHost serves PUT /v2.1/os-server-hosts/:server.
func (s *Server) assignServerHost(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	_, value, err := readNovaBody(c.Request(), maxComputeBody, buffer)
	if err != nil {
		return err
	}
	id, err := serverInPath(c)
	if err != nil {
		return err
	}
	o, err := readAssignment(value)
	if err != nil {
		return namedFault(http.StatusBadRequest, "%v", err)
	}
	o.ID = id
	servers, err := commands.Run(c.requestWithoutKey(), s.Executor, commands.AssignServers{Observations: []domain.Observation{o}})
	if err != nil {
		return err
	}
	return writeDocument(c, http.StatusOK, "server_host", shownServer(servers[0]))
}

func readAssignment(body *jsonValue) (o domain.Observation, err error) {
	top, err := checkKeys("", body, []string{"server_host"}, []string{"server_host"}, true)
	if err != nil {
		return o, err
	}
	return readObservation("server_host", top["server_host"], nil)
}

// observationKeys are what is said of a server.
var observationKeys = []string{"host", "node", "source_host", "dest_host", "state", "project_id", "observed_at"}

// readObservation reads where a server is. What is left out is null.
func readObservation(field string, v *jsonValue, more []string) (o domain.Observation, err error) {
	its, err := checkKeys(field, v, more, append(more, observationKeys...), true)
	if err != nil {
		return o, err
	}
	o.Source = domain.FromAPI
	for _, text := range []struct {
		name string
		into *string
	}{
		{"host", &o.Host}, {"node", &o.Node}, {"source_host", &o.SourceHost}, {"dest_host", &o.DestHost}, {"state", &o.State},
		{"project_id", &o.Project},
	} {
		value := its[text.name]
		if value == nil || value.isNull() {
			continue
		}
		if !value.isText() {
			return o, notOfType(text.name, value, "string", "null")
		}
		if err := checkText(text.name, value, domain.MaxServerText); err != nil {
			return o, err
		}
		*text.into = value.words()
	}
	if value := its["observed_at"]; value != nil {
		if o.At, err = readTime("observed_at", value); err != nil {
			return o, err
		}
	}
	return o, o.Check()
}

// timeForms are how OpenStack's services write times. Without a zone they are of UTC.
var timeForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"}

func readTime(field string, v *jsonValue) (time.Time, error) {
	if !v.isText() {
		return time.Time{}, notOfType(field, v, "string")
	}
	for _, form := range timeForms {
		if t, err := time.Parse(form, v.words()); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, &schemaError{field, v, v.shown() + " is not a 'date-time'"}
}

// seeded is what has become of one of many observations.
type seeded struct {
	Server  json.RawMessage `json:"server_uuid"` // as it was sent
	Code    int             `json:"code"`
	Message string          `json:"message,omitempty"`
}

// seedServerHosts serves POST /v2.1/os-server-hosts. Each observation stands for itself.
func (s *Server) seedServerHosts(c *call) error {
	buffer := getBuffer()
	defer putBuffer(buffer)
	body, value, err := readNovaBody(c.Request(), maxServerHostsBody, buffer)
	if err != nil {
		return err
	}
	answers, observations, err := readSeed(value)
	if err != nil {
		return namedFault(http.StatusBadRequest, "%v", err)
	}
	ctx, err := c.request(body)
	if err != nil {
		return err
	}
	if len(observations) > 0 {
		if _, err := commands.Run(ctx, s.Executor, commands.AssignServers{Observations: observations}); err != nil {
			return err
		}
	}
	status := http.StatusOK
	if len(observations) < len(answers) {
		status = http.StatusMultiStatus
	}
	return writeDocument(c, status, "server_hosts", answers)
}

// readSeed reads many observations, and answers those that cannot be.
func readSeed(body *jsonValue) (answers []seeded, observations []domain.Observation, err error) {
	top, err := checkKeys("", body, []string{"server_hosts"}, []string{"server_hosts"}, true)
	if err != nil {
		return nil, nil, err
	}
	list := top["server_hosts"]
	if !list.isArray() {
		return nil, nil, notOfType("server_hosts", list, "array")
	}
	items := list.items()
	if len(items) == 0 || len(items) > maxServerHosts {
		return nil, nil, domain.Errorf(domain.Invalid, "server_hosts must have 1 to %d items", maxServerHosts)
	}
	for i, item := range items {
		answer := seeded{Server: json.RawMessage("null"), Code: http.StatusOK}
		if item.isObject() {
			if its, _ := item.members(); its["server_uuid"] != nil {
				answer.Server = json.RawMessage(its["server_uuid"].text)
			}
		}
		if o, err := readSeeded(at(i), item); err != nil {
			answer.Code, answer.Message = http.StatusBadRequest, err.Error()
		} else {
			observations = append(observations, o)
		}
		answers = append(answers, answer)
	}
	return answers, observations, nil
}

func readSeeded(field string, item *jsonValue) (o domain.Observation, err error) {
	if o, err = readObservation(field, item, []string{"server_uuid"}); err != nil {
		return o, err
	}
	its, _ := item.members()
	o.ID, err = readServerID("server_uuid", its["server_uuid"])
	return o, err
}

// listServerHosts serves GET /v2.1/os-server-hosts.
func (s *Server) listServerHosts(c *call) error {
	asked := parsePairs(c.Request().URL.RawQuery)
	list, err := readServerList(asked)
	if err != nil {
		return namedFault(http.StatusBadRequest, "%v", err)
	}
	servers, err := s.Views.Servers(c.Request().Context(), list)
	if err != nil {
		return err
	}
	shown := make([]serverHost, len(servers))
	for i, its := range servers {
		shown[i] = shownServer(its)
	}
	return writeDocument(c, http.StatusOK, "server_hosts", shown)
}

func readServerList(asked query) (list projections.ServerList, err error) {
	list.Limit = maxServerHosts
	list.Host, _ = asked.first("host")
	if text, given := asked.first("limit"); given {
		n, err := strconv.Atoi(text)
		if err != nil && strings.Trim(text, "0123456789") != "" || n < 0 || text == "" {
			return list, domain.Errorf(domain.Invalid, "Invalid input for field/attribute limit. Value: %s. %s is not a whole number from 0 on", text, quotedInPython(text))
		}
		if err == nil {
			list.Limit = min(n, maxServerHosts)
		}
	}
	if text, given := asked.first("marker"); given && text != "" {
		id, valid := looseUUID(text)
		if !valid {
			return list, domain.Errorf(domain.Invalid, "Invalid input for field/attribute marker. Value: %s. %s is not a 'uuid'", text, quotedInPython(text))
		}
		list.After = &id
	}
	return list, nil
}

// hostQueue is where an agent finds the events of its host.
type hostQueue struct {
	Host      string `json:"host"`
	Queue     string `json:"queue"`
	TTL       int    `json:"ttl"` // of its messages; seconds
	ProjectID string `json:"project_id"`
}

// showHostQueue serves GET /v2.1/os-host-queues/:host. Any host has a queue, or will have.
func (s *Server) showHostQueue(c *call) error {
	host := c.Param("host")
	if c.Request().URL.RawPath != "" { // with an escaped slash, see withPlainPath
		if plain, err := url.PathUnescape(host); err == nil {
			host = plain
		}
	}
	if n := utf8.RuneCountInString(host); n == 0 || n > domain.MaxServerText || !utf8.ValidString(host) || strings.ContainsRune(host, 0) {
		return namedFault(http.StatusBadRequest, "host must have 1 to %d characters", domain.MaxServerText)
	}
	queue := s.Computes.Events.QueueOf(host)
	return writeDocument(c, http.StatusOK, "host_queue", hostQueue{host, queue.Name, s.Computes.Events.TTL, queue.Project})
}
