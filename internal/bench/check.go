package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Check compares what was acknowledged with what is there.
type Check struct {
	Acknowledged int `json:"acknowledged"`
	Lost         int `json:"lost"`       // acknowledged, and not in the queue
	Doubled      int `json:"doubled"`    // in the queue more than once
	Disordered   int `json:"disordered"` // behind a later message of the same connection
	Unconfirmed  int `json:"unconfirmed"`
	ByID         int `json:"by_id"`      // acknowledged messages that were asked for by id
	LostByID     int `json:"lost_by_id"` // and not found
	Walked       int `json:"walked"`     // messages that were listed
}

// Err tells what is wrong, if anything is.
func (c Check) Err() error {
	if c.Lost+c.Doubled+c.Disordered+c.LostByID > 0 {
		return fmt.Errorf("of %d acknowledged messages %d are lost (%d of %d asked for by id), %d doubled, %d out of order",
			c.Acknowledged, c.Lost, c.LostByID, c.ByID, c.Doubled, c.Disordered)
	}
	return nil
}

// Add adds another check's figures.
func (c *Check) Add(other Check) {
	c.Acknowledged += other.Acknowledged
	c.Lost += other.Lost
	c.Doubled += other.Doubled
	c.Disordered += other.Disordered
	c.Unconfirmed += other.Unconfirmed
	c.ByID += other.ByID
	c.LostByID += other.LostByID
	c.Walked += other.Walked
}

const (
	idsPerRequest = 20
	maxByID       = 10_000
)

// Check walks through all queues and asks for a sample of the messages by id.
// pageSize is how many messages a page may have there.
func (p *Posted) Check(ctx context.Context, address string, pageSize int) (Check, error) {
	c := newConn(address, requestTimeout)
	defer c.close()
	check := Check{Acknowledged: p.Acknowledged()}
	seen := make([][]bool, len(p.posters))
	for i, poster := range p.posters {
		seen[i] = make([]bool, poster.requests*p.load.PerRequest)
	}
	for q := range p.load.Queues {
		if err := p.walk(ctx, c, p.queue(q), pageSize, seen, &check); err != nil {
			return check, err
		}
	}
	for i, poster := range p.posters {
		check.compare(seen[i], poster.acked, p.load.PerRequest)
	}
	return check, p.checkIDs(ctx, c, &check)
}

// compare looks for one connection's acknowledged messages among those seen.
func (c *Check) compare(seen []bool, acked []int, perRequest int) {
	found := 0
	for _, n := range acked {
		for i := range perRequest {
			if seen[n*perRequest+i] {
				found++
			}
		}
	}
	c.Lost += len(acked)*perRequest - found
	for _, there := range seen {
		if there {
			c.Unconfirmed++
		}
	}
	c.Unconfirmed -= found
}

// page is a page of messages, as far as the check is interested.
type page struct {
	Messages []struct {
		ID   string
		Body struct{ N string }
	}
	Links []struct{ Rel, Href string }
}

// walk lists a queue from its first message to its last.
func (p *Posted) walk(ctx context.Context, c *conn, queue string, pageSize int, seen [][]bool, check *Check) error {
	last := make([]int, len(p.posters))
	for i := range last {
		last[i] = -1
	}
	path := fmt.Sprintf("/v2/queues/%s/messages?limit=%d&echo=true", queue, pageSize)
	for ctx.Err() == nil {
		var answer page
		if err := get(c, path, &answer); err != nil {
			return err
		}
		if len(answer.Messages) == 0 {
			return nil
		}
		for _, m := range answer.Messages {
			connection, n, err := readStamp(m.Body.N)
			if err != nil || connection >= len(seen) || n >= len(seen[connection]) {
				return fmt.Errorf("queue %s holds a message that was never sent: %s", queue, m.ID)
			}
			check.Walked++
			switch {
			case seen[connection][n]:
				check.Doubled++
			case n < last[connection]:
				check.Disordered++
			}
			seen[connection][n] = true
			last[connection] = max(last[connection], n)
		}
		if path = nextPage(answer); path == "" {
			return fmt.Errorf("a page of queue %s has no link to the next", queue)
		}
	}
	return ctx.Err()
}

func nextPage(p page) string {
	for _, link := range p.Links {
		if link.Rel == "next" {
			return link.Href
		}
	}
	return ""
}

func readStamp(text string) (connection, n int, err error) {
	left, right, _ := strings.Cut(text, "-")
	if connection, err = strconv.Atoi(left); err == nil {
		n, err = strconv.Atoi(right)
	}
	return connection, n, err
}

// checkIDs asks by id for messages from all over the load.
func (p *Posted) checkIDs(ctx context.Context, c *conn, check *Check) error {
	every := max(1, check.Acknowledged/maxByID)
	for _, poster := range p.posters {
		byQueue := map[int][]string{}
		for i := 0; i < len(poster.acked)*p.load.PerRequest; i += every {
			queue := p.load.queueOf(poster.connection, poster.acked[i/p.load.PerRequest])
			byQueue[queue] = append(byQueue[queue], string(poster.ids[i*idLength:][:idLength]))
		}
		for queue, ids := range byQueue {
			for len(ids) > 0 && ctx.Err() == nil {
				n := min(idsPerRequest, len(ids))
				missing, err := askFor(c, p.queue(queue), ids[:n])
				if err != nil {
					return err
				}
				check.ByID += n
				check.LostByID += missing
				ids = ids[n:]
			}
		}
	}
	return ctx.Err()
}

// askFor counts the messages that a queue does not have.
func askFor(c *conn, queue string, ids []string) (missing int, err error) {
	var answer page
	err = get(c, fmt.Sprintf("/v2/queues/%s/messages?ids=%s", queue, strings.Join(ids, ",")), &answer)
	if isNotFound(err) {
		return len(ids), nil
	}
	if err != nil {
		return 0, err
	}
	there := map[string]bool{}
	for _, m := range answer.Messages {
		there[m.ID] = true
	}
	for _, id := range ids {
		if !there[id] {
			missing++
		}
	}
	return missing, nil
}

// get reads a JSON document.
func get(c *conn, path string, into any) error {
	r, err := c.do(getRequest(path))
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	if r.status != 200 {
		return &statusError{path, r.status, string(r.body)}
	}
	if err := json.Unmarshal(r.body, into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

func getRequest(path string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: nabu\r\nClient-ID: " + reader + "\r\nX-Project-ID: " + project + "\r\n\r\n")
}
